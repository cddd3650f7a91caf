"""Accuracy and loss over a whole split, natural and attacked."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.gradient import Attack, uniform_noise
from tf_tickets.data.vision import ImageSplit, resize, to_unit_interval
from tf_tickets.evaluation.answers import judged
from tf_tickets.runtime import in_parallel


class Evaluator:
    """Measures a model on natural and attacked images.

    Args:
      model: returns logits; used in inference mode.
      attacks: name → attack on that model.
      chunks: slices of a batch that may be measured side by side.
      batch_size: images at a time.
    """

    def __init__(
        self, model: keras.Model, attacks: Mapping[str, Attack], chunks: int, batch_size: int = 1000
    ):
        self._model = model
        self._attacks = dict(attacks)
        self._chunks = chunks
        self._batch_size = batch_size
        self._measure = tf.function(self._measure_batch)

    def evaluate(self, split: ImageSplit) -> dict[str, float]:
        """Measures all of `split`.

        Returns:
          `<attack>/accuracy` in [0, 1] and `<attack>/loss`, mean cross-entropy in
          nats, for `natural` and each attack.

        Raises:
          ValueError: the model takes images of another shape.
        """
        if split.image_shape != self._model.input_shape[1:]:
            raise ValueError(
                f"images of shape {split.image_shape}, the model takes {self._model.input_shape}"
            )
        measure = self._measure.get_concrete_function(  # Of any number of such images.
            tf.TensorSpec([None, *split.images.shape[1:]], tf.uint8),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([], tf.int32),
            split.cropped,
        )
        totals = np.zeros((len(self._attacks) + 1, 2))
        for start in range(0, len(split), self._batch_size):
            batch = slice(start, start + self._batch_size)
            totals += measure(
                tf.constant(split.images[batch]),
                tf.constant(split.labels[batch]),
                tf.constant(start),
                split.cropped,
            ).numpy()
        means = totals / len(split)
        return {
            f"{attack}/{quantity}": float(means[row, column])
            for row, attack in enumerate(["natural", *self._attacks])
            for column, quantity in enumerate(["accuracy", "loss"])
        }

    def _measure_batch(self, images, labels, seed, cropped=False):
        def measure(natural, targets, noise):
            variants = [natural] + [
                attack(natural, targets, noise) for attack in self._attacks.values()
            ]
            return tf.stack([self._correct_and_loss(x, targets) for x in variants], axis=1)

        inputs = resize(to_unit_interval(images), self._model.input_shape[1:], cropped)
        noise = uniform_noise(inputs, tf.stack([0, seed]))
        per_example = in_parallel(measure, self._chunks, inputs, labels, noise)
        return tf.reduce_sum(per_example, axis=0)

    def _correct_and_loss(self, images, labels):
        logits = self._model(images, training=False)
        correct = tf.cast(judged(logits, labels)[0], tf.float32)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.stack([correct, loss], axis=-1)
