"""Networks in inference mode with their BatchNorms folded away.

An attack calls one network many times with the same weights. BatchNorm then is a
fixed scale and shift of each channel, which the convolution before it can take into
its kernel: the same mathematics with fewer passes over memory.
"""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from tf_tickets.models.graph import graph_of, is_linear, is_norm_call, norms_after_products


class FoldedNetwork:
    """A functional or sequential model in inference mode.

    Called with images, it is the model itself; `with_fixed_weights` folds it.

    Args:
      model: takes one tensor and returns one; any Keras layers.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._graph = graph_of(model)
        self._norms = norms_after_products(self._graph)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Images `[batch, ...]` → outputs `[batch, ...]`, without folding."""
        return self._model(images, training=False)

    def with_fixed_weights(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Reads and folds the weights as they are now.

        Returns:
          Images → what the model gives in inference mode, up to rounding. It holds
          gradients with respect to the images only.
        """
        tensors_of = self.fixed_tensors()
        return lambda images: tensors_of(images)[self._graph.output]

    def fixed_tensors(self) -> Callable[..., dict[int, tf.Tensor]]:
        """The same with all the tensors on the way.

        Returns:
          A function `(images, change_inputs=None)` → the tensors by their numbers in
          `graph_of(model)`; what comes right out of a convolution is normalized already
          where its BatchNorm was folded. `change_inputs` takes the position of a call in
          the graph and its input tensors, and returns the ones to use instead.
        """
        folded_away = {id(norm) for norm in self._norms.values()}
        steps = [
            (tf.identity if id(call.layer) in folded_away else self._fixed(call), call)
            for call in self._graph.calls
        ]

        def tensors_of(images, change_inputs=None):
            tensors = {self._graph.input: images}
            for index, (step, call) in enumerate(steps):
                inputs = [tensors[number] for number in call.inputs]
                if change_inputs:
                    inputs = change_inputs(index, inputs)
                tensors |= zip(call.outputs, tf.nest.flatten(step(*inputs)))
            return tensors

        return tensors_of

    def _fixed(self, call):
        """The layer as a function of its inputs, with the weights it has now."""
        layer = call.layer
        if is_linear(layer):
            return _fixed_product(layer, self._norms.get(call.name))
        if is_norm_call(call):
            scale, shift = scale_and_shift(layer)
            return lambda inputs: inputs * scale + shift
        if isinstance(layer, keras.layers.Add):
            return lambda *inputs: tf.add_n(inputs)
        return lambda *inputs: call.repeat(layer, inputs, training=False)


def scale_and_shift(norm: keras.layers.BatchNormalization) -> tuple[tf.Tensor, tf.Tensor]:
    """BatchNorm in inference mode as x · scale + shift.

    Args:
      norm: a built BatchNorm over the last axis.

    Returns:
      Scale and shift, one number a channel each, which hold no gradients.
    """
    scale = tf.math.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale *= norm.gamma
    shift = -norm.moving_mean * scale
    if norm.center:
        shift += norm.beta
    return tf.stop_gradient(scale), tf.stop_gradient(shift)


def _fixed_product(layer, norm):
    kernel = tf.stop_gradient(tf.convert_to_tensor(layer.kernel))
    bias = tf.stop_gradient(tf.convert_to_tensor(layer.bias)) if layer.use_bias else None
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        kernel *= scale
        bias = shift if bias is None else bias * scale + shift

    def product(inputs):
        if isinstance(layer, keras.layers.Dense):
            outputs = tf.matmul(inputs, kernel)
        else:
            outputs = layer.convolution_op(inputs, kernel)
        return outputs if bias is None else tf.nn.bias_add(outputs, bias)

    return product
