"""Tables against numbers computed by hand."""

import pandas as pd
import pytest

from experiments.sparse_robust_networks import tables
from tests.analysis.readers import parse


def test_accuracy_table_cells_by_hand(maker, reference):
    maker.add("test/natural/accuracy", [0.98, 0.96], regime="natural")
    maker.add("test/pgd/accuracy", [0.01, 0.03], regime="natural")
    maker.add("test/natural/accuracy", [0.97], regime="pgd")
    # Mean 0.5; the squared deviations 0.01, 0 and 0.01 over n - 1 = 2: sd 0.1.
    maker.add("test/pgd/accuracy", [0.4, 0.5, 0.6], regime="pgd")
    maker.add("test/cw_linf/accuracy", [0.3, 0.4, 0.2], regime="pgd")
    table = tables.accuracy_table(maker.frame(), reference, "mnist")
    fgsm, pgd = parse(table)
    # Nobody attacked the natural networks with FGSM, and nobody trained with it.
    assert fgsm == [["P_m (%)", "SA nat.", "paper"], ["100.0", "97.00±1.41", "98.33±0.06"]]
    assert pgd == [
        ["P_m (%)", "SA nat.", "paper", "SA adv.", "paper", "RA nat.", "paper", "RA adv.", "paper",
         "MA adv."],
        ["100.0", "97.00±1.41", "98.37±0.03", "97.00", "98.38±0.09",
         "2.00±1.41", "2.31±0.88", "50.00±10.00", "45.32±0.20",
         "30.00±10.00"],
    ]  # fmt: skip
    assert "mean±sd of 3 seeds" in table
    assert max(map(len, table.splitlines())) <= 130


def test_accuracy_table_has_every_level_and_the_papers_cells_where_it_has_them(maker, reference):
    # Exact counts for LeNet-300-100; the paper calls the last but one 1.8%.
    densities = [1.0, 0.80038, 0.51281, 0.16876, 0.08675, 0.03583, 0.02306, 0.01851, 0.01487]
    for level, density in enumerate(densities):
        values = {"level": level, "density": density, "data_set": "fashion_mnist"}
        maker.add("test/fgsm/accuracy", [0.5], regime="fgsm", **values)
    (table,) = parse(tables.accuracy_table(maker.frame(), reference, "fashion_mnist"))
    assert [(row[0], row[2]) for row in table[1:]] == [
        ("100.0", "86.96±0.26"),
        ("80.0", ""),
        ("51.3", "86.79±0.34"),
        ("16.9", "86.53±0.34"),
        ("8.7", "85.30±0.35"),
        ("3.6", "82.30±0.69"),
        ("2.3", ""),
        ("1.9", "78.07±1.40"),
        ("1.5", ""),
    ]


def test_only_original_stands_beside_the_paper(training, reference):
    frame = training.frame()
    (original,) = parse(tables.accuracy_table(frame, reference, "mnist", "original"))
    (random,) = parse(tables.accuracy_table(frame, reference, "mnist", "random"))
    assert "paper" in original[0]
    assert random[0] == ["P_m (%)", "SA adv.", "RA adv.", "MA adv."]


@pytest.mark.parametrize(
    ("at", "cell"), [(200, "71.00±1.41"), ("end", "81.00±1.41"), ("early_stopping", "61.00±1.41")]
)
def test_accuracy_table_at(training, reference, at, cell):
    (table,) = parse(tables.accuracy_table(training.frame(), reference, "mnist", at=at))
    assert [row[3] for row in table[1:]] == [cell, cell]


def test_an_iteration_that_was_not_evaluated_is_not_replaced(training, reference):
    text = tables.accuracy_table(training.frame(), reference, "mnist", at=30_000)
    assert text == "Not evaluated at iteration 30,000; the last evaluated iteration is 300."


def test_no_results_yet(maker, reference):
    frame = maker.frame()
    assert tables.accuracy_table(frame, reference, "mnist") == "No results yet."
    assert tables.strategy_table(frame, "mnist") == "No results yet."
    assert tables.cross_attack_table(frame, "mnist") == "No results yet."
    assert tables.early_stopping(frame).empty


def test_refuses_an_unknown_moment(training):
    with pytest.raises(ValueError, match="at='best'"):
        tables.at_iteration(training.frame(), "best")


def test_early_stopping_uses_the_loss_under_the_training_attack(maker):
    for iteration, natural, pgd, accuracy in ((0, 3, 3, 0.1), (100, 1, 2, 0.6), (200, 2, 1, 0.7)):
        for regime in ("natural", "pgd"):
            maker.add("validation/natural/loss", [natural], regime=regime, iteration=iteration)
            maker.add("validation/pgd/loss", [pgd], regime=regime, iteration=iteration)
            # The test split points to iteration 0, and must not be asked.
            maker.add(f"test/{regime}/loss", [iteration / 100], regime=regime, iteration=iteration)
            maker.add("test/natural/accuracy", [accuracy], regime=regime, iteration=iteration)
    maker.add("test/pgd/accuracy", [0.3], regime="pgd", iteration=200)
    stops = tables.early_stopping(maker.frame()).set_index("regime")
    assert stops["stopping_iteration"].to_dict() == {"natural": 100, "pgd": 200}
    assert stops["test/natural/accuracy"].to_dict() == {"natural": 0.6, "pgd": 0.7}
    assert stops["test/pgd/accuracy"]["pgd"] == 0.3
    assert stops["test/pgd/accuracy"].isna()["natural"]


