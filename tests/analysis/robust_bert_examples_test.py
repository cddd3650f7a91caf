"""Attacked sentences read back, and two networks compared on the same ones."""

from math import comb

import pytest

from tests.analysis.robust_bert_maker import RESOURCES, BertMaker, cell_of
from tf_tickets.analysis.robust_bert_examples import attacked_networks, paired
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
    assert found.resources == RESOURCES
    assert found.outcomes == {0: "succeeded", 1: "failed", 2: "skipped", 3: "failed"}
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
    assert found.resources == {}


def test_a_damaged_file_is_refused(maker):
    maker.network("fine_tune", [0.9], {"characters": ["sf"]})
    (path,) = (maker.run.path / "attacks").rglob("*.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("failed", "flown"), encoding="utf-8")
    with pytest.raises(UserError, match="test_characters_textattack.csv.*flown"):
        attacked(maker)


@pytest.mark.parametrize(
    "first, second, only",
    [
        # Skipped is not withstood; both and neither do not count.
        ("ffs-fs", "fsf-sf", (2, 2)),
        ("ffffffff--", "ssssss-s-f", (8, 1)),
        ("fs", "fs", (0, 0)),
        # The second was attacked on more sentences.
        ("ff", "ssffff", (2, 0)),
    ],
)
def test_mcnemars_exact_test(maker, first, second, only):
    maker.network("fine_tune", [0.9], {"characters": [second]})
    maker.network("robust", [0.9], {"characters": [first]}, level=30)
    by_method = {network.cell.method: network for network in attacked(maker)}
    pairs = paired(by_method["robust"], by_method["fine_tune"])
    assert (pairs.first_only, pairs.second_only) == only
    assert pairs.sentences == min(len(first), len(second)) and pairs.seed == 0
    # Of n coins, how many ways are there to fall at least as unequally?
    n, more = sum(only), max(only)
    ways = 2 * sum(comb(n, heads) for heads in range(more, n + 1))
    assert pairs.p_value == pytest.approx(min(1.0, ways / 2**n))
