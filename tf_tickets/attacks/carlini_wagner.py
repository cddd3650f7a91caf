"""Carlini and Wagner's L2 attack, as CleverHans has it.

Their loss inside the L∞ ball is a threat model: `threat_model.carlini_wagner`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras
from cleverhans.tf2.attacks.carlini_wagner_l2 import CarliniWagnerL2

from tf_tickets.errors import require

INITIAL_CONSTANT = 1e-2


@dataclasses.dataclass(frozen=True)
class L2Settings:
    """How long the attack searches.

    Attributes:
      iterations: steps of Adam for each trade-off constant, at most; the search
        gives up earlier when it makes no progress.
      binary_search_steps: trade-off constants tried.
      learning_rate: Adam's.

    Raises:
      UserError: a value out of range.
    """

    iterations: int = 1000
    binary_search_steps: int = 5
    learning_rate: float = 5e-3

    def __post_init__(self):
        require(self.iterations >= 1, "cw_iterations", self.iterations, "at least 1")
        require(
            self.binary_search_steps >= 1, "cw_searches", self.binary_search_steps, "at least 1"
        )
        require(self.learning_rate > 0, "cw_learning_rate", self.learning_rate, "above 0")


def carlini_wagner_l2(
    logits_fn: Callable[[tf.Tensor], tf.Tensor], images: np.ndarray, settings: L2Settings
) -> np.ndarray:
    """Looks for the smallest change in L2 that changes the prediction.

    arXiv:1608.04644, section VI-A: minimizes ‖x′ − x‖² + c · max(z_y − max_{i≠y} z_i, 0)
    over tanh-space, with a binary search for c, where y is the network's own prediction
    (CleverHans takes given labels as targets).

    The search is CleverHans' own. It gets an optimizer of Keras' older kind, because the
    newer one refuses a second batch, and images of one channel, because CleverHans
    multiplies c and the loss with shapes that no other number of channels lets agree. In
    that product c counts once for every pixel and example, which its first value makes
    up for.

    Args:
      logits_fn: images `[batch, ...]` → logits `[batch, classes]`.
      images: float32 `[batch, height, width, channels]` in [0, 1]; tens of them, as memory
        grows with the square of the batch.
      settings: how long it searches.

    Returns:
      Adversarial images in [0, 1], shaped as `images`, and the image itself where none was
      found.
    """
    shape = images.shape[1:]
    columns = images.reshape(len(images), -1, 1, 1)

    @tf.autograph.experimental.do_not_convert
    def of_columns(flat):
        return logits_fn(tf.reshape(flat, [-1, *shape]))

    search = CarliniWagnerL2(
        of_columns,
        batch_size=len(images),
        max_iterations=settings.iterations,
        binary_search_steps=settings.binary_search_steps,
        initial_const=INITIAL_CONSTANT / columns.size,
    )
    search.optimizer = keras.optimizers.legacy.Adam(settings.learning_rate)
    return search.attack(columns).reshape(images.shape)
