"""Tables of "Double-Win Lottery Tickets" against numbers computed by hand, and its own numbers."""

import pytest

from experiments.double_win_tickets.differences import differences_table
from experiments.double_win_tickets.pretraining import pretraining_table
from experiments.double_win_tickets.results import load_reference
from experiments.double_win_tickets.tables import (
    accuracy_table,
    gains_table,
    transfer_attack_table,
    verdict_table,
)
from tests.analysis.readers import parse
from tests.experiments.double_win_tickets.maker import REFERENCE_PATH, TransfersMaker, whole_run
from tf_tickets.analysis.studies import group_label


@pytest.fixture
def transfers(tmp_path):
    return TransfersMaker(tmp_path / "results.csv")


@pytest.fixture
def reference():
    return load_reference(REFERENCE_PATH)


def flat(text):
    """Without the line breaks of captions."""
    return text.replace("\n", " ")


def test_verdicts_stand_beside_the_papers_of_the_same_data_set(transfers, reference):
    text = verdict_table(whole_run(transfers).group(), reference)
    # The paper's column typed anew from its Sections 4.1 and 4.2.
    assert parse(text) == [
        [
            ["pre-training", "pruning", "100% of data", "without gap", "10% of data",
             "without gap", "paper"],
            ["STD", "IMP (standard)", "36.00", "0.00", "36.00", "0.00", "89.26"],
            ["FAT", "IMP (standard)", "36.00", "36.00", "36.00", "36.00", "89.26"],
            ["AT", "IMP (standard)", "48.80", "48.80", "48.80", "48.80", "91.41"],
            ["AT", "random", "0.00", "0.00", "0.00", "0.00", "20.00"],
        ]
    ]  # fmt: skip
    assert "Measured: 20.00, 36.00, 48.80, 59.04." in flat(text)
    assert "Without gap: before the first" in flat(text)
    assert "provisional" not in text and "no verdict" not in text


def test_verdicts_on_another_data_set_stand_beside_all_of_the_papers(transfers, reference):
    for network, accuracy in ((("at", "dense", 100), 0.8), (("at", "omp", 100), 0.7)):
        where = {"data_set": "mnist", "level": int(network == ("at", "omp", 100))}
        transfers.transfer(network, *[[accuracy] * 3] * 3, **where)
    (table,) = parse(verdict_table(transfers.group(), reference))
    papers = [f"paper, {group_label(name)}" for name in ("cifar10", "cifar100", "svhn")]
    # Where no kind of ticket has a gap there is no column of them.
    assert table == [
        ["pre-training", "pruning", "100% of data", *papers],
        ["AT", "one-shot magnitude", "0.00", "89.26", "79.03", "–"],
    ]


def test_two_seeds_are_provisional_and_one_seed_is_no_verdict(transfers, reference):
    for network, level, values in (
        (("at", "dense", 100), 0, [0.8, 0.8]), (("at", "omp", 100), 1, [0.8, 0.8]),
        (("fat", "dense", 100), 0, [0.8]), (("fat", "imp_st", 100), 1, [0.8]),
    ):  # fmt: skip
        transfers.transfer(network, values, values, values, level=level)
    text = verdict_table(transfers.group(), reference)
    (table,) = parse(text)
    assert [row[:3] for row in table[1:]] == [
        ["FAT", "IMP (standard)", "–"], ["AT", "one-shot magnitude", "20.00†"],
    ]  # fmt: skip
    assert "†: provisional, of 2 seeds where the paper's definition has 3." in flat(text)
    assert "which has no standard deviation" in flat(text)
    accuracies = accuracy_table(transfers.group(), 100)
    assert [row[6] for row in parse(accuracies)[0]] == ["double-win", "–", "–", "–", "yes†"]
    assert "provisional, of 2 seeds" in flat(accuracies) and "no verdict" in flat(accuracies)


