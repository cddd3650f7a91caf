"""A right gradient where oneDNN's kernel has a wrong one.

With oneDNN on, TensorFlow 2.21 computes a wrong weight gradient for 1×1 convolutions of a stride
above 1 that read fewer channels than a register of the CPU holds numbers (8 with AVX2, 16 with
AVX-512), and writes beyond its memory: `python -m benchmarks.kernels --nomended` shows it. Such a
convolution is one of stride 1 over every stride-th pixel, and its weight gradient that of the
smaller images, whose kernel is right. Where oneDNN's own is right, this has the same bits.
"""

import tensorflow as tf
from tensorflow.python.framework import ops


def mend() -> None:
    """Registers the gradients of Conv2D and of its transposed twin anew; once is enough.

    It holds for all networks of the process, whoever built them. All other convolutions
    keep TensorFlow's own gradients.
    """
    _replace("Conv2D", _of_convolution)
    _replace("Conv2DBackpropInput", _of_transposed_convolution)


def _replace(operation, mended):
    """Sends an operation's strided 1×1 kernels to the gradient function `mended`."""
    # tf.RegisterGradient refuses a second function for the same operation.
    entry = ops.gradient_registry._registry[operation]
    own = entry["type"]
    if hasattr(own, "mended"):
        return

    def gradients(op, gradient):
        return (mended if _is_strided_point(op) else own)(op, gradient)

    gradients.mended = mended
    entry["type"] = gradients


def _is_strided_point(op):
    """Whether the kernel is known to be 1×1, and the stride above 1."""
    kernel = op.inputs[1].shape
    return kernel.rank == 4 and kernel[:2] == [1, 1] and max(op.get_attr("strides")) > 1


def _of_convolution(op, gradient):
    images, kernel = op.inputs
    to_images = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(images),
        filter=kernel,
        out_backprop=gradient,
        **_attributes(op, "strides", "padding", "explicit_paddings", "data_format"),
    )
    return [to_images, _to_kernel(op, images, kernel, gradient)]


def _of_transposed_convolution(op, gradient):
    """Its product is a convolution's gradient of the images, so the two change places."""
    _, kernel, images = op.inputs
    to_images = tf.raw_ops.Conv2D(
        input=gradient,
        filter=kernel,
        **_attributes(op, "strides", "padding", "explicit_paddings", "data_format"),
    )
    return [None, _to_kernel(op, gradient, kernel, images), to_images]


def _to_kernel(op, images, kernel, gradient):
    """The weight gradient of the convolution of stride 1 over every stride-th pixel."""
    if op.get_attr("padding") == b"EXPLICIT":
        images = tf.pad(images, tf.reshape(op.get_attr("explicit_paddings"), [4, 2]))
    each = tuple(slice(None, None, stride) for stride in op.get_attr("strides"))
    return tf.raw_ops.Conv2DBackpropFilter(
        input=images[each],
        filter_sizes=tf.shape(kernel),
        out_backprop=gradient,
        strides=[1, 1, 1, 1],
        padding="VALID",
        **_attributes(op, "data_format"),
    )


def _attributes(op, *names):
    return {name: op.get_attr(name) for name in names}
