"""Networks without some of their filters and residual blocks, as smaller Keras models."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.models.graph import Graph
from tf_tickets.structured.blocks import require_removable, residual_blocks
from tf_tickets.structured.channels import ChannelMap, channels_of
from tf_tickets.structured.layer_kinds import PRODUCTS, splits_by_group

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class Removal:
    """What to take out of a network.

    Attributes:
      filters: name of a layer → indices of its filters or units. What is tied to them goes with
        them, named or not, and those of a layer in one of the `blocks` go with it.
      blocks: names of the blocks' Add layers.
    """

    filters: Mapping[str, tuple[int, ...]]
    blocks: tuple[str, ...]

    def to_json(self) -> dict:
        """As what JSON can hold; `from_json` reads it."""
        filters = {name: list(indices) for name, indices in self.filters.items()}
        return {"filters": filters, "blocks": list(self.blocks)}

    @classmethod
    def from_json(cls, content, file: Path) -> "Removal":
        """Reads what `to_json` made.

        Args:
          content: as read from JSON.
          file: where it was read, for the error.

        Raises:
          UserError: it is something else.
        """
        if not _is_removal(content):
            raise UserError(
                f"{file}: damaged; expected an object with filters, convolutions with lists of "
                "indices, and blocks, a list of names"
            )
        filters = {name: tuple(indices) for name, indices in content["filters"].items()}
        return cls(filters, tuple(content["blocks"]))


def remove(model: keras.Model, removal: Removal) -> keras.Model:
    """Builds the network without some filters and blocks.

    Its logits are those of the original with zeros in place of what the filters' outputs
    became where a layer reads them that mixes channels, and with zeros in place of the blocks'
    branches.

    Args:
      model: functional or sequential, of one input and one output. It stays as it is.
      removal: what to take out.

    Returns:
      A functional model of the same name, with the same names of layers and what is left of
      their weights, BatchNorm's statistics included. It is not compiled. Layers of models within
      the model are layers of its own, under the names that `graph_of` gives them.

    Raises:
      UserError: the removal does not fit the model, or takes what must stay; or a layer cannot
        be built again from its configuration.
    """
    channels = channels_of(model)
    require_removable(channels.graph, removal.blocks)
    units = [
        unit
        for name, indices in removal.filters.items()
        for unit in _units_of_filters(channels, name, indices)
    ]
    return remove_units(model, channels, units, removal.blocks)


def remove_units(
    model: keras.Model, channels: ChannelMap, units: Collection[int], blocks: Collection[str] = ()
) -> keras.Model:
    """Builds the network without some units, all of whose channels go, and blocks.

    Args:
      model: see `remove`.
      channels: of the model.
      units: numbers from `channels.units`.
      blocks: names of blocks that `require_removable` accepts.

    Returns:
      See `remove`.

    Raises:
      UserError: a unit must stay, a layer would have no channels left, or a layer cannot be
        built again from its configuration.
    """
    for unit in units:
        if unit in channels.locked:
            raise UserError(f"{model.name}: unit {unit} must stay: {channels.locked[unit]}")
    kept = {tensor: ~np.isin(ids, list(units)) for tensor, ids in channels.units.items()}
    graph = _without_blocks(channels.graph, blocks)
    _require_channels(graph, kept)
    return build_again(model, graph, kept, {})


def build_again(
    model: keras.Model,
    graph: Graph,
    kept: Mapping[int, np.ndarray],
    weights: Mapping[str, Sequence[np.ndarray]],
) -> keras.Model:
    """Builds the network of a graph with new layers of the same names.

    Args:
      model: gives the input and the name.
      graph: of the model, maybe without some calls.
      kept: tensor's number → which channels of its last axis stay, boolean array.
      weights: name of a layer → weights to take instead of its own, with those of the channels
        that go. A convolution or dense layer without a bias gets one that is given.

    Returns:
      See `remove`.

    Raises:
      UserError: a layer cannot be built again from its configuration.
    """
    image = model._input_layers[0]
    tensors = {graph.input: layers.InputLayer.from_config(image.get_config()).output}
    copies = {}
    for call in graph.calls:
        name = call.name
        if name not in copies:
            copies[name] = _copy(call, kept, with_bias=len(weights.get(name, ())) > 1)
        outputs = call.repeat(copies[name], [tensors[tensor] for tensor in call.inputs])
        tensors.update(zip(call.outputs, tf.nest.flatten(outputs), strict=True))
    smaller = keras.Model(tensors[graph.input], tensors[graph.output], name=model.name)
    for call in graph.calls:
        given = weights.get(call.name) or call.layer.get_weights()
        _set_weights(copies[call.name], _weights_left(call, given, kept))
    return smaller


def _is_removal(content):
    if not isinstance(content, dict) or set(content) != {"filters", "blocks"}:
        return False
    filters, blocks = content["filters"], content["blocks"]
    return (
        isinstance(filters, dict)
        and isinstance(blocks, list)
        and all(isinstance(name, str) for name in blocks)
        and all(isinstance(indices, list) for indices in filters.values())
        and all(type(index) is int for indices in filters.values() for index in indices)
    )


def _units_of_filters(channels, name, indices):
    """The units of filters that may go."""
    if name in channels.left_alone:
        raise UserError(f"{name}: its filters must stay: {channels.left_alone[name]}")
    if name not in channels.filters:
        known = ", ".join(channels.filters) or "none"
        raise UserError(f"{name}: no layer of that name; filters may go from {known}")
    units = channels.filters[name]
    for index in indices:
        if not 0 <= index < len(units):
            raise UserError(f"{name}: filter {index}: expected 0 to {len(units) - 1}")
    gone = units[list(indices)].tolist()
    if set(gone) == set(units.tolist()):
        raise UserError(f"{name}: all {len(units)} filters were to go; at least one must stay")
    return gone


def _without_blocks(graph, names):
    """The graph of the calls that are still needed, with the tensors that they read instead."""
    blocks = residual_blocks(graph)
    instead = {block.output: block.shortcut for block in blocks if block.name in names}
    sums = set(instead)

    def source(tensor):
        while tensor in instead:
            tensor = instead[tensor]
        return tensor

    rectified = {call.output for call in graph.calls if _is_rectifier(call.layer)}
    for call in graph.calls:
        # What was rectified already needs no second ReLU.
        if call.output in rectified and call.inputs[0] in sums:
            if source(call.inputs[0]) in rectified:
                instead[call.output] = call.inputs[0]

    output = source(graph.output)
    calls, needed = [], {output}
    for call in reversed(graph.calls):
        if needed.intersection(call.outputs) and call.output not in instead:
            call = call._replace(inputs=tuple(map(source, call.inputs)))
            needed.update(call.inputs)
            calls.append(call)
    return graph._replace(calls=calls[::-1], output=output)


def _is_rectifier(layer):
    """Whether it is the plain ReLU."""
    if type(layer) is layers.Activation:
        return layer.activation is keras.activations.relu
    plain = type(layer) is layers.ReLU and layer.max_value is None
    return plain and not layer.negative_slope and not layer.threshold


def _require_channels(graph, kept):
    for call in graph.calls:
        if any(kept[tensor].size and not kept[tensor].any() for tensor in call.outputs):
            raise UserError(f"{call.name}: at least one of its channels must stay")


def _copy(call, kept, with_bias):
    """A new layer of the same name for the channels that are kept, maybe with a bias it had not."""
    layer = call.layer
    try:
        if isinstance(layer, keras.Model):
            return keras.models.clone_model(layer)
        config = layer.get_config() | {"name": call.name}
        config |= _sizes(call, config, kept)
        if with_bias:
            config["use_bias"] = True
        return type(layer).from_config(config)
    except Exception as error:  # It may be anyone's layer.
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(
            f"{call.name} ({type(layer).__name__}): cannot be built from its configuration "
            f"({reason})"
        ) from None


def _sizes(call, config, kept):
    """What of a layer's configuration differs for the channels that are kept."""
    layer, kind, made = call.layer, type(call.layer), kept[call.output]
    channels = int(np.count_nonzero(made))
    if kind is layers.Dense:
        return {"units": channels}
    if kind in PRODUCTS:
        sizes = {"filters": channels}
        if splits_by_group(layer):
            sizes["groups"] = channels * layer.groups // len(made)
        return sizes
    if kind is layers.GroupNormalization:
        return {"groups": channels * layer.groups // len(made)}
    if kind is layers.Reshape and config["target_shape"][-1] != -1:
        return {"target_shape": (*config["target_shape"][:-1], channels)}
    if kind is layers.Dropout and config["noise_shape"] is not None:
        *others, last = config["noise_shape"]
        return {"noise_shape": (*others, channels if last == len(made) else last)}
    return {}


def _weights_left(call, weights, kept):
    """Those of a layer's weights, in Keras' order, that are of channels that are kept."""
    read, made, layer = kept[call.inputs[0]], kept[call.output], call.layer
    if read.all() and made.all():
        return weights
    if type(layer) in PRODUCTS:
        return _product_weights_left(layer, weights, read, made)
    if type(layer) is layers.DepthwiseConv2D:  # Kernel [height, width, in, multiplier], bias [out].
        kernel, *bias = weights
        return [np.compress(read, kernel, axis=2), *(weight[made] for weight in bias)]
    # Of the others that read or make fewer channels, only norms and PReLU have weights.
    return [
        np.compress(made, weight, axis=-1) if weight.shape[-1] == len(made) else weight
        for weight in weights
    ]


def _product_weights_left(layer, weights, read, made):
    """The same of a convolution or dense layer, whose bias, if any, is [out]."""
    if type(layer) is layers.SeparableConv2D:
        # Kernels [height, width, in, multiplier] and [1, 1, in · multiplier, out].
        depthwise, kernel, *bias = weights
        first = [np.compress(read, depthwise, axis=2)]
        read = np.repeat(read, layer.depth_multiplier)
    else:
        kernel, *bias = weights
        first = []
    # Kernel [..., in, out], of a transposed convolution [..., out, in].
    into, out_of = (-1, -2) if type(layer) is layers.Conv2DTranspose else (-2, -1)
    if splits_by_group(layer):
        read = np.full(kernel.shape[into], True)
    # Of a grouped convolution the same is left of each group.
    kernel = np.compress(read[: kernel.shape[into]], kernel, axis=into)
    kernel = np.compress(made, kernel, axis=out_of)
    return [*first, kernel, *(weight[made] for weight in bias)]


def _set_weights(layer, weights):
    layer.set_weights(weights)
    for part in layer._flatten_layers():
        if isinstance(part, layers.Normalization):
            part.finalize_state()  # It calculates with constants that it makes of its weights.
