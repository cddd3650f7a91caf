"""What the channels' analysis knows about the kinds of layers."""

import math

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.models.graph import APPLICATIONS_SCALED_SUM, Call, Graph
from tf_tickets.structured.operations import Effect, effect_of

layers = keras.layers

# Those whose kernels are [..., channels read, channels made], if they have one group.
_PLAIN = (layers.Conv1D, layers.Conv2D, layers.Dense)

# Layers with filters or units: every channel made depends on all channels read, or on those of
# its group.
PRODUCTS = (*_PLAIN, layers.SeparableConv2D, layers.Conv2DTranspose)

MERGES = (
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    APPLICATIONS_SCALED_SUM,
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
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.UpSampling1D,
    layers.UpSampling2D,
)

PADDING = (layers.ZeroPadding1D, layers.ZeroPadding2D)

# Layers of one input that treat each channel alone, or like all others.
_PASSING = (
    *ACTIVATIONS,
    *LEVEL,
    *PADDING,
    layers.BatchNormalization,
    layers.Rescaling,
    layers.Resizing,
    layers.CenterCrop,
)

RESHAPING = (layers.Flatten, layers.Reshape)

_UNDERSTOOD = {
    *PRODUCTS,
    *MERGES,
    *_PASSING,
    *RESHAPING,
    layers.DepthwiseConv2D,
    layers.GroupNormalization,
    layers.Concatenate,
}

# Common layers that are not understood, and why.
_OBSCURE = {
    layers.LayerNormalization: "normalises over all channels",
    layers.UnitNormalization: "normalises over all channels",
    layers.Softmax: "couples channels",
    layers.Normalization: "scales each channel differently",
    layers.Permute: "moves channels to another axis",
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
      What could follow "which", such as "is called 2 times"; "" if all is understood.
    """
    layer, kind = call.layer, type(call.layer)
    if call.operation:
        return "is not understood" if effect_of(call, graph) is Effect.UNKNOWN else ""
    if kind not in _UNDERSTOOD:
        return _OBSCURE.get(kind, "is not understood")
    if any(not graph.shapes[tensor] for tensor in call.inputs):
        return "reads a tensor of an unknown shape"
    if (layer.weights or kind is layers.Reshape) and times_called > 1:
        return f"is called {times_called} times"
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return "has its channels first"
    shape = graph.shapes[call.inputs[0]]
    if kind in (layers.BatchNormalization, layers.GroupNormalization):
        return _why_obscure_norm(call, len(shape) - 1)
    if kind is layers.Rescaling and (np.ndim(layer.scale) or np.ndim(layer.offset)):
        return "scales each channel differently"
    if kind in RESHAPING and not _keeps_channels(shape, graph.shapes[call.output]):
        return "mixes channels with positions"
    if kind not in PRODUCTS and not is_elementwise(layer):
        return coupling(layer)
    return ""


def _why_obscure_norm(call, last_axis):
    layer = call.layer
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if list(axes) not in ([-1], [last_axis]):
        return "does not normalise the last axis"
    if type(layer) is layers.BatchNormalization and call.training:
        return "is in training mode at all times"
    if type(layer) is layers.GroupNormalization and layer.groups == 1:
        return "normalises over all channels"
    return ""


def is_plain(layer: keras.layers.Layer) -> bool:
    """Whether it is a convolution or dense layer with a kernel [..., channels read, made]."""
    return type(layer) in _PLAIN and groups_of(layer) == 1


def groups_of(layer: keras.layers.Layer) -> int:
    """The number of groups that a convolution's channels are in; 1 for other layers."""
    return getattr(layer, "groups", 1) if type(layer) in PRODUCTS else 1


def splits_by_group(layer: keras.layers.Layer) -> bool:
    """Whether a grouped convolution loses whole groups, and not an equal share of each.

    It does what allows the finer choice: of many small groups some can go, of few large ones
    some of the channels.
    """
    groups = groups_of(layer)
    return groups > 1 and min(layer.kernel.shape[-2], layer.filters // groups) < groups


def mixes(call: Call) -> bool:
    """Whether what a call makes of one channel's zeros depends on the other channels."""
    return type(call.layer) in PRODUCTS and not splits_by_group(call.layer)


def _keeps_channels(before, after):
    """Whether a reshaped tensor's last axis repeats the channels that it had before."""
    flattened = None if None in before[1:] else math.prod(before[1:])
    return after[-1] is not None and after[-1] in (before[-1], flattened)


def is_elementwise(layer: keras.layers.Layer) -> bool:
    """Whether the layer's own activation, if any, treats each number alone."""
    activation = getattr(layer, "activation", keras.activations.linear)
    if isinstance(activation, keras.layers.Layer):  # As in Conv2D(8, 3, activation=LeakyReLU()).
        plain = type(activation) in ACTIVATIONS and not activation.weights
        return plain and type(activation) is not layers.PReLU and is_elementwise(activation)
    return activation in _ELEMENTWISE


def coupling(layer: keras.layers.Layer) -> str:
    """Says of a layer that is not elementwise why, as `why_obscure` does."""
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    return f"may couple channels by its activation {name}"
