"""What the channels' analysis knows about TensorFlow's own operations within Keras models."""

import enum

import numpy as np

from tf_tickets.models.graph import Call, Graph


class Effect(enum.Enum):
    """What an operation does to channels."""

    EACH_ALONE = "each alone"  # Of one tensor or several: a channel goes into its like.
    WEIGHING = "weighing"  # The same, by multiplication.
    CONCATENATION = "concatenation"
    UNKNOWN = "unknown"


# TensorFlow's canonical names of operations on each number alone.
_ELEMENTWISE = {
    "__operators__.add",
    "cast",
    "clip_by_value",
    "compat.v1.floor_div",
    "identity",
    "nn.elu",
    "nn.gelu",
    "nn.leaky_relu",
    "nn.relu",
    "nn.relu6",
    "nn.selu",
    "nn.silu",
    "nn.softsign",
    "stop_gradient",
    *(
        f"math.{name}"
        for name in (
            *("abs", "add", "add_n", "cos", "divide", "divide_no_nan", "erf", "exp", "expm1"),
            *("floor", "log", "log1p", "maximum", "minimum", "multiply", "negative", "pow"),
            *("reciprocal", "rsqrt", "sigmoid", "sign", "sin", "softplus", "sqrt", "square"),
            *("squared_difference", "subtract", "tanh", "truediv"),
        )
    ),
}
_WEIGHING = {"math.multiply"}
_REDUCTIONS = {f"math.reduce_{name}" for name in ("mean", "max", "min", "sum")}


def effect_of(call: Call, graph: Graph) -> Effect:
    """Tells what a call of an operation does to channels, as far as that is known.

    Args:
      call: of any layer.
      graph: of the network.
    """
    positional, named = call.arguments
    given = [*positional, *(value for name, value in named.items() if name != "name")]
    rank = len(graph.shapes[call.output])
    if call.operation in _ELEMENTWISE:
        # Arrays might hold a number for each channel.
        if not all(_is_symbolic(each) or np.ndim(each) == 0 for each in given):
            return Effect.UNKNOWN
        weighs = call.operation in _WEIGHING and len(call.inputs) > 1
        return Effect.WEIGHING if weighs else Effect.EACH_ALONE
    if call.operation == "concat":
        by_name = [named[name] for name in ("values", "axis") if name in named]
        values, axis = [*positional, *by_name][:2]
        last = isinstance(axis, int) and axis in (-1, rank - 1)
        return Effect.CONCATENATION if last and _is_symbolic(values) else Effect.UNKNOWN
    if call.operation in _REDUCTIONS and len(call.inputs) == 1:
        axes = _reduced(positional, named)
        within = range(1, len(graph.shapes[call.inputs[0]]) - 1)
        return Effect.EACH_ALONE if set(axes) and set(axes) <= {*within} else Effect.UNKNOWN
    return Effect.UNKNOWN


def _is_symbolic(value):
    """Whether it is a tensor of the graph, or a list of them."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return bool(values) and all(hasattr(each, "_keras_history") for each in values)


def _reduced(positional, named):
    """The axes of a reduction; none if they are not given as plain numbers."""
    axes = named.get("axis", positional[1] if len(positional) > 1 else None)
    axes = np.ravel(axes) if axes is not None else np.array([], int)
    return axes.tolist() if axes.dtype.kind == "i" else []
