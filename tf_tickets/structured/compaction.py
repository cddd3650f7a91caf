"""Networks without what the zeros in their weights have killed, as smaller Keras models."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tf_keras as keras

from tf_tickets.models.folding import scale_and_shift
from tf_tickets.models.graph import is_linear, norms_after
from tf_tickets.structured.channels import ChannelMap, channels_of
from tf_tickets.structured.constants import constant_channels, foldable
from tf_tickets.structured.layer_kinds import PRODUCTS, is_plain, mixes
from tf_tickets.structured.surgery import build_again

layers = keras.layers


@dataclasses.dataclass(frozen=True, eq=False)
class Compaction:
    """A network without its dead parts.

    Attributes:
      model: gives the logits of the original up to rounding.
      removed: name of a layer, or of a part of one → how many of its outputs went; only of
        those that lost some.
    """

    model: keras.Model
    removed: Mapping[str, int]

    @property
    def total(self) -> int:
        """All that went, over all layers."""
        return sum(self.removed.values())


def compact(model: keras.Model) -> Compaction:
    """Removes the channels that exact zeros in the weights have cut off from the logits.

    Channels go that reach the logits by no weight other than zero, and those that are the same
    number for all inputs wherever they are read: the readers' biases take that over. A number
    other than zero cannot be taken over by a convolution that pads with zeros, as it is missing
    at the borders; such a channel stays. Channels that are tied go together or not at all, and
    each layer keeps at least one. BatchNorms are folded away where `fold_norms` can.

    Args:
      model: functional or sequential, of one input and one output. It stays as it is.

    Returns:
      A functional model of the same name, with the same names of layers, and the convolutions
      and dense layers that lost channels. What the model does in training is not kept.

    Raises:
      UserError: the model is of another kind, or a layer cannot be built again from its
        configuration.
    """
    channels = channels_of(model)
    constants = constant_channels(channels)
    alive = _alive(channels, constants)
    stays = _at_least_one(channels, alive)
    kept = {tensor: stays[ids] for tensor, ids in channels.units.items()}
    weights = _without_dead(channels, constants, alive)
    smaller = build_again(model, channels.graph, kept, weights)
    removed = {}
    for call in channels.graph.calls:
        gone = int(np.count_nonzero(~kept[call.output]))
        if gone and type(call.layer) in (*PRODUCTS, layers.DepthwiseConv2D):
            removed[call.name] = gone
    return Compaction(fold_norms(smaller), removed)


def fold_norms(model: keras.Model) -> keras.Model:
    """Folds BatchNorms into the convolutions and dense layers whose output they alone read.

    Args:
      model: functional or sequential, of one input and one output. It stays as it is.

    Returns:
      A functional model of the same name that gives the same in inference, up to rounding. Its
      layers have their names, its kernels their zeros. BatchNorms that follow anything else,
      or a layer with a nonlinearity of its own or other readers, stay.

    Raises:
      UserError: the model is of another kind, or a layer cannot be built again from its
        configuration.
    """
    channels = channels_of(model)
    graph = channels.graph
    norms = norms_after(graph, lambda layer: is_linear(layer) or _is_linear_depthwise(layer))
    folded_away = {id(norm) for norm in norms.values()}
    instead = {call.output: call.inputs[0] for call in graph.calls if id(call.layer) in folded_away}
    calls = [
        call._replace(inputs=tuple(instead.get(tensor, tensor) for tensor in call.inputs))
        for call in graph.calls
        if call.output not in instead
    ]
    graph = graph._replace(calls=calls, output=instead.get(graph.output, graph.output))
    kept = {tensor: np.full(len(ids), True) for tensor, ids in channels.units.items()}
    weights = {
        call.name: _folded(call.layer, norms[call.name]) for call in calls if call.name in norms
    }
    return build_again(model, graph, kept, weights)


def _alive(channels: ChannelMap, constants: Mapping[int, np.ndarray]) -> np.ndarray:
    """Tells for each unit whether it must stay, or reaches what must through changing channels."""
    alive = np.full(1 + max(ids.max(initial=-1) for ids in channels.units.values()), False)
    alive[list(channels.locked)] = True
    for call in channels.graph.calls:
        if mixes(call) and not is_plain(call.layer):  # Their kernels are not looked into.
            for tensor in (*call.inputs, call.output):
                alive[channels.units[tensor]] = True
    passes = [
        (channels.units[call.inputs[0]], channels.units[call.output], _passes(call, constants))
        for call in reversed(_products(channels))
    ]
    count = -1
    while np.count_nonzero(alive) > count:
        count = np.count_nonzero(alive)
        for read, made, weights in passes:
            alive[read[weights[:, alive[made]].any(axis=1)]] = True
    return alive


def _products(channels):
    """The calls of plain convolutions and dense layers that are understood."""
    return [
        call
        for call in channels.graph.calls
        if is_plain(call.layer) and call.name not in channels.obscure
    ]


def _passes(call, constants):
    """Tells for each channel read and made whether changes of the first change the second."""
    kernel = call.layer.kernel.numpy()
    nonzero = np.any(kernel.reshape(-1, *kernel.shape[-2:]), axis=0)
    return nonzero & ~foldable(call.layer, constants[call.inputs[0]])[:, None]


def _at_least_one(channels, alive):
    """The units that stay: those alive, and a dead one where a layer would have none."""
    kept = alive.copy()
    for call in channels.graph.calls:
        for tensor in call.outputs:
            ids = channels.units[tensor]
            if ids.size and not kept[ids].any():
                kept[ids[0]] = True
    return kept


def _without_dead(channels, constants, alive):
    """Layer name → weights that take constants over and leave dead channels unread and empty."""
    weights = {}
    for call in _products(channels):
        layer = call.layer
        read, made = (alive[channels.units[tensor]] for tensor in (call.inputs[0], call.output))
        if read.all() and made.all():
            continue
        kernel, *bias = layer.get_weights()
        numbers = np.where(read, 0, np.nan_to_num(constants[call.inputs[0]]))
        window = tuple(range(kernel.ndim - 2))
        carried = numbers @ kernel.sum(axis=window, dtype=np.float64)
        if bias or np.any(carried[made]):
            carried += bias[0] if bias else 0
            bias = [np.where(made, carried, 0).astype(kernel.dtype)]
        weights[call.name] = [kernel * (read[:, None] & made), *bias]
    return weights


def _is_linear_depthwise(layer):
    return type(layer) is layers.DepthwiseConv2D and layer.activation is keras.activations.linear


def _folded(layer, norm):
    """A layer's kernel and bias with the BatchNorm that follows."""
    kernel, *bias = layer.get_weights()
    scale, shift = (values.numpy() for values in scale_and_shift(norm))
    # A depthwise kernel has the channels that it makes in its last two axes.
    kernel = kernel * scale.reshape(kernel.shape[-2:] if _is_linear_depthwise(layer) else -1)
    return [kernel, bias[0] * scale + shift if bias else shift]
