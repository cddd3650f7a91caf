"""Folded networks against the networks they stand for."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.gradient import build_attack, uniform_noise
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.graph import graph_of, norms_after_products
from tf_tickets.models.registry import build_model

MODELS = (
    "lenet_300_100",
    "lenet_conv",
    "vgg_16",
    "resnet_18",
    "wide_resnet_10_1",
    "resnet_20",
    "mobilenet_v2",
    "resnet_50",
    "resnet_50_v1_5",
)


def small_model(name):
    """A narrow network whose BatchNorms have statistics and weights of their own."""
    model = build_model(
        name, (32, 32, 3), 10, seed=1, width_multiplier=1 if name == "resnet_50" else 0.1
    )
    generator = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [generator.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()]
            )
    return model


def images(count=6):
    # Of this seed, none brings an activation so near to 0 or 6 that rounding decides its gradient.
    return tf.constant(np.random.default_rng(4).random((count, 32, 32, 3)), tf.float32)


@pytest.mark.parametrize("name", MODELS)
def test_gives_the_logits_and_input_gradients_of_the_model(name):
    model, inputs = small_model(name), images()
    network = FoldedNetwork(model)

    def logits_and_gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            logits = function(inputs)
            value = tf.reduce_sum(logits[:, 0] - logits[:, 1])
        return logits.numpy(), tape.gradient(value, inputs).numpy()

    expected_logits, expected = logits_and_gradient(lambda x: model(x, training=False))
    logits, gradient = logits_and_gradient(network.with_fixed_weights())
    scale = np.abs(expected_logits).max()
    np.testing.assert_allclose(logits / scale, expected_logits / scale, atol=1e-5)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gradient / scale, expected / scale, atol=1e-4)
    np.testing.assert_array_equal(network(inputs), model(inputs, training=False))


def test_follows_the_weights_of_the_moment():
    model, inputs = small_model("wide_resnet_10_1"), images()
    network = FoldedNetwork(model)
    before = network.with_fixed_weights()
    expected = model(inputs, training=False)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean + 1)
    after = network.with_fixed_weights()
    np.testing.assert_allclose(before(inputs), expected, atol=1e-4)
    np.testing.assert_allclose(after(inputs), model(inputs, training=False), atol=1e-4)
    assert np.abs(after(inputs) - expected).max() > 0.01


def test_the_folded_attack_is_the_attack():
    model, inputs = small_model("wide_resnet_10_1"), images(8)
    labels = tf.argmax(model(inputs, training=False), axis=-1)
    noise = uniform_noise(inputs, (1, 2))
    threat_model = pgd(8 / 255, 2 / 255, 10, random_start=True)
    plain, folded = (
        tf.function(build_attack(threat_model, network))(inputs, labels, noise)
        for network in (lambda x: model(x, training=False), FoldedNetwork(model))
    )
    # A gradient of almost zero may round to either sign, so a few pixels may differ.
    assert np.mean(np.abs(plain - folded) > 1e-6) < 5e-3
    assert np.abs(folded - inputs).max() <= 8 / 255 + 1e-6


def test_only_a_norm_that_alone_reads_a_linear_layer_is_folded():
    inputs = keras.layers.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="with_relu")(inputs)
    x = keras.layers.BatchNormalization(name="after_relu")(x)
    shared = keras.layers.Conv2D(4, 1, name="read_twice")(x)
    normed = keras.layers.BatchNormalization(name="one_reader")(shared)
    x = keras.layers.Add()([normed, shared])
    x = keras.layers.Conv2D(4, 1, name="read_once")(x)
    x = keras.layers.BatchNormalization(name="folded")(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    pairs = norms_after_products(graph_of(model))
    assert {name: norm.name for name, norm in pairs.items()} == {"read_once": "folded"}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign([0.1, -0.2, 0.3, 0.0])
    data = tf.constant(np.random.default_rng(0).random((3, 8, 8, 3)), tf.float32)
    folded = FoldedNetwork(model).with_fixed_weights()(data)
    np.testing.assert_allclose(folded, model(data, training=False), atol=1e-5)


def test_a_layer_called_twice_keeps_its_norms():
    inputs = keras.layers.Input((4,))
    dense = keras.layers.Dense(4, name="twice")
    x = keras.layers.BatchNormalization(name="first")(dense(inputs))
    x = keras.layers.BatchNormalization(name="second")(dense(x))
    model = keras.Model(inputs, x)
    model.get_layer("first").moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    assert norms_after_products(graph_of(model)) == {}
    data = tf.constant(np.random.default_rng(0).random((3, 4)), tf.float32)
    folded = FoldedNetwork(model).with_fixed_weights()(data)
    np.testing.assert_allclose(folded, model(data, training=False), atol=1e-5)
