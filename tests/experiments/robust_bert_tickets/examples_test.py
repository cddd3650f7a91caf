"""Attacked sentences read back, and two networks compared on the same ones."""

import pytest

from experiments.robust_bert_tickets.examples import (
    Attempt,
    read_attacked,
    shared_attempts,
    table_of_texts,
)
from tests.experiments.robust_bert_tickets.maker import RESOURCES, BertMaker
from tf_tickets.errors import UserError
from tf_tickets.runs.run_directory import Cell


@pytest.fixture
def maker(tmp_path):
    return BertMaker(tmp_path / "run")


@pytest.fixture
def table(maker):
    """The only network's."""
    maker.network("fine_tune", [0.9], {"bert_attack": ["sf-f"]})
    return maker.table("fine_tune", "bert_attack")


def test_where_a_table_is():
    cell = Cell("sst2", "natural", "robust", 1, "tiny_2_layers")
    place = table_of_texts(cell, 5, "test", "bert_attack", "paper_code")
    folder = "attacks/sst2/tiny_2_layers/natural/robust/seed_1/level_05"
    assert place.as_posix() == f"{folder}/test_bert_attack_paper_code.csv"


def test_what_a_table_says(table):
    found = read_attacked(table)
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


def test_a_table_may_stand_alone(table):
    table.with_suffix(".json").unlink()
    assert read_attacked(table).made_with == {}


def test_a_damaged_table_is_refused(table):
    table.write_text(table.read_text(encoding="utf-8").replace("failed", "flown"), encoding="utf-8")
    with pytest.raises(UserError, match="test_bert_attack_textattack.csv.*flown"):
        read_attacked(table)


def test_what_attacks_are_held_to_is_said(table):
    described = table.with_suffix(".json")
    described.write_text('{"max_words_changed": 0.2, "resources": {}}', encoding="utf-8")
    assert read_attacked(table).made_with == {"at_most": "20% of the words changed"}


def test_sentences_that_both_were_attacked_on(maker):
    maker.network("fine_tune", [0.9], {"characters": ["-sff"]})
    maker.network("robust", [0.9], {"characters": ["fs"]}, level=30)
    pairs = shared_attempts(
        read_attacked(maker.table("robust", "characters", level=30)),
        read_attacked(maker.table("fine_tune", "characters")),
    )
    assert [(i, one.held[None], other.held[None]) for i, one, other in pairs] == [
        (0, True, False), (1, False, False)
    ]  # fmt: skip
    assert [(one.correct, other.correct) for _, one, other in pairs] == [
        (True, False), (True, True)
    ]  # fmt: skip
