"""A run's folder as a view of the store: names for people that lead to finished work."""

import dataclasses
import functools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.runs.events import LevelEvents
from tf_tickets.runs.files import atomic_path, load_arrays, save_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.work.image_work import fresh_weights, parameters
from tf_tickets.work.nodes import Measurement, Node, Training
from tf_tickets.work.store import Store

_ASSESSMENT = "assessment"


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
        """Makes all that is finished visible, and `results.csv` anew.

        That is of what was asked for now. What another configuration asked for stays where it is,
        but no average may take it for the same.
        """
        for node in {node.identity: node for node in self.wanted}.values():
            if self.store.is_finished(node):
                self.show(node)
        if self.run.writable:
            self.run.write_results(self._records)

    @functools.cached_property
    def _records(self):
        """Where all that was asked for is recorded."""
        run = self.run
        shown = {run.record_path(_cell(each), each.of.rounds) for each in self.measured}
        return shown | {run.extra_record_path(_cell(each), _ASSESSMENT) for each in self.assessed}

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
        measured = [*record.history, *self.store.record(measurement).history]
        rows = cell.results(self.experiment, level, record.sparsity, measured)
        _link(self.store.weights_path(training), run.trained_weights_path(cell, level))
        _link(self.store.ticket_path(training), run.ticket_path(cell, level))
        is_shown = run.is_finished(cell, level) and run.finished_results(cell, level) == rows
        if not is_shown:
            self._show_start(training, run.initial_weights_path(cell))
        # What is there may be of an attempt that was killed, or of what the name stood for before.
        if not is_shown or not run.events_directory(cell, level).exists():
            self._show_events(training, run.events_directory(cell, level), record)
        if not is_shown:
            run.finish_level(cell, level, rows)

    def _show_start(self, training, path):
        """The weights that all trainings of a network and a seed begin with, but redrawn ones."""
        if training.start.seed != training.seed:
            return
        stated = self.store.ticket(training).provenance.initial_weights_sha256
        if not path.exists() or arrays_sha256(load_arrays(path)) != stated:
            save_arrays(path, fresh_weights(training.network, training.start.seed))

    def _show_events(self, training, path, record):
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
        self.run.add_record(cell, _ASSESSMENT, rows)


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
    if not source.exists():
        raise UserError(f"{source}: no such file; delete {source.parent} to have it made anew")
    if target.exists() and target.samefile(source):
        return
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