def test_accuracies(transfers):
    transfers.transfer(
        ("at", "dense", 100), [0.89, 0.90, 0.91], [0.78, 0.80, 0.82], [0.40, 0.50, 0.60]
    )
    transfers.transfer(("at", "imp_st", 100), [0.89] * 3, [0.78] * 3, [0.3, 0.35, 0.4], level=1)
    transfers.transfer(("at", "imp_st", 100), [0.89] * 3, [0.78] * 3, [0.4] * 3, level=2)
    transfers.transfer(("at", "imp_st", 10), [0.5] * 3)
    for attack, value in (("natural", 0.85), ("pgd_20", 0.3)):
        metric = f"test_best_natural/{attack}/accuracy"
        transfers.add(("at", "imp_st", 100), "pgd", metric, [value] * 3, level=2)
    transfers.add(("at", "imp_st", 100), "pgd", "test/cw_linf/accuracy", [0.1] * 3, level=1)
    text = accuracy_table(transfers.group(), 100)
    # Dense less its deviation: 0.89, 0.78 and 0.40, all of them still matching.
    assert parse(text) == [
        [
            ["pre-training", "pruning", "sparsity", "SA, standard training",
             "SA, adversarial training", "RA, adversarial training", "double-win",
             "RA, margin loss (C&W)", "SA, best-SA weights", "RA, best-SA weights"],
            ["AT", "dense", "0.00", "90.00±1.00", "80.00±2.00", "50.00±10.00", "–", "–", "–", "–"],
            ["AT", "IMP (standard)", "20.00", "**89.00±0.00**", "**78.00±0.00**", "35.00±5.00",
             "no", "10.00±0.00", "–", "–"],
            ["AT", "IMP (standard)", "36.00", "**89.00±0.00**", "**78.00±0.00**",
             "**40.00±0.00**", "yes", "–", "85.00±0.00", "30.00±0.00"],
        ]
    ]  # fmt: skip
    assert "100% of the training data" in text and "mean±sd of 3 seeds" in text
    assert "RA is under PGD-20" in flat(text)
    assert accuracy_table(transfers.group(), 1) == ""


def test_differences_are_of_the_trials_that_both_have(transfers):
    transfers.transfer(("at", "dense", 100), [0.5, 0.6, 0.7], [0.5, 0.7], [0.3, 0.5])
    transfers.transfer(("at", "imp_st", 100), [0.4, 0.5, 0.6], [0.4, 0.5], [0.2], level=1)
    transfers.transfer(("at", "imp_st", 100), [0.4, 0.51, 0.59], level=2)
    text = differences_table(transfers.group(), 100)
    (table,) = parse(text)
    # Three equal differences say nothing of how far others would be from them, as one does not.
    # −10 and −20: mean −15, deviation 7.07; t of 0.975 with one degree of freedom is 12.706.
    assert table[1] == ["AT", "IMP (standard)", "20.00", "-10.00¹", "-15.00±63.53", "-10.00¹"]
    # −10, −9 and −11: deviation 1; t of 0.975 with two degrees of freedom is 4.303.
    assert table[2] == ["AT", "IMP (standard)", "36.00", "**-10.00±2.48**", "–", "–"]
    assert differences_table(transfers.group(), 10) == ""
    (accuracies,) = parse(accuracy_table(transfers.group(), 100))
    # RA is of one trial, and its mean of 20 is not compared with dense's of 40.
    assert accuracies[2][5:7] == ["20.00¹", "no†"]


def test_verdicts_say_what_they_start_from_and_what_they_are_worth(transfers, reference):
    whole_run(transfers)
    transfers.rows = [row for row in transfers.rows if ("pruning", "random") not in row.labels]
    text = verdict_table(transfers.group(), reference, [transfers.group("pretraining")])
    expected = "SA STD 90.00, FAT 90.00, AT 90.00; PGD-20 STD 0.00, FAT 30.00, AT 40.00."
    assert expected.replace(" ", "") in flat(text).replace(" ", "")  # Lines break at hyphens too.
    assert "control, random masks, was not measured" in flat(text)
    assert "no double-win in 43% of 3 trials" in flat(text)


def test_gains_on_little_data(transfers, reference):
    for percent in (100, 10, 1):
        transfers.transfer(("at", "dense", percent), [0.6, 0.7], [0.5, 0.5], [0.2, 0.2])
        for level, gain in ((1, 0.02), (2, percent / 1000), (3, -0.1)):
            network, added = ("at", "imp_st", percent), [0.5 + gain, 0.52 + gain]
            transfers.transfer(network, [0.6 + gain, 0.72 + gain], added, [0.1] * 2, level=level)
    transfers.transfer(("fat", "imp_st", 10), [0.65, 0.75], level=1)
    transfers.transfer(("fat", "imp_st", 10), [0.55, 0.63], level=3)
    over_dense, over_at = parse(gains_table(transfers.group(), reference))
    # The paper's rows typed anew from its Section 5.
    columns = ["SA, standard training", "SA, adversarial training", "RA, adversarial training"]
    assert over_dense == [
        ["data", "pre-training", *columns],
        ["10%", "AT", "+3.00±1.41 at 20.00", "+3.00±1.41 at 20.00", "-10.00±0.00 at 20.00"],
        ["1%", "AT", "+3.00±1.41 at 20.00", "+3.00±1.41 at 20.00", "-10.00±0.00 at 20.00"],
        ["paper", "FAT", "–", "+0.75", "+0.79"],
        ["paper", "AT", "–", "+22.53", "+8.97"],
    ]
    # FAT − AT: 0.03 and 0.01 at 20%; 0.05 and 0.01 at 48.80%.
    assert over_at == [
        ["data", *columns],
        ["10%", "+3.00±2.83 at 48.80", "–", "–"],
        [f"paper, {group_label('cifar10')}", "–", "+30.97", "+8.36"],
        [f"paper, {group_label('cifar100')}", "–", "+2.42", "+0.70"],
        [f"paper, {group_label('svhn')}", "–", "+10.05", "+18.49"],
    ]


