"""Networks with weights that make every channel matter, and what they give without some."""

import functools

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.models.graph import graph_of
from tf_tickets.models.registry import build_model
from tf_tickets.structured.channels import channels_of

layers = keras.layers
PRODUCTS = (layers.Conv1D, layers.Conv2D, layers.SeparableConv2D, layers.Dense)


def randomised(model, seed=1):
    """Gives all weights, BatchNorm's too, random values that keep activations near one."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            continue
        values = {}
        for weight in layer.weights:
            kind, shape = weight.name.split("/")[-1].split(":")[0], weight.shape
            if "kernel" in kind:
                fan_in = np.prod(shape[:-1]) if "depthwise" not in kind else np.prod(shape[:2])
                value = generator.normal(0, np.sqrt(2 / fan_in), shape)
            elif kind in ("gamma", "moving_variance"):
                value = generator.uniform(0.5, 1.5, shape)
            else:  # Biases, BatchNorm's means and shifts, and PReLU's slopes.
                value = generator.normal(0, 0.3, shape)
            values[weight.ref()] = value
        layer.set_weights([values[weight.ref()] for weight in layer.weights])
    return model


def images(model, count=4):
    shape = (count, *model.input_shape[1:])
    return tf.constant(np.random.default_rng(3).random(shape), tf.float32)


def assert_same(actual, expected):
    """Up to float32's rounding, and not because nothing is left of either."""
    scale = np.std(expected)
    assert scale > 1e-3 and np.std(expected, axis=0).max() > 1e-4
    np.testing.assert_allclose(actual / scale, expected / scale, atol=2e-4)


def zeroed(model, inputs, removed):
    """The model's outputs with zeros for removed filters wherever a product reads them.

    Where that is, is not reasoned about but measured: the filters' outputs are disturbed, all
    other products give what they gave, and the channels that change are those to be zeroed.

    Args:
      model: any functional or sequential model.
      inputs: images.
      removed: convolution's name → indices of filters.
    """
    graph, undisturbed, carries = graph_of(model), {}, {}
    generator = np.random.default_rng(5)

    def run(inputs, change_input, change_output):
        tensors = {graph.input: inputs}
        for index, call in enumerate(graph.calls):
            read = [tensors[tensor] for tensor in call.inputs]
            is_product = isinstance(call.layer, PRODUCTS) and not is_depthwise(call.layer)
            if is_product:
                read = [change_input(index, read[0])]
            made = call.repeat(call.layer, read)
            if is_product:
                made = change_output(index, call.layer.name, made)
            tensors.update(zip(call.outputs, tf.nest.flatten(made)))
        return tensors[graph.output].numpy()

    def record_input(index, tensor):
        undisturbed[index, "input"] = tensor.numpy()
        return tensor

    def record_output(index, _, tensor):
        undisturbed[index, "output"] = tensor.numpy()
        return tensor

    def compare_input(index, tensor):
        changed = tensor.numpy() != undisturbed[index, "input"]
        carries[index] = changed.any(axis=tuple(range(changed.ndim - 1)))
        return tensor

    def disturb_output(index, name, _):
        output = undisturbed[index, "output"].copy()
        for number in removed.get(name, ()):
            sizes = 10 ** generator.uniform(-1.5, 1, output.shape[:-1])
            output[..., number] = generator.normal(0, sizes)
        return tf.constant(output)

    # So many disturbances, because many of them vanish in ReLUs.
    repeated = tf.repeat(inputs, 16, axis=0)
    run(repeated, record_input, record_output)
    run(repeated, compare_input, disturb_output)
    return run(inputs, lambda index, x: x * (1.0 - carries[index]), lambda index, name, made: made)


def some_filters(model, share=1 / 3, seed=4):
    """Filters to remove of all layers that may lose some: name → indices.

    Of each layer, and of what is tied to it, go at most `share` and at least one, if there are
    several and other layers' channels allow it. All that go together are named.
    """
    channels, generator = channels_of(model), np.random.default_rng(seed)
    whole = [set(units.tolist()) for units in channels.units.values() if units.size]
    gone, seen = set(), set()
    for units in channels.filters.values():
        new = [unit for unit in dict.fromkeys(units.tolist()) if unit not in seen]
        seen.update(new)
        for unit in generator.permutation(new)[: max(1, int(share * len(new)))].tolist():
            if not any(unit in each and each <= gone | {unit} for each in whole):
                gone.add(unit)
    removed = {
        name: tuple(np.flatnonzero(np.isin(units, list(gone))).tolist())
        for name, units in channels.filters.items()
    }
    return {name: indices for name, indices in removed.items() if indices}


def is_depthwise(layer):
    return isinstance(layer, layers.DepthwiseConv2D)


