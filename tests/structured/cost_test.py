"""Parameters and operations against formulas."""

import numpy as np
import pytest
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
