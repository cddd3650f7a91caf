"""One network with what trains it: optimizer, masks, attacks and the compiled step."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.augmentation import MIXING
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require, require_choices
from tf_tickets.masking.ticket import Provenance
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.registry import build_model, require_model
from tf_tickets.models.weights import Weights, read_weights, write_weights
from tf_tickets.runtime import package_versions, parallel_chunks
from tf_tickets.training import objectives
from tf_tickets.training.step import make_train_steps

OPTIMIZERS = ("adam", "sgd")
ATTACK_MODES = ("inference", "training")


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
      model: its name in the registry.
      batch_size: examples per step, over all replicas.
      learning_rate: the optimizer's, or the highest where it is scheduled.
      label_smoothing: see `objectives.cross_entropy`.
      threat_models: attack name → what the attacker may do.
      objective: adversarial training on `mixed` or only `adversarial` examples.
      optimizer: `adam`, or `sgd` with momentum.
      momentum: of `sgd`.
      weight_decay: λ of the penalty λ/2 ‖θ‖² over all trainable weights.
      width_multiplier: scales the model's channels.
      attack_mode: whether BatchNorm meets training attacks in `inference` or in
        `training` mode, in which its statistics move with every attack step.
    """

    model: str
    batch_size: int
    learning_rate: float
    label_smoothing: float
    threat_models: Mapping[str, ThreatModel]
    objective: str = "mixed"
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    width_multiplier: float = 1.0
    attack_mode: str = "inference"

    def __post_init__(self):
        require_model(self.model)
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")
        require_choices("objective", [self.objective], objectives.OBJECTIVES)
        require_choices("optimizer", [self.optimizer], OPTIMIZERS)
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        require(0 <= self.weight_decay < 1, "weight_decay", self.weight_decay, "in [0, 1)")
        require(0 < self.width_multiplier, "width_multiplier", self.width_multiplier, "above 0")
        require_choices("attack_mode", [self.attack_mode], ATTACK_MODES)

    def build_model(self, data: ImageData, seed: int) -> keras.Model:
        """The network for such images and classes, with initial weights decided by `seed`."""
        return build_model(
            self.model, data.image_shape, data.num_classes, seed, self.width_multiplier
        )

    def provenance(self, data: ImageData, seed: int, algorithm: str) -> Provenance:
        """Of a dense ticket of such a network; a search replaces what is not so."""
        return Provenance(
            algorithm=algorithm,
            model=self.model,
            model_config={
                "image_shape": list(data.image_shape),
                "num_classes": data.num_classes,
                "width_multiplier": self.width_multiplier,
            },
            data_set=data.origin,
            seed=seed,
            level=0,
            initial_weights_sha256="",
            parent_sha256="",
            versions=package_versions(),
        )


class Trainer:
    """A network and its compiled training step, reused by every level of a search.

    Args:
      settings: how to train.
      regime: `natural`; a way of mixing images in `data.augmentation.MIXING`; or the name of
        the attack to train against.
      data: its training examples.
      strategy: where it runs.
      seed: decides the initial weights and the attacks' random starts.
      make_masks: builds the masks over the model.
      make_model: builds the network; by default the one that the settings name.

    Attributes:
      model: the network.
      logits: the network in inference mode, images `[batch, ...]` → logits
        `[batch, classes]`, as `build_attack` takes it.
      optimizer, masks: what trains it and what it is held to.
      train_steps: see `make_train_steps`.
      other_state: what else training changes: nothing, as iterations are seeds enough here.
    """

    other_state = ()

    def __init__(
        self,
        settings: TrainingSettings,
        regime: str,
        data: ImageData,
        strategy: tf.distribute.Strategy,
        seed: int,
        make_masks: Callable[[keras.Model], WeightMasks] = WeightMasks,
        make_model: Callable[[], keras.Model] | None = None,
    ):
        self.regime = regime
        self._batch_size = settings.batch_size
        with strategy.scope():
            self.model = make_model() if make_model else settings.build_model(data, seed)
            self.optimizer = _optimizer(settings)
            # Slots must exist before a checkpoint is restored or `reset` zeroes them.
            self.optimizer._create_all_weights(self.model.trainable_variables)
            self.masks = make_masks(self.model)
        self.logits = FoldedNetwork(self.model)
        self.train_steps = make_train_steps(
            self.model,
            self.optimizer,
            self._objective(settings, parallel_chunks(strategy)),
            self.masks,
            data.train,
            settings.batch_size,
            strategy,
            seed,
            settings.label_smoothing,
            settings.weight_decay,
            data.augmentation if data.augment else None,
            MIXING.get(regime),
        )

    def reset(self, weights: Weights, masks: Mapping[str, np.ndarray]) -> None:
        """Starts over: the given weights, masked, and an optimizer without a past."""
        write_weights(self.model, weights)
        self.masks.assign(masks)
        for variable in self.optimizer.variables():
            variable.assign(tf.zeros_like(variable))

    def trace(self) -> None:
        """Builds the graph of the training step without taking one."""
        order = tf.zeros([0, self._batch_size], tf.int32)
        self.train_steps(order, tf.constant(0), tf.zeros([0]))

    def weights(self) -> Weights:
        """Copies the current weights."""
        return read_weights(self.model)

    def _objective(self, settings, chunks):
        if self.regime == "natural" or self.regime in MIXING:
            return objectives.natural()
        threat_model = settings.threat_models[self.regime]
        if settings.attack_mode == "training":
            attack = build_attack(threat_model, lambda images: self.model(images, training=True))
        else:
            attack = build_attack(threat_model, self.logits, chunks)
        return objectives.OBJECTIVES[settings.objective](attack)


def _optimizer(settings):
    """Keras' legacy optimizers update each weight in one fused kernel."""
    if settings.optimizer == "adam":
        return keras.optimizers.legacy.Adam(settings.learning_rate)
    return keras.optimizers.legacy.SGD(settings.learning_rate, settings.momentum)
