"""Which of a network's answers are right."""

import tensorflow as tf


def judged(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which answers are right, and which are numbers at all.

    What is not finite is never right, although its largest entry may be the label's: of NaN alone
    that is class 0's.

    Args:
      logits: `[n, classes]`.
      labels: integers `[n]`.

    Returns:
      Two boolean tensors `[n]`.
    """
    finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
    return tf.equal(tf.argmax(logits, axis=-1, output_type=labels.dtype), labels) & finite, finite
