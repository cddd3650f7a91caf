"""How fast tickets train, against iterations found by hand."""

import numpy as np

from experiments.sparse_robust_networks.speed_tables import iterations_to_dense, speed_table
from tests.analysis.readers import parse


def add(maker, level, density, losses, accuracies, **where):
    """Validation measurements after 0, 100, 200... iterations, of one PGD-trained level."""
    at = {"level": level, "density": density, **where}
    for number, (loss, accuracy) in enumerate(zip(losses, accuracies)):
        maker.add("validation/pgd/loss", loss, iteration=100 * number, **at)
        maker.add("validation/pgd/accuracy", accuracy, iteration=100 * number, **at)


def test_censored_iterations_are_marked_and_the_second_measure_is_not_cut_off(maker):
    # The dense network's loss still falls when training ends, of both seeds.
    add(maker, 0, 1.0, [(2, 2), (1, 1), (0.5, 0.5)], [(0.1, 0.1), (0.3, 0.2), (0.4, 0.5)])
    # One seed's is smallest before; 0.4 is reached after 100 iterations, 0.5 never.
    add(maker, 1, 0.513, [(2, 2), (1, 1), (1.5, 0.9)], [(0.1, 0.1), (0.4, 0.4), (0.5, 0.49)])
    # Another attack's accuracy and test data count for nothing.
    maker.add("validation/natural/accuracy", [0.9, 0.9], level=1, density=0.513, iteration=0)
    maker.add("test/pgd/accuracy", [0.9, 0.9], level=1, density=0.513, iteration=0)
    text = speed_table(maker.frame(), "mnist")
    assert "of 3 of 4 trainings" in text.replace("\n", " ") and "iteration 200" in text
    assert parse(text) == [[
        ["P_m (%)", "original, stops", "original, as good as dense"],
        ["100.0", "≥200±0", "200±0"],
        ["51.3", "≥150±71", "100 (1 of 2 seeds)"],
    ]]  # fmt: skip


def test_a_search_without_a_dense_level_has_no_goal(maker):
    add(maker, 1, 0.513, [(2,), (1,)], [(0.1,), (0.4,)])
    assert iterations_to_dense(maker.frame()).empty
    (table,) = parse(speed_table(maker.frame(), "mnist"))
    assert table[1] == ["51.3", "≥100", "–"]


def test_every_search_has_its_own_goal(maker):
    for method, end in (("original", 0.6), ("random", 0.3)):
        add(maker, 0, 1.0, [(2,), (1,), (0.9,)], [(0.1,), (0.3,), (end,)], method=method)
    found = iterations_to_dense(maker.frame()).set_index("method")["reached"]
    assert found.to_dict() == {"original": 200, "random": 100}
    assert np.isfinite(found).all()


def test_nothing_is_reached_before_training(maker):
    """A ticket of trained weights, or of luck, is as good at iteration 0."""
    add(maker, 0, 1.0, [(2,), (1,), (0.9,)], [(0.1,), (0.3,), (0.4,)])
    add(maker, 1, 0.513, [(2,), (1,), (0.9,)], [(0.5,), (0.3,), (0.45,)])
    found = iterations_to_dense(maker.frame()).set_index("level")["reached"]
    assert found.to_dict() == {0: 200, 1: 200}
