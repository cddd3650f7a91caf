"""The training of one level: steps, evaluations, checkpoints."""

import math
from collections.abc import Callable, Mapping

import tensorflow as tf

from tf_tickets.data.batches import BatchOrder
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.training.checkpoints import LevelCheckpoint, Progress
from tf_tickets.training.trainer import Trainer

# Steps per call into the graph: long enough to hide the call, short enough for Ctrl-C.
STEPS_PER_CALL = 250


def train_level(
    trainer: Trainer,
    order: BatchOrder,
    iterations: int,
    evaluate_every: int,
    evaluate: Callable[[int], Mapping[str, float]],
    checkpoint: LevelCheckpoint,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop_if_requested: Callable[[], None] = lambda: None,
    milestones: Mapping[int, Callable[[], None]] | None = None,
) -> list[tuple[int, str, float]]:
    """Trains from wherever the checkpoint stands to the last iteration.

    The result does not depend on where, or how often, it was interrupted.

    Args:
      trainer: reset to the level's start.
      order: which examples each iteration takes.
      iterations: how many optimizer steps the level has.
      evaluate_every: iterations between evaluations; there is one at iteration 0
        and one at the end as well.
      evaluate: iteration → metric → value.
      checkpoint: restored first, saved after every evaluation and before stopping.
      on_progress: told after every call into the graph.
      stop_if_requested: raises `StopRequested` to stop.
      milestones: iteration → what to do when it is reached.

    Returns:
      (iteration, metric, value) of every evaluation. `train/<regime>/loss` is the
      mean loss of the batches since the evaluation before.

    Raises:
      StopRequested: after the state was saved.
      UserError: the loss is no longer finite, or the checkpoint is damaged.
    """
    milestones = milestones or {}
    progress = checkpoint.restore()
    while True:
        _reach(progress, milestones, iterations, evaluate_every, evaluate, trainer, checkpoint)
        on_progress(progress)
        if progress.iteration == iterations:
            return progress.history
        _stop_safely(stop_if_requested, checkpoint, progress)
        count = _steps_to_next_stop(progress.iteration, iterations, evaluate_every, milestones)
        losses = trainer.train_steps(
            tf.constant(order.indices(progress.iteration, count)), tf.constant(progress.iteration)
        ).numpy()
        _refuse_divergence(losses, progress.iteration, trainer.regime)
        progress.iteration += count
        progress.losses += losses.tolist()


def _reach(progress, milestones, iterations, evaluate_every, evaluate, trainer, checkpoint):
    """What is due at this iteration: milestones, then an evaluation not yet made."""
    iteration = progress.iteration
    if iteration in milestones:
        milestones[iteration]()
    due = iteration % evaluate_every == 0 or iteration == iterations
    if not due or (progress.history and progress.history[-1][0] == iteration):
        return
    if progress.losses:
        mean_loss = math.fsum(progress.losses) / len(progress.losses)
        progress.history.append((iteration, f"train/{trainer.regime}/loss", mean_loss))
        progress.losses.clear()
    progress.history += [(iteration, name, value) for name, value in evaluate(iteration).items()]
    checkpoint.save(progress)


def _steps_to_next_stop(iteration, iterations, evaluate_every, milestones):
    evaluation = iteration - iteration % evaluate_every + evaluate_every
    stops = [evaluation, iterations, iteration + STEPS_PER_CALL]
    stops += [milestone for milestone in milestones if milestone > iteration]
    return min(stops) - iteration


def _stop_safely(stop_if_requested, checkpoint, progress):
    try:
        stop_if_requested()
    except StopRequested:
        checkpoint.save(progress)
        raise


def _refuse_divergence(losses, first_iteration, regime):
    for offset, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise UserError(
                f"the {regime} training loss became {loss} at iteration "
                f"{first_iteration + offset}; try a smaller --learning_rate in another --run_dir "
                "(what was recorded is kept)"
            )
