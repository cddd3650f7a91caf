"""What all who do work have in common: one piece after the other, and trainings step by step."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.data.batches import BatchOrder
from tf_tickets.errors import Diverged
from tf_tickets.runs.events import LevelEvents
from tf_tickets.runs.run_directory import Cell
from tf_tickets.training.checkpoints import LevelCheckpoint, Progress
from tf_tickets.training.loop import train_level
from tf_tickets.training.selection import KeptWeights
from tf_tickets.training.trainer import Trainer
from tf_tickets.work.nodes import Cut, FoundTicket, Imported, Measurement, Node, Training
from tf_tickets.work.places import Places
from tf_tickets.work.store import Record, Store


@dataclasses.dataclass(frozen=True, eq=False)
class Work(abc.ABC):
    """Does one piece of work after the other, and keeps what several have in common.

    Attributes:
      store: holds what work comes from, and takes what it leads to.
      places: where the data are.
      strategy: the devices.
      advance: told (passes of an example through a network, description) on the way.
      events_path: training → where TensorBoard's events of it go.
      stop_if_requested: raises `StopRequested` to stop.
      seconds_unsaved: how long a training may go on without being saved; workers of a cluster
        save after every evaluation, all at once.
    """

    store: Store
    places: Places
    strategy: tf.distribute.Strategy
    advance: Callable[[float, str], None]
    events_path: Callable[[Training], Path]
    stop_if_requested: Callable[[], None]
    seconds_unsaved: float = 600.0

    def perform(self, node: Node) -> None:
        """Does the work, unless it is finished or another process is at it.

        What it needs must be finished.

        Raises:
          StopRequested: its state is kept.
          UserError: data or files that cannot be used, or a loss that diverged.
        """
        with self.store.locked(node) as is_ours:
            if is_ours and not self.store.is_finished(node):
                self.store.begin(node)
                try:
                    self.do(node)
                except Diverged as error:
                    raise Diverged(f"{description(node)}: {error}") from None
        runtime.wait_for_workers(self.strategy)  # The others read what the chief wrote.

    @abc.abstractmethod
    def do(self, node: Node) -> None:
        """Does the work, and stores what it leads to."""

    @abc.abstractmethod
    def close(self) -> None:
        """Lets go of what was kept for the next piece of work."""

    def end(self, node: Node, record: Record, **results) -> None:
        """Stores what work led to that is no training, and tells of it."""
        self.store.finish(node, record, **results)
        self.advance(passes(node), description(node))

    def train(
        self,
        training: Training,
        trainer: Trainer,
        order: BatchOrder,
        kept_weights: Sequence[KeptWeights],
        evaluate: Callable[[int], Mapping[str, float]],
    ) -> Progress:
        """Trains, or goes on where it was interrupted.

        Args:
          training: what a plan says of it.
          trainer: reset to its start.
          order: which examples each iteration takes.
          kept_weights: where each selection keeps weights.
          evaluate: iteration → metric → value.

        Raises:
          StopRequested: after the state was saved.
          UserError: as `train_level`.
        """
        events = LevelEvents(self.events_path(training), parameters(training), self.store.writable)
        checkpoint = LevelCheckpoint(
            self.store.checkpoint_path(training),
            trainer.model,
            trainer.optimizer,
            trainer.masks,
            kept_weights,
            self.store.writable,
            trainer.other_state,
            seconds=None if runtime.in_cluster(self.strategy) else self.seconds_unsaved,
        )

        def keep(iteration):
            self.store.keep(training, iteration, trainer.weights())

        progress = train_level(
            trainer,
            order,
            training.iterations,
            evaluate_every=training.evaluate_every,
            evaluate=evaluate,
            checkpoint=checkpoint,
            learning_rates=training.rates,
            on_progress=self._reporter(training, events),
            stop_if_requested=self.stop_if_requested,
            milestones={at: functools.partial(keep, at) for at in training.keeps},
            selections=training.selections,
        )
        events.finish(trainer.masks.read(), progress.iteration)
        return progress

    def _reporter(self, training, events):
        reached, a_step = 0, passes(training) / training.iterations

        def report(progress: Progress):
            nonlocal reached
            events.add_history(progress.history)
            # Training that collapsed has nothing left to do.
            iteration = training.iterations if progress.collapsed else progress.iteration
            self.advance((iteration - reached) * a_step, description(training))
            reached = iteration

        return report


@functools.singledispatch
def passes(node: Node) -> float:
    """How often an example passes through a network, there and back: the measure of work.

    Each kind of work registers its own.
    """
    raise TypeError(f"no measure of {type(node).__name__}")


def passes_of_steps(training: Training) -> float:
    """The same of a training without its evaluations, as `seconds` in its record."""
    return passes(dataclasses.replace(training, measured_on=()))


@functools.singledispatch
def description(node: Node) -> str:
    """What work is called on the screen.

    Each kind of work that is no training and no measurement registers its own.
    """
    name = name_of(node.labels)
    return name if isinstance(node, Training) else f"measuring {name}"


def name_of(labels: Mapping) -> str:
    """The labels that name a place in a run's folder, as "mnist lenet pgd imp 0 level 3"."""
    named = {**labels, "level": f"level {labels['level']}"}
    return " ".join(f"{named[each]}" for each in labels if each in (*Cell._fields, "level"))


@passes.register
def _(measurement: Measurement) -> float:
    attacks = [*measurement.attacks, *(attack for _, attack in measurement.transferred)]
    data = measurement.of.data
    examples = {"validation": data.validation, "test": measurement.examples or data.test}
    images = sum(examples[split] for split in measurement.splits)
    return _evaluations(attacks) * images * len(measurement.selections)


@passes.register(FoundTicket)
@passes.register(Imported)
def _(node) -> float:
    return 0.0


@passes.register
def _(training: Training) -> float:
    steps = 2 + training.attack.steps if training.attack else 1
    measured = sum(getattr(training.data, split) for split in training.measured_on)
    evaluations = training.iterations / training.evaluate_every * _evaluations(training.measured)
    return training.iterations * training.recipe.batch_size * steps + evaluations * measured


def _evaluations(attacks):
    """Passes that measuring an image costs; those without a way back count half."""
    return (1 + sum(1 + attack.threat.steps for attack in attacks)) / 2


@passes.register
def _(cut: Cut) -> float:
    return cut.examples or cut.of.data.train


@description.register
def _(cut: Cut) -> str:
    return f"cutting {description(cut.of)}"


def parameters(training: Training) -> dict[str, str | float | int]:
    """A training's hyper-parameters, for TensorBoard's HParams page."""
    return {
        **{name: value for name, value in training.labels.items() if value is not None},
        "learning_rate": training.rates.learning_rate,
        "batch_size": training.recipe.batch_size,
    }
