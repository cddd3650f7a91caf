"""Attacked sentences read back, and two networks compared on the same ones."""

import pytest

from experiments.robust_bert_tickets.examples import Attempt, attacked_networks, shared_attempts
from tests.experiments.robust_bert_tickets.maker import RESOURCES, BertMaker, cell_of
from tf_tickets.errors import UserError


@pytest.fixture
def maker(tmp_path):
    return BertMaker(tmp_path / "run")


def attacked(maker):
    return attacked_networks(maker.run.path / "attacks")


def test_what_a_place_says(maker):
    maker.network("robust", [0.9, 0.9], {"bert_attack": [None, "sf-f"]}, level=30)
    (found,) = attacked(maker)
    assert found.cell == cell_of("robust", 1)
    assert (found.level, found.attack, found.recipe) == (30, "bert_attack", "textattack")
    assert found.made_with == RESOURCES
    held = dict.fromkeys((None, 0.1, 0.2), True)
    nothing = dict.fromkeys(held, False)
    assert found.attempts == {
        # Five of ten words are more than a tenth or a fifth of them.
        0: Attempt(True, held | {None: False}, 0, 0.5),
        1: Attempt(True, held, 10, 1.0),
        2: Attempt(False, nothing, 20, 0.0),
        3: Attempt(True, held, 30, 1.0),
    }
    assert found.metrics.accuracy.value == 0.5


def test_attacks_on_other_splits_and_other_files_are_not_read(maker):
    maker.network("fine_tune", [0.9], {"characters": ["sf"]})
    folder = maker.run.path / "attacks"
    (path,) = folder.rglob("*.csv")
    path.rename(path.with_name("validation_characters_textattack.csv"))
    path.with_name("test_unknown_textattack.csv").write_text("?", encoding="utf-8")
    assert attacked(maker) == []
    assert attacked_networks(folder / "missing") == []


def test_a_file_may_stand_alone(maker):
    maker.network("fine_tune", [0.9], {"characters": ["sf"]})
    (path,) = (maker.run.path / "attacks").rglob("*.json")
    path.unlink()
    (found,) = attacked(maker)
    assert found.made_with == {}


def test_a_damaged_file_is_refused(maker):
    maker.network("fine_tune", [0.9], {"characters": ["sf"]})
    (path,) = (maker.run.path / "attacks").rglob("*.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("failed", "flown"), encoding="utf-8")
    with pytest.raises(UserError, match="test_characters_textattack.csv.*flown"):
        attacked(maker)


def test_what_attacks_are_held_to_is_said(maker):
    maker.network("fine_tune", [0.9], {"characters": ["sf"]})
    (path,) = (maker.run.path / "attacks").rglob("*.json")
    path.write_text('{"max_words_changed": 0.2, "resources": {}}', encoding="utf-8")
    (found,) = attacked(maker)
    assert found.made_with == {"at_most": "20% of the words changed"}


def test_sentences_that_both_were_attacked_on(maker):
    maker.network("fine_tune", [0.9], {"characters": ["-sff"]})
    maker.network("robust", [0.9], {"characters": ["fs"]}, level=30)
    by_method = {network.cell.method: network for network in attacked(maker)}
    pairs = shared_attempts(by_method["robust"], by_method["fine_tune"])
    assert [(i, one.held[None], other.held[None]) for i, one, other in pairs] == [
        (0, True, False), (1, False, False)
    ]  # fmt: skip
    assert [(one.correct, other.correct) for _, one, other in pairs] == [
        (True, False), (True, True)
    ]  # fmt: skip
