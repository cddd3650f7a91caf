"""One network with what trains it: optimizer, masks, attacks and the compiled step."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.gradient import Attack, build_attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require, require_choices
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.models.registry import MODELS, build_model
from tf_tickets.models.weights import Weights, read_weights, write_weights
from tf_tickets.runtime import cores_per_replica
from tf_tickets.training import objectives
from tf_tickets.training.step import make_train_steps


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
      model: its name in the registry.
      batch_size: examples per step, over all replicas.
      learning_rate: Adam's.
      label_smoothing: see `objectives.cross_entropy`.
      threat_models: attack name → what the attacker may do.
    """

    model: str
    batch_size: int
    learning_rate: float
    label_smoothing: float
    threat_models: Mapping[str, ThreatModel]

    def __post_init__(self):
        require_choices("model", [self.model], MODELS)
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")


class Trainer:
    """A network and its compiled training step, reused by every level of a search.

    Args:
      settings: how to train.
      regime: `natural`, or the name of the attack to train against.
      data: its training examples.
      strategy: where it runs.
      seed: decides the initial weights and the attacks' random starts.
      make_masks: builds the masks over the model.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        regime: str,
        data: ImageData,
        strategy: tf.distribute.Strategy,
        seed: int,
        make_masks: Callable[[keras.Model], WeightMasks] = WeightMasks,
    ):
        self.regime = regime
        with strategy.scope():
            self.model = build_model(settings.model, data.image_shape, data.num_classes, seed)
            # The legacy Adam updates each weight in one fused kernel.
            self.optimizer = keras.optimizers.legacy.Adam(settings.learning_rate)
            # Slots must exist before a checkpoint is restored or `reset` zeroes them.
            self.optimizer._create_all_weights(self.model.trainable_variables)
            self.masks = make_masks(self.model)
        chunks = cores_per_replica(strategy)
        self.train_steps = make_train_steps(
            self.model,
            self.optimizer,
            self._objective(settings.threat_models, chunks),
            self.masks,
            data.train,
            settings.batch_size,
            strategy,
            seed,
            settings.label_smoothing,
        )

    def reset(self, weights: Weights, masks: Mapping[str, np.ndarray]) -> None:
        """Starts over: the given weights, masked, and an optimizer without a past."""
        write_weights(self.model, weights)
        self.masks.assign(masks)
        for variable in self.optimizer.variables():
            variable.assign(tf.zeros_like(variable))

    def weights(self) -> Weights:
        """Copies the current weights."""
        return read_weights(self.model)

    def build_attacks(self, threat_models: Mapping[str, ThreatModel]) -> dict[str, Attack]:
        """Attacks on the network in inference mode, one batch slice each."""
        return {name: build_attack(model, self.logits) for name, model in threat_models.items()}

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """The network in inference mode: images `[batch, ...]` → logits `[batch, classes]`."""
        return self.model(images, training=False)

    def _objective(self, threat_models, chunks):
        if self.regime == "natural":
            return objectives.natural()
        return objectives.mixed(build_attack(threat_models[self.regime], self.logits, chunks))
