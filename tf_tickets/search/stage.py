"""What the stages of a run with pre-training, search and transfer have in common."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.vision import ImageData
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.runs.pieces import Pieces, identity
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.search.double_win import DoubleWinSettings, Phase
from tf_tickets.search.level_store import LevelStore
from tf_tickets.search.training_session import TrainedLevel, TrainingSession
from tf_tickets.search.trial_settings import steps_per_epoch
from tf_tickets.training.checkpoints import Progress
from tf_tickets.work.training_bench import TrainingBench

EXPERIMENT = "double_win_tickets"


class Stage:
    """Trains networks of a run, each once.

    Args:
      settings: the run's.
      run: its directory.
      strategy: where it runs.
      stop_if_requested: raises `StopRequested` to stop.
    """

    def __init__(
        self,
        settings: DoubleWinSettings,
        run: RunDirectory,
        strategy: tf.distribute.Strategy,
        stop_if_requested: Callable[[], None],
    ):
        self.settings = settings
        self.run = run
        self.strategy = strategy
        self.stop_if_requested = stop_if_requested
        self._pieces = Pieces(run)

    def is_finished(self, cell: Cell, level: int, decisive: Mapping) -> bool:
        """Whether the run holds a training, or can take it over from a run beside it.

        Args:
          cell: where it belongs.
          level: rounds of pruning behind it.
          decisive: all that decides it, as JSON values.
        """
        if not self.run.is_finished(cell, level) and self.run.writable:
            name = self._identity(cell, level, decisive)
            self._pieces.adopt(name, self.run.record_path(cell, level))
        runtime.wait_for_workers(self.strategy)
        return self.run.is_finished(cell, level)

    def finish(
        self,
        cell: Cell,
        level: int,
        ticket: Ticket,
        trained: TrainedLevel,
        decisive: Mapping,
        others: Iterable[Path] = (),
    ) -> None:
        """Stores a training, and what else belongs to it, and marks it as finished."""
        store = LevelStore(self.run, cell, EXPERIMENT, cell.model)
        store.save(level, ticket, trained.weights, trained.history)
        if self.run.writable:
            weights = self.run.trained_weights_path(cell, level)
            files = [self.run.ticket_path(cell, level), weights, *others]
            files.append(self.run.record_path(cell, level))
            self._pieces.add(self._identity(cell, level, decisive), files)
        runtime.wait_for_workers(self.strategy)  # What comes next may read it.

    def _identity(self, cell, level, decisive):
        """Tickets of several kinds may be equal; each is a piece of its own."""
        replicas = self.strategy.num_replicas_in_sync
        place = {"cell": str(cell.path), "level": level, "replicas": replicas}
        return identity({**decisive, **place})

    def train(
        self,
        bench: TrainingBench,
        phase: Phase,
        cell: Cell,
        level: int,
        data: ImageData,
        examples: Sequence[int],
        bar: ProgressBar,
        every_epoch: bool = True,
        **how,
    ) -> tuple[TrainedLevel, Progress]:
        """Trains a network that was reset to its start.

        Args:
          bench: with the network.
          phase: for how long and how fast.
          cell: where it belongs.
          level: rounds of pruning behind it.
          data: with the validation images.
          examples: indices of the training images to use.
          bar: told of the progress in passes of an image through the network.
          every_epoch: whether it is measured on validation images after every epoch, or only
            at the beginning and at the end.
          **how: the arguments of `train_level` that this leaves open.
        """
        size = phase.training.batch_size
        per_epoch = steps_per_epoch(len(examples), size)
        iterations = phase.epochs * per_epoch
        validated = len(data.validation) if every_epoch else 0
        passes = self.passes(phase, cell.regime, len(examples), validated) / iterations
        session = TrainingSession(
            self.run,
            cell,
            level,
            {"learning_rate": phase.training.learning_rate, "batch_size": size},
            advance=lambda steps, text: bar.advance(steps * passes, text),
            stop_if_requested=self.stop_if_requested,
        )
        return session.train(
            bench.trainer,
            BatchOrder(len(examples), size, (cell.seed, level)).among(examples),
            iterations,
            evaluate_every=per_epoch if every_epoch else iterations,
            evaluate=lambda _: {
                f"validation/{metric}": value
                for metric, value in bench.evaluator.evaluate(data.validation).items()
            },
            learning_rates=phase.learning_rates(per_epoch),
            **how,
        )

    def passes(self, phase: Phase, regime: str, examples: int, validated: int = 0) -> float:
        """How often an image goes through the network, forth and back, in a training."""
        attack = phase.training.threat_models.get(regime)
        per_image = 1 if attack is None else 2 + attack.steps
        measured = () if attack is None else self.settings.evaluation_attacks.values()
        per_validated = (1 + sum(1 + attack.steps for attack in measured)) / 2
        return phase.epochs * (per_image * examples + per_validated * validated)


def describe_data(data: ImageData) -> dict:
    """What tells data from other data, as JSON values."""
    splits = {name: getattr(data, name) for name in ("train", "validation", "test")}
    arrays = {f"{name}/images": split.images for name, split in splits.items()}
    arrays |= {f"{name}/labels": split.labels for name, split in splits.items()}
    return {
        "origin": data.origin,
        "image_shape": list(data.image_shape),
        "augmentation": data.augmentation if data.augment else None,
        "cropped": data.test.cropped,
        "sha256": arrays_sha256(arrays),
    }


def describe_training(
    phase: Phase,
    regime: str,
    measured: Mapping[str, ThreatModel],
    tested: Mapping[str, ThreatModel] | None = None,
) -> dict:
    """What decides a training besides its data and its start, as JSON values.

    Args:
      phase: for how long and how fast.
      regime: what it is trained against.
      measured: name → attack that the network is measured under, by which weights are selected.
      tested: name → attack that what it ends with is measured under.
    """
    described = dataclasses.asdict(phase)
    attack = phase.training.threat_models.get(regime)
    described["training"]["threat_models"] = attack and dataclasses.asdict(attack)
    return {
        **described,
        "regime": regime,
        "measured": {name: dataclasses.asdict(attack) for name, attack in measured.items()},
        "tested": {name: dataclasses.asdict(attack) for name, attack in (tested or {}).items()},
        "versions": runtime.package_versions(),
    }


def all_of(data: ImageData) -> np.ndarray:
    """The indices of all training images."""
    return np.arange(len(data.train))
