"""What all networks of a run share: their data, their seeds, how they are trained."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require
from tf_tickets.models.registry import require_image_shape
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.training.trainer import TrainingSettings
from tf_tickets.work.image_data import ImageSource


@dataclasses.dataclass(frozen=True)
class TrialSettings(ImageSource):
    """What all networks of a run share, their data among it.

    Attributes:
      experiment: its name in the results.
      seeds: one a trial.
      training: how networks are trained; each training names its own model.
    """

    experiment: str
    seeds: Sequence[int]
    training: TrainingSettings

    def training_of(self, model: str) -> TrainingSettings:
        """How that model is trained."""
        return dataclasses.replace(self.training, model=model)

    def require_trainable(self, models: Sequence[str], data: ImageData) -> None:
        """Checks that the data fit the networks and fill at least one batch.

        Raises:
          UserError: they do not.
        """
        for model in models:
            require_image_shape(model, data.image_shape)
            size = self.training.batch_size
            expected = f"at most {len(data.train)}, one epoch"
            require(size <= len(data.train), "batch_size", size, expected)


@dataclasses.dataclass(frozen=True, eq=False)
class TrialContext:
    """What all work on one seed needs.

    Attributes:
      settings: what all networks share.
      seed: decides data split, initial weights and batch order.
      run: the run directory.
      strategy: where it runs.
      bar: told of the progress.
      stop_if_requested: raises `StopRequested` to stop.
    """

    settings: TrialSettings
    seed: int
    run: RunDirectory
    strategy: tf.distribute.Strategy
    bar: ProgressBar
    stop_if_requested: Callable[[], None]

    @functools.cached_property
    def data(self) -> ImageData:
        """The trial's data."""
        return self.settings.load(self.seed)


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Iterations that come closest to one pass through so many training examples."""
    return max(1, round(examples / batch_size))
