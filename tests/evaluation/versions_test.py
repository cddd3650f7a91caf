"""Accuracies without one element each, against the networks that surgery gives."""

import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method

from tf_tickets.attacks.threat_model import fgsm
from tf_tickets.data.vision import ImageSplit
from tf_tickets.evaluation.versions import VersionEvaluator
from tf_tickets.models.registry import build_model
from tf_tickets.structured.elements import VersionedNetwork
from tf_tickets.structured.surgery import Removal, remove

EPS = 4 / 255


@pytest.fixture(scope="module")
def network():
    model, generator = build_model("resnet_20", (16, 16, 3), 10, 0, 0.25), np.random.default_rng(0)
    for weight in model.weights:
        if "variance" not in weight.name:
            weight.assign(weight + 0.05 * generator.normal(size=weight.shape))
    # All classes should be among its answers to noise.
    logits = model(generator.uniform(size=(200, 16, 16, 3)), training=False)
    model.get_layer("logits").bias.assign_sub(np.mean(logits, axis=0))
    return model


@pytest.fixture(scope="module")
def splits(network):
    """Images labelled by the network itself, but for some."""
    generator = np.random.default_rng(1)
    images = generator.integers(256, size=(230, 16, 16, 3), dtype=np.uint8)
    labels = answers(network, images.astype(np.float32) / 255)
    labels[::7] = (labels[::7] + 1) % 10
    return {"natural": ImageSplit(images, labels), "dark": ImageSplit(images // 2, labels)}


def answers(model, images):
    return np.argmax(model(images, training=False), axis=1).astype(np.int64)


def expected(model, splits):
    """Natural, under CleverHans' FGSM, and on changed images."""
    images, labels = splits["natural"].images.astype(np.float32) / 255, splits["natural"].labels
    attacked = fast_gradient_method(
        lambda x: model(x, training=False),
        tf.constant(images),
        EPS,
        np.inf,
        clip_min=0.0,
        clip_max=1.0,
        y=tf.constant(labels),
        sanity_checks=False,
    )
    dark = splits["dark"].images.astype(np.float32) / 255
    tests = {"natural": images, "fgsm": attacked, "dark": dark}
    return {name: np.mean(answers(model, x) == labels) for name, x in tests.items()}


@pytest.mark.parametrize("place", [1, -1])
def test_each_version_is_as_accurate_as_the_smaller_network(network, splits, place):
    versions = VersionedNetwork(network)
    group = versions.groups[place]
    judge = VersionEvaluator(versions, group, {"fgsm": fgsm(EPS)})
    found = judge.without_each(splits["natural"], {"dark": splits["dark"]})
    assert {name: values.shape for name, values in found.items()} == dict.fromkeys(
        ("natural", "fgsm", "dark"), (len(group.elements),)
    )
    for number in (0, len(group.elements) - 1):
        removal = Removal({group.name: (number,)}, ())
        if not group.name:
            removal = Removal({}, (group.elements[number],))
        for name, value in expected(remove(network, removal), splits).items():
            assert abs(found[name][number] - value) <= 1.5 / 230, name
    assert len(set(found["natural"])) > 1


def test_the_whole_network(network, splits):
    versions = VersionedNetwork(network)
    judge = VersionEvaluator(versions, versions.groups[0], {"fgsm": fgsm(EPS)})
    found = judge.whole(splits["natural"], {"dark": splits["dark"]})
    assert found["natural"] == pytest.approx(1 - 33 / 230)
    for name, value in expected(network, splits).items():
        assert abs(found[name] - value) <= 1.5 / 230, name
    assert found["fgsm"] < found["natural"]
