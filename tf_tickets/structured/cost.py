"""What a network costs: parameters and operations."""

import contextlib

import tensorflow as tf
import tf_keras as keras

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
    image = tf.TensorSpec([1, *image_shape], model.inputs[0].dtype)
    with _without_calls():
        inference = tf.function(lambda image: model(image, training=False))
        graph = inference.get_concrete_function(image).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"  # Otherwise it prints a table.
    return tf.compat.v1.profiler.profile(graph, cmd="op", options=options).total_float_ops


@contextlib.contextmanager
def _without_calls():
    """What is traced in the body calls no functions, into which the profiler does not look.

    Keras has one in every grouped convolution.
    """
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
