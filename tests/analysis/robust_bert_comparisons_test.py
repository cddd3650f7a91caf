"""What is said of robust tickets beside fine-tuning."""

import pytest

from tests.analysis.robust_bert_maker import BertMaker
from tf_tickets.analysis.robust_bert_comparisons import beyond_chance, comparison_list
from tf_tickets.analysis.robust_bert_examples import Pairs


@pytest.fixture
def maker(tmp_path):
    return BertMaker(tmp_path / "run")


def said(maker, first, second, clean=(0.9, 0.9)):
    """The list's entries after robust tickets and fine-tuning with these sentences each seed."""
    maker.network("robust", clean[: len(first)], {"textfooler": first}, level=30)
    maker.network("fine_tune", [0.92] * len(second), {"textfooler": second})
    text = comparison_list(maker.group())
    return [" ".join(entry.split()) for entry in text.removeprefix("- ").split("\n- ")]


def test_better_beyond_chance(maker):
    attacked, clean = said(maker, ["f" * 8 + "ss", "f" * 9 + "s"], ["s" * 10] * 2, (0.9, 0.91))
    # 2 · 2⁻⁸ and 2 · 2⁻⁹.
    assert attacked == (
        "TextFooler, 30% sparsity: robust tickets beat fine-tuning, beyond chance: Aua +85.0±7.1 "
        "points (2 seeds). Sentences that only the tickets and only fine-tuning withstand: seed 0: "
        "8 and 0 of 10 (p = 0.0078); seed 1: 9 and 0 of 10 (p = 0.0039)."
    )
    assert clean == (
        "Without an attack, 30% sparsity: clean accuracy -1.5±0.7 points (2 seeds) against "
        "fine-tuning."
    )


@pytest.mark.parametrize(
    "first, second, words",
    [
        (
            ["ffff"],
            ["ssss"],
            "are above fine-tuning, but not beyond chance: Aua +100.0 points (one",
        ),
        (["ssss"], ["fsss"], "are below fine-tuning, but not beyond chance: Aua -25.0 points"),
        (["s" * 9], ["f" * 9], "are below fine-tuning, beyond chance: Aua -100.0 points"),
        (["fs", "sf"], ["sf", "fs"], "robust tickets equal fine-tuning: Aua +0.0±0.0 points (2"),
        # One seed proves nothing where the other is undecided.
        (["f" * 9, "f"], ["s" * 9, "s"], "are above fine-tuning, but not beyond chance"),
    ],
)
def test_verdicts(maker, first, second, words):
    assert words in said(maker, first, second)[0]


def test_small_p_values_are_not_spelled_out(maker):
    assert "(p < 0.001)" in said(maker, ["f" * 20], ["s" * 20])[0]


def test_seeds_that_disagree_are_not_beyond_chance():
    up, down = Pairs(0, 50, 30, 1, 1e-6), Pairs(1, 50, 1, 10, 0.01)
    assert beyond_chance([up], 0.5) and beyond_chance([down], -0.5)
    assert not beyond_chance([up, down], 0.2)
    assert not beyond_chance([], 0.5)
    assert not beyond_chance([Pairs(0, 50, 9, 2, 0.05)], 0.5)


def test_without_sentences_nothing_is_tested(maker):
    for method, level, accuracy in (("robust", 30, 0.5), ("fine_tune", 0, 0.25)):
        maker.add(method, "test/characters/accuracy", [accuracy], level=level)
    assert " ".join(comparison_list(maker.group()).split()) == (
        "- Characters, 30% sparsity: robust tickets are above fine-tuning, chance not tested: Aua "
        "+25.0 points (one seed). There are no results of both on the same sentences."
    )


def test_nothing_to_compare_nothing_said(maker):
    maker.network("robust", [None, 0.9], level=30)
    assert comparison_list(maker.group()) == ""
    maker.network("fine_tune", [0.9])
    assert comparison_list(maker.group()) == ""
