"""Operations of a transformer that tf2onnx lacks, or turns into many: handlers for its converter.

Each takes what tf2onnx calls a custom operation's handler with: the graph, the node to replace,
its name, and arguments of which there are none.
"""

import numpy as np


def erfc(graph, node, name, _):
    """`Erfc(x)`, which neither tf2onnx nor ONNX knows, as 1 − `Erf(x)`."""
    (values,), (result,) = node.input, node.output
    graph.remove_node(node.name)
    one = graph.make_const(f"{name}/one", np.array(1, np.float32)).output[0]
    error = graph.make_node("Erf", [values]).output[0]
    graph.make_node("Sub", [one, error], name=name, outputs=[result])


def einsum(graph, node, name, _):
    """`Einsum` of a layer's weights, or of queries, keys and values, as one `MatMul`.

    tf2onnx makes some forty nodes of it that compute shapes, and ONNX Runtime only quantizes
    weights that a `MatMul` reads.
    """
    equation = node.get_attr_value("equation").decode()
    operands, result = equation.split("->")
    left, right = operands.split(",")
    if node.inputs[1].is_const():
        _multiply_by_weights(graph, node, name, (left, right, result))
    else:
        _multiply_batches(graph, node, name, (left, right, result))


def _multiply_by_weights(graph, node, name, letters):
    """`[..., inputs] · [inputs, outputs]`, where both may be several axes."""
    left, right, result = letters
    inputs = [letter for letter in right if letter in left]
    outputs = [letter for letter in right if letter not in left]
    rows = left[: len(left) - len(inputs)]
    if left != rows + "".join(inputs) or result != rows + "".join(outputs):
        raise NotImplementedError(f"{name}: einsum {letters}")
    values, (product,), weights = node.input[0], node.output, node.inputs[1].get_tensor_value(False)
    graph.remove_node(node.name)
    width = int(np.prod(weights.shape[: len(inputs)]))
    kernel = graph.make_const(f"{name}/kernel", weights.reshape(width, -1)).output[0]
    if len(inputs) > 1:
        values = _reshape(graph, f"{name}/inputs", values, [0] * len(rows) + [width])
    if len(outputs) == 1:
        graph.make_node("MatMul", [values, kernel], name=name, outputs=[product])
        return
    flat = graph.make_node("MatMul", [values, kernel]).output[0]
    shape = [0] * len(rows) + list(weights.shape[len(inputs) :])
    _reshape(graph, f"{name}/outputs", flat, shape, [product])


def _multiply_batches(graph, node, name, letters):
    """`[batch..., rows, inner] · [batch..., inner, columns]`, the axes in any order."""
    left, right, result = letters
    batch = "".join(letter for letter in result if letter in left and letter in right)
    (inner,) = set(left) & set(right) - set(result)
    (row,), (column,) = set(left) - set(right), set(right) - set(left)
    (first, second), (product,) = node.input, node.output
    graph.remove_node(node.name)
    first = _transpose(graph, first, left, batch + row + inner)
    second = _transpose(graph, second, right, batch + inner + column)
    multiplied = graph.make_node("MatMul", [first, second]).output[0]
    _transpose(graph, multiplied, batch + row + column, result, [product])


def _transpose(graph, values, have, want, outputs=None):
    order = {"perm": [have.index(letter) for letter in want]}
    return graph.make_node("Transpose", [values], attr=order, outputs=outputs).output[0]


def _reshape(graph, name, values, shape, outputs=None):
    """A 0 in the shape keeps an axis as it is."""
    shape = graph.make_const(f"{name}/shape", np.array(shape, np.int64)).output[0]
    return graph.make_node("Reshape", [values, shape], name=name, outputs=outputs).output[0]
