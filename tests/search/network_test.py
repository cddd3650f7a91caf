"""A search on the real network: what is pruned, rewound and tightened, on random images."""

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import ATTACKS, BATCH, make_data
from tf_tickets.masking.magnitude import counts_at_level
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.search.iterative import SearchSettings, iterative_search
from tf_tickets.search.level_store import LevelStore
from tf_tickets.search.network import CellNetwork, Laboratory
from tf_tickets.training.trainer import TrainingSettings

RATES = {"hidden_1/kernel": 0.2, "hidden_2/kernel": 0.2, "logits/kernel": 0.1}


@pytest.fixture
def search(tmp_path):
    """Runs a search of three levels; returns them, the starts of the levels and the run."""

    def search(method, regime="natural", **changes):
        extent = {
            "rounds": 3,
            "iterations": 12,
            "evaluate_every": 6,
            "pruning_rate": 0.2,
            "output_pruning_rate": 0.1,
            "rewind_iteration": 0,
            **changes,
        }
        settings = SearchSettings(**extent)
        training = TrainingSettings("lenet_300_100", BATCH, 1.2e-3, 0.0, ATTACKS)
        one_device = tf.distribute.OneDeviceStrategy("CPU:0")
        laboratory = Laboratory(training, make_data(), regime, 0, one_device)
        run = RunDirectory(tmp_path / method, {}, {})
        cell = Cell("noise", regime, method, 0)
        store = LevelStore(run, cell, "test", "lenet_300_100")
        advanced = []
        network = CellNetwork(
            laboratory,
            settings,
            store,
            run,
            cell,
            advance=lambda steps, text: advanced.append(steps),
            stop_if_requested=lambda: None,
        )
        starts = []
        train = network.train

        def remember_and_train(level, start, masks):
            starts.append(start)
            return train(level, start, masks)

        network.train = remember_and_train
        levels = list(
            iterative_search(method, settings, 0, network, store, laboratory.provenance(cell))
        )
        assert sum(advanced) == settings.rounds * settings.iterations
        return levels, starts, run, cell

    return search


def test_each_level_keeps_the_largest_trained_weights_of_each_layer(search):
    levels, starts, _, _ = search("original")
    for before, after in zip(levels, levels[1:]):
        for path, mask in after.ticket.masks.items():
            remaining = before.ticket.masks[path]
            magnitudes = np.abs(before.weights[path])[remaining]
            removed = int(np.floor(RATES[path] * remaining.sum() + 0.5))
            threshold = np.sort(magnitudes)[removed]
            expected = remaining & (np.abs(before.weights[path]) >= threshold)
            np.testing.assert_array_equal(mask, expected)
    for start in starts:
        for path, weight in start.items():
            np.testing.assert_array_equal(weight, starts[0][path])


def test_rewinding_restores_the_weights_of_that_iteration_exactly(search):
    _, starts, run, cell = search("original", rewind_iteration=5)
    at_five = load_arrays(run.rewind_weights_path(cell))
    (until_five, *_), _, _, _ = search("continued", iterations=5, evaluate_every=5, rounds=1)
    for path, weight in until_five.weights.items():
        np.testing.assert_array_equal(at_five[path], weight)
        assert np.any(weight != starts[0][path])
        for start in starts[1:]:
            np.testing.assert_array_equal(start[path], weight)


def test_gradual_pruning_ends_with_the_counts_of_the_level(search):
    levels, _, _, _ = search("gradual", regime="fgsm")
    shapes = {path: mask.shape for path, mask in levels[0].ticket.masks.items()}
    for level in levels:
        keep = counts_at_level(shapes, RATES, level.number)
        assert {path: int(mask.sum()) for path, mask in level.ticket.masks.items()} == keep
        for path, mask in level.ticket.masks.items():
            assert not np.any(level.weights[path][~mask])


def test_results_say_what_was_measured_where(search):
    levels, _, run, cell = search("original", regime="fgsm")
    rows = run.finished_results(cell, 1)
    assert {row.sparsity for row in rows} == {levels[1].ticket.sparsity}
    assert {row.regime for row in rows} == {"fgsm"} and {row.seed for row in rows} == {0}

    def measured(iteration):
        return {row.metric.split("/")[1] for row in rows if row.iteration == iteration}

    assert measured(0) == {"natural", "fgsm"}
    assert measured(12) == {"natural", "fgsm", "pgd", "cw_linf"}
