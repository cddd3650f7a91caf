"""The convolutional networks against NumPy and the sizes the papers give."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models import numpy_layers
from tests.models.numpy_layers import pool, relu
from tf_tickets.errors import UserError
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights, write_weights
from tf_tickets.models.wide_resnet import wide_resnet

NAMES = [
    "lenet_conv",
    "vgg_16",
    "resnet_18",
    "wide_resnet_10_1",
    "wide_resnet_16_2",
    "resnet_20",
    "mobilenet_v2",
]
NARROW = 1 / 16

# "Boosting Ticket", table 4. 10 classes of 32x32 images.
TABLE_4 = {
    "resnet_18": 11_173_962,
    "wide_resnet_34_10": 46_160_474,
    "wide_resnet_28_10": 36_479_194,
    "wide_resnet_22_10": 26_797_914,
    "wide_resnet_16_10": 17_116_634,
    "wide_resnet_10_10": 7_435_354,
    "wide_resnet_34_5": 11_554_074,
    "wide_resnet_34_2": 1_855_578,
    "wide_resnet_34_1": 466_714,
}
TABLE_4_VGG_16 = 29_975_444


def count_trainable(name, image_shape=(32, 32, 3)):
    with tf.Graph().as_default():  # Where variables are only described, not allocated.
        model = build_model(name, image_shape, 10, seed=0)
        return sum(variable.shape.num_elements() for variable in model.trainable_variables)


@pytest.mark.parametrize("name", TABLE_4)
def test_trainable_parameters_are_those_of_table_4(name):
    assert count_trainable(name) == TABLE_4[name]


def test_table_4_counts_vgg_16_exactly_twice():
    """Table 4's VGG-16 is two of this network; its other nine counts are of one.

    13 convolutions without biases, their BatchNorm, and a hidden layer of 512 units with
    BatchNorm make 14,987,722 parameters, exactly half of what the table gives.
    """
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = sum(9 * a * b for a, b in zip(widths, widths[1:], strict=False))
    norms = 2 * (sum(widths[1:]) + 512)
    head = (512 * 512 + 512) + (512 * 10 + 10)
    assert convolutions + norms + head == 14_987_722
    assert count_trainable("vgg_16") == 14_987_722
    assert 2 * 14_987_722 == TABLE_4_VGG_16


def test_lenet_has_the_431_thousand_parameters_of_lenet_5():
    convolutions = (25 * 20 + 20) + (25 * 20 * 50 + 50)
    head = (4 * 4 * 50 * 500 + 500) + (500 * 10 + 10)
    assert count_trainable("lenet_conv", (28, 28, 1)) == convolutions + head == 431_080


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_parameters_of_cifar_resnets(depth):
    blocks = (depth - 2) // 6
    stem = 9 * 3 * 16 + 2 * 16
    stages = sum(2 * blocks * (9 * width**2 + 2 * width) for width in (16, 32, 64))
    # The first convolution of a later stage reads half as many channels as it has filters.
    narrower = sum(9 * width * (width // 2) for width in (32, 64))
    shortcuts = sum(width * (width // 2) + 2 * width for width in (32, 64))
    head = 64 * 10 + 10
    expected = stem + stages - narrower + shortcuts + head
    assert count_trainable(f"resnet_{depth}") == expected
    assert depth != 20 or expected == 272_474


def test_mobilenet_v2_has_the_parameters_of_the_one_in_keras_applications():
    with tf.Graph().as_default():  # Whose strides differ, which needs no other weights.
        peer = keras.applications.MobileNetV2((32, 32, 3), weights=None, classes=10)
        expected = sum(variable.shape.num_elements() for variable in peer.trainable_variables)
    assert count_trainable("mobilenet_v2") == expected == 2_236_682


def lenet_conv(weights, images):
    network, x = numpy_layers.Network(weights), images
    for number in (1, 2):
        x = numpy_layers.convolution(x, weights[f"conv_{number}/kernel"])
        x = pool(relu(x + weights[f"conv_{number}/bias"]), np.max)
    x = relu(network.dense(x.reshape(len(x), -1), "hidden"))
    return network.dense(x, "logits")


def vgg_16(weights, images):
    network, x = numpy_layers.Network(weights), images
    for stage, depth in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)):
        for number in range(1, depth + 1):
            x = network.conv(x, f"stage_{stage}/conv_{number}")
            x = relu(network.norm(x, f"stage_{stage}/norm_{number}"))
        x = pool(x, np.mean if stage == 5 else np.max)
    x = network.dense(x.reshape(len(x), -1), "hidden")
    return network.dense(relu(network.norm(x, "hidden_norm")), "logits")


def resnet(weights, images, stages, blocks):
    network = numpy_layers.Network(weights)
    x = relu(network.norm(network.conv(images, "stem/conv"), "stem/norm"))
    for stage in range(1, stages + 1):
        for block in range(1, blocks + 1):
            name, stride = f"stage_{stage}/block_{block}", 1 if block > 1 or stage == 1 else 2
            y = relu(network.norm(network.conv(x, f"{name}/conv_1", stride), f"{name}/norm_1"))
            y = network.norm(network.conv(y, f"{name}/conv_2"), f"{name}/norm_2")
            if f"{name}/shortcut_conv/kernel" in weights:
                x = network.conv(x, f"{name}/shortcut_conv", stride)
                x = network.norm(x, f"{name}/shortcut_norm")
            x = relu(x + y)
    return network.dense(x.mean(axis=(1, 2)), "logits")


def resnet_18(weights, images):
    return resnet(weights, images, stages=4, blocks=2)


def resnet_20(weights, images):
    return resnet(weights, images, stages=3, blocks=3)


def mobilenet_v2(weights, images):
    network = numpy_layers.Network(weights)

    def active(x, convolve, name, stride=1):
        x = convolve(x, f"{name}_conv" if "block" in name else f"{name}/conv", stride)
        norm = f"{name}_norm" if "block" in name else f"{name}/norm"
        return np.clip(network.norm(x, norm), 0, 6)

    x = active(images, network.conv, "stem")
    for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1), start=1):
        for block in range(1, blocks + 1):
            name, y = f"stage_{stage}/block_{block}", x
            stride = 2 if stage in (3, 4, 6) and block == 1 else 1
            if stage > 1:
                y = active(y, network.conv, f"{name}/expand")
            y = active(y, network.depthwise, f"{name}/depthwise", stride)
            y = network.norm(network.conv(y, f"{name}/project_conv"), f"{name}/project_norm")
            x = x + y if block > 1 else y
    x = active(x, network.conv, "last")
    return network.dense(x.mean(axis=(1, 2)), "logits")


def wide_resnet_blocks(weights, images, blocks):
    network = numpy_layers.Network(weights)
    x = network.conv(images, "stem/conv")
    for stage in (1, 2, 3):
        for block in range(1, blocks + 1):
            name, stride = f"stage_{stage}/block_{block}", 1 if block > 1 or stage == 1 else 2
            y = relu(network.norm(x, f"{name}/norm_1"))
            if f"{name}/shortcut_conv/kernel" in weights:
                x = network.conv(y, f"{name}/shortcut_conv", stride)
            y = network.conv(y, f"{name}/conv_1", stride)
            y = network.conv(relu(network.norm(y, f"{name}/norm_2")), f"{name}/conv_2")
            x = x + y
    x = relu(network.norm(x, "norm"))
    return network.dense(x.mean(axis=(1, 2)), "logits")


def wide_resnet_10_1(weights, images):
    return wide_resnet_blocks(weights, images, blocks=1)


def wide_resnet_16_2(weights, images):
    return wide_resnet_blocks(weights, images, blocks=2)


NUMPY = [
    lenet_conv,
    vgg_16,
    resnet_18,
    wide_resnet_10_1,
    wide_resnet_16_2,
    resnet_20,
    mobilenet_v2,
]


@pytest.mark.parametrize("width_multiplier", [NARROW, 0.15])
@pytest.mark.parametrize("numpy_model", NUMPY, ids=NAMES)
def test_logits_are_those_of_numpy(numpy_model, width_multiplier):
    image_shape = (36, 34, 2)  # Strides and pools meet even and odd sizes.
    model = build_model(numpy_model.__name__, image_shape, 7, 3, width_multiplier)
    weights = numpy_layers.randomised(read_weights(model))
    write_weights(model, weights)
    images = np.random.default_rng(1).random((3, *image_shape), np.float32)
    expected = numpy_model(weights, images)
    np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-4)
    assert model.output_shape == (None, 7) and model.name == numpy_model.__name__


@pytest.mark.parametrize("name", NAMES)
def test_only_layers_that_can_be_folded_and_pruned(name):
    model = build_model(name, (32, 32, 3), 10, 0, NARROW)
    assert isinstance(model, keras.Model) and model._is_graph_network
    allowed = {
        "InputLayer",
        "ZeroPadding2D",
        "Conv2D",
        "DepthwiseConv2D",
        "BatchNormalization",
        "ReLU",
        "Add",
        "AveragePooling2D",
        "MaxPooling2D",
        "GlobalAveragePooling2D",
        "Flatten",
        "Dense",
    }
    assert {type(layer).__name__ for layer in model.layers} <= allowed
    for layer in model.layers:
        assert getattr(layer, "activation", None) in (None, keras.activations.linear)
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)
    assert len(read_weights(model)) == len(model.weights)  # So no two share a path.


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_all_weights_and_no_two_layers_share_them(name):
    first, again, other = (
        read_weights(build_model(name, (32, 32, 3), 10, seed, NARROW)) for seed in (3, 3, 4)
    )
    kernels = [path for path in first if path.endswith("kernel")]
    for path in first:
        np.testing.assert_array_equal(first[path], again[path])
        if path in kernels:
            assert not np.any(first[path] == other[path])
    # Up to their scale, equal seeds would draw equal numbers.
    directions = {(first[path].ravel()[:3] / first[path].ravel()[0]).tobytes() for path in kernels}
    assert len(directions) == len(kernels)


def test_initial_distributions():
    weights = read_weights(build_model("resnet_18", (32, 32, 3), 10, 1, 0.5))
    for path, array in weights.items():
        kind = path.split("/")[-1]
        if kind != "kernel":
            start = {"gamma": 1, "moving_variance": 1}.get(kind, 0)
            np.testing.assert_array_equal(array, start, err_msg=path)
            continue
        if path == "logits/kernel":  # Glorot's uniform distribution.
            limit = np.sqrt(6 / sum(array.shape))
            assert 0.98 * limit < np.abs(array).max() <= limit
            deviation = limit / np.sqrt(3)
        else:  # He's normal one over the fan-out, and not cut off.
            size, _, _, filters = array.shape
            deviation = np.sqrt(2 / (size**2 * filters))
            assert array.size < 10_000 or np.abs(array).max() > 3 * deviation
        assert abs(array.mean()) < 5 * deviation / np.sqrt(array.size), path
        assert abs(array.std() / deviation - 1) < 5 / np.sqrt(2 * array.size), path


@pytest.mark.parametrize("name", NAMES)
def test_width_multiplier_scales_all_channels_but_the_classes(name):
    whole, half, least = (
        build_model(name, (32, 32, 3), 10, 0, width_multiplier)
        for width_multiplier in (0.5, 0.25, 1e-9)
    )
    for layer in whole.layers:
        if not hasattr(layer, "kernel"):
            continue
        outputs, narrower, narrowest = (
            model.get_layer(layer.name).kernel.shape[-1] for model in (whole, half, least)
        )
        if layer.name == "logits":
            assert outputs == narrower == narrowest == 10
        else:
            assert narrower in (outputs // 2, (outputs + 1) // 2) and narrowest == 1


@pytest.mark.parametrize("depth", [4, 12, 11, 33, 0, -2])
def test_wide_resnet_refuses_other_depths(depth):
    with pytest.raises(UserError) as caught:
        wide_resnet((32, 32, 3), 10, 0, depth=depth, widen_factor=1)
    assert str(caught.value) == (
        f"--models=wide_resnet_{depth}_1: expected a depth of 6n + 4, such as 10, 16 or 28"
    )


@pytest.mark.parametrize("name", ["resnet_18", "vgg_16"])
def test_a_gradient_reaches_every_trainable_weight(name):
    model = build_model(name, (32, 32, 3), 10, 0, NARROW)
    images = np.random.default_rng(2).random((8, 32, 32, 3), np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    assert all(np.any(gradient != 0) for gradient in gradients)
