"""Networks with zeros in their weights, and what their tensors hold."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tests.structured import networks
from tf_tickets.models.graph import graph_of
from tf_tickets.models.registry import build_model

layers = keras.layers
PRODUCTS = (layers.Conv2D, layers.Dense)


def chain():
    """Convolutions without padding and dense layers, some without biases, all channels smooth."""
    image = layers.Input((9, 9, 2))
    x = layers.Conv2D(5, 3, activation="tanh", name="first")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(6, 2, activation="softplus", use_bias=False, name="second")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(7, activation="swish", use_bias=False, name="hidden")(x)
    return networks.randomised(keras.Model(image, layers.Dense(3, name="logits")(x)))


def smooth_gates():
    """A depthwise convolution of maps that a gate made of them weighs, beside a plain one."""
    image = layers.Input((9, 9, 3))
    x = layers.Conv2D(6, 3, activation="swish", name="gated")(image)
    gate = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(4, 1, activation="tanh", name="squeeze")(gate)
    gate = layers.Conv2D(6, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise", use_bias=False)(x)
    x = layers.Activation("tanh")(layers.BatchNormalization(name="norm")(x))
    y = layers.Conv2D(4, 5, activation="elu", name="beside")(image)
    x = layers.Conv2D(5, 1, use_bias=False, name="after")(layers.Concatenate()([x, y]))
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization(name="last_norm")(x))
    return networks.randomised(keras.Model(image, layers.Dense(3, name="logits")(x)))


def inverted_residuals():
    """Blocks of MobileNetV2, the second with a shortcut."""
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization(name="stem_norm")(x))
    for block, stride in ((1, 2), (2, 1)):
        y = layers.Conv2D(12, 1, use_bias=False, name=f"expand_{block}")(x)
        y = layers.ReLU(6.0)(layers.BatchNormalization(name=f"expand_norm_{block}")(y))
        y = layers.DepthwiseConv2D(
            3, strides=stride, padding="same", use_bias=False, name=f"depthwise_{block}"
        )(y)
        y = layers.ReLU(6.0)(layers.BatchNormalization(name=f"depthwise_norm_{block}")(y))
        y = layers.Conv2D(6, 1, use_bias=False, name=f"project_{block}")(y)
        y = layers.BatchNormalization(name=f"project_norm_{block}")(y)
        x = y if stride > 1 else layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return networks.randomised(keras.Model(image, layers.Dense(4, name="logits")(x)))


def lenet(name):
    return networks.randomised(build_model(name, (20, 20, 1), 4, seed=0, width_multiplier=0.25))


def images(model, count=8):
    shape = (count, *model.input_shape[1:])
    return tf.constant(np.random.default_rng(3).normal(0, 3, shape), tf.float32)


def set_zero(model, layer, index):
    """Puts zeros into a kernel, at a NumPy index such as np.s_[..., 2]."""
    kernel, *bias = model.get_layer(layer).get_weights()
    kernel[index] = 0
    model.get_layer(layer).set_weights([kernel, *bias])


def kill(model, seed, share):
    """Puts zeros in place of a share of what each kernel reads, makes and connects."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        if type(layer) in (*PRODUCTS, layers.DepthwiseConv2D):
            for axes in ((-2,), (-1,), (-2, -1)):
                kernel, *bias = layer.get_weights()
                shape = [kernel.shape[axis] for axis in axes]
                alive = generator.random(shape) > share
                alive = np.expand_dims(alive, -1) if axes == (-2,) else alive
                layer.set_weights([kernel * alive, *bias])
    return model


def tensors_of(model, inputs, change_read=None, change_made=None):
    """Tensor's number → its value.

    Args:
      model: any functional or sequential model.
      inputs: images.
      change_read: takes the name and the input of every convolution and dense layer, and returns
        what it reads instead.
      change_made: the same for their outputs.
    """
    graph = graph_of(model)
    tensors = {graph.input: inputs}
    for call in graph.calls:
        read, name = [tensors[tensor] for tensor in call.inputs], call.layer.name
        is_product = type(call.layer) in PRODUCTS
        if is_product and change_read:
            read = [change_read(name, read[0])]
        made = call.repeat(call.layer, read)
        if is_product and change_made:
            made = change_made(name, made)
        tensors.update(zip(call.outputs, tf.nest.flatten(made), strict=True))
    return tensors
