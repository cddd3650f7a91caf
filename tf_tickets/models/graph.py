"""What a model is made of: which layer is called on the output of which."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

# Of Keras' own, as it offers no other way to tell them. No other module touches what is private.
from tf_keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from tf_keras.src.engine.functional import Functional
from tf_keras.src.layers.core.tf_op_layer import TFOpLambda

from tf_tickets.errors import UserError

# InceptionResNetV2's own layer: one tensor plus another times a number.
APPLICATIONS_SCALED_SUM = CustomScaleLayer


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
      name: the layer's, or in a model within the model, where another layer has that name too,
        `<model>/<layer>`. No other layer has it.
      layer: what is called.
      inputs: the numbers of the tensors it reads, in order.
      outputs: the numbers of the tensors it makes.
      node: Keras' own record of the call, with its other arguments.
      training: what the call itself or that of the model around it says of training; None where
        they say nothing.
    """

    name: str
    layer: keras.layers.Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    node: Any
    training: bool | None

    @property
    def output(self) -> int:
        """The number of the tensor it makes, the first if there are several."""
        return self.outputs[0]

    @property
    def operation(self) -> str:
        """TensorFlow's name of the operation that was called, as in `x + 1`; "" for layers."""
        is_operation = type(self.layer) is TFOpLambda
        return (is_operation and self.layer.symbol) or ""

    @property
    def arguments(self) -> tuple[list, dict]:
        """Those by position and those by name; symbolic tensors stand for what is read."""
        return list(self.node.call_args), dict(self.node.call_kwargs)

    def repeat(self, layer: keras.layers.Layer, tensors: Sequence[tf.Tensor], training=None):
        """Calls `layer` on other tensors, with this call's other arguments.

        Args:
          layer: called in place of the call's own.
          tensors: one for each of `inputs`.
          training: for layers that treat it differently, if the call says nothing of it.

        Returns:
          What the layer returns.
        """
        replacements = {}
        for old, new in zip(self.node.keras_inputs, tensors, strict=True):
            replacements.setdefault(str(id(old)), []).insert(0, new)
        arguments, keywords = self.node.map_arguments(replacements)
        training = training if self.training is None else self.training
        if training is not None and layer._expects_training_arg:
            spec = layer._call_spec
            given = spec.set_arg_value("training", training, arguments, keywords, True)
            arguments, keywords = given
        return layer(*arguments, **keywords)


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

    def call(self, name: str) -> Call:
        """A layer's call, the first if there are several.

        Raises:
          ValueError: no layer of that name.
        """
        for call in self.calls:
            if call.name == name:
                return call
        raise ValueError(f"{name}: no such layer")

    def layer(self, name: str) -> keras.layers.Layer:
        """The layer that has a name here, which in models within the model it may not have itself.

        Raises:
          ValueError: no layer of that name.
        """
        return self.call(name).layer


def graph_of(model: keras.Model) -> Graph:
    """Reads a functional or sequential model of one input and one output.

    Models within it are read as if their layers were its own, if they are functional or sequential
    and take one tensor.

    Raises:
      UserError: it is of another kind.
    """
    if not _is_graph(model) or len(model.outputs) != 1:
        raise UserError(
            f"{model.name}: expected a functional or built sequential model of one input and one "
            "output"
        )
    reader = _Reader()
    image = reader.number(model.inputs[0])
    (output,) = reader.read(model, image)
    names = _unique_names(reader.found)
    calls = [
        Call(names[id(node.layer)], node.layer, read, made, node, training)
        for node, read, made, training, _ in reader.found
    ]
    return Graph(calls, image, output, reader.shapes)


class _Reader:
    """Lists the calls of a model and of the models within it."""

    def __init__(self):
        self.shapes = {}
        # For each call: Keras' node, the tensors read and made, training, the models around it.
        self.found = []

    def number(self, tensor):
        """A new number for a tensor."""
        known_rank = tensor.shape.rank is not None
        self.shapes[len(self.shapes)] = tuple(tensor.shape) if known_rank else ()
        return len(self.shapes) - 1

    def read(self, model, image, training=None, around=()):
        """Lists the calls for one call of a model, and returns what the model's outputs are."""
        numbers = {id(model.inputs[0]): image}
        by_depth = model._nodes_by_depth
        for node in (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]):
            if node.is_input:
                continue
            read = tuple(numbers[id(tensor)] for tensor in node.keras_inputs)
            outputs = tf.nest.flatten(node.outputs)
            said = _said_of_training(node)
            said = training if said is None else said
            if _may_be_looked_into(node):
                made = self.read(node.layer, *read, said, (*around, node.layer.name))
            else:
                made = tuple(map(self.number, outputs))
                self.found.append((node, read, made, said, around))
            numbers.update(zip(map(id, outputs), made, strict=True))
        return tuple(numbers[id(tensor)] for tensor in model.outputs)


def _is_graph(model):
    """Whether it is functional or sequential, with no `call` of its own, and takes one tensor."""
    if not isinstance(model, keras.Model) or not model._is_graph_network:
        return False
    return type(model).call in (Functional.call, keras.Sequential.call) and len(model.inputs) == 1


def _said_of_training(node):
    """The node's own argument `training`; None if it has none."""
    given = (node.call_args, node.call_kwargs, True)
    if not node.layer._expects_training_arg:
        return None
    if not node.layer._call_spec.arg_was_passed("training", *given):
        return None
    value = node.layer._call_spec.get_arg_value("training", *given)
    return None if value is None else bool(value)


def _may_be_looked_into(node):
    """Whether a node calls a model with nothing but a tensor, and maybe a word on training."""
    said = node.call_kwargs.items()
    others = [value for name, value in said if name != "training" and value is not None]
    return _is_graph(node.layer) and len(node.keras_inputs) == 1 and not others


def _unique_names(found):
    """Layer's id → its name, with the names of the models around it where others have it too."""
    names, taken = {}, set()
    # Layers of the model itself have their own names, whatever those within it are called.
    for node, *_, around in sorted(found, key=lambda each: len(each[-1])):
        layer = node.layer
        if id(layer) in names:
            continue
        name = layer.name if layer.name not in taken else "/".join((*around, layer.name))
        while name in taken:
            name += "_1"
        names[id(layer)] = name
        taken.add(name)
    return names


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
    times_called = Counter(call.name for call in graph.calls)
    readers = {}
    for call in graph.calls:
        for tensor in call.inputs:
            readers.setdefault(tensor, []).append(call)
    pairs = {}
    for call in graph.calls:
        read_by = readers.get(call.output, [])
        if accepts(call.layer) and len(read_by) == 1 and is_norm_call(read_by[0]):
            if times_called[call.name] == times_called[read_by[0].name] == 1:
                pairs[call.name] = read_by[0].layer
    return pairs


def is_linear(layer: keras.layers.Layer) -> bool:
    """Whether it is a plain convolution or dense layer without a nonlinearity of its own."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return type(layer) in kinds and layer.activation is keras.activations.linear


def is_norm_call(call: Call) -> bool:
    """Whether it is of a BatchNorm over the last axis, by its statistics and not the batch's."""
    layer = call.layer
    if type(layer) is not keras.layers.BatchNormalization or call.training:
        return False
    return list(layer.axis) == [layer.input_spec.ndim - 1]
