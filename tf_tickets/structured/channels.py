"""Which channels of a network live and die together, and which filters may go.

A unit is a set of channels of any tensors that can only be removed together: a filter's
output, what BatchNorm, activations and poolings make of it, its copies after flattening, and
whatever is added to any of them, with the filters that make that.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
import tf_keras as keras

from tf_tickets.models.graph import Graph, graph_of
from tf_tickets.structured.layer_kinds import (
    ACTIVATIONS,
    PRODUCTS,
    RESHAPING,
    coupling,
    groups_of,
    is_elementwise,
    mixes,
    splits_by_group,
    why_obscure,
)
from tf_tickets.structured.operations import Effect, effect_of
from tf_tickets.structured.units import UnitBook

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class ChannelMap:
    """The units of a network.

    Attributes:
      graph: the network's calls.
      units: tensor's number → the unit of each channel of its last axis, int array.
      filters: name of each layer whose filters or units may be removed (convolutions of every
        kind but depthwise ones, and dense layers), in the graph's order → the unit of each of
        them. Filters of several layers, or of one, that have the same unit go together. Gates may
        multiply what these units hold, and then the gates' channels go too.
      tied: those names in `filters` whose filters do not go one by one: some share their units
        with another layer, because the outputs are added or combined elementwise or are in one
        group of a convolution, or with one another.
      left_alone: name of a layer whose filters stay, or that is not understood → one line that
        says why.
      locked: unit that must stay → why, of a layer that makes it.
      obscure: names of the layers that are not understood.
    """

    graph: Graph
    units: Mapping[int, np.ndarray]
    filters: Mapping[str, np.ndarray]
    tied: Collection[str]
    left_alone: Mapping[str, str]
    locked: Mapping[int, str]
    obscure: Collection[str]

    @property
    def untied_convolutions(self) -> list[str]:
        """The Conv2D layers whose filters go one by one, as the pruning literature has them."""
        return [
            name
            for name in self.filters
            if name not in self.tied and type(self.graph.layer(name)) is layers.Conv2D
        ]

    def units_made_by(self, names: Collection[str]) -> set[int]:
        """The units of what the layers of these names make; none of a name that is no layer's."""
        tensors = [
            tensor for call in self.graph.calls if call.name in names for tensor in call.outputs
        ]
        return {unit for tensor in tensors for unit in self.units[tensor].tolist()}


def channels_of(model: keras.Model) -> ChannelMap:
    """Finds the units of a functional or sequential model of one input and one output.

    Any layer is accepted. What a layer that is not understood reads and makes is locked.

    Raises:
      UserError: the model is of another kind.
    """
    graph = graph_of(model)
    times_called = Counter(call.name for call in graph.calls)
    book = UnitBook()
    units = {graph.input: book.fresh(_size(graph, graph.input))}
    book.lock(units[graph.input], "its filters are combined with the model's input")
    obscure, makers = {}, {}
    for call in graph.calls:
        why = why_obscure(call, graph, times_called[call.name])
        if why:
            obscure[call.name] = f"it {why}"
            _lock_around(call, why, units, book, graph)
            continue
        ids = _units_made([units[tensor] for tensor in call.inputs], call, graph, book)
        units[call.output] = ids
        if type(call.layer) in PRODUCTS:
            makers[call.name] = ids
            if not is_elementwise(call.layer):
                book.lock(ids, f"it {coupling(call.layer)}")
    book.lock(units[graph.output], "its filters are the model's outputs")

    roots = book.units()
    units = {tensor: roots[ids] for tensor, ids in units.items()}
    filters, tied, left_alone = _split(graph, makers, obscure, book)
    return ChannelMap(graph, units, filters, tied, left_alone, book.locked(), frozenset(obscure))


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
    tensor = graph.call(layer_name).output
    while tensor != graph.output:
        readers = graph.readers(tensor)
        if len(readers) != 1 or not _is_norm_or_activation(readers[0], channel_map):
            break
        tensor = readers[0].output
    return tensor


def mixing_reads(channel_map: ChannelMap, layer_name: str) -> list[tuple[int, int, np.ndarray]]:
    """Finds where the network mixes a layer's filters with other channels.

    Removing a filter is the same as setting its channels there to zero, because all other
    layers on the way treat each channel alone.

    Args:
      channel_map: of the network.
      layer_name: one of `channel_map.filters`.

    Returns:
      For each layer that mixes channels and reads the filters' units: the index of its call
      in the graph; the position among its inputs; and for each channel that it reads the
      index of the filter it carries, or -1. Of several filters of one unit, the first.

    Raises:
      ValueError: the layer's filters may not be removed.
    """
    if layer_name not in channel_map.filters:
        raise ValueError(f"{layer_name}: its filters may not be removed")
    filter_of = np.full(1 + max(ids.max(initial=-1) for ids in channel_map.units.values()), -1)
    units = channel_map.filters[layer_name]
    filter_of[units[::-1]] = np.arange(len(units))[::-1]
    reads = []
    for index, call in enumerate(channel_map.graph.calls):
        if mixes(call):
            for position, tensor in enumerate(call.inputs):
                channels = filter_of[channel_map.units[tensor]]
                if np.any(channels >= 0):
                    reads.append((index, position, channels))
    return reads


