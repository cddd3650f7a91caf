"""Our ResNet-50s against NumPy and the published number of parameters."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models import numpy_layers
from tests.models.numpy_layers import relu
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights, write_weights

NAMES = ("resnet_50_v1", "resnet_50_v1_5")
NARROW = 1 / 16
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def images(*shape):
    return np.random.default_rng(3).random(shape, np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_for_imagenet_are_the_published_ones(name):
    with tf.Graph().as_default():  # Where variables are only described, not allocated.
        model = build_model(name, (224, 224, 3), 1000, seed=0)
        count = sum(variable.shape.num_elements() for variable in model.trainable_variables)
    assert count == 25_557_032
    assert model.name == name and model.output_shape == (None, 1000)


def test_both_have_the_same_weights_under_the_same_names():
    first, second = (read_weights(build_model(name, (32, 32, 3), 5, 0, NARROW)) for name in NAMES)
    assert list(first) == list(second)
    for path, array in first.items():
        np.testing.assert_array_equal(array, second[path])
    assert first["stage_4/block_3/conv_2/kernel"].shape == (3, 3, 32, 32)
    assert first["stage_2/block_1/shortcut_conv/kernel"].shape == (1, 1, 16, 32)
    assert "stage_2/block_2/shortcut_conv/kernel" not in first


def numpy_logits(weights, batch, strided_conv):
    network = numpy_layers.Network(weights)
    x = (batch - MEAN) / STD
    x = relu(network.norm(network.conv(x, "stem/conv", 2), "stem/norm"))
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    x = windows[:, ::2, ::2].max(axis=(4, 5))
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(1, blocks + 1):
            name, stride = f"stage_{stage}/block_{block}", 2 if block == 1 < stage else 1
            y = x
            for number in (1, 2, 3):
                step = stride if number == strided_conv else 1
                y = network.conv(y, f"{name}/conv_{number}", step)
                y = network.norm(y, f"{name}/norm_{number}")
                y = y if number == 3 else relu(y)
            if block == 1:
                x = network.conv(x, f"{name}/shortcut_conv", stride)
                x = network.norm(x, f"{name}/shortcut_norm")
            x = relu(x + y)
    return network.dense(x.mean(axis=(1, 2)), "logits")


@pytest.mark.parametrize(("name", "strided_conv"), zip(NAMES, (1, 2), strict=True))
def test_logits_are_those_of_numpy(name, strided_conv):
    model = build_model(name, (37, 45, 3), 4, seed=1, width_multiplier=NARROW)
    start = read_weights(model)
    weights = numpy_layers.randomised(start) | {
        path: array for path, array in start.items() if path.startswith("normalize/")
    }
    write_weights(model, weights)
    batch = images(2, 37, 45, 3)
    expected = numpy_logits(weights, batch, strided_conv)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(model(batch) / scale, expected / scale, atol=1e-5)
    other = numpy_logits(weights, batch, 3 - strided_conv)
    assert np.abs(other - expected).max() > 1e-2 * scale


def normalized(model, batch, training):
    return keras.Model(model.input, model.get_layer("normalize").output)(batch, training=training)


@pytest.mark.parametrize("training", [False, True])
def test_images_are_normalized_by_constants_also_in_training(training):
    model, batch = build_model("resnet_50_v1_5", (8, 8, 3), 2, 0, NARROW), images(4, 8, 8, 3)
    for _ in range(2):
        np.testing.assert_allclose(
            normalized(model, batch, training), (batch - MEAN) / STD, atol=1e-5
        )
    assert not model.get_layer("normalize").trainable_weights


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_than_three_channels_stay_as_they_are(channels):
    batch = images(2, 8, 8, channels)
    model = build_model("resnet_50_v1", batch.shape[1:], 2, 0, NARROW)
    np.testing.assert_array_equal(normalized(model, batch, True), batch)


def test_its_constants_are_weights_and_survive_saving(tmp_path):
    model, batch = build_model("resnet_50_v1_5", (8, 8, 3), 2, 0, NARROW), images(2, 8, 8, 3)
    weights = read_weights(model)
    np.testing.assert_allclose(weights["normalize/moving_mean"], MEAN, rtol=1e-6)
    np.testing.assert_allclose(weights["normalize/moving_variance"], STD**2, rtol=1e-6)
    changed = {"moving_mean": [0.1, 0.2, 0.3], "moving_variance": [0.25, 1.0, 4.0]}
    write_weights(
        model, weights | {f"normalize/{part}": values for part, values in changed.items()}
    )
    expected = (batch - [0.1, 0.2, 0.3]) / [0.5, 1.0, 2.0]
    np.testing.assert_allclose(normalized(model, batch, False), expected, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(normalized(loaded, batch, True), expected, atol=1e-6)
    np.testing.assert_allclose(loaded(batch), model(batch), rtol=1e-5, atol=1e-5)
