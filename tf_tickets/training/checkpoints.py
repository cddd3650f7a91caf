"""The state of a level while it trains, so that a killed run loses little and changes nothing."""

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError, one_line
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.runs import files
from tf_tickets.runs.files import naming_full_disk
from tf_tickets.training.selection import KeptWeights


@dataclasses.dataclass
class Progress:
    """Where a level stands.

    Attributes:
      iteration: optimizer steps done.
      history: measured so far, as (iteration, metric, value).
      losses: training losses since the last evaluation, one a step.
      seconds: spent on training so far, by the clock.
      cpu_seconds: the same, of all the process's threads together.
      selected: metric of a selection → whose weights are the best so far, and what made them
        the best.
      collapsed: whether a selection has ended the training.
    """

    iteration: int = 0
    history: list[tuple[int, str, float]] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    selected: dict[str, tuple[int, float]] = dataclasses.field(default_factory=dict)
    collapsed: bool = False


class LevelCheckpoint:
    """Saves and restores a level's model, optimizer, masks and progress as one.

    Args:
      directory: a folder of the level's own.
      model: its weights are saved.
      optimizer: its slots and step count are saved.
      masks: its masks and pruning steps are saved.
      kept_weights: what each selection keeps.
      writable: False on workers that only restore.
      other_state: whatever else training changes, such as generators that it draws from.
      seconds: how long training may go on unsaved; None saves after every evaluation instead, as
        the workers of a cluster must, who all save at once.
    """

    def __init__(
        self,
        directory: Path,
        model: keras.Model,
        optimizer: keras.optimizers.legacy.Optimizer,
        masks: WeightMasks,
        kept_weights: Sequence[KeptWeights] = (),
        writable: bool = True,
        other_state: Sequence[tf.__internal__.tracking.Trackable] = (),
        seconds: float | None = None,
    ):
        self.kept_weights = kept_weights
        self._writable = writable
        self._seconds, self._saved = seconds, time.monotonic()
        self._state = _ProgressState()
        checkpoint = tf.train.Checkpoint(
            model=model, optimizer=optimizer, masks=masks, progress=self._state
        )
        if kept_weights:
            checkpoint.kept_weights = list(kept_weights)
        if other_state:
            checkpoint.other_state = list(other_state)
        self._manager = tf.train.CheckpointManager(checkpoint, str(directory), max_to_keep=1)

    def save_if_due(self, progress: Progress, was_evaluated: bool) -> None:
        """Writes the current state if it is time, or after an evaluation, see the class."""
        if self._seconds is None:
            is_due = was_evaluated
        else:
            is_due = time.monotonic() - self._saved >= self._seconds
        if is_due:
            self.save(progress)

    def save(self, progress: Progress) -> None:
        """Writes the current state; an earlier one goes only once this one is whole."""
        self._state.progress, self._saved = progress, time.monotonic()
        if not self._writable:
            self._take_part()
            return
        files.before_commit(Path(self._manager.directory))
        with naming_full_disk(Path(self._manager.directory)):
            self._manager.save()

    def _take_part(self):
        """Saves for nothing: BatchNorm's statistics are averaged over all workers as one saves."""
        with tempfile.TemporaryDirectory() as nowhere:
            self._manager.checkpoint.write(os.path.join(nowhere, "state"))

    def restore(self) -> Progress:
        """Puts back the last saved state; a fresh `Progress` if there is none.

        Raises:
          UserError: the checkpoint is damaged.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return Progress()
        try:
            self._manager.checkpoint.restore(path).assert_existing_objects_matched()
        except (tf.errors.OpError, ValueError, AssertionError, KeyError) as error:
            raise UserError(
                f"{path}: damaged checkpoint ({one_line(error)}); delete its folder to train this "
                "level anew, then run the same command"
            ) from None
        return self._state.progress


class _ProgressState(tf.train.experimental.PythonState):
    """Progress as JSON inside the checkpoint, so that it can never disagree with the weights."""

    def __init__(self):
        self.progress = Progress()

    def serialize(self):
        return json.dumps(dataclasses.asdict(self.progress))

    def deserialize(self, string_value):
        fields = json.loads(string_value)
        fields["history"] = [tuple(entry) for entry in fields["history"]]
        fields["selected"] = {name: tuple(best) for name, best in fields["selected"].items()}
        self.progress = Progress(**fields)
