"""What a model is made of: which layer is called on the output of which."""

from collections import Counter
from typing import NamedTuple

import tf_keras as keras


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
      layer: what is called.
      inputs: the numbers of the tensors it reads, in order.
      output: the number of the tensor it makes.
    """

    layer: keras.layers.Layer
    inputs: tuple[int, ...]
    output: int


class Graph(NamedTuple):
    """A model of one input and one output as a list of calls, inputs before their readers."""

    calls: list[Call]
    input: int
    output: int


def graph_of(model: keras.Model) -> Graph:
    """Reads a functional or sequential model of one input and one output."""
    numbers = {}

    def number(tensor):
        return numbers.setdefault(id(tensor), len(numbers))

    image, by_depth = number(model.inputs[0]), model._nodes_by_depth
    calls = [
        Call(
            node.layer, tuple(number(tensor) for tensor in node.keras_inputs), number(node.outputs)
        )
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input
    ]
    return Graph(calls, image, number(model.outputs[0]))


def norms_after_products(graph: Graph) -> dict[str, keras.layers.BatchNormalization]:
    """Convolution or dense layer → the BatchNorm that alone reads its output.

    Only layers that are called once and have no nonlinearity of their own.

    Returns:
      Layer name → BatchNorm layer.
    """
    times_called = Counter(call.layer.name for call in graph.calls)
    readers = {}
    for call in graph.calls:
        for tensor in call.inputs:
            readers.setdefault(tensor, []).append(call.layer)
    pairs = {}
    for call in graph.calls:
        read_by = readers.get(call.output, [])
        if is_linear(call.layer) and len(read_by) == 1 and is_norm(read_by[0]):
            if times_called[call.layer.name] == times_called[read_by[0].name] == 1:
                pairs[call.layer.name] = read_by[0]
    return pairs


def is_linear(layer: keras.layers.Layer) -> bool:
    """Whether it is a plain convolution or dense layer without a nonlinearity of its own."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return type(layer) in kinds and layer.activation is keras.activations.linear


def is_norm(layer: keras.layers.Layer) -> bool:
    """Whether it is a BatchNorm over the last axis."""
    return type(layer) is keras.layers.BatchNormalization and list(layer.axis) in ([1], [3])
