"""What the channels' analysis knows about the kinds of layers."""

import math

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.models.graph import Call, Graph

layers = keras.layers

# Layers of which every output channel depends on all input channels.
PRODUCTS = (layers.Conv2D, layers.Dense)

MERGES = (
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
)

ACTIVATIONS = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.PReLU,
    layers.ThresholdedReLU,
)

# Layers of one input that in inference leave a channel as it is where it is the same number
# everywhere.
LEVEL = (
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling2D,
    layers.Cropping2D,
    layers.UpSampling2D,
)

# Layers of one input that treat each channel alone, or like all others.
_PASSING = (
    *ACTIVATIONS,
    *LEVEL,
    layers.BatchNormalization,
    layers.ZeroPadding2D,
    layers.Rescaling,
)

RESHAPING = (layers.Flatten, layers.Reshape)

_UNDERSTOOD = {
    *PRODUCTS,
    *MERGES,
    *_PASSING,
    *RESHAPING,
    layers.DepthwiseConv2D,
    layers.Concatenate,
}

_ELEMENTWISE = {
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.elu,
    keras.activations.selu,
    keras.activations.gelu,
    keras.activations.swish,
    keras.activations.mish,
    keras.activations.sigmoid,
    keras.activations.hard_sigmoid,
    keras.activations.tanh,
    keras.activations.softplus,
    keras.activations.softsign,
    keras.activations.exponential,
    tf.nn.relu,
    tf.nn.relu6,
    tf.nn.leaky_relu,
    tf.nn.elu,
    tf.nn.selu,
    tf.nn.gelu,
    tf.nn.silu,
    tf.nn.swish,
    tf.nn.sigmoid,
    tf.nn.tanh,
    tf.nn.softplus,
    tf.nn.softsign,
}


def why_obscure(call: Call, graph: Graph, times_called: int) -> str:
    """Says what about a call's layer is not understood, if anything.

    Args:
      call: of the layer.
      graph: of the network.
      times_called: how often the network calls the layer.

    Returns:
      What could follow "which", such as "has 2 groups"; "" if all is understood.
    """
    layer, kind = call.layer, type(call.layer)
    shape = graph.shapes[call.inputs[0]]
    if kind not in _UNDERSTOOD:
        return "is not understood"
    if (layer.weights or kind is layers.Reshape) and times_called > 1:
        return f"is called {times_called} times"
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return "has its channels first"
    if getattr(layer, "groups", 1) > 1:
        return f"has {layer.groups} groups"
    if kind is layers.BatchNormalization and list(layer.axis) != [len(shape) - 1]:
        return "does not normalise the last axis"
    if kind is layers.Rescaling and (np.ndim(layer.scale) or np.ndim(layer.offset)):
        return "scales each channel differently"
    if kind is layers.Dropout and layer.noise_shape is not None:
        return "drops channels by a shape of its own"
    if kind in RESHAPING and not _keeps_channels(shape, graph.shapes[call.output]):
        return "mixes channels with positions"
    if kind not in PRODUCTS and not is_elementwise(layer):
        return coupling(layer)
    return ""


def _keeps_channels(before, after):
    """Whether a reshaped tensor's last axis repeats the channels that it had before."""
    flattened = None if None in before[1:] else math.prod(before[1:])
    return after[-1] is not None and after[-1] in (before[-1], flattened)


def is_elementwise(layer: keras.layers.Layer) -> bool:
    """Whether the layer's own activation, if any, treats each number alone."""
    return getattr(layer, "activation", keras.activations.linear) in _ELEMENTWISE


def coupling(layer: keras.layers.Layer) -> str:
    """Says of a layer that is not elementwise why, as `why_obscure` does."""
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    return f"may couple channels by its activation {name}"
