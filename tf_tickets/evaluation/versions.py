"""Accuracies of a network's versions without one filter or block each."""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.vision import ImageSplit, to_unit_interval
from tf_tickets.evaluation.answers import judged
from tf_tickets.structured.elements import ElementGroup, VersionedNetwork, without_one

# Versions times images in one pass.
_BATCH = 1600
_IMAGES = 200


class VersionEvaluator:
    """Counts what versions of a network classify correctly, many versions at a time.

    Args:
      network: the network.
      group: of what the versions lack one element each.
      attacks: name → white-box attack without a random start, made on every version.
    """

    def __init__(
        self,
        network: VersionedNetwork,
        group: ElementGroup,
        attacks: Mapping[str, ThreatModel],
    ):
        self._network = network
        self._group = group
        self._plain = self._counter(None)
        self._attacked = {name: self._counter(attack) for name, attack in attacks.items()}

    def without_each(
        self, natural: ImageSplit, shifted: Mapping[str, ImageSplit]
    ) -> dict[str, np.ndarray]:
        """Accuracies of the versions without each element, in their order.

        Args:
          natural: images as they are; the white-box attacks change these too.
          shifted: name → images that were changed already.

        Returns:
          `natural` and every attack's name → `[len(group.elements)]` in [0, 1].
        """
        count = len(self._group.elements)
        return self._measure(list(without_one(count, _BATCH // _IMAGES)), natural, shifted)

    def whole(self, natural: ImageSplit, shifted: Mapping[str, ImageSplit]) -> dict[str, float]:
        """The same of the network that lacks nothing."""
        everything = np.ones((1, len(self._group.elements)), np.float32)
        measured = self._measure([everything], natural, shifted)
        return {name: accuracies.item() for name, accuracies in measured.items()}

    def _measure(self, versions, natural, shifted):
        tests = {"natural": (self._plain, natural)}
        tests |= {name: (counter, natural) for name, counter in self._attacked.items()}
        tests |= {name: (self._plain, split) for name, split in shifted.items()}
        return {
            name: np.concatenate([_accuracies(counter, split, kept) for kept in versions])
            for name, (counter, split) in tests.items()
        }

    def _counter(self, threat_model: ThreatModel | None) -> Callable[..., tf.Tensor]:
        """(images, labels, kept) → how many images each version has right, `[versions]`."""
        signature = [
            tf.TensorSpec([None, *self._network.image_shape], tf.uint8),
            tf.TensorSpec([None], tf.int64),
            tf.TensorSpec([None, len(self._group.elements)], tf.float32),
        ]

        @tf.function(input_signature=signature)
        def count(images, labels, kept):
            versions = tf.shape(kept)[0]
            inputs, targets = to_unit_interval(images), tf.tile(labels, [versions])
            if threat_model:
                inputs = tf.tile(inputs, [versions, 1, 1, 1])
                inputs = build_attack(threat_model, logits_of(kept))(inputs, targets)
            logits = logits_of(kept, per_version=bool(threat_model))(inputs)
            correct, _ = judged(logits, targets)
            return tf.reduce_sum(tf.cast(tf.reshape(correct, [versions, -1]), tf.int32), axis=1)

        def logits_of(kept, per_version=True):
            return lambda images: self._network.logits(self._group, images, kept, per_version)

        return count


def _accuracies(counter, split, kept):
    correct = np.zeros(len(kept), np.int64)
    for start in range(0, len(split), _IMAGES):
        batch = slice(start, start + _IMAGES)
        images, labels = tf.constant(split.images[batch]), tf.constant(split.labels[batch])
        correct += counter(images, labels, tf.constant(kept)).numpy()
    return correct / len(split)
