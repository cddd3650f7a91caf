"""The loss of a network on a plane of weights (Li et al., arXiv:1712.09913)."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.gradient import build_attack, uniform_noise
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.vision import ImageSplit
from tf_tickets.evaluation.weight_planes import Plane
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.weights import weight_path
from tf_tickets.runtime import in_parallel

# (images measured, what they were measured for) → None
Progress = Callable[[float, str], None]

# What a trajectory covers of a side of the picture, at a span of 1.
_COVERED = 0.8


CLEAN, ATTACKED = "clean", "attacked"


@dataclasses.dataclass(frozen=True)
class Survey:
    """How closely a plane is looked at.

    Attributes:
      threat_model: how images are attacked; it needs a random start.
      resolution: points along each side, at least 2.
      span: see `grid`.
      seed: decides the attack's random starts.
    """

    threat_model: ThreatModel
    resolution: int = 21
    span: float = 1.0
    seed: int = 0

    @property
    def passes(self) -> int:
        """For each image, its passes through the network, as progress counts them."""
        return self.threat_model.steps + 2 * (self.resolution**2 + 1)


class Surveyed(NamedTuple):
    """Losses on a plane, mean cross-entropies in nats.

    Attributes:
      first: the coordinates a, ascending.
      second: the coordinates b.
      losses: `CLEAN` and `ATTACKED` → `[len(second), len(first)]`.
      trained: `CLEAN` and `ATTACKED` → the loss of the trained weights, a = b = 0.
    """

    first: np.ndarray
    second: np.ndarray
    losses: dict[str, np.ndarray]
    trained: dict[str, float]


def grid(plane: Plane, resolution: int, span: float) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates a and b at which a plane is looked at.

    Args:
      plane: any.
      resolution: how many there are of each, at least 2.
      span: with random directions, a and b reach from -span to span, where 1 moves each
        filter by its own length. Along a trajectory, a span of 1 shows all of it and the
        trained weights with a tenth of the picture to spare on every side; a larger one
        more.

    Returns:
      Two ascending arrays, `[resolution]` each.
    """
    if plane.kind == "random":
        side = np.linspace(-span, span, resolution)
        return side, side
    shown = np.concatenate([plane.trajectory, np.zeros((1, 2))])
    low, high = shown.min(axis=0), shown.max(axis=0)
    centre, half = (low + high) / 2, span * (high - low) / 2 / _COVERED
    first, second = np.linspace(centre - half, centre + half, resolution, axis=1)
    return first, second


class LossSurface:
    """Measures the mean cross-entropy, in nats, of a network whose weights are moved.

    BatchNorm's statistics are the trained ones everywhere, as in the code of Li et al. They
    fit the trained weights only, so far from these the loss is that of a network whose
    activations are no longer normalised, larger than after recomputing the statistics.

    Args:
      model: returns logits; used in inference mode. Holds the plane's weights, and does so
        again after each call.
      plane: of its trainable weights.
      chunks: slices of a batch that may be measured side by side.
      batch_size: images at a time.
    """

    def __init__(self, model: keras.Model, plane: Plane, chunks: int = 1, batch_size: int = 250):
        self._model = model
        self._plane = plane
        self._chunks = chunks
        self._batch_size = batch_size
        self._move = self._build_move()
        signature = [
            tf.TensorSpec(model.input_shape, tf.float32),
            tf.TensorSpec([None], tf.int64),
        ]
        self._sum_of_losses = tf.function(self._batch_losses, input_signature=signature)

    def survey(
        self,
        split: ImageSplit,
        how: Survey,
        progress: Progress = lambda images, description: None,
    ) -> Surveyed:
        """Measures the loss on the whole plane, on clean images and on attacked ones."""
        first, second = grid(self._plane, how.resolution, how.span)
        images = {
            CLEAN: self.clean(split),
            ATTACKED: self.attacked(split, how.threat_model, how.seed, progress),
        }
        losses, trained = {}, {}
        here = np.zeros(1)
        for name, seen in images.items():
            trained[name] = float(self.measure(seen, split.labels, here, here, progress)[0, 0])
            losses[name] = self.measure(seen, split.labels, first, second, progress)
        return Surveyed(first, second, losses, trained)

    def clean(self, split: ImageSplit) -> np.ndarray:
        """The images as the network sees them: float32 `[n, *image_shape]` in [0, 1]."""
        return np.concatenate([images.numpy() for images, _, _ in self._batches(split)])

    def attacked(
        self,
        split: ImageSplit,
        threat_model: ThreatModel,
        seed: int,
        progress: Progress = lambda images, description: None,
    ) -> np.ndarray:
        """The images attacked at the trained weights, once: `measure` does not attack anew.

        They are the worst for these weights and less so for others, so the loss on them may
        have a hump where that on clean images has its basin.

        Args:
          split: the images.
          threat_model: what the attacker may do.
          seed: decides the random starts, together with the images' positions.
          progress: is told of the images, times the attack's steps, as they are attacked.

        Returns:
          float32 `[n, *image_shape]` in [0, 1].
        """
        attack = build_attack(threat_model, FoldedNetwork(self._model), self._chunks)

        @tf.function(reduce_retracing=True)
        def perturbed(images, labels, start):
            return attack(images, labels, uniform_noise(images, tf.stack([seed, start])))

        found = []
        for images, labels, start in self._batches(split):
            found.append(perturbed(images, labels, start).numpy())
            progress(len(images) * threat_model.steps, "attacking")
        return np.concatenate(found)

    def measure(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        progress: Progress = lambda images, description: None,
    ) -> np.ndarray:
        """The loss at every pair of coordinates.

        Args:
          images: float32 `[n, *image_shape]` in [0, 1].
          labels: int64 `[n]`.
          first: coordinates a.
          second: coordinates b.
          progress: is told of the images as they are measured.

        Returns:
          float64 `[len(second), len(first)]`, as contours are drawn: a row for each b. Not
          finite where the network's numbers overflow.
        """
        losses = np.zeros((len(second), len(first)))
        try:
            for row, b in enumerate(second):
                for column, a in enumerate(first):
                    self._move(a, b)
                    losses[row, column] = self._mean_loss(images, labels)
                    progress(len(images), "measuring the loss")
        finally:
            self._move(0.0, 0.0)
        return losses

    def _build_move(self):
        """Assigns all weights of a point of the plane; one graph for all points."""
        variables = {weight_path(variable): variable for variable in self._model.weights}
        plane = self._plane

        def move(a, b):
            for path, weight in plane.origin.items():
                variables[path].assign(weight + a * plane.first[path] + b * plane.second[path])

        return tf.function(move, input_signature=[tf.TensorSpec([], tf.float32)] * 2)

    def _mean_loss(self, images, labels):
        total = 0.0
        for start in range(0, len(images), self._batch_size):
            batch = slice(start, start + self._batch_size)
            total += float(self._sum_of_losses(images[batch], labels[batch]))
        return total / len(images)

    def _batch_losses(self, images, labels):
        def losses(inputs, targets):
            logits = self._model(inputs, training=False)
            return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)

        return tf.reduce_sum(in_parallel(losses, self._chunks, images, labels))

    def _batches(self, split):
        """Yields images, labels and the position of the first."""
        for start in range(0, len(split), self._batch_size):
            batch = split.subset(slice(start, start + self._batch_size))
            images = batch.seen(batch.images)
            yield images, tf.constant(batch.labels), tf.constant(start)
