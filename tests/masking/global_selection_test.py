"""Global pruning against a brute-force ranking, and the BatchNorm of empty filters."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.masking.magnitude import (
    SCORES,
    layer_counts,
    magnitude,
    normalized_magnitude,
    select,
)
from tf_tickets.masking.ticket import Provenance, Ticket, dense_ticket
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights

PROVENANCE = Provenance("", "", {}, "", 0, 0, "", "", {})


def brute_force(scores, ticket, sparsity):
    """Ranks all remaining weights one by one."""
    size = sum(mask.size for mask in ticket.masks.values())
    ranking = sorted(
        (
            (-float(scores[path][index]), number, index)
            for number, path in enumerate(ticket.masks)
            for index in np.ndindex(ticket.masks[path].shape)
            if ticket.masks[path][index]
        ),
    )[: int((1 - sparsity) * size + 0.5)]
    masks = {path: np.zeros(mask.shape, bool) for path, mask in ticket.masks.items()}
    for _, number, index in ranking:
        masks[list(masks)[number]][index] = True
    return masks


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.8, 0.97])
def test_equals_a_ranking_of_all_weights(score, sparsity):
    generator = np.random.default_rng(5)
    weights = {
        "a/kernel": generator.normal(size=(3, 3, 2, 4)),
        "b/kernel": 20 * generator.normal(size=(4, 7)),
        "norm/gamma": np.ones(4),
    }
    weights["a/kernel"].ravel()[:6] = 0.25  # Ties.
    ticket = dense_ticket({"a/kernel": (3, 3, 2, 4), "b/kernel": (4, 7)}, PROVENANCE)
    scores = SCORES[score](weights, ticket)
    counts = layer_counts(scores, ticket, sparsity)
    masks, expected = select(scores, ticket, counts), brute_force(scores, ticket, sparsity)
    for path, mask in expected.items():
        np.testing.assert_array_equal(masks[path], mask)


def test_only_what_remains_competes():
    ticket = Ticket({"a": np.array([True, False, True, False])}, PROVENANCE)
    scores = {"a": np.array([1.0, 9.0, 2.0, 8.0])}
    assert layer_counts(scores, ticket, 0.75) == {"a": 1}
    np.testing.assert_array_equal(
        select(scores, ticket, {"a": 1})["a"], [False, False, True, False]
    )
    with pytest.raises(ValueError, match="cannot keep 3 of 2"):
        layer_counts(scores, ticket, 0.25)


def test_scores_by_hand():
    ticket = Ticket({"a": np.array([True, True, False]), "b": np.array([True, True])}, PROVENANCE)
    weights = {"a": np.array([-1.0, 3.0, 100.0]), "b": np.array([-0.1, 0.3])}
    np.testing.assert_array_equal(magnitude(weights, ticket)["a"], [1, 3, 100])
    scores = normalized_magnitude(weights, ticket)
    np.testing.assert_allclose(scores["a"], [0.5, 1.5, 50])
    # Another scale, the same scores: normalisation is what makes layers comparable.
    np.testing.assert_allclose(scores["b"], [0.5, 1.5])


def test_a_layer_of_zeros_has_scores_of_zero():
    ticket = Ticket({"a": np.array([True, True])}, PROVENANCE)
    np.testing.assert_array_equal(normalized_magnitude({"a": np.zeros(2)}, ticket)["a"], [0, 0])


def pruned_network():
    """A narrow WRN whose first block has a filter that is pruned away entirely."""
    model = build_model("wide_resnet_10_1", (16, 16, 3), 10, 0, width_multiplier=0.25)
    masks = WeightMasks(model)
    arrays = {path: np.ones(shape, bool) for path, shape in masks.shapes.items()}
    path = next(path for path in arrays if path.endswith("block_1/conv_1/kernel"))
    arrays[path][..., 1] = False
    return model, masks, arrays, path.removesuffix("conv_1/kernel")


def test_a_batch_norm_shifts_no_channel_whose_filter_is_empty():
    model, masks, arrays, block = pruned_network()
    norm = next(
        layer
        for layer in model.layers
        if layer.name.startswith(block)
        and isinstance(layer, keras.layers.BatchNormalization)
        and layer.gamma.shape == arrays[block + "conv_1/kernel"].shape[-1:]
        and layer.name.endswith("2")
    )
    for weight in norm.trainable_weights:
        weight.assign(tf.ones_like(weight) * 3)
    masks.assign(arrays)
    for _ in range(2):
        for weight in norm.trainable_weights:
            expected = np.full(weight.shape, 3.0)
            expected[1] = 0
            np.testing.assert_array_equal(weight, expected)
            weight.assign(tf.ones_like(weight) * 3)  # What an optimizer's momentum may do.
        masks.apply()


def test_dense_masks_leave_every_batch_norm_alone():
    model, masks, arrays, _ = pruned_network()
    before = read_weights(model)
    masks.assign({path: np.ones_like(mask) for path, mask in arrays.items()})
    masks.apply()
    for path, weight in read_weights(model).items():
        np.testing.assert_array_equal(weight, before[path])
