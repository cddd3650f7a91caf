"""Epochs, groups and times against what was worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from experiments.boosting_tickets import results
from experiments.boosting_tickets.results import groups
from tf_tickets.errors import UserError


def test_epochs_count_evaluations_and_labels_are_numbers(trainings):
    for iteration in (40, 0, 11):
        where = {"iteration": iteration}
        trainings.add("boosting", 40, "natural", "validation/natural/accuracy", 0.5, **where)
        trainings.add("boosting", 40, "natural", "validation/natural/loss", 0.5, **where)
        trainings.add("boosting", 40, "natural", "train/natural/seconds", 0.5, **where)
    trainings.add("boosting", 40, "natural", "test/natural/accuracy", 0.5, iteration=40)
    # Another training has its own epochs.
    where = {"iteration": 40, "seed": 1}
    trainings.add("finding", None, "fgsm", "validation/natural/accuracy", 0.5, **where)
    frame = trainings.frame()
    assert frame["epoch"].tolist() == [2] * 3 + [0] * 3 + [1] * 3 + [2, 0]
    assert set(zip(frame["family"][:-1], frame["percent"][:-1])) == {("boosting", 40)}
    assert frame["family"].iloc[-1] == "finding" and np.isnan(frame["percent"].iloc[-1])
    assert frame[["finding_rate", "pruned_to"]].isna().all(axis=None)


def test_a_study_is_of_the_networks_that_trained_its_own_methods(trainings):
    for percent in (20, 100):
        trainings.train("boosting", percent, "natural", [0.1], model="vgg_16")
    trainings.train("boosting", 100, "natural", [0.1], model="wide_resnet_10_1")
    trainings.train("winning", 100, "natural", [0.1], model="lenet_conv", data_set="mnist")
    frame = trainings.frame()
    assert [group.name for group in groups(frame, "epochs")] == ["cifar10_vgg_16"]
    assert [group.name for group in groups(frame, "existence")] == ["mnist_lenet_conv"]
    assert [group.name for group in groups(frame, "capacity")] == ["cifar10"]
    assert [group.name for group in groups(frame, "mnist")] == ["mnist"]
    assert groups(frame, "acceleration") == groups(frame, "learning_rate") == []


def test_before_its_own_methods_a_study_shows_what_it_shares(trainings):
    trainings.train("dense", 100, "pgd", [0.1], data_set="mnist")
    trainings.train("dense", 100, "pgd", [0.1])
    trainings.train("dense", 100, "natural", [0.1], model="resnet_18")
    found = groups(trainings.frame(), "acceleration")
    assert [group.label for group in found] == ["VGG-16 on MNIST", "VGG-16 on CIFAR-10"]


def test_a_group_has_all_rows_of_its_network(accelerated):
    accelerated.train("boosting", 100, "natural", [0.1], model="resnet_18")
    group = accelerated.group("acceleration")
    assert set(group.rows["model"]) == {"vgg_16"}
    assert "finding" in set(group.rows["family"])


def test_the_evaluation_attack_is_what_the_results_say(trainings):
    assert results.evaluation_attack(trainings.frame()) == "pgd_20"
    trainings.train("dense", 100, "pgd", [0.1], robust=[0.1], attack="pgd_7")
    trainings.add("dense", 100, "pgd", "test/pgd_100/accuracy", 0.1)
    assert trainings.group("acceleration").attack == "pgd_7"


def test_first_reaching():
    curves = pd.DataFrame(
        # Seed 0 falls back after it got there; seed 1 never does; seed 2 has no target.
        [(0, 2, 0.5, 20.0), (0, 0, 0.1, 0.0), (0, 1, 0.5, 10.0), (0, 3, 0.4, 30.0),
         (1, 0, 0.1, 0.0), (1, 1, 0.49, 10.0), (2, 0, 0.9, 0.0)],
        columns=["seed", "epoch", "value", "seconds"],
    )  # fmt: skip
    reached = results.first_reaching(curves, {0: 0.5, 1: 0.5, 3: 0.5}, "seconds")
    assert reached.index.tolist() == [0, 1]
    assert reached[0] == 10.0 and np.isnan(reached[1])
    assert results.first_reaching(curves[:0], {0: 0.5}, "seconds").empty


def test_pruned_to_takes_the_sparsity_that_was_asked_for(trainings):
    trainings.train("boosting", None, "natural", [0.1, 0.2], sparsity=0.79998, pruned_to=0.8)
    trainings.train("random", None, "natural", [0.3], sparsity=0.80001, pruned_to=0.8)
    trainings.train("boosting", 100, "natural", [0.4])
    rows = results.pruned_to(trainings.frame())
    assert rows[["family", "sparsity_percent", "value"]].values.tolist() == [
        ["boosting", 80.0, 0.1], ["boosting", 80.0, 0.2], ["random", 80.0, 0.3],
    ]  # fmt: skip


def test_networks_of_varied_learning_rates_are_the_learning_rate_studys_alone(trainings):
    trainings.train("boosting", 20, "natural", [0.1], finding_rate=0.005)
    trainings.train("boosting", 100, "natural", [0.2], finding_rate=0.1, model="wide_resnet_10_1")
    frame = trainings.frame()
    assert frame["finding_rate"].tolist() == [0.005, 0.1]
    assert len(groups(frame, "learning_rate")) == 2
    assert [groups(frame, study) for study in ("existence", "epochs", "capacity")] == [[]] * 3
    assert results.of_families(frame, "natural", ("boosting",)).empty


def test_a_label_that_is_no_number_is_refused_in_one_line(trainings):
    trainings.train("boosting", "forty", "natural", [0.1])
    with pytest.raises(UserError, match="results.csv:2: percent is forty, expected a number"):
        trainings.frame()


def test_results_of_before_there_were_labels_are_refused(trainings):
    trainings.train("boosting", 40, "natural", [0.1])
    trainings.rows = [row._replace(labels=()) for row in trainings.rows]
    with pytest.raises(UserError, match="results.csv: has no column family"):
        trainings.frame()


def test_the_margin_loss_has_one_name_in_old_runs_too(trainings):
    trainings.add("dense", 100, "pgd", "test/cw/accuracy", 0.2)
    frame = trainings.frame()
    assert results.tested_accuracies(frame, "cw_linf")["value"].tolist() == [0.2]
