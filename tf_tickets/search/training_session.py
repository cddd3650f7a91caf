"""One training inside a run directory: checkpointed, shown in TensorBoard and on the screen."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tf_tickets.data.batches import BatchOrder
from tf_tickets.errors import Diverged
from tf_tickets.masking.magnitude import Masks
from tf_tickets.models.weights import Weights
from tf_tickets.runs.events import LevelEvents
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.training.checkpoints import LevelCheckpoint, Progress
from tf_tickets.training.loop import train_level
from tf_tickets.training.selection import KeptWeights
from tf_tickets.training.trainer import Trainer


class TrainedLevel(NamedTuple):
    """What training a level gives.

    Attributes:
      masks: those the level ended with.
      weights: those the level ended with.
      history: its measurements, as (iteration, metric, value).
    """

    masks: Masks
    weights: Weights
    history: list[tuple[int, str, float]]


@dataclasses.dataclass(frozen=True)
class TrainingSession:
    """Where a training's files go and who is told of it.

    Attributes:
      run: the run directory.
      cell: what the training belongs to.
      level: rounds of pruning behind it.
      parameters: hyper-parameters, for TensorBoard's HParams page.
      advance: told (steps, description) as training proceeds.
      stop_if_requested: raises `StopRequested` to stop.
    """

    run: RunDirectory
    cell: Cell
    level: int
    parameters: Mapping[str, str | float | int]
    advance: Callable[[int, str], None]
    stop_if_requested: Callable[[], None]

    def train(
        self,
        trainer: Trainer,
        order: BatchOrder,
        iterations: int,
        kept_weights: Sequence[KeptWeights] = (),
        **how,
    ) -> tuple[TrainedLevel, Progress]:
        """Trains, or goes on where it was interrupted.

        Args:
          trainer: reset to the level's start.
          order: which examples each iteration takes.
          iterations: how many optimizer steps there are.
          kept_weights: where each selection keeps weights.
          **how: the other arguments of `train_level`.

        Raises:
          StopRequested: after the state was saved.
          Diverged: a loss, or what was measured, is no longer finite.
          UserError: a checkpoint is damaged.
        """
        run, place = self.run, f"{self.cell.description} level {self.level}"
        events = LevelEvents(
            run.events_directory(self.cell, self.level),
            {**self.cell._asdict(), "level": self.level, **self.parameters},
            run.writable,
        )
        checkpoint = LevelCheckpoint(
            run.checkpoint_directory(self.cell, self.level),
            trainer.model,
            trainer.optimizer,
            trainer.masks,
            kept_weights,
            run.writable,
            trainer.other_state,
        )
        try:
            progress = train_level(
                trainer,
                order,
                iterations,
                checkpoint=checkpoint,
                on_progress=self._reporter(events, iterations, place),
                stop_if_requested=self.stop_if_requested,
                **how,
            )
        except Diverged as error:
            raise Diverged(f"{place}: {error}") from None
        masks = trainer.masks.read()
        events.finish(masks, progress.iteration)
        return TrainedLevel(masks, trainer.weights(), progress.history), progress

    def _reporter(self, events, iterations, place):
        reached = 0

        def report(progress: Progress):
            nonlocal reached
            events.add_history(progress.history)
            # Training that collapsed has nothing left to do.
            iteration = iterations if progress.collapsed else progress.iteration
            self.advance(iteration - reached, place)
            reached = iteration

        return report
