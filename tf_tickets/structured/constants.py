"""Which channels of a network are the same number for every input."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.models.folding import scale_and_shift
from tf_tickets.models.graph import Call, Graph
from tf_tickets.structured.channels import ChannelMap
from tf_tickets.structured.layer_kinds import (
    ACTIVATIONS,
    LEVEL,
    MERGES,
    PADDING,
    RESHAPING,
    is_elementwise,
    is_plain,
)

layers = keras.layers


def constant_channels(channel_map: ChannelMap) -> dict[int, np.ndarray]:
    """Finds the channels that no input changes in inference, because of zeros in the weights.

    A filter whose kernel is all zero gives its bias everywhere; that is followed through all
    layers that are understood.

    Args:
      channel_map: of the network.

    Returns:
      Tensor's number → for each channel of its last axis the number that it holds at every
      position for every input, float64; NaN where there is no such number.
    """
    graph = channel_map.graph
    constants = {tensor: np.full(len(ids), np.nan) for tensor, ids in channel_map.units.items()}
    for call in graph.calls:
        if call.name not in channel_map.obscure:
            made = _made(call, graph, [constants[tensor] for tensor in call.inputs])
            constants[call.output] = np.where(np.isfinite(made), made, np.nan)
    return constants


def foldable(layer: keras.layers.Layer, constants: np.ndarray) -> np.ndarray:
    """Tells which channels add the same to a convolution's or dense layer's output everywhere.

    Those are its constant channels, but where it pads with zeros they must be zero too.

    Args:
      layer: a convolution, depthwise or not, or dense layer.
      constants: of the channels that it reads, as `constant_channels` finds them.

    Returns:
      Boolean array.
    """
    pads = getattr(layer, "padding", "valid") != "valid" and max(layer.kernel_size) > 1
    return constants == 0 if pads else ~np.isnan(constants)


def _made(call: Call, graph: Graph, read: list[np.ndarray]) -> np.ndarray:
    """What a layer that is understood makes of constants."""
    layer, kind, size = call.layer, type(call.layer), graph.shapes[call.output][-1]
    if is_plain(layer):
        return _of_product(layer, read[0])
    if kind is layers.DepthwiseConv2D:
        return _of_depthwise(layer, read[0])
    if kind in RESHAPING:
        return np.tile(read[0], size // len(read[0]))
    if kind is layers.Concatenate and layer.axis in (-1, len(graph.shapes[call.output]) - 1):
        return np.concatenate(read)
    if kind is layers.BatchNormalization:
        scale, shift = (values.numpy() for values in scale_and_shift(layer))
        return np.where(scale == 0, shift, read[0] * scale + shift)
    if kind in PADDING:
        return np.where(read[0] == 0, 0.0, np.nan)
    if kind in LEVEL:
        return read[0]
    if kind in (*ACTIVATIONS, layers.Rescaling):
        return _called(call, graph, read)
    if kind in MERGES and len({len(values) for values in read}) == 1:
        merged = _called(call, graph, read)
        zero = kind is layers.Multiply and np.any(np.equal(read, 0), axis=0)
        return np.where(zero, 0.0, merged)
    return np.full(size, np.nan)


def _of_product(layer, read):
    if not is_elementwise(layer):
        return np.full(layer.kernel.shape[-1], np.nan)
    kernel = layer.kernel.numpy().astype(np.float64)
    kernel = kernel.reshape(-1, *kernel.shape[-2:])
    folds = foldable(layer, read)
    varies = np.any(kernel[:, ~folds] != 0, axis=(0, 1))
    sums = np.where(folds, read, 0) @ kernel.sum(axis=0)
    return np.where(varies, np.nan, _activated(layer, sums))


def _of_depthwise(layer, read):
    kernel = layer.depthwise_kernel.numpy().astype(np.float64)
    folds = foldable(layer, read)[:, None]
    varies = ~folds & np.any(kernel != 0, axis=(0, 1))
    sums = np.where(folds, read[:, None], 0) * kernel.sum(axis=(0, 1))
    return np.where(varies.ravel(), np.nan, _activated(layer, sums.ravel()))


def _activated(layer, sums):
    if layer.use_bias:
        sums = sums + layer.bias.numpy()
    return layer.activation(tf.constant(sums, layer.dtype)).numpy()


def _called(call, graph, read):
    """What an elementwise layer itself gives for images of one position."""
    images = []
    for tensor, values in zip(call.inputs, read, strict=True):
        shape = [1] * (len(graph.shapes[tensor]) - 1) + [-1]
        images.append(tf.constant(np.nan_to_num(values).reshape(shape), call.layer.dtype))
    # Called past Keras' checks, as a PReLU insists on the shape that it has slopes for.
    made = call.layer.call(images if len(images) > 1 else images[0]).numpy()
    positions = made.reshape(-1, made.shape[-1])
    varies = np.any(np.isnan(read), axis=0) | np.any(positions != positions[0], axis=0)
    return np.where(varies, np.nan, positions[0])
