"""A model's weights as plain named arrays."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

Weights = dict[str, np.ndarray]


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
