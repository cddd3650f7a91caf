"""A ticket's masks over the dense layers of a transformer, against NumPy."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.masking.tiny_transformer import slots, tiny_backbone, tokens
from tests.noise import mirrored
from tf_tickets.masking.drawing import magnitude_ticket
from tf_tickets.masking.ticket import Provenance, dense_ticket
from tf_tickets.masking.transformer_masks import TransformerMasks
from tf_tickets.models.weights import read_weights
from tf_tickets.training.checkpoints import LevelCheckpoint, Progress

PROVENANCE = Provenance("original", "tiny", {}, "none", 0, 0, "", "", {})


def masked_layers(backbone):
    """Name → layer: six of each encoder, and the pooler."""
    layers = {f"dense_{index}": slot.layer for index, slot in enumerate(slots(backbone))}
    return layers | {"pooler": backbone.pooled_dense}


def tiny_masks():
    backbone = tiny_backbone()
    return backbone, TransformerMasks(masked_layers(backbone))


@pytest.fixture(scope="module")
def shared():
    """A tiny BERT and its masks, for tests that set all that they use."""
    return tiny_masks()


def random_masks(masks, seed):
    generator = np.random.default_rng(seed)
    return {path: generator.random(shape) < 0.5 for path, shape in masks.shapes.items()}


def train(backbone, masks, optimizer):
    """One step, towards nothing in particular."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(backbone(tokens(), training=True)["pooled_output"] ** 2)
    weights = backbone.trainable_weights
    gradients = tape.gradient(loss, weights)
    optimizer.apply_gradients(
        (gradient, weight) for gradient, weight in zip(gradients, weights) if gradient is not None
    )
    masks.apply()


def test_six_kernels_of_each_encoder_and_the_pooler_are_masked(shared):
    backbone, masks = shared
    block = {
        "self_attention_layer/query": (16, 2, 8),
        "self_attention_layer/key": (16, 2, 8),
        "self_attention_layer/value": (16, 2, 8),
        "self_attention_layer/attention_output": (2, 8, 16),
        "feedforward_intermediate_dense": (16, 32),
        "feedforward_output_dense": (32, 16),
    }
    expected = {
        f"transformer_layer_{index}/{name}/kernel": shape
        for index in range(2)
        for name, shape in block.items()
    }
    assert masks.shapes == expected | {"pooled_dense/kernel": (16, 16)}
    for path, weight in masks.weights.items():
        assert any(weight is variable for variable in backbone.trainable_weights), path


def test_assigned_masks_are_read_back_and_nothing_else_is_touched(shared):
    backbone, masks = shared
    for seed in range(2):
        for weight in backbone.weights:
            weight.assign(tf.ones_like(weight))
        wanted = random_masks(masks, seed)
        masks.assign(wanted)
        for path, mask in masks.read().items():
            np.testing.assert_array_equal(mask, wanted[path])
        for path, weight in read_weights(backbone).items():
            np.testing.assert_array_equal(weight, wanted.get(path, np.ones(weight.shape)))


def test_masked_weights_are_zero_after_every_step_of_an_optimizer():
    backbone, masks = tiny_masks()
    wanted = random_masks(masks, 3)
    masks.assign(wanted)
    before = read_weights(backbone)
    optimizer = keras.optimizers.legacy.Adam(0.1)
    for _ in range(2):
        train(backbone, masks, optimizer)
        for path, weight in masks.weights.items():
            assert np.all(weight.numpy()[~wanted[path]] == 0)
    moved = [np.mean(weight.numpy() != before[path]) for path, weight in masks.weights.items()]
    assert min(moved) > 0.3  # The half that stays has been trained.


def test_masks_on_replicas():
    with mirrored().scope():
        dense = keras.layers.EinsumDense("ab,bcd->acd", (2, 3), name="query")
        dense.build(tf.TensorShape([None, 4]))
        masks = TransformerMasks({"query": dense})
    wanted = random_masks(masks, 4)
    masks.assign(wanted)

    def replica_step():
        for _ in tf.range(2):
            dense.kernel.assign_add(tf.ones((4, 2, 3)))
        masks.apply()

    @tf.function
    def step():
        mirrored().run(replica_step)

    ((path, mask),) = wanted.items()
    dense.kernel.assign(np.ones((4, 2, 3)))
    step()
    for replica in mirrored().experimental_local_results(dense.kernel):
        np.testing.assert_array_equal(replica, np.where(mask, 3.0, 0.0))
    np.testing.assert_array_equal(masks.read()[path], mask)


def test_tf_mot_prunes_them_as_magnitudes_say(shared):
    backbone, masks = shared
    generator = np.random.default_rng(0)
    for weight in masks.weights.values():
        weight.assign(generator.normal(size=weight.shape))
    weights = read_weights(backbone)
    dense = dense_ticket(masks.shapes, PROVENANCE)
    ticket = magnitude_ticket(weights, dense, 0.4)
    keep = {path: int(mask.sum()) for path, mask in ticket.masks.items()}
    pruned = masks.prune_by_magnitude(dense, keep)
    for path, mask in ticket.masks.items():
        np.testing.assert_array_equal(pruned[path], mask)


def test_a_training_s_checkpoint_holds_them(tmp_path):
    backbone, masks = tiny_masks()
    wanted = random_masks(masks, 6)
    masks.assign(wanted)
    optimizer = keras.optimizers.legacy.Adam(0.1)
    train(backbone, masks, optimizer)
    weights = read_weights(backbone)
    checkpoint = partial(LevelCheckpoint, tmp_path, backbone, optimizer, masks)
    checkpoint().save(dataclasses.replace(Progress(), iteration=1))
    masks.assign(random_masks(masks, 7))
    assert checkpoint().restore().iteration == 1
    for path, mask in masks.read().items():
        np.testing.assert_array_equal(mask, wanted[path])
    for path, weight in read_weights(backbone).items():
        np.testing.assert_array_equal(weight, weights[path])


def test_kernels_of_one_path_are_refused():
    layers = {}
    for name in ("first", "second"):
        layers[name] = keras.layers.Dense(2, name="same")
        layers[name].build(tf.TensorShape([None, 3]))
    with pytest.raises(ValueError, match="2 layers have 1 paths"):
        TransformerMasks(layers)
