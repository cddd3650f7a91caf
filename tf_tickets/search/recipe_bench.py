"""What all trainings of a run share, and the network of one with its measurements."""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.attacks.gradient import Attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.registry import DATA_SETS, SOURCES, load_images
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require, require_choices
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.runs.run_directory import Cell
from tf_tickets.search.recipes import Training
from tf_tickets.training.selection import KeptWeights, Selection
from tf_tickets.training.trainer import Trainer, TrainingSettings

# Images measured at a time; an attack on a large network keeps all their activations.
EVALUATION_BATCH = 250


@dataclasses.dataclass(frozen=True)
class RecipeSettings:
    """What all trainings of a run share.

    Attributes:
      experiment: its name in the results.
      data_set: a name in `tf_tickets.data.registry`.
      data_source: `embedded` or `tfds`.
      data_dir: where prepared TFDS data lie; None for TFDS's own choice.
      image_size: images are padded to this height and width; 0 leaves them as they are.
      train_examples, validation_examples, test_examples: how many are used; 0 for all.
      seeds: one a trial.
      training: how networks are trained; each training names its own model.
      batch_sizes: model → batch size, where it is not `training`'s.
      warmup_epochs: length of the warm-ups.
      evaluation_attacks: name → attack that adversarially trained networks meet after
        every epoch; the first decides which weights are selected.
      fast_stop_after_drop: what stops fast adversarial training, see `Selection`.
    """

    experiment: str
    data_set: str
    data_source: str
    data_dir: str | None
    image_size: int
    train_examples: int
    validation_examples: int
    test_examples: int
    seeds: Sequence[int]
    training: TrainingSettings
    batch_sizes: Mapping[str, int]
    warmup_epochs: int
    evaluation_attacks: Mapping[str, ThreatModel]
    fast_stop_after_drop: float

    def __post_init__(self):
        require_choices("data_set", [self.data_set], DATA_SETS)
        require_choices("data_source", [self.data_source], SOURCES)
        for flag in ("image_size", "train_examples", "validation_examples", "test_examples"):
            require(getattr(self, flag) >= 0, flag, getattr(self, flag), "at least 0")

    def load(self, seed: int) -> ImageData:
        """The data of a trial.

        Raises:
          UserError: they are not there, damaged, or fewer than asked for.
        """
        data = load_images(self.data_set, self.data_source, self.data_dir, seed)
        if self.image_size:
            largest = max(data.image_shape[:2])
            expected = f"0 or at least {largest}, the size of the images"
            require(self.image_size >= largest, "image_size", self.image_size, expected)
            data = data.padded(self.image_size)
        return data.limited(
            seed,
            self.train_examples or None,
            self.validation_examples or None,
            self.test_examples or None,
        )

    def training_of(self, model: str) -> TrainingSettings:
        """How that model is trained."""
        batch_size = self.batch_sizes.get(model, self.training.batch_size)
        return dataclasses.replace(self.training, model=model, batch_size=batch_size)

    def cell(self, training: Training, seed: int) -> Cell:
        """The training's place in the run directory."""
        return Cell(self.data_set, training.regime, training.method, seed, training.model)

    def selection(self, training: Training) -> Selection | None:
        """Which of its weights a training keeps."""
        if not training.selected:
            return None
        attack = next(iter(self.evaluation_attacks))
        drop = self.fast_stop_after_drop if training.regime == "fast" else 1.0
        return Selection(f"validation/{attack}/accuracy", drop)


class RecipeBench:
    """A network with its compiled training step and measurements.

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
        self.trainer = Trainer(
            settings.training_of(training.model), training.regime, data, strategy, seed
        )
        with strategy.scope():
            self.kept_weights = KeptWeights(self.trainer.model)
        self._chunks = runtime.parallel_chunks(strategy)
        attacks = {} if training.regime == "natural" else settings.evaluation_attacks
        self.evaluator = self.evaluator_under(self.trainer.build_attacks(attacks))

    def evaluator_under(self, attacks: Mapping[str, Attack]) -> Evaluator:
        """Measures the network under attacks of any origin."""
        return Evaluator(self.trainer.model, attacks, self._chunks, EVALUATION_BATCH)