def test_gains_need_little_data_and_something_to_compare_with(transfers, reference):
    transfers.transfer(("at", "dense", 100), [0.6])
    transfers.transfer(("at", "imp_st", 100), [0.6], level=1)
    transfers.transfer(("at", "imp_st", 10), [0.6], level=1)
    transfers.transfer(("at", "dense", 10), robust=[0.6])
    assert gains_table(transfers.group(), reference) == ""


def test_pretraining(transfers):
    whole_run(transfers)
    fat = (("pretraining", "fat"),)
    transfers.rows = [row for row in transfers.rows if row.labels != fat]
    text = pretraining_table(transfers.group("pretraining"))
    assert parse(text) == [
        [
            ["pre-training", "SA", "RA (PGD-20)"],
            ["STD", "90.00", "0.00"],
            ["AT", "90.00", "40.00"],
        ]
    ]
    assert "one seed" in text


def test_transfer_attack_is_table_a2(transfers, reference):
    metric = "test/transfer_attack/accuracy"
    for level, accuracy in ((0, 0.5), (5, 0.58), (10, 0.6)):
        network = ("at", "imp_st", 100) if level else ("at", "dense", 100)
        transfers.transfer(network, robust=[accuracy - 0.1], level=level)
        transfers.add(network, "pgd", metric, [accuracy, accuracy + 0.02], level=level)
    transfers.transfer(("scratch", "dense", 100), robust=[0.4, 0.5])
    text = transfer_attack_table(transfers.group(), reference, transfers.group("unseen"))
    # The paper's columns typed anew from its Table A2.
    ticket = ["AT", "IMP (standard)", "100%"]
    assert parse(text) == [
        [
            ["pre-training", "pruning", "data", "sparsity", "transfer attack", "paper",
             "RA (PGD-20)", "paper"],
            ["AT", "dense", "100%", "0.00", "51.00±1.41", "55.54", "40.00", "47.11"],
            [*ticket, "67.23", "59.00±1.41", "–", "48.00", "–"],
            [*ticket, "89.26", "61.00±1.41", "62.79", "50.00", "56.00"],
            [*ticket, "93.13", "–", "60.09", "–", "60.05"],
            [*ticket, "95.60", "–", "56.49", "–", "50.85"],
        ]
    ]  # fmt: skip
    assert "from scratch (RA 45.00±7.07)" in flat(text)
    assert "from scratch. The" in flat(transfer_attack_table(transfers.group(), reference))


def test_names_decide_nothing(transfers, reference):
    """Networks called as others are stay what their columns say."""
    whole_run(transfers)
    transfers.add(("at", "dense", 100), "pgd", "test/transfer_attack/accuracy", [0.5])
    transfers.transfer(("scratch", "dense", 100), robust=[0.4])

    def tables():
        group, source = transfers.group(), transfers.group("pretraining")
        return [
            verdict_table(group, reference, [source]),
            accuracy_table(group, 10),
            differences_table(group, 10),
            gains_table(group, reference),
            pretraining_table(source),
            transfer_attack_table(group, reference, transfers.group("unseen")),
        ]

    before = tables()
    assert all(before)
    for names in (["std_dense_100"], ["a", "scratch_dense_100", "at_pretraining", "at_imp_st_10"]):
        transfers.rows = [
            row._replace(method=names[number % len(names)])
            for number, row in enumerate(transfers.rows)
        ]
        assert tables() == before


def test_no_rows_no_table(transfers, reference):
    transfers.add(("at", "dense", 10), "pgd", "validation/natural/accuracy", [0.5])
    group = transfers.group()
    assert verdict_table(group, reference) == accuracy_table(group, 10) == ""
    assert gains_table(group, reference) == transfer_attack_table(group, reference) == ""
    assert pretraining_table(group) == ""
