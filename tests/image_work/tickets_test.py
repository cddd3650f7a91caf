"""Tickets and starts of real trainings, against what NumPy says of the weights before."""

import dataclasses

import numpy as np
import pytest

from tests.image_work.work_test import run
from tests.work.plans import FINDING, labels
from tf_tickets.errors import UserError
from tf_tickets.image_work.cuts import fresh_weights
from tf_tickets.image_work.tickets import require_rounds
from tf_tickets.image_work.work import prunable_shapes
from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.training.schedules import Constant
from tf_tickets.work.nodes import Gradual, Inherited, LayerMasks

RATES = {"hidden_1/kernel": 0.2, "hidden_2/kernel": 0.2, "logits/kernel": 0.1}
DENSE = dataclasses.replace(
    FINDING, rates=Constant(0.05), measured=(), labels=labels("dense", "fgsm")
)


def level(number, **changes):
    return dataclasses.replace(
        DENSE, stream=number, labels=labels("level", "fgsm", number), **changes
    )


def pruned(before, choice, number, **changes):
    return level(number, masks=LayerMasks(before, 0.2, 0.1, choice, (0, number)), **changes)


FIRST = pruned(DENSE, "magnitude", 1)
SECOND = pruned(FIRST, "magnitude", 2)
CONTINUED = pruned(FIRST, "magnitude", 2, start=Inherited(FIRST))
BLOCKS = pruned(DENSE, "blocks", 1)
AT_RANDOM = pruned(DENSE, "random", 1)
AGAIN_AT_RANDOM = pruned(AT_RANDOM, "random", 2)
REWOUND = level(1, start=Inherited(DENSE, 4))
SHORT = dataclasses.replace(DENSE, iterations=4, evaluate_every=4)
GRADUAL = level(2, masks=Gradual(0.2, 0.1, 2))
ALL = (SECOND, CONTINUED, BLOCKS, AGAIN_AT_RANDOM, REWOUND, SHORT, GRADUAL)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("tickets")
    return run(root, ALL)


def counts(masks):
    return {path: int(mask.sum()) for path, mask in masks.items()}


def after(before):
    """What one round leaves of the counts before it, halves rounded up."""
    return {path: count - int(RATES[path] * count + 0.5) for path, count in before.items()}


@pytest.mark.parametrize("node", [FIRST, SECOND, CONTINUED])
def test_the_largest_weights_of_each_layer_stay(store, node):
    before, weights = store.ticket(node.masks.of), store.weights(node.masks.of)
    for path, mask in store.ticket(node).masks.items():
        remaining = before.masks[path]
        sizes = np.sort(np.abs(weights[path])[remaining])
        removed = int(RATES[path] * remaining.sum() + 0.5)
        np.testing.assert_array_equal(mask, remaining & (np.abs(weights[path]) >= sizes[removed]))


def test_a_random_choice_has_the_counts_but_not_the_weights(store):
    for node in (AT_RANDOM, AGAIN_AT_RANDOM):
        parent, ticket = store.ticket(node.masks.of), store.ticket(node)
        assert counts(ticket.masks) == after(counts(parent.masks)) and ticket.is_within(parent)
    assert store.ticket(AT_RANDOM) != store.ticket(FIRST)
    kept = np.abs(store.weights(DENSE)["hidden_1/kernel"])
    mask = store.ticket(AT_RANDOM).masks["hidden_1/kernel"]
    # As likely to keep a small weight as a large one: means differ by chance alone.
    assert abs(kept[mask].mean() / kept.mean() - 1) < 0.1
    mask = store.ticket(FIRST).masks["hidden_1/kernel"]
    assert kept[mask].mean() / kept.mean() > 1.1


def test_blocks_of_four_stay_or_go_together(store):
    shape = prunable_shapes(DENSE.network)["hidden_1/kernel"]
    assert shape[0] % 4 == 0
    mask = store.ticket(BLOCKS).masks["hidden_1/kernel"].reshape(shape[0] // 4, 4, shape[1])
    assert np.all(mask.all(axis=1) == mask.any(axis=1)) and not mask.all()


def test_gradual_pruning_ends_with_the_counts_of_its_rounds(store):
    whole = {path: int(np.prod(shape)) for path, shape in prunable_shapes(DENSE.network).items()}
    assert counts(store.ticket(GRADUAL).masks) == after(after(whole))
    weights = store.weights(GRADUAL)
    for path, mask in store.ticket(GRADUAL).masks.items():
        assert not np.any(weights[path][~mask])


def test_starts(store):
    def start(node):
        return store.ticket(node).provenance.initial_weights_sha256

    assert start(SECOND) == start(FIRST) == arrays_sha256(fresh_weights(DENSE.network, 0))
    assert start(CONTINUED) == arrays_sha256(store.weights(FIRST))
    assert start(REWOUND) == arrays_sha256(store.weights(DENSE, at=4))
    # The same four steps, and nothing after them.
    assert start(REWOUND) == arrays_sha256(store.weights(SHORT)) != start(SECOND)


def test_tickets_know_what_they_were_pruned_from(store):
    for node in (FIRST, SECOND, CONTINUED, BLOCKS, AT_RANDOM, AGAIN_AT_RANDOM):
        parent, ticket = store.ticket(node.masks.of), store.ticket(node)
        assert ticket.is_within(parent) and ticket.sparsity > parent.sparsity
        assert ticket.provenance.parent_sha256 == parent.sha256
        assert ticket.provenance.level == node.stream


def test_more_rounds_than_weights_are_refused():
    shapes = {"hidden/kernel": (2, 2), "logits/kernel": (2, 3)}
    masks = LayerMasks(DENSE, 0.5, 0.1, "magnitude")
    require_rounds(masks, 2, shapes)
    with pytest.raises(UserError, match="--rounds=4: expected fewer, so that .* hidden/kernel"):
        require_rounds(masks, 4, shapes)


def test_what_is_kept_on_the_way_comes_from_a_training_that_is_there(store, tmp_path):
    """A finished training is made again for it, to the same bytes."""
    run(tmp_path, [SECOND])
    before = store.weights_path(DENSE).read_bytes()
    again = run(tmp_path, [REWOUND])
    assert again.weights_path(DENSE).read_bytes() == before
    kept = again.weights_path(DENSE, at=4)
    assert kept.read_bytes() == store.weights_path(DENSE, at=4).read_bytes()
