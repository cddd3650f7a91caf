"""The strategies on a network small enough to prune by hand."""

import numpy as np
import pytest

from tf_tickets.masking.ticket import Provenance, arrays_sha256
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.search.iterative import METHODS, SearchSettings, TrainedLevel, iterative_search
from tf_tickets.search.level_store import LevelStore

HIDDEN, OUTPUT = "hidden/kernel", "logits/kernel"
THETA_0 = {
    HIDDEN: np.array([[1.0, -2.0, 3.0, -4.0, 5.0]], np.float32),
    OUTPUT: np.array([[1.0, 2.0, 3.0, -4.0]], np.float32),
}
# What training adds, whatever it starts from; it turns the order of magnitudes round.
TRAINING = {
    HIDDEN: np.array([[6.0, -4.0, 1.0, -1.0, -4.9]], np.float32),
    OUTPUT: np.array([[0.1, 0.1, 0.1, 0.1]], np.float32),
}
PROVENANCE = Provenance("by hand", "toy", {}, "none", 0, 0, "", "", {})


class ToyNetwork:
    """Trains by adding `TRAINING` and masking; remembers where levels started."""

    shapes = {path: weight.shape for path, weight in THETA_0.items()}

    def __init__(self):
        self.starts = []
        self.gradual = []

    def fresh_weights(self, seed):
        if seed == 0:
            return THETA_0
        random = np.random.default_rng(seed)
        return {p: random.normal(size=s).astype(np.float32) for p, s in self.shapes.items()}

    def prune_by_magnitude(self, weights, ticket, keep):
        masks = {}
        for path, mask in ticket.masks.items():
            largest = sorted(np.flatnonzero(mask), key=lambda i: -abs(weights[path].flat[i]))
            masks[path] = np.isin(np.arange(mask.size), largest[: keep[path]]).reshape(mask.shape)
        return masks

    def train(self, level, start, masks):
        self.starts.append(start)
        weights = {path: (start[path] + TRAINING[path]) * masks[path] for path in start}
        return TrainedLevel(masks, weights, [(1, "test/natural/accuracy", 0.5)])

    def train_gradually(self, level, start, keep):
        self.gradual.append(keep)
        ticket = type("Dense", (), {"masks": {p: np.ones(s, bool) for p, s in self.shapes.items()}})
        return self.train(level, start, self.prune_by_magnitude(start, ticket, keep))


def settings(rounds=3, **changes):
    fields = dict(
        rounds=rounds,
        iterations=1,
        evaluate_every=1,
        pruning_rate=0.2,
        output_pruning_rate=0.25,
        rewind_iteration=0,
    )
    return SearchSettings(**{**fields, **changes})


def search(tmp_path, method, network=None, **changes):
    network = network or ToyNetwork()
    cell = Cell("none", "natural", method, 0)
    store = LevelStore(RunDirectory(tmp_path, {}, {}), cell, "toy", "toy")
    levels = iterative_search(method, settings(**changes), 0, network, store, PROVENANCE)
    return list(levels), network


def kept(level):
    return {path: np.flatnonzero(mask).tolist() for path, mask in level.ticket.masks.items()}


def test_two_rounds_with_resetting_by_hand(tmp_path):
    levels, network = search(tmp_path, "original")
    # Level 0 trains |θ| to 7, 6, 4, 5, 0.1 and 1.1, 2.1, 3.1, 3.9: the last hidden weight and
    # the first output weight go. The remaining hidden ones are trained to the same values
    # again, so the third goes: one of four, since 20% of 4 rounds to 1. Of three output
    # weights 25% rounds to one.
    assert [kept(level) for level in levels] == [
        {HIDDEN: [0, 1, 2, 3, 4], OUTPUT: [0, 1, 2, 3]},
        {HIDDEN: [0, 1, 2, 3], OUTPUT: [1, 2, 3]},
        {HIDDEN: [0, 1, 3], OUTPUT: [2, 3]},
    ]
    for start in network.starts:
        for path in THETA_0:
            np.testing.assert_array_equal(start[path], THETA_0[path])
    assert levels[2].weights[HIDDEN].tolist() == [[7.0, -6.0, 0.0, -5.0, 0.0]]


def test_continued_starts_where_the_level_before_ended(tmp_path):
    levels, network = search(tmp_path, "continued")
    for before, start in zip(levels, network.starts[1:]):
        for path in THETA_0:
            np.testing.assert_array_equal(start[path], before.weights[path])
    # Twice trained, |θ| is 13, 10, 5, 6 and the third goes, as above; three times: 19, 14, 7.
    assert levels[2].weights[HIDDEN].tolist() == [[19.0, -14.0, 0.0, -7.0, 0.0]]


