"""What is said of every method beside fine-tuning and beside robust tickets."""

import pandas as pd
import pytest

from experiments.robust_bert_tickets.comparisons import compare, comparison_table, verdict
from experiments.robust_bert_tickets.pairs import PairedShares
from experiments.robust_bert_tickets.plan import ABLATIONS
from experiments.robust_bert_tickets.results import Network, load_reference
from experiments.robust_bert_tickets.settings import METHODS
from tests.analysis.readers import parse
from tests.experiments.robust_bert_tickets.maker import REFERENCE_PATH, BertMaker
from tf_tickets.analysis.measurements import select

FINE_TUNE, ROBUST = Network("fine_tune", 0), Network("robust", 30)


@pytest.fixture
def maker(tmp_path):
    return BertMaker(tmp_path / "run")


def test_a_sentence_counts_once_whatever_its_seeds(maker):
    maker.network("robust", [0.9] * 3, {"textfooler": ["ffs-", "tfo", "ff"]}, level=30)
    # One seed that the other lacks, and one sentence more.
    maker.network("fine_tune", [0.9] * 3, {"textfooler": ["sfff", "soof", None]})
    found = compare(maker.group(), "textfooler", ROBUST, FINE_TUNE)
    assert found.seeds == 2
    # Seed 0 tells sentences 0, 2 and 3 apart, seed 1 sentence 1. Sentence 3 is of seed 0 alone,
    # where one skips it, which is as if it did not withstand.
    assert found.accuracy == PairedShares(7, (1, 1, -1, -1))
    assert found.clean == PairedShares(7, (0, 0, 0, -1))
    # At a tenth t withstands as s does, o does not; at a fifth s alone.
    assert found.within[0.1] == PairedShares(7, (0, 1, 0, -1))
    assert found.within[0.2] == PairedShares(7, (-1, 1, 0, -1))
    # Queries are 10 times the index under both; only sentences that both get right are asked.
    assert (found.queries.texts, found.queries.difference) == (3, 0.0)
    # In %: robust 100 100 50 0, 20 100 10; fine-tuning 50 100 100 100, 50 10 10. Means of the
    # changes over seeds: (50 - 30) / 2, (0 + 90) / 2, (-50 + 0) / 2, -100.
    assert found.needed.texts == 4
    assert found.needed.difference == pytest.approx((10 + 45 - 25 - 100) / 4)
    assert compare(maker.group(), "textbugger", ROBUST, FINE_TUNE) is None


def test_seeds_that_say_the_same_are_no_more_evidence_than_one(maker):
    strong, weak = "f" * 5 + "s" * 5, "s" * 10
    maker.network("robust", [0.9] * 3, {"textfooler": [strong] * 3}, level=30)
    maker.network("fine_tune", [0.9] * 3, {"textfooler": [weak] * 3})
    found = compare(maker.group(), "textfooler", ROBUST, FINE_TUNE)
    assert found.accuracy == PairedShares(30, (3,) * 5 + (0,) * 5)
    # Five sentences, all one way: 2 / 2⁵, of the accuracy and of the words' ranks alike.
    assert found.accuracy.p_value == found.needed.p_value == 2 / 2**5


def test_every_method_is_held_against_both(maker):
    for method, level, letters in (
        ("fine_tune", 0, "s" * 12),
        ("robust", 30, "f" * 12),
        ("random", 30, "s" * 12),
        ("free_lb", 0, "f" * 8 + "ssss"),
        ("lth", 30, "fsssssssssss"),
    ):
        maker.network(method, [0.9], {"textfooler": [letters]}, level=level)
    maker.network("lth", [0.9], {"textfooler": ["f" * 12]}, level=10)
    paper = select(load_reference(REFERENCE_PATH), data_set="sst2", source="Table 1")
    (table,) = parse(comparison_table(maker.group(), "textfooler", METHODS, paper))
    shown = [[row[0], row[1], row[4], row[-2], row[-1]] for row in table[1:]]
    # The paper's differences from its Table 1: 5.0, 4.1, 14.4, 2.4 and 26.7.
    assert shown == [
        ["LTH, 30%", "fine-tuning", "1 : 0", "-0.9", "cannot be told"],
        ["FreeLB", "fine-tuning", "8 : 0", "+9.4", "confirmed"],
        ["random tickets, 30%", "fine-tuning", "0 : 0", "-2.6", "cannot be told"],
        ["robust tickets, 30%", "fine-tuning", "12 : 0", "+21.7", "confirmed"],
        ["LTH, 30%", "robust tickets, 30%", "0 : 11", "-22.6", "confirmed"],
        ["FreeLB", "robust tickets, 30%", "0 : 4", "-12.3", "cannot be told"],
        ["random tickets, 30%", "robust tickets, 30%", "0 : 12", "-24.3", "confirmed"],
    ]
    # 2 / 2⁸; the exact interval's lower end of 8 of 8 is 0.025 ^ (1/8).
    low = 8 / 12 * 100 * (2 * 0.025 ** (1 / 8) - 1)
    assert table[2][5] == f"+66.7 [{low:.1f}, 66.7], p = 0.0078"
    assert table[3][5] == "+0.0, p = 1"  # No sentence tells them apart: there is no interval.
    assert table[4][5].endswith("p < 0.001")


def test_ablations_are_held_against_robust_tickets(maker):
    for method, letters in (("robust", "f" * 9), ("without_adversarial", "s" * 9)):
        maker.network(method, [0.9], {"textfooler": [letters]}, level=30)
    paper = select(load_reference(REFERENCE_PATH), data_set="sst2", source="Table 3")
    (table,) = parse(comparison_table(maker.group(), "textfooler", ABLATIONS, paper))
    assert [row[:2] + row[-2:] for row in table[1:]] == [
        ["without adversarial loss, 30%", "robust tickets, 30%", "-23.2", "confirmed"]
    ]


@pytest.mark.parametrize(
    "counts, expected, word",
    [
        ((9, 0), 3.0, "confirmed"),
        ((9, 0), -3.0, "contradicted"),
        ((0, 9), -3.0, "confirmed"),
        ((0, 9), 3.0, "contradicted"),
        ((5, 0), 3.0, "cannot be told"),  # p = 0.0625
        ((9, 0), None, "higher"),
        ((0, 9), None, "lower"),
        ((0, 9), 0.0, "lower"),
        ((0, 0), None, "cannot be told"),
    ],
)
def test_verdicts(counts, expected, word):
    first_more, second_more = counts
    measured = PairedShares(100, (1,) * first_more + (-1,) * second_more)
    assert verdict(measured, expected) == word


@pytest.mark.parametrize(("sentences", "shown"), [(5, "–"), (6, "92.7")])
def test_of_fewer_than_six_sentences_no_smallest_difference_is_shown(maker, sentences, shown):
    maker.network("robust", [0.5], {"textfooler": ["f" * sentences]}, level=30)
    maker.network("fine_tune", [0.5], {"textfooler": ["s" * sentences]})
    (table,) = parse(comparison_table(maker.group(), "textfooler", METHODS, None))
    assert table[1][table[0].index("seen from")] == shown


def test_without_shared_sentences_there_is_no_table(maker):
    maker.network("robust", [0.5, 0.5], {"textfooler": [None, "fs"]}, level=30)
    maker.network("fine_tune", [0.5], {"textfooler": ["sf"]})
    assert comparison_table(maker.group(), "textfooler", METHODS, pd.DataFrame()) == ""
