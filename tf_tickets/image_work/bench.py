"""A network with its compiled training step and what is measured on it."""

from collections.abc import Callable, Mapping

import tensorflow as tf
import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.vision import ImageData
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.training.selection import KeptWeights
from tf_tickets.training.trainer import Trainer, TrainingSettings

# Images measured at a time; an attack on a large network keeps all their activations.
EVALUATION_BATCH = 250


class NetworkBench:
    """A network that is measured with many weights, compiled once.

    Args:
      model: the network.
      logits: the same, as attacks call it.
      strategy: where it runs.

    Attributes:
      model: the network.
    """

    def __init__(self, model: keras.Model, logits: FoldedNetwork, strategy: tf.distribute.Strategy):
        self.model, self._logits = model, logits
        self._strategy = strategy
        self._evaluators: dict[tuple, Evaluator] = {}

    def evaluator_of(self, attacks: Mapping[str, ThreatModel]) -> Evaluator:
        """Measures the network under white-box attacks; compiled once for the same ones."""
        key = tuple(attacks.items())
        if key not in self._evaluators:
            built = {name: build_attack(threat, self._logits) for name, threat in attacks.items()}
            chunks = runtime.parallel_chunks(self._strategy)
            self._evaluators[key] = Evaluator(self.model, built, chunks, EVALUATION_BATCH)
        return self._evaluators[key]


class TrainingBench(NetworkBench):
    """A network that is trained again and again, compiled once.

    Args:
      training: how it is trained.
      regime: `natural`, or the attack to train against.
      attacks: name → attack that it is measured under.
      data: what to train on.
      seed: the trial's.
      strategy: where it runs.
      make_masks: builds the masks over the network.
      make_model: builds the network; by default the one that `training` names.

    Attributes:
      trainer: with the network.
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
        make_model: Callable[[], keras.Model] | None = None,
    ):
        self.trainer = Trainer(training, regime, data, strategy, seed, make_masks, make_model)
        super().__init__(self.trainer.model, self.trainer.logits, strategy)
        self._kept_weights: list[KeptWeights] = []
        self.evaluator = self.evaluator_of(attacks)

    def kept_weights(self, selections: int) -> list[KeptWeights]:
        """Where so many selections keep weights."""
        with self._strategy.scope():
            while len(self._kept_weights) < selections:
                self._kept_weights.append(KeptWeights(self.trainer.model))
        return self._kept_weights[:selections]
