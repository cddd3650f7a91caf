"""Tables of "Robust Lottery Tickets" against numbers computed by hand, and its own numbers."""

import pytest

from experiments.robust_bert_tickets.results import load_reference
from experiments.robust_bert_tickets.tables import (
    ablation_table,
    convergence_table,
    importance_table,
    main_table,
    regularization_table,
    sparsity_table,
)
from tests.analysis.readers import parse
from tests.experiments.robust_bert_tickets.maker import REFERENCE_PATH, BertMaker, whole_run


@pytest.fixture
def maker(tmp_path):
    return BertMaker(tmp_path / "run")


@pytest.fixture
def reference():
    return load_reference(REFERENCE_PATH)


def flat(text):
    """Without the line breaks of captions and lists."""
    return " ".join(text.split())


def test_main_is_tables_1_and_2(maker, reference):
    # Ten sentences; of the second seed of fine-tuning only five are correct without an attack.
    maker.network("fine_tune", [0.92, 0.94], {"textfooler": ["fsssssssss", "fssss-----"]})
    maker.network("robust", [0.912], {"textfooler": ["ffff" + "s" * 6]}, level=30)
    text = main_table(maker.group(), reference)
    clean, textfooler, compared = parse(text)
    # The paper's columns typed anew from its Table 1.
    assert clean == [
        ["method", "sparsity", "of the model", "seeds", "Clean", "paper"],
        ["fine-tuning", "0.0", "0.0", "2", "93.0±1.4", "92.0"],
        ["robust tickets", "30.0", "15.0", "1", "91.2", "90.9"],
    ]
    assert textfooler == [
        ["method", "sparsity", "seeds", "sentences", "Aua", "paper", "Aua at 10%", "Aua at 20%",
         "Suc", "paper", "#Query", "paper"],
        # All or half are held where five of ten words must change; queries 0, 10, ..., 90 and 40.
        ["fine-tuning", "0.0", "2", "10", "10.0±0.0", "5.0", "75.0±35.4", "75.0±35.4",
         "85.0±7.1", "94.6", "32.5±17.7", "98.4"],
        # Wilson's intervals of 4, 10 and 6 of 10.
        ["robust tickets", "30.0", "1", "10", "40.0 [16.8, 68.7]", "26.7", "100.0 [72.2, 100.0]",
         "100.0 [72.2, 100.0]", "60.0 [31.3, 83.2]", "70.6", textfooler[2][10], "149.8"],
    ]  # fmt: skip
    assert "TextFooler (recipe textattack; word vectors vectors, words.npz" in flat(text)
    assert "The paper's: BERT-base, mean of 5 seeds, tickets of 30% sparsity" in flat(text)
    # A bootstrap's interval, nearly that of 45 ± 1.96 × 28.7 / √10.
    low, high = map(float, textfooler[2][10].removeprefix("45.0 [").rstrip("]").split(", "))
    assert (low, high) == pytest.approx((27.2, 62.8), abs=1.5)
    # The comparison follows: 3 and 0 of 10, 2 / 2³.
    assert compared[1][:5] == ["robust tickets, 30%", "fine-tuning", "1", "10", "3 : 0"]
    assert compared[1][5].startswith("+30.0 [") and compared[1][5].endswith("p = 0.25")
    assert compared[1][-2:] == ["+21.7", "cannot be told"]


def test_main_on_a_task_of_table_2(maker, reference):
    attacked = {"textbugger": ["sf"], "bert_attack": ["sf"]}
    maker.network("info_bert", [0.84], attacked, data_set="mnli")
    _, bert_attack, textbugger = parse(main_table(maker.group(), reference))
    assert bert_attack[0] == [
        "method", "sparsity", "seeds", "sentences", "Aua", "Aua at 10%", "Aua at 20%", "Suc",
        "#Query",
    ]  # fmt: skip
    assert textbugger[1][4:6] == ["50.0 [9.5, 90.5]", "8.4"]


def test_main_on_a_data_set_that_the_paper_does_not_have(maker, reference):
    maker.network("fine_tune", [0.9], {"textfooler": ["sf"]}, data_set="movie_reviews")
    text = main_table(maker.group(), reference)
    assert "paper" not in text
    assert [table[0][-1] for table in parse(text)] == ["Clean", "#Query"]


def test_main_leaves_out_what_was_not_attacked_and_other_sparsities(maker, reference):
    maker.network("fine_tune", [0.9], {"characters": ["sf"]})
    maker.network("random", [0.8], level=30)
    for level in (10, 30):
        maker.network("lth", [0.85], level=level)
    clean, characters = parse(main_table(maker.group(), reference))
    assert [row[:2] for row in clean[1:]] == [
        ["fine-tuning", "0.0"], ["LTH", "30.0"], ["random tickets", "30.0"]
    ]  # fmt: skip
    assert [row[0] for row in characters[1:]] == ["fine-tuning"]


def test_ablation_is_table_3(maker, reference):
    for method, letters in (
        ("robust", "ffss"), ("without_mask_learning", "fsss"), ("without_adversarial", "ssss"),
    ):  # fmt: skip
        maker.network(method, [0.9, 0.9], {"textfooler": [letters] * 2}, level=30)
    table, compared = parse(ablation_table(maker.group(), reference))
    assert [row[:2] for row in compared[1:]] == [
        ["without mask learning, 30%", "robust tickets, 30%"],
        ["without adversarial loss, 30%", "robust tickets, 30%"],
    ]
    assert [row[0] for row in table[1:]] == [
        "robust tickets", "without mask learning", "without adversarial loss"
    ]  # fmt: skip
    # The paper's columns typed anew from its Table 3.
    assert [row[5] for row in table] == ["paper", "90.9", "92.2", "91.2"]
    assert [row[7] for row in table] == ["paper", "26.7", "6.2", "3.5"]
    assert [row[6] for row in table] == ["Aua, TextFooler", "50.0±0.0", "25.0±0.0", "0.0±0.0"]


