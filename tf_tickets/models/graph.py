"""What a model is made of: which layer is called on the output of which."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
      layer: what is called.
      inputs: the numbers of the tensors it reads, in order.
      outputs: the numbers of the tensors it makes.
      node: Keras' own record of the call, with its other arguments.
    """

    layer: keras.layers.Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    node: Any

    @property
    def output(self) -> int:
        """The number of the tensor it makes, the first if there are several."""
        return self.outputs[0]

    def repeat(self, layer: keras.layers.Layer, tensors: Sequence[tf.Tensor], **keywords):
        """Calls `layer` on other tensors, with this call's other arguments.

        Args:
          layer: called in place of the call's own.
          tensors: one for each of `inputs`.
          **keywords: arguments instead of this call's.

        Returns:
          What the layer returns.
        """
        replacements = {}
        for old, new in zip(self.node.keras_inputs, tensors, strict=True):
            replacements.setdefault(str(id(old)), []).append(new)
        arguments, same_keywords = self.node.map_arguments(replacements)
        return layer(*arguments, **same_keywords | keywords)


class Graph(NamedTuple):
    """A model of one input and one output as a list of calls, inputs before their readers.

    Attributes:
      calls: all calls of layers but that of the input.
      input: the number of the tensor that the model takes.
      output: the number of the tensor that the model returns.
      shapes: tensor's number → its shape, None where a size is open.
    """

    calls: list[Call]
    input: int
    output: int
    shapes: dict[int, tuple[int | None, ...]]

    def readers(self, tensor: int) -> list[Call]:
        """The calls that read a tensor."""
        return [call for call in self.calls if tensor in call.inputs]


def graph_of(model: keras.Model) -> Graph:
    """Reads a functional or sequential model of one input and one output.

    Raises:
      UserError: it is of another kind.
    """
    if not model._is_graph_network or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"{model.name}: expected a functional or built sequential model of one input and one "
            "output"
        )
    numbers, shapes = {}, {}

    def number(tensor):
        known = numbers.setdefault(id(tensor), len(numbers))
        shapes[known] = tuple(tensor.shape)
        return known

    image, by_depth = number(model.inputs[0]), model._nodes_by_depth
    calls = [
        Call(
            node.layer,
            tuple(number(tensor) for tensor in node.keras_inputs),
            tuple(number(tensor) for tensor in tf.nest.flatten(node.outputs)),
            node,
        )
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input
    ]
    return Graph(calls, image, number(model.outputs[0]), shapes)


def norms_after_products(graph: Graph) -> dict[str, keras.layers.BatchNormalization]:
    """Convolution or dense layer → the BatchNorm that alone reads its output.

    Only layers that are called once and have no nonlinearity of their own.

    Returns:
      Layer name → BatchNorm layer.
    """
    return norms_after(graph, is_linear)


def norms_after(
    graph: Graph, accepts: Callable[[keras.layers.Layer], bool]
) -> dict[str, keras.layers.BatchNormalization]:
    """Name of a layer that is accepted → the BatchNorm that alone reads its output.

    Only where both are called once.
    """
    times_called = Counter(call.layer.name for call in graph.calls)
    readers = {}
    for call in graph.calls:
        for tensor in call.inputs:
            readers.setdefault(tensor, []).append(call.layer)
    pairs = {}
    for call in graph.calls:
        read_by = readers.get(call.output, [])
        if accepts(call.layer) and len(read_by) == 1 and is_norm(read_by[0]):
            if times_called[call.layer.name] == times_called[read_by[0].name] == 1:
                pairs[call.layer.name] = read_by[0]
    return pairs


def is_linear(layer: keras.layers.Layer) -> bool:
    """Whether it is a plain convolution or dense layer without a nonlinearity of its own."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return type(layer) in kinds and layer.activation is keras.activations.linear


def is_norm(layer: keras.layers.Layer) -> bool:
    """Whether it is a BatchNorm over the last axis."""
    if type(layer) is not keras.layers.BatchNormalization:
        return False
    return list(layer.axis) == [layer.input_spec.ndim - 1]
