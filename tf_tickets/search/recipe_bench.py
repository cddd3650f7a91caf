"""What all trainings of a run share, and the network of one with its measurements."""

import dataclasses
import functools
from collections.abc import Mapping

import tensorflow as tf

from tf_tickets.attacks.threat_model import ThreatModel, with_margin_attack
from tf_tickets.data.vision import ImageData
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.runs.run_directory import Cell
from tf_tickets.search.recipes import Training
from tf_tickets.search.training_bench import TrainingBench
from tf_tickets.search.trial_settings import TrialSettings
from tf_tickets.training.selection import Selection


@dataclasses.dataclass(frozen=True)
class RecipeSettings(TrialSettings):
    """What all trainings of a run share.

    Attributes:
      warmup_epochs: length of the warm-ups.
      evaluation_attacks: name → attack that adversarially trained networks meet after
        every epoch; the first decides which weights are selected. At the end they meet these,
        the margin loss, and the attack that they were trained against.
      fast_stop_after_drop: what stops fast adversarial training, see `Selection`.
    """

    warmup_epochs: int
    evaluation_attacks: Mapping[str, ThreatModel]
    fast_stop_after_drop: float

    def cell(self, training: Training, seed: int) -> Cell:
        """The training's place in the run directory."""
        return Cell(self.data_set, training.regime, training.method, seed, training.model)

    def attacks_on(self, regime: str) -> Mapping[str, ThreatModel]:
        """What a network meets after every epoch; nothing after natural training."""
        return {} if regime == "natural" else self.evaluation_attacks

    def final_attacks_on(self, regime: str) -> Mapping[str, ThreatModel]:
        """What it meets on test data at the end; its own attack shows whether it is masked."""
        own = {regime: self.training.threat_models[regime]} if regime != "natural" else {}
        return with_margin_attack(self.attacks_on(regime)) | own

    def selections(self, training: Training) -> list[Selection]:
        """Which of its weights a training keeps; none for the last ones."""
        if not training.selected:
            return []
        if training.regime == "natural":
            return [Selection("validation/natural/loss", smallest=True)]
        attack = next(iter(self.evaluation_attacks))
        drop = self.fast_stop_after_drop if training.regime == "fast" else 1.0
        return [Selection(f"validation/{attack}/accuracy", drop)]


class RecipeBench(TrainingBench):
    """The network of a training, with its compiled step and measurements.

    Args:
      settings: what all trainings share.
      training: names the model and the regime.
      data: what to train on.
      seed: the trial's.
      strategy: where it runs.
    """

    def __init__(
        self,
        settings: RecipeSettings,
        training: Training,
        data: ImageData,
        seed: int,
        strategy: tf.distribute.Strategy,
    ):
        self._final_attacks = settings.final_attacks_on(training.regime)
        attacks = settings.attacks_on(training.regime)
        of_model = settings.training_of(training.model)
        super().__init__(of_model, training.regime, attacks, data, seed, strategy)

    @functools.cached_property
    def final_evaluator(self) -> Evaluator:
        """Measures the trained network under `RecipeSettings.final_attacks_on` its regime."""
        return self.evaluator_under(self.trainer.build_attacks(self._final_attacks))