def test_importance_is_table_4(maker, reference):
    maker.network("robust", [0.9], level=20, data_set="imdb")
    maker.network("without_initialization", [0.8], level=20, data_set="imdb")
    metric = "test/natural/accuracy"
    for method in ("without_structure", "without_structure_longer"):
        # Of the same level, though nothing is pruned.
        maker.add(method, metric, [0.7], level=20, sparsity=0.0, data_set="imdb")
    maker.network("fine_tune", [0.9], {"textfooler": ["sf"]}, data_set="imdb")
    (table,) = parse(importance_table(maker.group(), reference))
    # The paper's column typed anew from its Table 4.
    assert table == [
        ["method", "sparsity", "of the model", "seeds", "Clean", "paper", "Aua, TextFooler"],
        ["robust tickets", "20.0", "10.0", "1", "90.0", "93.7", "–"],
        ["without initialization", "20.0", "10.0", "1", "80.0", "87.9", "–"],
        ["without structure", "0.0", "–", "1", "70.0", "93.7", "–"],
        ["without structure, longer", "0.0", "–", "1", "70.0", "93.6", "–"],
    ]


def test_without_the_sentences_no_comparison_is_said_to_be_missing(maker, reference):
    for method, level in (("fine_tune", 0), ("robust", 30)):
        maker.network(method, [0.9], {"textfooler": ["sf"]}, level=level)
    for path in (maker.run.path / "attacks").rglob("*.csv"):
        path.unlink()
    text = main_table(maker.group(), reference)
    assert len(parse(text)) == 2 and "No comparison: no two networks have" in text


def test_robust_tickets_alone_are_neither(maker, reference):
    maker.network("robust", [0.9], level=30)
    assert ablation_table(maker.group(), reference) == ""
    assert importance_table(maker.group(), reference) == ""


@pytest.mark.parametrize("method", ["search", "search_0.2_or"])
def test_regularization(maker, reference, method):
    """What searches are called decides nothing."""
    maker.search(0.5, [0.98, 0.9, 0.62], [0.0, 0.1, 0.35], [0.0, 0.3, 0.56], method=method)
    maker.search(0.5, [0.98, 0.58], [0.0, 0.4], [0.2, 0.51], seed=1, method=method)
    maker.search(0.5, [0.9, 0.7], [0.0, 0.2], [0.0, 0.7], regime="natural", method=method)
    maker.search(0.1, [0.9], [], [], method=method)
    text = regularization_table(maker.group(), reference)
    assert parse(text) == [
        [
            ["λ", "loss", "seeds", "R(m), first", "R(m), last", "exactly 0", "exactly 1",
             "0 or 1, first", "0 or 1, last"],
            ["0.1", "FreeLB", "1", "0.900", "0.900", "–", "–", "–", "–"],
            ["0.5", "FreeLB", "2", "0.980±0.000", "0.600±0.028", "37.5±3.5", "53.5±3.5",
             "10.0±14.1", "91.0±0.0"],
            ["0.5", "natural", "1", "0.900", "0.700", "20.0", "70.0", "0.0", "90.0"],
        ]
    ]  # fmt: skip
    assert "claim, more than 90% at 0 or 1 in the end, holds for 1 of 2." in flat(text)


def test_sparsity_has_every_level(maker):
    outcomes = {"characters": ["sf"]}
    maker.network("free_lb", [0.9], outcomes)
    for level in (50, 10):
        maker.network("robust", [0.9 - level / 100], outcomes, level=level)
    (table,) = parse(sparsity_table(maker.group()))
    assert [row[:2] + row[4:5] for row in table[1:]] == [
        ["FreeLB", "0.0", "90.0"],
        ["robust tickets", "10.0", "80.0"],
        ["robust tickets", "50.0", "40.0"],
    ]


def test_convergence(maker):
    # 95% of 0.8 is 0.76, of 0.4 it is 0.38.
    maker.curve("fine_tune", [0.5, 0.75, 0.76, 0.8, 0.7])
    maker.curve("fine_tune", [0.0, 0.4, 0.39], attack="textfooler")
    # Before training nothing is reached.
    maker.curve("robust", [0.8, 0.7, 0.7], level=30)
    maker.network("robust", [0.9], level=30)
    maker.network("fine_tune", [0.9])
    assert parse(convergence_table(maker.group())) == [
        [
            ["method", "sparsity", "Clean", "steps", "Aua, TextFooler", "steps"],
            ["fine-tuning", "0.0", "80.0", "200", "40.0", "100"],
            ["robust tickets", "30.0", "70.0", "100", "–", "–"],
        ]
    ]


def test_no_rows_no_table(maker, reference):
    maker.add("fine_tune", "validation/natural/accuracy", [0.5])
    group = maker.group()
    for table in (main_table, ablation_table, importance_table, regularization_table):
        assert table(group, reference) == ""
    assert sparsity_table(group) == convergence_table(group) == ""


def test_all_of_a_whole_run(maker, reference):
    group = whole_run(maker).group()
    clean, *of_attacks = parse(main_table(group, reference))
    of_attacks, compared = of_attacks[:2], of_attacks[2:]
    assert [table[0][4] for table in of_attacks] == ["Aua", "Aua"]
    # Five methods beside fine-tuning, four beside robust tickets.
    assert [len(table) for table in compared] == [1 + 5 + 4] * 2
    assert all(len(table) == 7 for table in (clean, *of_attacks))
    assert len(parse(sparsity_table(group))[0]) == 1 + 2 + 4 + 4
