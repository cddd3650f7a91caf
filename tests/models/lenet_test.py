"""LeNet-300-100 against its definition."""

import hashlib

import numpy as np
import pytest

from tf_tickets.models.lenet import lenet_300_100
from tf_tickets.models.weights import read_weights

SHAPES = {"hidden_1/kernel": (784, 300), "hidden_2/kernel": (300, 100), "logits/kernel": (100, 10)}


def numpy_logits(weights, images):
    """784-300-100-10 with ReLU, in double precision."""
    hidden = images.reshape(len(images), -1).astype(np.float64)
    for layer in ("hidden_1", "hidden_2"):
        hidden = np.maximum(hidden @ weights[f"{layer}/kernel"].astype(np.float64), 0)
    return hidden @ weights["logits/kernel"].astype(np.float64)


def test_it_has_266200_weights_and_no_biases():
    model = lenet_300_100()
    assert {path: array.shape for path, array in read_weights(model).items()} == SHAPES
    assert model.count_params() == 266_200
    assert len(model.trainable_variables) == 3
    assert [layer.name for layer in model.layers] == ["flatten", "hidden_1", "hidden_2", "logits"]


@pytest.mark.parametrize("batch", [1, 17])
def test_logits_are_those_of_numpy(batch):
    model = lenet_300_100(seed=5)
    images = np.random.default_rng(0).random((batch, 28, 28, 1), np.float32)
    expected = numpy_logits(read_weights(model), images)
    logits = model(images).numpy()
    np.testing.assert_allclose(logits, expected, atol=2e-6)
    # Not probabilities.
    assert logits.min() < 0 and not np.any(np.abs(logits.sum(axis=1) - 1) < 1e-3)


def test_training_mode_changes_nothing():
    model = lenet_300_100()
    images = np.random.default_rng(1).random((4, 28, 28, 1), np.float32)
    np.testing.assert_array_equal(model(images, training=True), model(images, training=False))


def test_shapes_follow_the_data():
    model = lenet_300_100(image_shape=(4, 3, 2), num_classes=7)
    assert model.input_shape == (None, 4, 3, 2) and model.output_shape == (None, 7)
    assert model.count_params() == 24 * 300 + 300 * 100 + 100 * 7
    images = np.random.default_rng(2).random((3, 4, 3, 2), np.float32)
    expected = numpy_logits(read_weights(model), images)
    np.testing.assert_allclose(model(images), expected, atol=2e-6)


def test_the_seed_decides_all_weights():
    first, again, other = (read_weights(lenet_300_100(seed=seed)) for seed in (3, 3, 4))
    for path in SHAPES:
        np.testing.assert_array_equal(first[path], again[path])
        assert np.mean(first[path] == other[path]) < 1e-3


def test_the_weights_of_a_seed_stay_what_they_were():
    # Tickets in old run directories belong to these.
    arrays = read_weights(lenet_300_100(seed=3)).values()
    found = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    assert found == "89f96277c0980cdeeb0ec360d2f019f44e2a3a06425fce1e111b36e003ef30bc"


def test_width_multiplier():
    model = lenet_300_100((4, 4, 1), 7, 0, width_multiplier=0.25)
    shapes = [array.shape for array in read_weights(model).values()]
    assert shapes == [(16, 75), (75, 25), (25, 7)]


def test_layers_do_not_share_their_random_numbers():
    # Same fans, so that equal seeds would draw equal kernels.
    weights = read_weights(lenet_300_100(image_shape=(10, 10, 3), num_classes=10))
    first, second = weights["hidden_1/kernel"], weights["hidden_2/kernel"]
    assert first.shape == (300, 300) and second.shape == (300, 100)
    scaled = first.ravel()[: second.size] / first.std(), second.ravel() / second.std()
    assert abs(np.corrcoef(*scaled)[0, 1]) < 0.03  # 5 standard deviations of independence.


def test_initial_weights_are_glorot_normal():
    for path, kernel in read_weights(lenet_300_100(seed=1)).items():
        fan_in, fan_out = kernel.shape
        deviation = np.sqrt(2 / (fan_in + fan_out))
        count = kernel.size
        assert abs(kernel.mean()) < 5 * deviation / np.sqrt(count), path
        # The standard deviation of an estimated standard deviation is σ/√(2n) at most here.
        assert abs(kernel.std() / deviation - 1) < max(0.02, 5 / np.sqrt(2 * count)), path
    kernel = read_weights(lenet_300_100(seed=1))["hidden_1/kernel"]
    deviation = np.sqrt(2 / 1084)
    assert abs(kernel.std() / deviation - 1) < 0.02
    # Cut at two standard deviations before the rescaling by 0.8796, and bell-shaped:
    assert np.abs(kernel).max() <= 2 * deviation / 0.87962566
    assert np.abs(kernel).max() > 2 * deviation
    within = np.mean(np.abs(kernel) < deviation / 0.87962566)
    assert abs(within - 0.6827 / 0.9545) < 0.01
