"""A run's folder as a view of the store: names for people that lead to finished work."""

import dataclasses
import functools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tf_tickets.errors import UserError
from tf_tickets.runs.events import LevelEvents
from tf_tickets.runs.files import atomic_path, save_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.work.image_work import fresh_weights, parameters
from tf_tickets.work.nodes import Measurement, Node, Training
from tf_tickets.work.store import Store


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Shows what a run asked for, under the names that its labels give.

    Attributes:
      run: the run's folder.
      store: where work is kept.
      experiment: the run's name in the results.
      measured: what networks meet at their end, one measurement each. A training is shown with it.
      assessed: what they meet besides, shown apart.
    """

    run: RunDirectory
    store: Store
    experiment: str
    measured: tuple[Measurement, ...]
    assessed: tuple[Measurement, ...] = ()

    @property
    def wanted(self) -> tuple[Measurement, ...]:
        """All that the run asked for."""
        return (*self.measured, *self.assessed)

    def events_path(self, training: Training) -> Path:
        """Where a training's TensorBoard events go: under the first of its names."""
        return self.run.events_directory(_cell(self._first_named(training)), training.rounds)

    def show(self, node: Node) -> None:
        """Makes what was finished visible, under all its names."""
        if not self.run.writable or not isinstance(node, Measurement):
            return
        for measurement in self._named.get(node.identity, ()):
            self._show_measurement(measurement)
        for measurement in self._assessed.get(node.identity, ()):
            self._show_assessment(measurement)

    def show_finished(self) -> None:
        """Makes all that is finished visible, and `results.csv` anew."""
        for node in {node.identity: node for node in self.wanted}.values():
            if self.store.is_finished(node):
                self.show(node)
        if self.run.writable:
            self.run.write_results()

    @functools.cached_property
    def _named(self):
        """Identity → the measurements that are this one, each with labels of its own."""
        return _by_identity(self.measured)

    @functools.cached_property
    def _assessed(self):
        return _by_identity(self.assessed)

    @functools.cached_property
    def _names_of_trainings(self):
        return {node.of.identity: node.of for node in reversed(self.measured)}

    def _first_named(self, training):
        return self._names_of_trainings.get(training.identity, training)

    def _show_measurement(self, measurement):
        training, run = measurement.of, self.run
        cell, level = _cell(measurement), training.rounds
        record = self.store.record(training)
        self._show_files(training, cell, level)
        self._show_events(training, cell, level, record)
        rows = [*record.history, *self.store.record(measurement).history]
        run.finish_level(cell, level, cell.results(self.experiment, level, record.sparsity, rows))

    def _show_files(self, training, cell, level):
        if (
            training.start.seed == training.seed
            and not self.run.initial_weights_path(cell).exists()
        ):
            weights = fresh_weights(training.network, training.start.seed)
            save_arrays(self.run.initial_weights_path(cell), weights)
        _link(self.store.weights_path(training), self.run.trained_weights_path(cell, level))
        _link(self.store.ticket_path(training), self.run.ticket_path(cell, level))

    def _show_events(self, training, cell, level, record):
        """TensorBoard's events of a training that was not done for this name."""
        path = self.run.events_directory(cell, level)
        if path.exists():
            return
        events = LevelEvents(path, parameters(training))
        events.add_history(list(record.history))
        events.finish(self.store.ticket(training).masks, record.history[-1][0])

    def _show_assessment(self, measurement):
        training, cell = measurement.of, _cell(measurement)
        record = self.store.record(measurement)
        accuracies = [
            (at, metric, value)
            for at, metric, value in record.history
            # Natural accuracy was recorded at the end of the training.
            if metric.endswith("/accuracy") and "/natural/" not in metric
        ]
        rows = cell.results(self.experiment, training.rounds, record.sparsity, accuracies)
        self.run.add_record(cell, "assessment", rows)


def _by_identity(nodes: Iterable[Measurement]):
    found: dict[str, list[Measurement]] = {}
    for node in nodes:
        found.setdefault(node.identity, []).append(node)
    return found


def _cell(node):
    labels = node.labels
    return Cell(
        labels["data_set"], labels["regime"], labels["method"], labels["seed"], labels["model"]
    )


def _link(source: Path, target: Path) -> None:
    """Another name for a file, or a copy where the file system has no such names."""
    if target.exists() and target.samefile(source):
        return
    if target.is_dir():
        raise UserError(f"{target}: a folder, but a file is written here; move it away")
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
