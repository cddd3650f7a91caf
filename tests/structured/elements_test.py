"""Versions of a network are the networks that surgery gives."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.models.registry import build_model
from tf_tickets.structured.elements import VersionedNetwork, without_one
from tf_tickets.structured.surgery import Removal, remove


def concatenating():
    image = keras.layers.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="one")(image)
    y = keras.layers.Conv2D(3, 3, padding="same", name="two")(x)
    x = keras.layers.Concatenate()([x, keras.layers.BatchNormalization()(y)])
    x = keras.layers.MaxPooling2D(2)(x)
    return keras.Model(image, keras.layers.Dense(5)(keras.layers.Flatten()(x)))


NETWORKS = {
    "resnet_20": lambda: build_model("resnet_20", (16, 16, 3), 10, 0, 0.25),
    "mobilenet_v2": lambda: build_model("mobilenet_v2", (16, 16, 3), 10, 0, 0.1),
    "wide_resnet_10_1": lambda: build_model("wide_resnet_10_1", (16, 16, 3), 10, 0, 0.25),
    "concatenating": concatenating,
}


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request):
    model, generator = NETWORKS[request.param](), np.random.default_rng(0)
    for weight in model.weights:
        if "variance" in weight.name:
            weight.assign(generator.uniform(0.8, 1.5, weight.shape))
        else:
            weight.assign(weight + 0.02 * generator.normal(size=weight.shape))
    return model


def removal_of(group, gone):
    if group.name:
        return Removal({group.name: tuple(gone)}, ())
    return Removal({}, tuple(group.elements[index] for index in gone))


def test_a_version_answers_like_the_network_without_its_elements(network):
    generator = np.random.default_rng(1)
    images = tf.constant(generator.uniform(size=(3, 16, 16, 3)), tf.float32)
    versions = VersionedNetwork(network)
    assert versions.image_shape == (16, 16, 3)
    for group in versions.groups[:: max(1, len(versions.groups) // 4)] + versions.groups[-1:]:
        size = len(group.elements)
        kept = np.ones((2, size), np.float32)
        kept[1, generator.integers(size)] = 0
        found = versions.logits(group, images, tf.constant(kept)).numpy()
        each = versions.logits(group, tf.tile(images, [2, 1, 1, 1]), tf.constant(kept), True)
        for number, row in enumerate(kept):
            gone = np.flatnonzero(row == 0).tolist()
            expected = remove(network, removal_of(group, gone))(images, training=False)
            tolerance = 1e-5 * np.abs(expected).max()
            for logits in (found, each.numpy()):
                answer = logits[3 * number : 3 * number + 3]
                np.testing.assert_allclose(answer, expected, rtol=0, atol=tolerance)


def test_versions_with_images_of_their_own(network):
    generator = np.random.default_rng(2)
    images = tf.constant(generator.uniform(size=(4, 16, 16, 3)), tf.float32)
    versions = VersionedNetwork(network)
    group = versions.groups[0]
    kept = tf.ones([2, len(group.elements)])
    found = versions.logits(group, images, kept, per_version=True)
    expected = network(images, training=False)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_elements_are_named_and_left_out_one_by_one():
    versions = VersionedNetwork(NETWORKS["resnet_20"]())
    assert versions.groups[0].elements[:2] == (
        "stage_1/block_1/conv_1:0",
        "stage_1/block_1/conv_1:1",
    )
    assert versions.groups[-1].name == ""
    assert versions.groups[-1].elements[0] == "stage_1/block_2/sum"
    parts = list(without_one(5, 2))
    assert [len(part) for part in parts] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(parts), 1 - np.eye(5))
