"""Parameters and operations against formulas."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.structured.cost import flops, parameters

layers = keras.layers


def test_operations_of_products_by_hand(capfd):
    image = layers.Input((9, 8, 3))
    x = layers.Conv2D(5, 3, use_bias=False)(image)  # To 7 x 6.
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(x)  # To 5 x 4.
    x = layers.Flatten()(x)
    model = keras.Model(image, layers.Dense(7, use_bias=False)(x))
    convolution = 2 * 7 * 6 * 3 * 3 * 3 * 5
    depthwise = 2 * 5 * 4 * 3 * 3 * 5 * 2
    dense = 2 * (5 * 4 * 10) * 7
    assert flops(model) == convolution + depthwise + dense
    assert capfd.readouterr().out == ""


def test_groups_and_all_that_comes_after_them_count(capfd):
    """Keras calls a function for groups; what a function does the profiler does not see."""
    image = layers.Input((14, 14, 16))
    x = layers.Conv2D(16, 3, groups=4, use_bias=False)(image)  # To 12 x 12.
    x = layers.Conv2D(8, 1, use_bias=False)(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, use_bias=False)(x)  # To 24 x 24.
    grouped = 2 * 12 * 12 * 3 * 3 * (16 // 4) * 16
    pointwise = 2 * 12 * 12 * 16 * 8
    transposed = 2 * 12 * 12 * 2 * 2 * 8 * 4
    assert flops(keras.Model(image, x)) == grouped + pointwise + transposed
    assert not tf.config.functions_run_eagerly()
    assert "flops" not in capfd.readouterr().err


def test_the_convolutions_of_a_network_with_groups_by_their_shapes():
    model = keras.applications.RegNetX002(weights=None, input_shape=(64, 64, 3), classes=10)
    products = 0
    for layer in model.layers:
        if isinstance(layer, (layers.Conv2D, layers.Dense)):
            positions = np.prod(layer.output_shape[1:-1])
            products += 2 * positions * np.prod(layer.kernel.shape)
    assert products < flops(model) < 1.01 * products  # Biases and the pooling count too.


def test_biases_count_and_weights_do_not_change_the_count():
    image = layers.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    model = keras.Model(image, x)
    products, biases = 2 * 3 * 3 * 3 * 3 * 2 * 4, 3 * 3 * 4
    assert flops(model) == products + biases
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    assert flops(model) == products + biases


def test_parameters_count_statistics_and_frozen_weights():
    model = keras.Sequential(
        [layers.Conv2D(4, 3, input_shape=(5, 5, 2)), layers.BatchNormalization()]
    )
    assert parameters(model) == (9 * 2 * 4 + 4) + 4 * 4
    model.trainable = False
    assert parameters(model) == (9 * 2 * 4 + 4) + 4 * 4


def test_images_of_any_size_have_no_count():
    image = layers.Input((None, None, 3))
    model = keras.Model(image, layers.Conv2D(4, 3)(image), name="open")
    with pytest.raises(UserError, match="^open: operations cannot be counted for images of any"):
        flops(model)
