"""Fine-tuning of a network that is not of a run, such as a user's own."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import Diverged, UserError, require
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.masking.weight_masks import NoMasks
from tf_tickets.training.checkpoints import LevelCheckpoint
from tf_tickets.training.loop import train_level
from tf_tickets.training.schedules import StepDecay, steps_per_epoch
from tf_tickets.training.trainer import Trainer, TrainingSettings

# As "On the Effect of Pruning on Adversarial Robustness" trains.
_MOMENTUM, _WEIGHT_DECAY = 0.9, 1e-4


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How a network is fine-tuned: by SGD with momentum 0.9 and weight decay 1e-4.

    Attributes:
      epochs: passes through the training images; 0 for none.
      learning_rate: divided by ten at a half and at three quarters of the epochs.
      batch_size: images a step.

    Raises:
      UserError: a value out of range.
    """

    epochs: int
    learning_rate: float
    batch_size: int

    def __post_init__(self):
        require(self.epochs >= 0, "fine_tuning_epochs", self.epochs, "at least 0")
        self.settings()  # Refuses what the other two must not be.

    def settings(self) -> TrainingSettings:
        """The same for a `Trainer`."""
        return TrainingSettings(
            model="resnet_56",  # Of a network that is there already, it is not read.
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            label_smoothing=0.0,
            threat_models={},
            optimizer="sgd",
            momentum=_MOMENTUM,
            weight_decay=_WEIGHT_DECAY,
        )

    def require_usable(self, model: keras.Model, data: ImageData) -> None:
        """Checks that there is something to train, and images that fill a batch.

        Raises:
          UserError: there is not.
        """
        most, epochs = len(data.train), self.epochs
        require(self.batch_size <= most, "batch_size", self.batch_size, f"at most {most}, an epoch")
        expected = "0, as no weight of the network is trainable"
        require(not epochs or model.trainable_weights, "fine_tuning_epochs", epochs, expected)


def fine_tune(
    make_model: Callable[[], keras.Model],
    how: FineTuning,
    data: ImageData,
    strategy: tf.distribute.Strategy,
    seed: int,
    advance: Callable[[float], None] = lambda images: None,
) -> tuple[keras.Model, list[tuple[int, float]]]:
    """Trains all weights of a network on natural training images.

    Args:
      make_model: builds the network in the strategy's scope, with the weights to start from.
      how: for how long and how fast.
      data: in the network's image size; test images are not looked at.
      strategy: where it runs.
      seed: decides the order of the images and their augmentation.
      advance: told how many images more were trained on.

    Returns:
      The network with its last weights, and its accuracy in [0, 1] on validation images after
      0, 1, 2... epochs.

    Raises:
      UserError: the loss is no longer finite.
    """
    trainer = Trainer(how.settings(), "natural", data, strategy, seed, NoMasks, make_model)
    per_epoch = steps_per_epoch(len(data.train), how.batch_size)
    evaluator = Evaluator(
        trainer.model, {}, runtime.parallel_chunks(strategy), batch_size=how.batch_size
    )
    reached = 0

    def report(progress):
        nonlocal reached
        advance((progress.iteration - reached) / per_epoch * len(data.train))
        reached = progress.iteration

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = LevelCheckpoint(Path(folder), trainer.model, trainer.optimizer, trainer.masks)
        try:
            progress = train_level(
                trainer,
                BatchOrder(len(data.train), how.batch_size, seed),
                how.epochs * per_epoch,
                evaluate_every=per_epoch,
                evaluate=lambda _: evaluator.evaluate(data.validation),
                checkpoint=checkpoint,
                learning_rates=StepDecay(how.learning_rate, how.epochs, per_epoch),
                on_progress=report,
            )
        except Diverged:  # It names a run directory, and there is none.
            rate = how.learning_rate
            raise UserError(
                f"--learning_rate={rate}: expected a smaller one; the loss is no longer finite"
            ) from None
    accuracies = [
        (iteration // per_epoch, value)
        for iteration, metric, value in progress.history
        if metric == "natural/accuracy"
    ]
    return trainer.model, accuracies