def _lock_around(call, why, units, book, graph):
    """Locks what a layer that is not understood reads, and makes locked units of its outputs."""
    layer = f"{call.name} ({type(call.layer).__name__}), which {why}"
    for tensor in call.inputs:
        book.lock(units[tensor], f"its outputs are read by {layer}")
    for tensor in call.outputs:
        units[tensor] = book.fresh(_size(graph, tensor))
        book.lock(units[tensor], f"its filters are combined with the outputs of {layer}")


def _units_made(read, call, graph, book):
    """The units of what a layer that is understood makes of tensors with units `read`."""
    layer, kind, size = call.layer, type(call.layer), _size(graph, call.output)
    if kind in PRODUCTS:
        made = book.fresh(size)
        if groups_of(layer) > 1:
            _tie_groups(layer, read[0], made, book)
        return made
    if kind is layers.DepthwiseConv2D:
        return np.repeat(read[0], layer.depth_multiplier)
    if kind is layers.GroupNormalization:
        groups = read[0].reshape(layer.groups, -1)
        book.tie(np.repeat(groups[:, 0], groups.shape[1]), groups.ravel())
    if kind in RESHAPING:
        return np.tile(read[0], size // len(read[0]))
    if len(read) == 1:
        return read[0]
    if _concatenates(call, graph):
        return np.concatenate(read)
    return _merged(read, call, graph, book)


def _tie_groups(layer, read, made, book):
    """Ties what a grouped convolution can only lose together, see `splits_by_group`."""
    read, made = (ids.reshape(layer.groups, -1) for ids in (read, made))
    if splits_by_group(layer):
        for ids in (read, made):
            book.tie(np.repeat(read[:, 0], ids.shape[1]), ids.ravel())
    else:
        for ids in (read, made):
            book.tie(np.tile(ids[0], layer.groups), ids.ravel())


def _concatenates(call, graph):
    """Whether a call puts the channels of several tensors beside one another."""
    if type(call.layer) is layers.Concatenate:
        return call.layer.axis in (-1, len(graph.shapes[call.output]) - 1)
    return effect_of(call, graph) is Effect.CONCATENATION


def _merged(read, call, graph, book):
    """The units of what is combined elementwise."""
    kind = type(call.layer)
    weighing = kind is layers.Multiply or effect_of(call, graph) is Effect.WEIGHING
    widest = max(read, key=len)
    # Gates are made of what they weigh, and so have later numbers.
    wide = [ids for ids in read if len(ids) == len(widest)]
    carrier = min(wide, key=lambda ids: ids[:1].tolist())
    for ids in read:
        if len(ids) == len(widest):
            book.tie(carrier, ids, weighing)
        else:
            why = f"{call.name} ({kind.__name__}) broadcasts one channel over others"
            book.lock(ids, why)
            if len(ids) != 1:
                book.lock(widest, why)
    return carrier


def _split(graph, makers, obscure, book):
    """Tells the layers whose filters may go from those that stay, with reasons, and the tied."""
    units, alike, locked = book.units(), book.alike(), book.locked()
    leaders = _leaders(makers, units, alike)

    def why_kept(ids):
        for unit in units[ids].tolist():
            if unit in locked:
                return locked[unit]
        gated = [leaders[units[each]] for each in ids if alike[each] != leaders[units[each]].part]
        if gated:
            return f"its filters go with those of {_in_words(leader.name for leader in gated)}"
        if len(set(units[ids])) == 1 < len(ids):
            return "its filters could only go all together"
        return ""

    filters, left_alone = {}, {}
    for call in graph.calls:
        name = call.name
        why = obscure.get(name) or (why_kept(makers[name]) if name in makers else "")
        if why:
            is_dense = type(call.layer) is layers.Dense
            left_alone[name] = why.replace("its filters", "its units") if is_dense else why
        elif name in makers:
            filters[name] = units[makers[name]]
    tied = {name for name, ids in filters.items() if any(leaders[unit].filters > 1 for unit in ids)}
    return filters, frozenset(tied), left_alone


class _Leader(NamedTuple):
    """The part of a unit that was made first, which the other parts only weigh."""

    part: int
    name: str  # Of the layer that made it first.
    filters: int  # How many there are in it.


def _leaders(makers, units, alike):
    """Unit → its leader."""
    leaders = {}
    for name, ids in makers.items():
        for unit, part in zip(units[ids].tolist(), alike[ids].tolist()):
            leader = leaders.setdefault(unit, _Leader(part, name, 0))
            if part == leader.part:
                leaders[unit] = leader._replace(filters=leader.filters + 1)
    return leaders


def _in_words(names):
    """The first name, and how many others there are."""
    first, *more = dict.fromkeys(names)
    return f"{first} and {len(more)} more" if more else first


def _is_norm_or_activation(call, channel_map):
    understood = call.name not in channel_map.obscure
    kinds = (*ACTIVATIONS, layers.BatchNormalization)
    return understood and (type(call.layer) in kinds or bool(call.operation))


def _size(graph, tensor):
    """Channels of a tensor; 0 where they are not known, as only foreign layers leave them."""
    return (graph.shapes[tensor][-1:] or (0,))[0] or 0
