"""Epochs, groups and times against what was worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from tf_tickets.analysis import boosting_results
from tf_tickets.analysis.boosting_results import groups


def test_epochs_count_evaluations_and_methods_come_apart(trainings):
    for iteration in (40, 0, 11):
        where = {"iteration": iteration}
        trainings.add("boosting_40", "natural", "validation/natural/accuracy", 0.5, **where)
        trainings.add("boosting_40", "natural", "validation/natural/loss", 0.5, **where)
        trainings.add("boosting_40", "natural", "train/natural/seconds", 0.5, **where)
    trainings.add("boosting_40", "natural", "test/natural/accuracy", 0.5, iteration=40)
    # Another training has its own epochs.
    where = {"iteration": 40, "seed": 1}
    trainings.add("finding_fgsm_0.05", "fgsm", "validation/natural/accuracy", 0.5, **where)
    frame = trainings.frame()
    assert frame["epoch"].tolist() == [2] * 3 + [0] * 3 + [1] * 3 + [2, 0]
    assert set(zip(frame["family"][:-1], frame["percent"][:-1])) == {("boosting", 40)}
    assert frame[["family", "percent"]].iloc[-1].isna().all()


def test_a_study_is_of_the_networks_that_trained_its_own_methods(trainings):
    for percent in (20, 100):
        trainings.train(f"boosting_{percent}", "natural", [0.1], model="vgg_16")
    trainings.train("boosting_100", "natural", [0.1], model="wide_resnet_10_1")
    trainings.train("winning_100", "natural", [0.1], model="lenet_conv", data_set="mnist")
    frame = trainings.frame()
    assert [group.name for group in groups(frame, "epochs")] == ["cifar10_vgg_16"]
    assert [group.name for group in groups(frame, "existence")] == ["mnist_lenet_conv"]
    assert [group.name for group in groups(frame, "capacity")] == ["cifar10"]
    assert [group.name for group in groups(frame, "mnist")] == ["mnist"]
    assert groups(frame, "acceleration") == groups(frame, "learning_rate") == []


def test_before_its_own_methods_a_study_shows_what_it_shares(trainings):
    trainings.train("dense_100", "pgd", [0.1], data_set="mnist")
    trainings.train("dense_100", "pgd", [0.1])
    trainings.train("dense_100", "natural", [0.1], model="resnet_18")
    found = groups(trainings.frame(), "acceleration")
    assert [group.label for group in found] == ["VGG-16 on MNIST", "VGG-16 on CIFAR-10"]


def test_a_group_has_all_rows_of_its_network(accelerated):
    accelerated.train("boosting_100", "natural", [0.1], model="resnet_18")
    group = accelerated.group("acceleration")
    assert set(group.rows["model"]) == {"vgg_16"}
    assert "finding_fgsm_0.05" in set(group.rows["method"])


def test_the_evaluation_attack_is_what_the_results_say(trainings):
    assert boosting_results.evaluation_attack(trainings.frame()) == "pgd_20"
    trainings.train("dense_100", "pgd", [0.1], robust=[0.1], attack="pgd_7")
    trainings.add("dense_100", "pgd", "test/pgd_100/accuracy", 0.1)
    assert trainings.group("acceleration").attack == "pgd_7"


@pytest.mark.parametrize(
    ("attack", "label"), [("pgd_20", "PGD-20"), ("cw", "C&W"), ("natural", "natural")]
)
def test_attack_label(attack, label):
    assert boosting_results.attack_label(attack) == label


def test_first_reaching():
    curves = pd.DataFrame(
        # Seed 0 falls back after it got there; seed 1 never does; seed 2 has no target.
        [(0, 2, 0.5, 20.0), (0, 0, 0.1, 0.0), (0, 1, 0.5, 10.0), (0, 3, 0.4, 30.0),
         (1, 0, 0.1, 0.0), (1, 1, 0.49, 10.0), (2, 0, 0.9, 0.0)],
        columns=["seed", "epoch", "value", "seconds"],
    )  # fmt: skip
    reached = boosting_results.first_reaching(curves, {0: 0.5, 1: 0.5, 3: 0.5}, "seconds")
    assert reached.index.tolist() == [0, 1]
    assert reached[0] == 10.0 and np.isnan(reached[1])
    assert boosting_results.first_reaching(curves[:0], {0: 0.5}, "seconds").empty


def test_times_are_of_whole_trainings_and_ratios_are_taken_seed_by_seed(trainings):
    trainings.train("finding_fgsm_0.05", "fgsm", [0.1], seconds=[1, 2])
    trainings.train("finding_fgsm_0.05_warmup", "fgsm", [0.1], seconds=[50])
    trainings.train("finding_fgsm_0.05", "fgsm", [0.1], seconds=[4], seed=1)
    # Tested after epoch 1, but trained, and paid, for 2.
    tests = {"natural": 0.5}
    trainings.train("dense_100", "pgd", [0.1], seconds=[10, 20], tests=tests, selected=1)
    trainings.train("dense_100", "pgd", [0.1], seconds=[20, 40], seed=1)
    trainings.train("fgsm_ticket_40", "pgd", [0.1], seconds=[4, 8])
    trainings.train("fgsm_ticket_40", "pgd", [0.1], seconds=[6, 12], seed=1)
    # A seed without its finding.
    trainings.train("fgsm_ticket_70", "pgd", [0.1], seconds=[6, 12], seed=2)
    # A training that the study does not compare.
    trainings.train("pgd_ticket_100", "pgd", [0.1], seconds=[6, 12])
    times = boosting_results.training_times(trainings.group("acceleration").rows)
    assert times.columns.tolist() == ["method", "seed", "training", "pruning", "total", "ratio"]
    nan = float("nan")
    np.testing.assert_equal(
        times.values.tolist(),
        [
            ["dense_100", 0, 20, 0, 20, nan],
            ["dense_100", 1, 40, 0, 40, nan],
            ["fgsm_ticket_40", 0, 8, 2, 10, 0.5],
            ["fgsm_ticket_40", 1, 12, 4, 16, 0.4],
            ["fgsm_ticket_70", 2, 12, nan, nan, nan],
        ],
    )
    assert boosting_results.training_times(trainings.frame(), "cpu_seconds").empty


def test_curves_of_tickets_start_when_they_are_found(accelerated):
    curves = boosting_results.timed_curves(accelerated.group("acceleration"))
    found = {
        key: list(zip(rows["seconds"], rows["value"]))
        for key, rows in curves.groupby(["method", "seed"])
    }
    assert found["dense_100", 1] == [(0, 0.1), (10, 0.3), (20, 0.4), (30, 0.5), (40, 0.45)]
    assert found["fgsm_ticket_40", 0] == [(2, 0.1), (7, 0.3), (12, 0.4)]
    assert found["fgsm_ticket_40", 1] == [(4, 0.1), (14, 0.3), (24, 0.4)]


def test_times_to_madrys_best(accelerated):
    group = accelerated.group("acceleration")
    assert boosting_results.best_robust_accuracy(group).to_dict() == {0: 0.5, 1: 0.5}
    times = boosting_results.times_to_accuracy(group)
    nan = float("nan")
    # 2 s of finding and 8 s of training, against 20 s in all and 15 s to the best.
    np.testing.assert_equal(
        times.values.tolist(),
        [
            ["fgsm_ticket_40", 0, nan, nan, nan],
            ["fgsm_ticket_40", 1, nan, nan, nan],
            ["fgsm_ticket_70", 0, 10, 10 / 20, 10 / 15],
            ["fgsm_ticket_70", 1, nan, nan, nan],
        ],
    )
    cpu = boosting_results.times_to_accuracy(group, "cpu_seconds")
    np.testing.assert_equal(cpu["seconds"].tolist(), [nan, nan, 30, nan])


def test_nothing_is_reached_before_training(trainings):
    trainings.train("finding_fgsm_0.05", "fgsm", [0.1], seconds=[1])
    for method in ("dense_100", "fgsm_ticket_40"):
        trainings.train(method, "pgd", [0.1] * 3, [0.4, 0.2, 0.3], seconds=[2, 4])
    group = trainings.group("acceleration")
    assert boosting_results.best_robust_accuracy(group).to_dict() == {0: 0.3}
    assert boosting_results.times_to_accuracy(group).values.tolist() == [
        ["fgsm_ticket_40", 0, 5, 5 / 4, 5 / 4]
    ]


def test_pruned_to_takes_the_sparsity_that_was_reached(trainings):
    trainings.train("boosting_sparsity_0.8", "natural", [0.1, 0.2], sparsity=0.79998)
    trainings.train("random_sparsity_0.8", "natural", [0.3], sparsity=0.80001)
    trainings.train("boosting_100", "natural", [0.4])
    rows = boosting_results.pruned_to(trainings.frame())
    assert rows[["pruned", "sparsity_percent", "value"]].values.tolist() == [
        ["boosting", 80.0, 0.1], ["boosting", 80.0, 0.2], ["random", 80.0, 0.3],
    ]  # fmt: skip


def test_finding_rates(trainings):
    for method in ("found_at_0.005_20", "found_at_0.1_100", "boosting_100", "found_at_x_20"):
        trainings.train(method, "natural", [0.1])
    rows = boosting_results.finding_rates(trainings.frame())
    assert list(zip(rows["learning_rate"], rows["percent"])) == [(0.005, 20), (0.1, 100)]
