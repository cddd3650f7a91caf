"""The training of one level: steps, evaluations, checkpoints."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tf_tickets.data.batches import BatchOrder
from tf_tickets.errors import Diverged, StopRequested
from tf_tickets.training.checkpoints import LevelCheckpoint, Progress
from tf_tickets.training.schedules import LearningRates
from tf_tickets.training.selection import Selection
from tf_tickets.training.trainer import Trainer

# Steps per call into the graph: long enough to hide the call, short enough for Ctrl-C and for
# a progress bar that moves.
STEPS_PER_CALL = 250
SECONDS_PER_CALL = 2.0


def train_level(
    trainer: Trainer,
    order: BatchOrder,
    iterations: int,
    evaluate_every: int,
    evaluate: Callable[[int], Mapping[str, float]],
    checkpoint: LevelCheckpoint,
    learning_rates: LearningRates,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop_if_requested: Callable[[], None] = lambda: None,
    milestones: Mapping[int, Callable[[], None]] | None = None,
    selections: Sequence[Selection] = (),
) -> Progress:
    """Trains from wherever the checkpoint stands to the last iteration.

    The result does not depend on where, or how often, it was interrupted.

    Args:
      trainer: reset to the level's start.
      order: which examples each iteration takes.
      iterations: how many optimizer steps the level has.
      evaluate_every: iterations between evaluations; there is one at iteration 0
        and one at the end as well.
      evaluate: iteration → metric → value.
      checkpoint: restored first, saved when it is due and before stopping.
      learning_rates: of every iteration.
      on_progress: told after every call into the graph.
      stop_if_requested: raises `StopRequested` to stop.
      milestones: iteration → what to do when it is reached.
      selections: which weights are kept, each in its place of the checkpoint's
        `kept_weights`. The model ends with those of the first; without any, with the last.

    Returns:
      Where it ended, with every evaluation in its history. `train/<regime>/loss` is
      the mean loss of the batches since the evaluation before; `seconds` and
      `cpu_seconds`, of training without evaluations, are cumulative, by the clock and of all
      the process's threads.

    Raises:
      StopRequested: after the state was saved.
      Diverged: a loss, or what an evaluation measured, is not finite.
      UserError: the checkpoint is damaged.
    """
    milestones = milestones or {}
    progress = checkpoint.restore()
    trainer.trace()  # Before the clock runs.
    while True:
        if progress.iteration in milestones:
            milestones[progress.iteration]()
        is_due = _is_due(progress, iterations, evaluate_every)
        if is_due:
            _evaluate(progress, evaluate, trainer)
            _select(progress, selections, checkpoint)
        checkpoint.save_if_due(progress, was_evaluated=is_due)
        on_progress(progress)
        if progress.iteration == iterations or progress.collapsed:
            break
        _stop_safely(stop_if_requested, checkpoint, progress)
        count = _steps_to_next_stop(progress, iterations, evaluate_every, milestones)
        _train(progress, trainer, order, learning_rates, count)
    if selections:
        checkpoint.kept_weights[0].put_back()
    return progress


def _is_due(progress, iterations, evaluate_every):
    """Whether there is an evaluation at this iteration that was not made yet."""
    iteration = progress.iteration
    due = iteration % evaluate_every == 0 or iteration == iterations
    return due and not (progress.history and progress.history[-1][0] == iteration)


def _evaluate(progress, evaluate, trainer):
    measured = {}
    if progress.losses:
        mean_loss = math.fsum(progress.losses) / len(progress.losses)
        measured[f"train/{trainer.regime}/loss"] = mean_loss
        progress.losses.clear()
    measured[f"train/{trainer.regime}/seconds"] = progress.seconds
    measured[f"train/{trainer.regime}/cpu_seconds"] = progress.cpu_seconds
    measured |= evaluate(progress.iteration)
    # Weights may break in the last step, whose loss was fine: no accuracy tells, no loss follows.
    for name, value in measured.items():
        _refuse_divergence(f"{name} of the {trainer.regime} training", value, progress.iteration)
    progress.history += [(progress.iteration, name, value) for name, value in measured.items()]


def _select(progress, selections, checkpoint):
    latest = {name: value for _, name, value in progress.history}
    for selection, kept_weights in zip(selections, checkpoint.kept_weights):
        if progress.iteration < selection.first_iteration:
            continue  # At the very least, untrained weights are no choice.
        value = selection.worth(latest[selection.metric])
        _, best = progress.selected.get(selection.metric, (0, -math.inf))
        if value > best:
            progress.selected[selection.metric] = progress.iteration, value
            kept_weights.keep()
        progress.collapsed |= selection.collapsed(value, best)


def _train(progress, trainer, order, learning_rates, count):
    first = progress.iteration
    wall, cpu = time.perf_counter(), time.process_time()
    losses = trainer.train_steps(
        tf.constant(order.indices(first, count)),
        tf.constant(first),
        tf.constant(learning_rates(first, count)),
    ).numpy()
    progress.seconds += time.perf_counter() - wall
    progress.cpu_seconds += time.process_time() - cpu
    for iteration, loss in enumerate(losses, start=first):
        _refuse_divergence(f"the {trainer.regime} training loss", loss, iteration)
    progress.iteration += count
    progress.losses += losses.tolist()


def _steps_to_next_stop(progress, iterations, evaluate_every, milestones):
    iteration = progress.iteration
    evaluation = iteration - iteration % evaluate_every + evaluate_every
    stops = [evaluation, iterations, iteration + _steps_per_call(progress)]
    stops += [milestone for milestone in milestones if milestone > iteration]
    return min(stops) - iteration


def _steps_per_call(progress):
    if not progress.iteration:
        return min(10, STEPS_PER_CALL)
    seconds_per_step = progress.seconds / progress.iteration
    return max(1, min(STEPS_PER_CALL, int(SECONDS_PER_CALL / seconds_per_step)))


def _stop_safely(stop_if_requested, checkpoint, progress):
    try:
        stop_if_requested()
    except StopRequested:
        checkpoint.save(progress)
        raise


def _refuse_divergence(what, value, iteration):
    if not math.isfinite(value):
        raise Diverged(
            f"{what} became {value} at iteration {iteration}; try a smaller learning rate "
            "(what was finished before is kept)"
        )
