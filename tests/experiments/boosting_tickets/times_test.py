"""Times and goals of the acceleration study, against numbers found by hand."""

import numpy as np

from experiments.boosting_tickets import times


def test_times_are_of_whole_trainings_and_ratios_are_taken_seed_by_seed(trainings):
    trainings.train("finding", None, "fgsm", [0.1], seconds=[1, 2])
    trainings.train("finding", None, "natural", [0.1], seconds=[50])
    trainings.train("finding", None, "fgsm", [0.1], seconds=[4], seed=1)
    # Tested after epoch 1, but trained, and paid, for 2.
    tests = {"natural": 0.5}
    trainings.train("dense", 100, "pgd", [0.1], seconds=[10, 20], tests=tests, selected=1)
    trainings.train("dense", 100, "pgd", [0.1], seconds=[20, 40], seed=1)
    trainings.train("fgsm_ticket", 40, "pgd", [0.1], seconds=[4, 8])
    trainings.train("fgsm_ticket", 40, "pgd", [0.1], seconds=[6, 12], seed=1)
    # A seed without its finding.
    trainings.train("fgsm_ticket", 70, "pgd", [0.1], seconds=[6, 12], seed=2)
    # A training that the study does not compare.
    trainings.train("pgd_ticket", 100, "pgd", [0.1], seconds=[6, 12])
    found = times.training_times(trainings.group("acceleration").rows)
    assert found.columns.tolist() == ["network", "seed", "training", "pruning", "total", "ratio"]
    nan = float("nan")
    np.testing.assert_equal(
        found.values.tolist(),
        [
            ["Madry's", 0, 20, 0, 20, nan],
            ["Madry's", 1, 40, 0, 40, nan],
            ["Ours-40", 0, 8, 2, 10, 0.5],
            ["Ours-40", 1, 12, 4, 16, 0.4],
            ["Ours-70", 2, 12, nan, nan, nan],
        ],
    )
    assert times.training_times(trainings.frame(), "cpu_seconds").empty


def test_curves_of_tickets_start_when_they_are_found(accelerated):
    curves = times.timed_curves(accelerated.group("acceleration"))
    found = {
        key: list(zip(rows["seconds"], rows["value"]))
        for key, rows in curves.groupby(["network", "seed"])
    }
    assert found["Madry's", 1] == [(0, 0.1), (10, 0.3), (20, 0.4), (30, 0.5), (40, 0.45)]
    assert found["Ours-40", 0] == [(2, 0.1), (7, 0.3), (12, 0.4)]
    assert found["Ours-40", 1] == [(4, 0.1), (14, 0.3), (24, 0.4)]


def test_the_goal_is_what_madrys_ends_with_less_a_standard_error(accelerated):
    goals = times.robust_goals(accelerated.group("acceleration"))
    # It ends with 45%, on 100 images as 49% and 45% tell.
    assert goals.ends.to_dict() == {0: 0.45, 1: 0.45} and goals.images == 100
    expected = 0.45 - (0.45 * 0.55 / 100) ** 0.5
    np.testing.assert_allclose(goals.accuracies, [expected, expected])
    assert goals.chance == 0.1 and goals.above_chance


def test_times_to_madrys_last(accelerated):
    group = accelerated.group("acceleration")
    found = times.times_to_accuracy(group)
    nan = float("nan")
    # The goal is 40.03%. Seed 0 of the last: 2 s of finding and 8 s of training, against 20 s in
    # all and 15 s until 50%; all of seed 1 takes twice as long.
    np.testing.assert_equal(
        found.values.tolist(),
        [
            ["Ours-40", 0, nan, nan, nan],
            ["Ours-40", 1, nan, nan, nan],
            ["Ours-70", 0, 10, 10 / 20, 10 / 15],
            ["Ours-70", 1, 20, 20 / 40, 20 / 30],
            ["FGSM training alone", 0, nan, nan, nan],
            ["FGSM training alone", 1, nan, nan, nan],
        ],
    )
    cpu = times.times_to_accuracy(group, "cpu_seconds")
    np.testing.assert_equal(cpu["seconds"].tolist(), [nan, nan, 30, 60, nan, nan])


def test_the_training_that_finds_tickets_can_get_there_by_itself(trainings):
    robust = [0.1, 0.29, 0.41]
    trainings.train("finding", None, "fgsm", robust, robust, seconds=[1, 2])
    for family, percent in (("dense", 100), ("fgsm_ticket", 40)):
        trainings.train(family, percent, "pgd", robust, robust, seconds=[10, 20])
    found = times.times_to_accuracy(trainings.group("acceleration"))
    assert found.values.tolist() == [
        ["Ours-40", 0, 22, 22 / 20, 22 / 20],
        ["FGSM training alone", 0, 2, 2 / 20, 2 / 20],
    ]


def test_of_two_trainings_that_find_tickets_the_longer_one_counts_everywhere(trainings):
    """By name the first is the one of the learning rate 0.01, which took 2 s; the other took 6."""
    robust = [0.1, 0.29, 0.41]
    worse = [0.1, 0.2, 0.3]
    finder = ("finding", None, "fgsm")
    trainings.train(*finder, robust, robust, seconds=[1, 2], method="finding_fgsm_0.01")
    trainings.train(*finder, worse, worse, seconds=[3, 6], method="finding_fgsm_0.05")
    for family, percent in (("dense", 100), ("fgsm_ticket", 40)):
        trainings.train(family, percent, "pgd", robust, robust, seconds=[10, 20])
    group = trainings.group("acceleration")
    curves = times.timed_curves(group)
    found = {
        network: list(zip(rows["seconds"], rows["value"]))
        for network, rows in curves.groupby("network")
    }
    assert found[times.FINDER] == [(0, 0.1), (3, 0.2), (6, 0.3)]
    assert found["Ours-40"] == [(6, 0.1), (16, 0.29), (26, 0.41)]
    assert times.finding_seconds(group.rows).to_dict() == {0: 6}


def test_nothing_is_reached_before_training(trainings):
    trainings.train("finding", None, "fgsm", [0.1], seconds=[1])
    for family, percent in (("dense", 100), ("fgsm_ticket", 40)):
        trainings.train(family, percent, "pgd", [0.1] * 3, [0.8, 0.201, 0.502], seconds=[2, 4])
    group = trainings.group("acceleration")
    assert times.times_to_accuracy(group).values.tolist() == [["Ours-40", 0, 5, 5 / 4, 5 / 4]]
