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

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class Removal:
    """What to take out of a network.

    Attributes:
      filters: convolution's name → indices of its filters. Those of a convolution in one of
        the `blocks` go with it.
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
    became where a convolution or dense layer reads them, and with zeros in place of the
    blocks' branches.

    Args:
      model: functional or sequential, of one input and one output. It stays as it is.
      removal: what to take out.

    Returns:
      A functional model of the same name, with the same names of layers and what is left of
      their weights, BatchNorm's statistics included. It is not compiled.

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
        name = call.layer.name
        if name not in copies:
            copies[name] = _copy(call, kept, with_bias=len(weights.get(name, ())) > 1)
        outputs = call.repeat(copies[name], [tensors[tensor] for tensor in call.inputs])
        tensors.update(zip(call.outputs, tf.nest.flatten(outputs), strict=True))
    smaller = keras.Model(tensors[graph.input], tensors[graph.output], name=model.name)
    for call in graph.calls:
        given = weights.get(call.layer.name) or call.layer.get_weights()
        _set_weights(copies[call.layer.name], _weights_left(call, given, kept))
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
        raise UserError(
            f"{name}: no convolution of that name; filters may go from "
            f"{', '.join(channels.filters) or 'none'}"
        )
    units = channels.filters[name]
    for index in indices:
        if not 0 <= index < len(units):
            raise UserError(f"{name}: filter {index}: expected 0 to {len(units) - 1}")
    if len(set(indices)) == len(units):
        raise UserError(f"{name}: all {len(units)} filters were to go; at least one must stay")
    return units[list(indices)].tolist()


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
            raise UserError(f"{call.layer.name}: at least one of its channels must stay")


def _copy(call, kept, with_bias):
    """A new layer of the same name for the channels that are kept, maybe with a bias it had not."""
    layer, channels = call.layer, int(np.count_nonzero(kept[call.output]))
    if isinstance(layer, keras.Model):
        return keras.models.clone_model(layer)
    try:
        config = layer.get_config()
        if type(layer) is layers.Conv2D:
            config["filters"] = channels
        elif type(layer) is layers.Dense:
            config["units"] = channels
        elif type(layer) is layers.Reshape and config["target_shape"][-1] != -1:
            config["target_shape"] = (*config["target_shape"][:-1], channels)
        if with_bias:
            config["use_bias"] = True
        return type(layer).from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{layer.name} ({type(layer).__name__}): cannot be built from its configuration "
            f"({reason})"
        ) from None


def _weights_left(call, weights, kept):
    """Those of a layer's weights, in Keras' order, that are of channels that are kept."""
    read, made, kind = kept[call.inputs[0]], kept[call.output], type(call.layer)
    if read.all() and made.all():
        return weights
    if kind in (layers.Conv2D, layers.Dense):  # Kernel [..., in, out] and bias [out].
        kernel, *bias = weights
        kernel = np.compress(read, kernel, axis=-2)
        return [np.compress(made, weight, axis=-1) for weight in (kernel, *bias)]
    if kind is layers.DepthwiseConv2D:  # Kernel [height, width, in, multiplier] and bias [out].
        kernel, *bias = weights
        return [np.compress(read, kernel, axis=2), *(weight[made] for weight in bias)]
    # Of the others that read or make fewer channels, only BatchNorm and PReLU have weights.
    return [
        np.compress(made, weight, axis=-1) if weight.shape[-1] == len(made) else weight
        for weight in weights
    ]


def _set_weights(layer, weights):
    layer.set_weights(weights)
    for part in layer._flatten_layers():
        if isinstance(part, layers.Normalization):
            part.finalize_state()  # It calculates with constants that it makes of its weights.