def test_random_draws_new_weights_for_every_level(tmp_path):
    levels, network = search(tmp_path, "random")
    first, *later = [start[HIDDEN] for start in network.starts]
    np.testing.assert_array_equal(first, THETA_0[HIDDEN])
    assert not np.any(np.isin(np.concatenate(later), first))
    assert not np.any(np.isin(later[0], later[1]))
    again = search(tmp_path / "again", "random")[1]
    for one, two in zip(network.starts, again.starts):
        np.testing.assert_array_equal(one[HIDDEN], two[HIDDEN])


def test_random_pruning_ignores_magnitudes_but_keeps_the_counts(tmp_path):
    levels, network = search(tmp_path, "random_pruning", rounds=4)
    by_magnitude, _ = search(tmp_path / "magnitude", "original", rounds=4)
    for random, magnitude in zip(levels, by_magnitude):
        assert random.ticket.layer_densities == magnitude.ticket.layer_densities
    assert [kept(level) for level in levels] != [kept(level) for level in by_magnitude]
    for start in network.starts:
        np.testing.assert_array_equal(start[HIDDEN], THETA_0[HIDDEN])


def test_blocks_prunes_kernels_without_blocks_like_original(tmp_path):
    levels, network = search(tmp_path, "blocks")
    original, other = search(tmp_path / "original", "original")
    assert [kept(level) for level in levels] == [kept(level) for level in original]
    for start, same in zip(network.starts, other.starts):
        np.testing.assert_array_equal(start[HIDDEN], same[HIDDEN])


def test_dense_prunes_nothing_and_trains_on(tmp_path):
    levels, _ = search(tmp_path, "dense")
    assert [level.ticket.density for level in levels] == [1, 1, 1]
    np.testing.assert_array_equal(levels[2].weights[HIDDEN], THETA_0[HIDDEN] + 3 * TRAINING[HIDDEN])


def test_gradual_is_asked_for_the_counts_of_each_level(tmp_path):
    levels, network = search(tmp_path, "gradual")
    assert network.gradual == [{HIDDEN: 4, OUTPUT: 3}, {HIDDEN: 3, OUTPUT: 2}]
    assert [sum(map(len, kept(level).values())) for level in levels] == [9, 7, 5]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "gradual"])
def test_tickets_are_nested_and_know_their_parent_and_their_weights(tmp_path, method):
    levels, network = search(tmp_path, method)
    for before, level, start in zip(levels, levels[1:], network.starts[1:]):
        assert level.ticket.is_within(before.ticket)
        assert level.ticket.provenance.parent_sha256 == before.ticket.sha256
        assert level.ticket.provenance.initial_weights_sha256 == arrays_sha256(start)
        assert level.ticket.provenance.level == level.number


def test_the_strategies_differ_where_they_must(tmp_path):
    names = METHODS.keys() - {"blocks"}  # These kernels have none.
    ends = {name: search(tmp_path / name, name)[0][2].weights[HIDDEN].tolist() for name in names}
    assert len({str(weights) for weights in ends.values()}) == len(names)


@pytest.mark.parametrize("method", METHODS)
def test_finished_levels_are_not_trained_again(tmp_path, method):
    search(tmp_path, method, rounds=2)
    levels, network = search(tmp_path, method, rounds=4)
    assert len(network.starts) == 2
    uninterrupted, _ = search(tmp_path / "anew", method, rounds=4)
    for one, two in zip(levels, uninterrupted):
        assert kept(one) == kept(two)
        assert one.ticket == two.ticket
        for path in THETA_0:
            np.testing.assert_array_equal(one.weights[path], two.weights[path])


def test_rewinding_starts_later_levels_from_the_stored_weights(tmp_path):
    rewound = {path: weight + 100 for path, weight in THETA_0.items()}

    class RewindingNetwork(ToyNetwork):
        def train(self, level, start, masks):
            if level == 0:
                store.save_rewind_weights(rewound)
            return super().train(level, start, masks)

    network = RewindingNetwork()
    cell = Cell("none", "natural", "original", 0)
    store = LevelStore(RunDirectory(tmp_path, {}, {}), cell, "toy", "toy")
    extent = settings(rewind_iteration=1)
    list(iterative_search("original", extent, 0, network, store, PROVENANCE))
    np.testing.assert_array_equal(network.starts[0][HIDDEN], THETA_0[HIDDEN])
    for start in network.starts[1:]:
        np.testing.assert_array_equal(start[HIDDEN], rewound[HIDDEN])