def test_early_stopping_is_found_for_every_seed_and_level(maker):
    for iteration, losses in ((0, (2.0, 1.0)), (100, (1.0, 2.0))):
        for level in (0, 1):
            maker.add("validation/pgd/loss", losses, level=level, iteration=iteration)
            maker.add("validation/pgd/accuracy", [0.5, 0.6], level=level, iteration=iteration)
    stops = tables.early_stopping(maker.frame())
    found = stops[["level", "seed", "stopping_iteration", "validation/pgd/accuracy"]]
    assert sorted(found.values.tolist()) == [
        [0, 0, 100, 0.5], [0, 1, 0, 0.6], [1, 0, 100, 0.5], [1, 1, 0, 0.6],
    ]  # fmt: skip


def test_strategies_stand_side_by_side(maker):
    for level, density in enumerate((1.0, 0.8)):
        at = {"level": level, "density": density}
        maker.add("test/pgd/accuracy", [0.4 + level / 10, 0.5 + level / 10], **at)
        maker.add("test/pgd/accuracy", [0.3 - level / 10], method="random", **at)
        # The accuracy under other attacks has no place here.
        maker.add("test/natural/accuracy", [0.9], **at)
        maker.add("test/pgd/accuracy", [0.2], method="dense", level=level, density=1.0)
    maker.add("test/cw_linf/accuracy", [0.25, 0.35])
    maker.add("test/pgd/accuracy", [0.1], method="gradual", level=7, density=0.8)
    text = tables.strategy_table(maker.frame(), "mnist")
    assert text.startswith("PGD-trained: test accuracy in % under PGD after 100 iterations")
    assert parse(text) == [[
        ["P_m (%)", "original", "random", "dense", "gradual",
         "original, margin", "random, margin", "dense, margin", "gradual, margin"],
        ["100.0", "45.00±7.07", "30.00", "20.00", "", "30.00±7.07", "–", "–", "–"],
        ["80.0", "55.00±7.07", "20.00", "20.00", "10.00", "–", "–", "–", "–"],
    ]]  # fmt: skip


def test_adversarial_networks_under_the_other_attack(maker):
    maker.add("test/fgsm/accuracy", [0.95], regime="fgsm", iteration=100)
    maker.add("test/fgsm/accuracy", [0.97], regime="fgsm", iteration=200)
    maker.add("test/pgd/accuracy", [0.01], regime="fgsm", iteration=200)
    maker.add("test/pgd/accuracy", [0.6], regime="pgd", iteration=200)
    maker.add("test/pgd/accuracy", [0.02], regime="natural", iteration=200)
    maker.add("test/cw_linf/accuracy", [0.5], regime="pgd", iteration=200)
    assert parse(tables.cross_attack_table(maker.frame(), "mnist")) == [[
        ["P_m (%)", "FGSM-trained, FGSM", "FGSM-trained, PGD", "FGSM-trained, margin loss (C&W)",
         "PGD-trained, PGD", "PGD-trained, margin loss (C&W)"],
        ["100.0", "97.00", "1.00", "–", "60.00", "50.00"],
    ]]  # fmt: skip


def test_cross_attack_table_without_adversarial_networks(maker):
    maker.add("test/pgd/accuracy", [0.02], regime="natural")
    text = tables.cross_attack_table(maker.frame(), "mnist")
    assert text == "No adversarially trained networks of original on mnist yet."


@pytest.mark.parametrize(
    ("percent", "label"),
    [(100.0, "100.0"), (51.281, "51.3"), (1.0, "1.0"), (0.961, "1.0"), (0.768, "0.77")],
)
def test_density_label(percent, label):
    assert tables.density_label(percent) == label


def test_matching_densities():
    densities = pd.Series([100.0, 51.281, 1.851, 1.487], index=[0, 3, 18, 19])
    assert tables.matching_densities(densities, 1.8).to_dict() == {
        0: False, 3: False, 18: True, 19: False,
    }  # fmt: skip
    both = tables.matching_densities(densities, (51.3, 1.5))
    assert both.tolist() == [False, True, False, True]
    assert tables.matching_densities(densities[:0], 1.8).empty


def test_reference_is_complete(reference):
    assert len(reference) == 96
    assert not reference.duplicated(list(reference.columns[:6])).any()
    for _, table in reference.groupby("table"):
        assert sorted(set(table["density_percent"])) == [1.8, 3.6, 8.7, 16.9, 51.3, 100.0]
    assert set(zip(reference["table"], reference["data_set"])) == {
        (1, "mnist"),
        (2, "fashion_mnist"),
    }


@pytest.mark.parametrize(
    ("where", "mean", "sd"),
    [
        (("mnist", 100.0, "natural", "fgsm", "natural_accuracy"), 98.33, 0.06),
        (("mnist", 16.9, "adversarial", "fgsm", "adversarial_accuracy"), 97.46, 0.16),
        (("mnist", 3.6, "natural", "fgsm", "adversarial_accuracy"), 7.42, 2.97),
        (("mnist", 51.3, "adversarial", "pgd", "adversarial_accuracy"), 60.14, 0.99),
        (("mnist", 1.8, "adversarial", "pgd", "natural_accuracy"), 92.67, 1.62),
        (("fashion_mnist", 100.0, "adversarial", "fgsm", "natural_accuracy"), 89.00, 0.28),
        (("fashion_mnist", 8.7, "natural", "pgd", "natural_accuracy"), 87.50, 0.29),
        (("fashion_mnist", 8.7, "adversarial", "pgd", "adversarial_accuracy"), 25.75, 2.20),
        (("fashion_mnist", 1.8, "natural", "pgd", "adversarial_accuracy"), 5.22, 1.24),
    ],
)
def test_reference_says_what_the_paper_says(reference, where, mean, sd):
    row = reference.set_index(list(reference.columns[1:6])).loc[where]
    assert (row["mean_percent"], row["sd_percent"]) == (mean, sd)
