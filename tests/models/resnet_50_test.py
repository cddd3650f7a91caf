"""ResNet-50 against the Keras application it is."""

import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.models.registry import build_model
from tf_tickets.models.resnet_50 import resnet_50
from tf_tickets.models.weights import read_weights


def test_the_weights_are_those_of_the_application_for_imagenet():
    def shapes(build, **arguments):
        with tf.Graph().as_default():  # Where variables are only described, not allocated.
            model = build(**arguments)
            return {weight.name: tuple(weight.shape) for weight in model.weights}

    ours = shapes(resnet_50, image_shape=(224, 224, 3), num_classes=1000, seed=0)
    assert ours == shapes(keras.applications.ResNet50, weights=None)


def test_it_returns_logits_and_not_probabilities():
    model = build_model("resnet_50", (32, 32, 3), 5, 0)
    peer = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=5)
    peer.set_weights(model.get_weights())
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    logits = model(images)
    np.testing.assert_allclose(tf.nn.softmax(logits), peer(images), atol=1e-6)
    assert np.abs(np.sum(logits, axis=1) - 1).min() > 1e-3
    assert model.name == "resnet_50" and model.input_shape == (None, 32, 32, 3)


def test_the_seed_alone_decides_all_weights_and_no_two_layers_share_them():
    first = read_weights(resnet_50((32, 32, 3), 4, 3))
    keras.utils.set_random_seed(1)
    again = read_weights(resnet_50((32, 32, 3), 4, 3))
    other = read_weights(resnet_50((32, 32, 3), 4, 4))
    kernels = [path for path in first if path.endswith("/kernel")]
    assert len(kernels) == 50 + 4  # The four shortcuts that change shape are not counted.
    for path, array in first.items():
        np.testing.assert_array_equal(array, again[path])
        if path in kernels:
            assert np.mean(array == other[path]) < 1e-3
            fan_in, fan_out = np.prod(array.shape[:-1]), np.prod(array.shape) / array.shape[-2]
            limit = np.sqrt(6 / (fan_in + fan_out))
            assert 0.98 * limit < np.abs(array).max() <= 1.0001 * limit
    directions = {(first[path].ravel()[:3] / first[path].ravel()[0]).tobytes() for path in kernels}
    assert len(directions) == len(kernels)


def test_global_random_state_stays_as_it_is():
    def draws(build):
        keras.utils.set_random_seed(1)
        if build:
            with tf.Graph().as_default():
                resnet_50((32, 32, 3), 4, 3)
            keras.layers.Dense(2)  # Draws nothing before it is built.
        layer = keras.layers.Dense(2)
        layer.build((None, 2))
        return random.random(), np.random.random(), tf.random.uniform([2]), layer.kernel

    for plain, after in zip(draws(False), draws(True), strict=True):
        np.testing.assert_array_equal(plain, after)


def test_it_has_one_width():
    with pytest.raises(UserError) as caught:
        build_model("resnet_50", (32, 32, 3), 10, 0, width_multiplier=0.5)
    assert str(caught.value) == "--width_multiplier=0.5: expected 1 for resnet_50"
