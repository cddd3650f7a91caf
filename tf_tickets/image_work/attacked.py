"""Images that are attacked through one network and given to many."""

from collections.abc import Callable, Hashable

import tensorflow as tf
import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.vision import ImageSplit
from tf_tickets.evaluation.crafted import CraftedImages
from tf_tickets.image_work.bench import EVALUATION_BATCH
from tf_tickets.models.folding import FoldedNetwork


class AttackedImages:
    """Keeps those that were made last: plans give them to all of their networks in a row."""

    def __init__(self):
        self._made: dict[Hashable, CraftedImages] = {}

    def of(
        self,
        key: Hashable,
        network: Callable[[], keras.Model],
        threat: ThreatModel,
        split: ImageSplit,
        strategy: tf.distribute.Strategy,
    ) -> CraftedImages:
        """The attacked images of a split.

        Args:
          key: everything that decides them.
          network: builds the network that they are made for.
          threat: the attack.
          split: what is attacked.
          strategy: the devices.
        """
        if key not in self._made:
            self._made.clear()  # Large images fill the memory.
            attack = build_attack(
                threat, FoldedNetwork(network()), runtime.parallel_chunks(strategy)
            )
            self._made[key] = CraftedImages(attack, split, EVALUATION_BATCH)
        return self._made[key]
