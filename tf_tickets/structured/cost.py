"""What a network costs: parameters and operations."""

import tensorflow as tf
import tf_keras as keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tf_tickets.errors import UserError


def parameters(model: keras.Model) -> int:
    """Counts all weights: the trained ones, and BatchNorm's statistics too."""
    return int(model.count_params())


def flops(model: keras.Model) -> int:
    """Counts the floating-point operations of inference on one image.

    They are those of TensorFlow's profiler. A multiplication and an addition of a convolution
    or matrix product are two operations. Biases, sums and poolings count as well, but ReLU,
    and BatchNorm after a convolution, count nothing.

    Raises:
      UserError: the model takes images of any size.
    """
    image_shape = model.input_shape[1:]
    if None in image_shape:
        raise UserError(f"{model.name}: operations cannot be counted for images of any size")
    inference = tf.function(lambda image: model(image, training=False))
    image = tf.TensorSpec([1, *image_shape], model.inputs[0].dtype)
    frozen = convert_variables_to_constants_v2(inference.get_concrete_function(image))
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"  # Otherwise it prints a table.
    counted = tf.compat.v1.profiler.profile(frozen.graph, cmd="op", options=options)
    return counted.total_float_ops
