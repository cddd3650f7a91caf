"""Models by name."""

import numpy as np
import pytest

from tf_tickets.errors import UserError
from tf_tickets.models import registry
from tf_tickets.models.lenet import lenet_300_100
from tf_tickets.models.weights import read_weights

NAMES = [
    "lenet_300_100",
    "lenet_conv",
    "vgg_16",
    "resnet_18",
    "resnet_20",
    "resnet_32",
    "resnet_44",
    "resnet_56",
    "mobilenet_v2",
    "resnet_50",
    "resnet_50_v1",
    "resnet_50_v1_5",
]
NARROW = 1 / 16
CHOICES = ", ".join([*NAMES, "wide_resnet_<depth>_<width>"])


def message(function, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_fixed_names():
    assert list(registry.MODELS) == NAMES
    for name in [*NAMES, "wide_resnet_10_1", "wide_resnet_34_10"]:
        registry.require_model(name)


def test_wide_resnets_name_their_depth_and_width():
    assert registry.wide_resnet_size("wide_resnet_34_10") == (34, 10)
    for name in (*NAMES, "wide_resnet_10", "wide_resnet_10_0"):
        assert registry.wide_resnet_size(name) is None


def test_only_the_multilayer_perceptron_has_no_convolutions():
    names = [*registry.MODELS, "wide_resnet_16_4"]
    assert [name for name in names if not registry.is_convolutional(name)] == ["lenet_300_100"]


@pytest.mark.parametrize(
    "name",
    [
        "lenet",
        "",
        "wide_resnet",
        "wide_resnet_10",
        "wide_resnet_10_0",
        "wide_resnet_010_1",
        "wide_resnet_-2_1",
        "wide_resnet_10_1.5",
        "wide_resnet_10_1\n",
        "wide_resnet_10_1_1",
        "wide_resnet_" + "1" * 5_000 + "_1",
    ],
)
def test_unknown_names(name):
    expected = f"--models={name}: unknown; choose from {CHOICES}"
    for function in (registry.require_model, registry.is_convolutional):
        with pytest.raises(UserError) as caught:
            function(name)
        assert str(caught.value) == expected


def test_an_impossible_depth():
    expected = "--models=wide_resnet_12_1: expected a depth of 6n + 4, such as 10, 16 or 28"
    assert message(registry.require_model, "wide_resnet_12_1") == expected
    assert message(registry.build_model, "wide_resnet_12_1", (32, 32, 3), 10, 0) == expected


@pytest.mark.parametrize(
    "name, smallest, width_multiplier",
    [
        ("lenet_300_100", 1, NARROW),
        ("lenet_conv", 16, NARROW),
        ("vgg_16", 32, NARROW),
        ("resnet_18", 1, NARROW),
        ("resnet_20", 1, NARROW),
        ("mobilenet_v2", 1, NARROW),
        ("resnet_50", 32, 1),
    ],
)
def test_the_smallest_images(name, smallest, width_multiplier):
    images = np.zeros((1, smallest, smallest, 1), np.float32)
    model = registry.build_model(name, images.shape[1:], 10, 0, width_multiplier)
    assert model(images).shape == (1, 10)
    if smallest > 1:
        small = (smallest + 4, smallest - 1, 1)
        found = message(registry.build_model, name, small, 10, 0)
        assert found == message(registry.require_image_shape, name, small)
        with pytest.raises(ValueError):  # Which Keras says in another way.
            registry.MODELS[name](small, 10, 0)


def test_vgg_16_cannot_take_mnist():
    assert message(registry.build_model, "vgg_16", (28, 28, 1), 10, 0) == (
        "--models=vgg_16: expected images of at least 32x32 pixels, got 28x28; "
        "pad them to 32x32 or choose another model"
    )


@pytest.mark.parametrize("width_multiplier", [0, -1.0, float("nan")])
def test_a_network_without_width(width_multiplier):
    found = message(registry.build_model, "resnet_18", (32, 32, 3), 10, 0, width_multiplier)
    assert found == f"--width_multiplier={width_multiplier}: expected more than 0"


def test_arguments_reach_the_model():
    built = read_weights(registry.build_model("lenet_300_100", (4, 4, 1), 3, 5, 0.1))
    expected = read_weights(lenet_300_100((4, 4, 1), 3, 5, 0.1))
    assert [array.shape for array in built.values()] == [(16, 30), (30, 10), (10, 3)]
    for path, array in expected.items():
        np.testing.assert_array_equal(built[path], array)
