"""A model's weights as plain named arrays."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError, one_line
from tf_tickets.runs.files import load_arrays

Weights = dict[str, np.ndarray]

# Names that a message lists before it only counts them.
_SHOWN = 3


def weight_path(variable: tf.Variable) -> str:
    """The name by which tickets and weight files know a variable, such as `hidden_1/kernel`."""
    return variable.name.removesuffix(":0")


def read_weights(model: keras.Model) -> Weights:
    """Copies all weights, BatchNorm statistics included: path → array."""
    return {weight_path(variable): variable.numpy() for variable in model.weights}


def write_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Sets all weights.

    Raises:
      ValueError: names or shapes are not the model's.
    """
    variables = {weight_path(variable): variable for variable in model.weights}
    expected = {path: tuple(variable.shape) for path, variable in variables.items()}
    found = {path: np.shape(array) for path, array in weights.items()}
    if expected != found:
        raise ValueError(f"weights of shapes {found} for a model with {expected}")
    for path, variable in variables.items():
        variable.assign(weights[path])


def load_weights(model: keras.Model, path: Path) -> Weights:
    """Sets all weights to those of a file, which it returns.

    Raises:
      UserError: the file is missing or damaged, or of another network.
    """
    weights = load_arrays(path)
    expected = {weight_path(variable): tuple(variable.shape) for variable in model.weights}
    if problems := shape_problems(weights, expected):
        details = one_line("; ".join(problems))
        raise UserError(f"{path}: not the weights of {model.name}: {details}")
    for name, array in weights.items():
        if array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
            raise UserError(f"{path}: {one_line(name)} holds what is no finite number")
    write_weights(model, weights)
    return weights


def shape_problems(
    arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """What is wrong with a file's arrays, in words; nothing if names and shapes are as expected."""
    problems = []
    if missing := [name for name in expected if name not in arrays]:
        problems.append(f"without {_in_words(missing)}")
    if superfluous := [name for name in arrays if name not in expected]:
        problems.append(f"with an unknown {_in_words(superfluous)}")
    different = [
        f"{name} of shape {arrays[name].shape} instead of {shape}"
        for name, shape in expected.items()
        if name in arrays and arrays[name].shape != shape
    ]
    if different:
        problems.append(f"with {_in_words(different)}")
    return problems


def head_paths(model: keras.Model) -> tuple[str, ...]:
    """The weights of the model's head, its last dense layer: kernel, then bias if it has one.

    The head maps features to the classes of one task; all other weights are the body.

    Raises:
      ValueError: the model has no dense layer.
    """
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    if not dense:
        raise ValueError(f"{model.name} has no dense layer")
    return tuple(weight_path(variable) for variable in dense[-1].weights)


def with_body(model: keras.Model, weights: Mapping[str, np.ndarray]) -> Weights:
    """A model's own head on the body of other weights.

    Args:
      model: gives the head; it is not changed.
      weights: of a model of the same body, for any number of classes. A head among them is left
        out.

    Returns:
      All weights of `model`, ready for `write_weights`.

    Raises:
      ValueError: the names or shapes of the bodies differ.
    """
    own, head = read_weights(model), head_paths(model)
    body = {path: array for path, array in weights.items() if path not in head}
    found = {path: np.shape(array) for path, array in body.items()}
    expected = {path: array.shape for path, array in own.items() if path not in head}
    if expected != found:
        raise ValueError(f"a body of shapes {found} for {model.name} with {expected}")
    return own | body


def _in_words(items):
    """The first ones, and how many others there are."""
    shown, others = ", ".join(items[:_SHOWN]), len(items) - _SHOWN
    return f"{shown} and {others} more" if others > 0 else shown