def narrow(name):
    """One of the project's networks, randomised."""
    return randomised(build_model(name, (32, 32, 3), 10, seed=2, width_multiplier=0.1))


@functools.cache
def resnet_50():
    return randomised(
        keras.applications.ResNet50(
            weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
        )
    )


@functools.cache
def mobilenet_v2():
    return randomised(
        keras.applications.MobileNetV2(
            weights=None,
            alpha=0.35,
            input_shape=(32, 32, 3),
            classes=10,
            classifier_activation=None,
        )
    )


def dense_blocks():
    """Each convolution reads all before it, as in a DenseNet, with a transition between."""
    image = layers.Input((9, 9, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    for number in (1, 2, 3):
        y = layers.BatchNormalization(name=f"norm_{number}")(x)
        y = layers.Activation("relu")(y)
        y = layers.Conv2D(3, 3, padding="same", use_bias=False, name=f"conv_{number}")(y)
        x = layers.Concatenate(axis=3 if number == 2 else -1)([x, y])
    x = layers.Conv2D(5, 1, activation="elu", name="transition")(x)
    x = layers.AveragePooling2D()(x)
    x = layers.GlobalMaxPooling2D()(x)
    return randomised(keras.Model(image, layers.Dense(4, name="logits")(x)))


def squeeze_and_excite():
    """A block whose channels are weighed by a gate made of them, then reshaped and padded."""
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="gated", activation="swish")(image)
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Reshape((1, 1, 6), name="to_map")(gate)
    gate = layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(6, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply(name="weigh")([x, gate])
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(5, 3, name="after")(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.Reshape((-1,), name="flatten")(x)
    return randomised(keras.Model(image, layers.Dense(4, name="logits")(x)))


def depthwise_chain():
    """Depthwise convolutions that make several channels of each, with biases, and paddings."""
    image = layers.Input((10, 10, 2))
    x = layers.Rescaling(2.0, offset=-1.0)(image)
    x = layers.Conv2D(5, 3, name="first")(x)
    x = layers.PReLU(name="slopes")(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="double")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, strides=2, depth_multiplier=3, name="triple")(x)
    x = layers.SpatialDropout2D(0.2)(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Cropping2D(1)(x)
    x = layers.Conv2D(4, 1, name="second")(x)
    x = layers.LeakyReLU(0.1)(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(3, 1, name="logits")(x)
    return randomised(keras.Model(image, layers.Flatten()(x)))


def flat_head():
    """A sequential network that flattens maps of several positions, then dense layers."""
    return randomised(
        keras.Sequential(
            [
                layers.Conv2D(4, 3, input_shape=(8, 7, 3), name="first"),
                layers.MaxPooling2D(name="pool"),
                layers.Conv2D(5, 2, activation="tanh", name="second"),
                layers.Dropout(0.5, name="dropout"),
                layers.Flatten(name="flatten"),
                layers.BatchNormalization(name="norm"),
                layers.Dense(6, activation="relu", name="hidden"),
                layers.Dense(3, name="logits"),
            ]
        )
    )


class Reversed(layers.Layer):
    """A layer that nobody knows: it turns the channels round."""

    def call(self, inputs):
        return inputs[..., ::-1]


def foreign_layers():
    """Understood parts, one a model within the model, between a custom layer and operations."""
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="before_custom")(image)
    x = Reversed(name="reversed")(x)
    x = layers.Conv2D(6, 3, name="free")(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(4, 1, name="before_operations")(x)
    x = x[..., :3] * 2.0 + 1.0
    x = layers.Conv2D(4, 1, name="before_split")(x)
    halves = tf.split(x, 2, axis=-1)
    x = layers.Concatenate()(halves)
    x = layers.Conv2D(4, 1, groups=2, name="grouped")(x)
    inner = layers.Input((4, 4, 4))
    nested = layers.Conv2D(5, 2, name="inner_conv")(inner)
    nested = layers.BatchNormalization(name="inner_norm")(nested)
    x = keras.Model(inner, nested, name="nested")(x)
    x = layers.Lambda(lambda maps: maps / 2, name="halved")(x)
    x = layers.Conv2D(4, 1, name="free_too", activation="softplus")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomised(keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x)))


def residual(blocks=4):
    """A stem and a stage of blocks whose sums are rectified."""
    image = layers.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    x = layers.ReLU()(x)
    for number in range(1, blocks + 1):
        y = layers.Conv2D(5, 3, padding="same", activation="relu", name=f"conv_{number}_1")(x)
        y = layers.Conv2D(4, 3, padding="same", name=f"conv_{number}_2")(y)
        y = layers.BatchNormalization(name=f"norm_{number}")(y)
        x = layers.Add(name=f"sum_{number}")([x, y])
        x = layers.ReLU(name=f"relu_{number}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomised(keras.Model(image, layers.Dense(3, name="logits")(x)))
