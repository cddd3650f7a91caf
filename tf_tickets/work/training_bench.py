"""A network with its compiled training step and what is measured on it."""

from collections.abc import Callable, Mapping

import tensorflow as tf
import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.attacks.gradient import Attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.vision import ImageData
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.training.selection import KeptWeights
from tf_tickets.training.trainer import Trainer, TrainingSettings

# Images measured at a time; an attack on a large network keeps all their activations.
EVALUATION_BATCH = 250


class TrainingBench:
    """A network that is trained again and again, compiled once.

    Args:
      training: how it is trained.
      regime: `natural`, or the attack to train against.
      attacks: name → attack that it is measured under.
      data: what to train on.
      seed: the trial's.
      strategy: where it runs.
      make_masks: builds the masks over the network.
      selections: how many selections may keep weights.

    Attributes:
      trainer: with the network.
      kept_weights: where each selection keeps weights.
      evaluator: measures the network under `attacks`.
    """

    def __init__(
        self,
        training: TrainingSettings,
        regime: str,
        attacks: Mapping[str, ThreatModel],
        data: ImageData,
        seed: int,
        strategy: tf.distribute.Strategy,
        make_masks: Callable[[keras.Model], WeightMasks] = WeightMasks,
        selections: int = 1,
    ):
        self.trainer = Trainer(training, regime, data, strategy, seed, make_masks)
        with strategy.scope():
            self.kept_weights = [KeptWeights(self.trainer.model) for _ in range(selections)]
        self._chunks = runtime.parallel_chunks(strategy)
        self.evaluator = self.evaluator_under(self.trainer.build_attacks(attacks))

    def evaluator_under(self, attacks: Mapping[str, Attack]) -> Evaluator:
        """Measures the network under attacks of any origin."""
        return Evaluator(self.trainer.model, attacks, self._chunks, EVALUATION_BATCH)
