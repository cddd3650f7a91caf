"""The ℓ1-norms of filters and residual blocks (Li et al., arXiv:1608.08710)."""

import numpy as np
import tf_keras as keras

from tf_tickets.models.graph import Graph
from tf_tickets.structured.blocks import ResidualBlock

layers = keras.layers


def filter_norms(layer: keras.layers.Layer) -> np.ndarray:
    """The sum of the absolute weights of each filter or unit, float64 `[filters]`.

    A separable convolution's are those of the one convolution that its two make together.
    """
    return _kernel_sums(layer)[0]


def block_norm(graph: Graph, block: ResidualBlock) -> float:
    """The mean ℓ1-norm of a block's filters, each divided by the root of its fan-in.

    Networks start with weights in proportion to 1/√fan-in, so that undivided the norm grows
    with √fan-in, and stages of few channels would always look unimportant.
    """
    norms = []
    for layer in layers_between(graph, block).values():
        if isinstance(layer, _KINDS):
            sums, fan_in = _kernel_sums(layer)
            norms.append(sums / np.sqrt(fan_in))
    return float(np.mean(np.concatenate(norms)))


def layers_between(graph: Graph, block: ResidualBlock) -> dict[str, keras.layers.Layer]:
    """The layers from a block's shortcut to its sum, without those, by name."""
    makers, pending, found = {call.output: call for call in graph.calls}, [block.branch], {}
    while pending:
        number = pending.pop()
        if number in (block.shortcut, graph.input) or number not in makers:
            continue
        call = makers[number]
        if call.name not in found:
            pending += call.inputs
            found[call.name] = call.layer
    return found


_KINDS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)


def _kernel_sums(layer):
    """Each filter's sum of absolute weights, and how many weights those are."""
    if isinstance(layer, layers.SeparableConv2D):
        return _separable_sums(layer)
    if isinstance(layer, layers.DepthwiseConv2D):  # [height, width, in, multiplier]
        kernel = _absolute(layer.depthwise_kernel)
        return np.sum(kernel, axis=(0, 1)).ravel(), int(np.prod(kernel.shape[:2]))
    kernel = _absolute(layer.kernel)
    if isinstance(layer, layers.Conv2DTranspose):  # [height, width, out, in]
        kernel = np.moveaxis(kernel, -1, -2)
    return np.sum(kernel, axis=tuple(range(kernel.ndim - 1))), int(np.prod(kernel.shape[:-1]))


def _separable_sums(layer):
    """Those of the kernel Σ_m depthwise[h, w, in, m] · pointwise[in, m, out]."""
    depthwise = layer.depthwise_kernel.numpy().astype(np.float64)
    height, width, channels, multiplier = depthwise.shape
    pointwise = layer.pointwise_kernel.numpy().astype(np.float64)
    pointwise = pointwise.reshape(channels, multiplier, -1)
    sums = np.zeros(pointwise.shape[-1])
    for place in depthwise.reshape(-1, channels, multiplier):
        sums += np.sum(np.abs(np.einsum("im,imo->io", place, pointwise)), axis=0)
    return sums, height * width * channels


def _absolute(weight):
    return np.abs(weight.numpy().astype(np.float64))
