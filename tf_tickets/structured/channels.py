"""Which channels of a network live and die together, and which filters may go.

A unit is a set of channels of any tensors that can only be removed together: a filter's
output, what BatchNorm, activations and poolings make of it, its copies after flattening, and
whatever is added to any of them.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
import tf_keras as keras

from tf_tickets.models.graph import Graph, graph_of
from tf_tickets.structured.layer_kinds import (
    ACTIVATIONS,
    PRODUCTS,
    RESHAPING,
    coupling,
    is_elementwise,
    why_obscure,
)

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class ChannelMap:
    """The units of a network.

    Attributes:
      graph: the network's calls.
      units: tensor's number → the unit of each channel of its last axis, int array.
      filters: name of each convolution whose filters may be removed, in the graph's order →
        the unit of each of its filters. Nothing is added to what these units hold, but gates
        may multiply them, and then the gates' channels go too.
      left_alone: name of a convolution whose filters stay, or of a layer that is not
        understood → one line that says why.
      locked: unit that must stay → why, of a convolution that makes it.
      obscure: names of the layers that are not understood.
    """

    graph: Graph
    units: Mapping[int, np.ndarray]
    filters: Mapping[str, np.ndarray]
    left_alone: Mapping[str, str]
    locked: Mapping[int, str]
    obscure: Collection[str]


def channels_of(model: keras.Model) -> ChannelMap:
    """Finds the units of a functional or sequential model of one input and one output.

    Any layer is accepted. What a layer that is not understood reads and makes is locked.

    Raises:
      UserError: the model is of another kind.
    """
    graph = graph_of(model)
    times_called = Counter(call.layer.name for call in graph.calls)
    book = _UnitBook()
    units = {graph.input: book.fresh(_size(graph, graph.input))}
    book.lock(units[graph.input], "its filters are combined with the model's input")
    obscure, makers = {}, {}
    for call in graph.calls:
        why = why_obscure(call, graph, times_called[call.layer.name])
        if why:
            obscure[call.layer.name] = f"it {why}"
            _lock_around(call, why, units, book, graph)
            continue
        ids = _units_made([units[tensor] for tensor in call.inputs], call, graph, book)
        units[call.output] = ids
        if type(call.layer) in PRODUCTS:
            makers[call.layer.name] = ids
            if not is_elementwise(call.layer):
                book.lock(ids, f"it {coupling(call.layer)}")
    book.lock(units[graph.output], "its filters are the model's outputs")

    roots = book.roots()
    units = {tensor: roots[ids] for tensor, ids in units.items()}
    makers = {name: roots[ids] for name, ids in makers.items()}
    filters, left_alone = _split(graph, makers, obscure, book)
    return ChannelMap(graph, units, filters, left_alone, book.locked(), frozenset(obscure))


def activation_of(channel_map: ChannelMap, layer_name: str) -> int:
    """Finds a layer's feature maps, as criteria score them.

    They are the output after the BatchNorm and the elementwise activations that alone read
    it, if any.

    Returns:
      Their tensor's number.

    Raises:
      ValueError: no layer of that name.
    """
    graph = channel_map.graph
    tensor = _call_of(graph, layer_name).output
    while tensor != graph.output:
        readers = graph.readers(tensor)
        if len(readers) != 1 or not _is_norm_or_activation(readers[0], channel_map):
            break
        tensor = readers[0].output
    return tensor


def mixing_reads(channel_map: ChannelMap, layer_name: str) -> list[tuple[int, int, np.ndarray]]:
    """Finds where the network mixes a convolution's filters with other channels.

    Removing a filter is the same as setting its channels there to zero, because all other
    layers on the way treat each channel alone.

    Args:
      channel_map: of the network.
      layer_name: one of `channel_map.filters`.

    Returns:
      For each convolution or dense layer that reads the filters' units: the index of its call
      in the graph; the position among its inputs; and for each channel that it reads the
      index of the filter it carries, or -1.

    Raises:
      ValueError: the layer's filters may not be removed.
    """
    if layer_name not in channel_map.filters:
        raise ValueError(f"{layer_name}: its filters may not be removed")
    filter_of = np.full(1 + max(ids.max(initial=-1) for ids in channel_map.units.values()), -1)
    units = channel_map.filters[layer_name]
    filter_of[units] = np.arange(len(units))
    reads = []
    for index, call in enumerate(channel_map.graph.calls):
        if type(call.layer) in PRODUCTS:
            for position, tensor in enumerate(call.inputs):
                channels = filter_of[channel_map.units[tensor]]
                if np.any(channels >= 0):
                    reads.append((index, position, channels))
    return reads


class _UnitBook:
    """Numbers the units, ties them together (union-find) and locks them."""

    def __init__(self):
        self._parents = []
        self._locks = []
        self._ties = []

    def fresh(self, count):
        """New units, as an array of their numbers."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def tie(self, some, others, layer):
        """Makes one unit of each pair, because of what a layer does."""
        for one, other in zip(some.tolist(), others.tolist(), strict=True):
            self._parents[self._root(other)] = self._root(one)
            self._ties.append((one, type(layer)))

    def lock(self, ids, why):
        """They must stay."""
        self._locks.extend((unit, why) for unit in ids.tolist())

    def roots(self):
        """Unit as first numbered → the unit that it became part of."""
        return np.array([self._root(unit) for unit in range(len(self._parents))], int)

    def locked(self):
        """Unit → why it must stay, the first reason given."""
        reasons = {}
        for unit, why in self._locks:
            reasons.setdefault(self._root(unit), why)
        return reasons

    def ties(self):
        """Unit → the kinds of layers that made it of several, if any did."""
        kinds = {}
        for unit, kind in self._ties:
            kinds.setdefault(self._root(unit), set()).add(kind)
        return kinds

    def _root(self, unit):
        while self._parents[unit] != unit:
            self._parents[unit] = self._parents[self._parents[unit]]
            unit = self._parents[unit]
        return unit


