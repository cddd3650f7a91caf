"""What all networks of a run share: their data, their seeds, how they are trained."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tf_tickets.data.registry import load_images
from tf_tickets.data.specs import require_data_set
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require
from tf_tickets.models.registry import require_image_shape
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.training.trainer import TrainingSettings


@dataclasses.dataclass(frozen=True)
class TrialSettings:
    """What all networks of a run share.

    Attributes:
      experiment: its name in the results.
      data_set: its name, see `require_data_set`.
      data_source: `embedded`, `tfds` or `folder`.
      data_dir: where prepared TFDS data lie, None for TFDS's own choice; or the folder.
      image_size: images are padded to this height and width, or scaled if they are of different
        sizes; 0 leaves them as they are.
      train_examples, validation_examples, test_examples: how many are used; 0 for all.
      seeds: one a trial.
      training: how networks are trained; each training names its own model.
      batch_sizes: model → batch size, where it is not `training`'s.
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

    def __post_init__(self):
        require_data_set(self.data_set, source=self.data_source)
        for flag in ("image_size", "train_examples", "validation_examples", "test_examples"):
            require(getattr(self, flag) >= 0, flag, getattr(self, flag), "at least 0")

    def load(self, seed: int) -> ImageData:
        """The data of a trial.

        Raises:
          UserError: they are not there, damaged, or fewer than asked for.
        """
        data = load_images(self.data_set, self.data_source, self.data_dir, seed, self.image_size)
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

    def require_trainable(self, models: Sequence[str], data: ImageData) -> None:
        """Checks that the data fit the networks and fill at least one batch.

        Raises:
          UserError: they do not.
        """
        for model in models:
            require_image_shape(model, data.image_shape)
            size = self.training_of(model).batch_size
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
