"""Carlini and Wagner's loss by hand, and their L2 attack against geometry."""

import numpy as np
import pytest
import tensorflow as tf

from tf_tickets.attacks.carlini_wagner import L2Settings, carlini_wagner_l2
from tf_tickets.attacks.gradient import build_attack, margin_loss
from tf_tickets.attacks.threat_model import carlini_wagner
from tf_tickets.errors import UserError

SETTINGS = L2Settings(iterations=300, binary_search_steps=5, learning_rate=0.02)


def test_margin_by_hand():
    logits = tf.constant([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [-5.0, -7.0, -6.0]])
    # max of 1 and 2, less 4; max of 1 and 4, less 2; max of −7 and −6, less −5.
    np.testing.assert_allclose(margin_loss(tf.constant([1, 2, 0]), logits), [-2.0, 2.0, -1.0])


def test_a_step_on_a_linear_model_by_hand():
    # z = x W with W = [[1, 0, 2], [0, 3, 1]]; at x = (0.5, 0.5): z = (0.5, 1.5, 1.5 − δ).
    weights = tf.constant([[1.0, 0.0, 1.9], [0.0, 3.0, 1.0]])
    attack = build_attack(carlini_wagner(0.1, 0.04, 2), lambda x: x @ weights)
    images = tf.constant([[0.5, 0.5], [0.5, 0.5]])
    # Label 1: the largest other is 2, whose margin grows along W_2 − W_1 = (1.9, −2).
    # Label 0: the largest other is 1, along W_1 − W_0 = (−1, 3).
    start = tf.zeros_like(images)
    expected = [[0.58, 0.42], [0.42, 0.58]]
    np.testing.assert_allclose(attack(images, [1, 0], start), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_l2_finds_the_nearest_point_across_the_boundary(channels):
    """Of two classes split by a plane, the distance to it is |w·x + b| / ‖w‖."""
    random = np.random.default_rng(0)
    shape = (4, 4, channels)
    images = random.uniform(0.4, 0.6, size=(5, *shape)).astype(np.float32)
    weights = random.normal(size=int(np.prod(shape))).astype(np.float32)
    flat = images.reshape(5, -1)
    scores = (flat - flat.mean(axis=1, keepdims=True)) @ weights
    offset = np.float32(np.median(flat @ weights) + 0.3)

    def logits_fn(x):
        score = tf.linalg.matvec(tf.reshape(x, [-1, weights.size]), weights) - offset
        return tf.stack([score, -score], axis=1)

    found = carlini_wagner_l2(logits_fn, images, SETTINGS)
    assert found.shape == images.shape and found.min() >= 0 and found.max() <= 1
    natural = np.argmax(logits_fn(images), axis=1)
    assert np.all(np.argmax(logits_fn(found), axis=1) != natural) and scores.size == 5
    moved = np.linalg.norm((found - images).reshape(5, -1), axis=1)
    nearest = np.abs(flat @ weights - offset) / np.linalg.norm(weights)
    assert np.all(moved >= nearest - 1e-4)
    np.testing.assert_allclose(moved, nearest, rtol=0.15, atol=0.01)


def test_l2_leaves_images_that_it_cannot_change():
    images = np.full((2, 3, 3, 1), 0.5, np.float32)
    found = carlini_wagner_l2(
        lambda x: tf.reduce_mean(x, axis=(1, 2)) * [[0.0, 0.0]] + [[1.0, 0.0]],
        images,
        L2Settings(iterations=20, binary_search_steps=2),
    )
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"iterations": 0}, "--cw_iterations=0: expected at least 1"),
        ({"binary_search_steps": 0}, "--cw_searches=0"),
        ({"learning_rate": 0.0}, "--cw_learning_rate=0.0"),
    ],
)
def test_refuses_values_out_of_range(fields, message):
    with pytest.raises(UserError) as error:
        L2Settings(**fields)
    assert str(error.value).startswith(message)