def _lock_around(call, why, units, book, graph):
    """Locks what a layer that is not understood reads, and makes locked units of its outputs."""
    layer = f"{call.layer.name} ({type(call.layer).__name__}), which {why}"
    for tensor in call.inputs:
        book.lock(units[tensor], f"its outputs are read by {layer}")
    for tensor in call.outputs:
        units[tensor] = book.fresh(_size(graph, tensor))
        book.lock(units[tensor], f"its filters are combined with the outputs of {layer}")


def _units_made(read, call, graph, book):
    """The units of what a layer that is understood makes of tensors with units `read`."""
    layer, kind, size = call.layer, type(call.layer), _size(graph, call.output)
    if kind in PRODUCTS:
        return book.fresh(size)
    if kind is layers.DepthwiseConv2D:
        return np.repeat(read[0], layer.depth_multiplier)
    if kind in RESHAPING:
        return np.tile(read[0], size // len(read[0]))
    if len(read) == 1:
        return read[0]
    last_axis = len(graph.shapes[call.output]) - 1
    if kind is layers.Concatenate and layer.axis in (-1, last_axis):
        return np.concatenate(read)
    widest = max(read, key=len)
    for ids in read:
        if len(ids) == len(widest):
            book.tie(widest, ids, layer)
        else:  # A single channel meets all of the others.
            why = f"{layer.name} ({kind.__name__}) broadcasts one channel over others"
            book.lock(ids, why)
            book.lock(widest, why)
    return widest


def _split(graph, makers, obscure, book):
    """Tells the convolutions whose filters may go from those, with reasons, whose may not."""
    locked, ties, makers_of = book.locked(), book.ties(), {}
    for name, ids in makers.items():
        for unit in ids.tolist():
            makers_of.setdefault(unit, []).append(name)
    convolutions = [call.layer.name for call in graph.calls if type(call.layer) is layers.Conv2D]

    def why_kept(name):
        units = makers[name].tolist()
        partners = [maker for unit in units for maker in makers_of[unit] if maker != name]
        kinds = set().union(*(ties.get(unit, ()) for unit in units))
        if partners and kinds != {layers.Multiply}:
            verb = "added to" if kinds == {layers.Add} else "combined with"
            return f"its filters are {verb} those of {_in_words(partners)}"
        if len(set(units)) < len(units):
            return "its filters are combined with one another"
        # Products are zero with their first factor: a gate's filters go with what it weighs.
        first = [next(each for each in makers_of[unit] if each in convolutions) for unit in units]
        leaders = [leader for leader in first if leader != name]
        if leaders:
            return f"its filters go with those of {_in_words(leaders)}"
        return next((locked[unit] for unit in units if unit in locked), "")

    filters, left_alone = {}, {}
    for call in graph.calls:
        name = call.layer.name
        why = obscure.get(name) or (why_kept(name) if name in convolutions else "")
        if why:
            left_alone[name] = why
        elif name in convolutions:
            filters[name] = makers[name]
    return filters, left_alone


def _in_words(names):
    """The first name, and how many others there are."""
    first, *more = dict.fromkeys(names)
    return f"{first} and {len(more)} more" if more else first


def _is_norm_or_activation(call, channel_map):
    understood = call.layer.name not in channel_map.obscure
    return understood and type(call.layer) in (*ACTIVATIONS, layers.BatchNormalization)


def _call_of(graph, layer_name):
    for call in graph.calls:
        if call.layer.name == layer_name:
            return call
    raise ValueError(f"{layer_name}: no such layer")


def _size(graph, tensor):
    """Channels of a tensor; 0 where they are not known, as only foreign layers leave them."""
    return (graph.shapes[tensor][-1:] or (0,))[0] or 0
