"""Adversarial images made once, and given to many networks."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.gradient import Attack, uniform_noise
from tf_tickets.data.vision import ImageSplit
from tf_tickets.evaluation.answers import judged


class CraftedImages:
    """The images of a split, attacked through one network.

    Args:
      attack: on the network that makes them.
      split: what to attack, with the true labels.
      batch_size: images at a time.

    Attributes:
      images: float32 `[n, height, width, channels]` in [0, 1], in the split's order.
      labels: int64 `[n]`.
    """

    def __init__(self, attack: Attack, split: ImageSplit, batch_size: int):
        self.labels = split.labels
        self._batch_size = batch_size

        @tf.function(reduce_retracing=True)
        def craft(pixels, labels, first):
            inputs = split.seen(pixels)
            return attack(inputs, labels, uniform_noise(inputs, tf.stack([0, first])))

        self.images = np.concatenate(
            [
                craft(
                    tf.constant(split.images[first : first + batch_size]),
                    tf.constant(split.labels[first : first + batch_size]),
                    tf.constant(first),
                ).numpy()
                for first in range(0, len(split), batch_size)
            ]
        )

    def measure(self, model: keras.Model) -> dict[str, float]:
        """What a network makes of the images.

        Args:
          model: returns logits; used in inference mode.

        Returns:
          `accuracy` in [0, 1], and `loss`, mean cross-entropy in nats.
        """
        logits = tf.constant(model.predict(self.images, batch_size=self._batch_size, verbose=0))
        labels = tf.constant(self.labels)
        right, _ = judged(logits, labels)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return {"accuracy": float(np.mean(right)), "loss": float(np.mean(losses, dtype=float))}
