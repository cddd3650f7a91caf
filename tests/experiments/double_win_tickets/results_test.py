"""Labels read, networks judged and differences, against what was worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from experiments.double_win_tickets import results
from experiments.double_win_tickets.results import (
    groups,
    largest_differences,
    load_reference,
    networks,
)
from experiments.double_win_tickets.verdicts import Scores
from tests.experiments.double_win_tickets.maker import REFERENCE_PATH, TransfersMaker
from tf_tickets.analysis.measurements import select
from tf_tickets.errors import UserError


@pytest.fixture
def transfers(tmp_path):
    return TransfersMaker(tmp_path / "results.csv")


def test_labels_are_columns_and_percents_are_numbers(transfers):
    networks = [("at", "imp_st", 10), ("fat", "random", 0.5), ("at", "omp"), ("std",)]
    for network in networks:
        transfers.add(network, "pgd", "test/natural/accuracy", [0.5], level=2)
    frame = transfers.frame()
    columns = list(results.LABELS)
    found = frame[columns].astype(object).where(frame[columns].notna(), None)
    assert found.to_numpy().tolist() == [
        ["at", "imp_st", 10.0],
        ["fat", "random", 0.5],
        ["at", "omp", None],
        ["std", None, None],
    ]
    # 35.9999%, by exact counts.
    assert set(frame["sparsity_percent"]) == {36.0}


def test_results_without_the_labels_are_refused_in_one_line(transfers):
    transfers.add((), "pgd", "test/natural/accuracy", [0.5])
    with pytest.raises(UserError, match="has no column pretraining; expected a run") as it:
        transfers.frame()
    assert len(str(it.value).splitlines()) == 1 and f"{transfers.path}" in str(it.value)


def test_groups_are_the_targets_and_the_source(transfers):
    transfers.add(("at",), "pgd", "test/natural/accuracy", [0.5], data_set="fashion_mnist")
    transfers.add(
        ("at", "imp_st"), "natural", "test/natural/accuracy", [0.5], data_set="fashion_mnist"
    )
    transfers.add(("at", "omp", 100), "pgd", "test/natural/accuracy", [0.5], data_set="cifar10")
    transfers.add(("at", "omp", 100), "pgd", "test/natural/accuracy", [0.5], data_set="mnist")
    frame = transfers.frame()
    labels = [group.label for group in groups(frame, "transfer")]
    assert labels == ["ResNet-18 on MNIST", "ResNet-18 on CIFAR-10"]
    (source,) = groups(frame, "pretraining")
    assert source.name == "fashion_mnist" and source.attack == "pgd_20"
    assert source.rows["pruning"].isna().all()  # Searches are of the source too.
    assert groups(frame[:0], "transfer") == []


def test_pretrainings_of_different_models_are_one_group(transfers):
    for network, model in (
        (("std", "omp", 100), "resnet_50_v1"),
        (("at", "omp", 100), "resnet_50_v1_5"),
    ):
        transfers.transfer(network, [0.5], model=model)
    group = transfers.group()
    assert group.label == "ResNet-50 v1 and ResNet-50 v1.5 on CIFAR-10"
    assert [network.pretraining for network in networks(group)] == ["std", "at"]


def test_the_attack_is_what_the_results_say(transfers):
    transfers.transfer(("at", "dense", 100), robust=[0.3], attack="pgd_2")
    (network,) = networks(transfers.group())
    assert network.scores.adversarial_ra == (0.3,)


def test_networks(transfers):
    transfers.transfer(("at", "omp", 10), [0.5, 0.4], level=1)
    transfers.transfer(("at", "imp_st", 10), [0.9, 0.8], level=2)
    transfers.transfer(("at", "imp_st", 10), [0.8], [0.4], [0.3], level=1)
    transfers.transfer(("at", "dense", 10), [0.7, 0.9], [0.4, 0.6], [0.2, 0.4])
    transfers.transfer(("fat", "dense", 100), [0.7], [0.4], [0.2])
    # Neither a search nor what was trained from scratch is a transfer.
    transfers.transfer(("at", "imp_st"), [0.1], level=1)
    transfers.transfer(("scratch", "dense", 100), [0.1])
    assert set(transfers.group("unseen").rows["value"]) == {0.1}
    found = networks(transfers.group())
    assert [network[:5] for network in found] == [
        (100, "dense", "fat", 0, 0.0),
        (10, "dense", "at", 0, 0.0),
        (10, "imp_st", "at", 1, 20.0),
        (10, "imp_st", "at", 2, 36.0),
        (10, "omp", "at", 1, 20.0),
    ]
    assert found[2].scores == Scores((0.8,), (0.4,), (0.3,))
    # Dense of AT on 10%: SA 0.8 ± 0.14, then SA 0.5 ± 0.14 and RA 0.3 ± 0.14.
    assert [list(network.verdict.matching.values()) for network in found] == [
        [None, None, None],
        [True, True, True],
        [None, None, None],
        [True, None, None],
        [False, None, None],
    ]
    # One trial of a ticket is compared with the same trial alone, hence with no deviation.
    assert [network.verdict.seeds for network in found] == [0, 2, 0, 2, 2]
    one, two = (found[index].differences["standard_sa"] for index in (2, 3))
    assert one.mean == pytest.approx(0.8 - 0.7) and np.isnan(one.half_width) and one.trials == 1
    # Differences 0.2 and -0.1; t of 0.975 with one degree of freedom is 12.706.
    assert two.mean == pytest.approx(0.05)
    assert two.half_width == pytest.approx(12.7062 * 0.3 / 2, rel=1e-4)


def test_a_ticket_is_judged_by_the_dense_network_of_its_own_pretraining_and_data(transfers):
    for network, accuracy in (
        (("std", "dense", 100), 0.9), (("at", "dense", 100), 0.6), (("at", "dense", 10), 0.8)
    ):  # fmt: skip
        transfers.transfer(network, *[[accuracy, accuracy]] * 3)
    for network in (
        ("std", "omp", 100),
        ("at", "omp", 100),
        ("at", "omp", 10),
        ("fat", "omp", 100),
    ):
        transfers.transfer(network, *[[0.7, 0.7]] * 3, level=1)
    verdicts = {
        (network.pretraining, network.percent): network.verdict.double_win
        for network in networks(transfers.group())
        if network.pruning == "omp"
    }
    expected = {("std", 100): False, ("at", 100): True, ("at", 10): False, ("fat", 100): None}
    assert verdicts == expected


def test_largest_differences():
    rows = pd.DataFrame(
        # Seed by seed 0.1 and 0.3 at 20%, 0.3 and 0.3 at 36%; seed 2 has nothing to compare.
        [("at", 0, 20.0, 0.6), ("at", 1, 20.0, 0.7), ("at", 0, 36.0, 0.8), ("at", 1, 36.0, 0.7),
         ("at", 2, 36.0, 0.0), ("fat", 0, 20.0, 0.1)],
        columns=["pretraining", "seed", "sparsity_percent", "value"],
    )  # fmt: skip
    others = pd.DataFrame({"pretraining": "at", "seed": [0, 1], "value": [0.5, 0.4]})
    on = ["pretraining", "seed"]
    found = largest_differences(rows, others, ["pretraining"], on)
    assert list(found) == ["at"]
    np.testing.assert_allclose(found["at"], (0.3, 0.0, 36.0), atol=1e-12)
    only_one = largest_differences(rows[4:], others.assign(pretraining="fat"), on[:1], on)
    assert np.isnan(only_one["fat"].sd) and only_one["fat"].mean == pytest.approx(-0.4)
    assert largest_differences(rows[:0], others, on[:1], on) == {}


def test_the_papers_sparsities_are_on_its_ladder():
    reference = load_reference(REFERENCE_PATH)
    ladder = {round(100 * (1 - 0.8**level), 2) for level in range(20)}
    extremes = reference[reference["quantity"].str.endswith("sparsity")]
    assert set(extremes["value"]) <= ladder
    assert set(reference["sparsity_percent"].dropna()) <= ladder


def test_the_papers_extreme_sparsities_typed_anew():
    reference = load_reference(REFERENCE_PATH)
    extremes = select(reference, quantity="extreme_sparsity", pruning="imp_st", percent=100)
    # The abstract and Sections 4.1 and 4.2 agree where they speak of the same.
    assert extremes.groupby(["data_set", "pretraining"])["value"].nunique().eq(1).all()
    found = extremes.groupby(["data_set", "pretraining"])["value"].first().unstack()
    assert found[["std", "fat", "at"]].to_numpy().tolist() == [
        [89.26, 89.26, 91.41],
        [73.79, 79.03, 83.22],
        [0.0, 79.03, 96.48],
    ]
    others = select(reference, source="Section 4.2", pretraining="at")
    assert others.pivot(index="pruning", columns="data_set", values="value").T.to_dict() == {
        "imp_at": {"cifar10": 91.41, "cifar100": 83.22},
        "imp_st": {"cifar10": 91.41, "cifar100": 83.22},
        "omp": {"cifar10": 89.26, "cifar100": 79.03},
        "random": {"cifar10": 20.0, "cifar100": 0.0},
    }


def test_a_reference_of_another_form_is_refused(tmp_path):
    path = tmp_path / "reference.csv"
    path.write_text("source,value\n", encoding="utf-8")
    with pytest.raises(UserError, match="its columns are"):
        results.load_reference(path)
