"""Channels found to be constant against what they hold for random images."""

import numpy as np
import pytest
import tf_keras as keras

from tests.structured import networks
from tests.structured.killing import images, kill, set_zero, tensors_of
from tf_tickets.models.graph import graph_of
from tf_tickets.structured.channels import channels_of
from tf_tickets.structured.constants import constant_channels

layers = keras.layers


def merges():
    """Every way to merge two maps, each half of constants, and both halves one after the other."""
    image = layers.Input((6, 6, 3))
    some = layers.Conv2D(4, 1, name="some", activation="tanh")(image)
    others = layers.Conv2D(4, 1, name="others", activation="elu")(image)
    kinds = (
        layers.Add,
        layers.Subtract,
        layers.Multiply,
        layers.Average,
        layers.Maximum,
        layers.Minimum,
        layers.Concatenate,
    )
    merged = [kind()([some, others]) for kind in kinds]
    pooled = [layers.GlobalAveragePooling2D()(maps) for maps in merged]
    x = layers.Dense(2, name="head")(layers.Concatenate()(pooled))
    model = networks.randomised(keras.Model(image, x))
    set_zero(model, "some", np.s_[..., :2])
    set_zero(model, "others", np.s_[..., 1:3])
    return model


def passing():
    """Layers of one input, each read by the next."""
    image = layers.Input((12, 12, 3))
    x = layers.Conv2D(4, 1, name="conv")(image)
    x = layers.PReLU(shared_axes=[1, 2], name="slopes")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Rescaling(0.5, offset=0.25)(x)
    x = layers.UpSampling2D(2, interpolation="bicubic")(x)
    x = layers.MaxPooling2D(3, padding="same")(x)
    x = layers.AveragePooling2D(2, padding="same")(x)
    x = layers.Cropping2D(1)(x)
    x = layers.GaussianNoise(0.1)(layers.Dropout(0.5)(layers.ELU()(x)))
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise", activation="swish")(x)
    x = layers.BatchNormalization(name="flat_norm")(layers.Flatten()(x))
    model = networks.randomised(keras.Model(image, layers.Dense(2, name="head")(x)))
    set_zero(model, "conv", np.s_[..., :2])
    set_zero(model, "depthwise", np.s_[:, :, 3, 0])
    norm = model.get_layer("norm")
    norm.gamma.assign([1.0, 0.5, 0.0, 2.0])
    return model


def unequal_positions():
    """Constants that are not the same everywhere: scaled by a PReLU, and beside one another."""
    image = layers.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, name="conv")(image)
    x = layers.PReLU(name="slopes")(x)
    y = layers.Conv2D(4, 1, name="other")(image)
    model = networks.randomised(keras.Model(image, layers.Concatenate(axis=1)([x, y])))
    set_zero(model, "conv", np.s_[..., :3])
    set_zero(model, "other", np.s_[..., :3])
    model.get_layer("conv").bias.assign([-1.0, 0.5, 0.0, 0.0])
    return model


SMOOTH = {"merges": merges, "passing": passing, "unequal_positions": unequal_positions}
KILLED = {
    "depthwise_chain": networks.depthwise_chain,
    "squeeze_and_excite": networks.squeeze_and_excite,
    "dense_blocks": networks.dense_blocks,
    "residual": networks.residual,
    "foreign_layers": networks.foreign_layers,
    "flat_head": networks.flat_head,
}


def found_and_measured(model):
    """For each tensor: constants found, and (smallest, largest) that random images show."""
    tensors, found = tensors_of(model, images(model)), constant_channels(channels_of(model))
    assert set(found) == set(tensors)
    for tensor, values in tensors.items():
        rows = np.reshape(values, (-1, values.shape[-1]))
        yield tensor, found[tensor], rows.min(axis=0), rows.max(axis=0)


@pytest.mark.parametrize("name", SMOOTH)
def test_constant_are_those_channels_that_are_the_same_for_all_images(name):
    model, count = SMOOTH[name](), 0
    for tensor, found, smallest, largest in found_and_measured(model):
        measured = largest - smallest < 1e-6
        np.testing.assert_array_equal(~np.isnan(found), measured, err_msg=str(tensor))
        np.testing.assert_allclose(found[measured], smallest[measured], rtol=1e-5, atol=1e-6)
        count += measured.sum()
    assert count >= 5


@pytest.mark.parametrize("name", KILLED)
def test_no_channel_that_changes_is_taken_for_a_constant(name):
    count = 0
    for _, found, smallest, largest in found_and_measured(kill(KILLED[name](), seed=1, share=0.35)):
        constant = ~np.isnan(found)
        np.testing.assert_allclose(found[constant], smallest[constant], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[constant], largest[constant], rtol=1e-5, atol=1e-6)
        count += constant.sum()
    assert count >= 3


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(
    "padding, size, value, ends",
    [
        ("valid", 3, 0.7, False),
        ("same", 1, 0.7, False),
        ("same", 3, 0, False),
        ("same", 3, 1, True),
    ],
)
def test_padding_ends_a_constant_that_is_not_zero(padding, size, value, ends, depthwise):
    image = layers.Input((7, 7, 3))
    x = layers.Conv2D(2, 3, name="dead", kernel_initializer="zeros")(image)
    if depthwise:
        x = layers.DepthwiseConv2D(size, padding=padding, name="reader")(x)
    else:
        x = layers.Conv2D(4, size, padding=padding, name="reader")(x)
    model = networks.randomised(keras.Model(image, x))
    set_zero(model, "dead", np.s_[:])
    model.get_layer("dead").bias.assign([value, value])
    made = model(np.ones((1, 7, 7, 3), np.float32)).numpy()
    assert (np.ptp(made, axis=(1, 2)) > 0.1).all() == ends
    found = constant_channels(channels_of(model))[graph_of(model).output]
    np.testing.assert_allclose(found, np.full(len(found), np.nan) if ends else made[0, 1, 1], 1e-5)


def test_only_zeros_pass_zero_padding():
    image = layers.Input((6, 6, 3))
    x = layers.Conv2D(2, 3, name="dead", kernel_initializer="zeros")(image)
    model = keras.Model(image, layers.ZeroPadding2D(1)(x))
    model.get_layer("dead").bias.assign([0.7, 0.0])
    found = constant_channels(channels_of(model))[graph_of(model).output]
    np.testing.assert_array_equal(found, [np.nan, 0.0])
