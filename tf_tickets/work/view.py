"""A run's folder as a view of the store: names for people that lead to finished work."""

import dataclasses
import functools
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.runs.events import LevelEvents
from tf_tickets.runs.files import atomic_path, load_arrays, save_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.work.image_work import fresh_weights, parameters
from tf_tickets.work.nodes import FoundTicket, Imported, Inherited, Measurement, Node, Training
from tf_tickets.work.store import Store


@dataclasses.dataclass(frozen=True)
class Shown:
    """Measurements whose numbers are recorded together, or what is not measured.

    Attributes:
      measurements: of one network, all with its labels.
      record: the record's name; None where the numbers join those of the training.
      unmeasured: a network or ticket that is shown by itself; then there are no measurements.
      trajectory: iterations that the training keeps, whose weights are shown one after the other.
      awaited: whether the run does what is missing; else this is only shown if it is there.
    """

    measurements: tuple[Measurement, ...] = ()
    record: str | None = None
    unmeasured: Training | Imported | FoundTicket | None = None
    trajectory: tuple[int, ...] = ()
    awaited: bool = True

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What must be finished for it."""
        return self.measurements or (self.unmeasured,)

    @property
    def training(self) -> Training | Imported | FoundTicket:
        """Of the network; or the ticket."""
        return self.unmeasured or self.measurements[0].of

    @property
    def labels(self) -> Mapping:
        """What tells the network from others."""
        return self.nodes[0].labels


def wanted(shown: Iterable[Shown]) -> list[Node]:
    """The work that a run does for what it shows."""
    return [node for each in shown if each.awaited for node in each.nodes]


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Shows what a run asked for, under the names that its labels give.

    Attributes:
      run: the run's folder.
      store: where work is kept.
      experiment: the run's name in the results.
      shown: all that the run asked for. A training is shown with what its network met.
      folder_a_model: whether names lead through a folder for each model.
    """

    run: RunDirectory
    store: Store
    experiment: str
    shown: tuple[Shown, ...]
    folder_a_model: bool = True

    @property
    def wanted(self) -> list[Node]:
        """All that the run asked for."""
        return wanted(self.shown)

    def events_path(self, training: Training) -> Path:
        """Where a training's TensorBoard events go: under the first of its names."""
        labels = self._first_labels.get(training.identity, training.labels)
        return self.run.events_directory(self._place(labels), labels["level"])

    def show(self, node: Node) -> None:
        """Makes what was finished visible, under all its names."""
        if not self.run.writable:
            return
        for shown in self._shown_with.get(node.identity, ()):
            if self._is_there(shown):
                self._show(shown)

    def show_finished(self) -> None:
        """Makes all that is finished visible, and `results.csv` anew.

        That is of what was asked for now. What another configuration asked for stays where it is,
        but no average may take it for the same.
        """
        if not self.run.writable:
            return
        for shown in self.shown:
            if self._is_there(shown):
                self._show(shown)
        self.run.write_results({self._record_path(shown) for shown in self.shown})

    def _is_there(self, shown):
        """Whether all of it is finished: of a network also weights that it is to keep."""
        return all(map(self.store.is_finished, (*shown.nodes, shown.training)))

    @functools.cached_property
    def _shown_with(self):
        """Identity of work → all that is shown with it, each with labels of its own."""
        found: dict[str, list[Shown]] = {}
        for shown in self.shown:
            for node in shown.nodes:
                found.setdefault(node.identity, []).append(shown)
        return found

    @functools.cached_property
    def _first_labels(self):
        """Identity of a training → the first labels that it is shown with."""
        return {shown.training.identity: shown.labels for shown in reversed(self.shown)}

    def _show(self, shown):
        if shown.record:
            self._show_apart(shown)
        elif isinstance(shown.training, FoundTicket):
            path = self.run.ticket_path(self._place(shown.labels), shown.labels["level"])
            _link(self.store.ticket_path(shown.training), path)
        else:
            self._show_network(shown)

    def _show_network(self, shown):
        training, run, store = shown.training, self.run, self.store
        place, level = self._place(shown.labels), shown.labels["level"]
        rows = self._rows(shown, [*store.record(training).history, *self._measured(shown)])
        _link(store.weights_path(training), run.trained_weights_path(place, level))
        _link(store.ticket_path(training), run.ticket_path(place, level))
        is_shown = run.is_finished(place, level) and run.finished_results(place, level) == rows
        # What is there may be of an attempt that was killed, or of what the name stood for before.
        way = run.trajectory_path(place, level)
        if shown.trajectory and not (is_shown and way.exists()):
            self._show_trajectory(shown, way)
        if isinstance(training, Training):
            if not is_shown:
                self._show_start(training, place)
            if not is_shown or not run.events_directory(place, level).exists():
                self._show_events(training, run.events_directory(place, level))
        if not is_shown:
            run.finish_level(place, level, rows)

    def _show_start(self, training, place):
        """The weights that the trainings of a network and a seed begin with, but redrawn ones."""
        start, path = training.start, self.run.initial_weights_path(place)
        if isinstance(start, Inherited):
            if start.at is not None:
                kept = self.store.weights_path(start.of, start.at)
                _link(kept, self.run.rewind_weights_path(place))
            return
        if start.seed != training.seed:
            return
        stated = self.store.ticket(training).provenance.initial_weights_sha256
        if not path.exists() or arrays_sha256(load_arrays(path)) != stated:
            save_arrays(path, fresh_weights(training.network, start.seed))

    def _show_trajectory(self, shown, path):
        """One file, `<number>/<weight path>` → array, of all weights on the way."""
        weights = {
            f"{number:03d}/{name}": array
            for number, iteration in enumerate(shown.trajectory)
            for name, array in self.store.weights(shown.training, iteration).items()
        }
        save_arrays(path, weights)

    def _show_events(self, training, path):
        history = self.store.record(training).history
        events = LevelEvents(path, parameters(training))
        events.add_history(list(history))
        events.finish(self.store.ticket(training).masks, history[-1][0])

    def _show_apart(self, shown):
        accuracies = [
            (at, metric, value)
            for at, metric, value in self._measured(shown)
            # Natural accuracy was recorded with the training.
            if metric.endswith("/accuracy") and "/natural/" not in metric
        ]
        place, rows = self._place(shown.labels), self._rows(shown, accuracies)
        self.run.add_record(place, shown.record, rows)

    def _measured(self, shown):
        return [entry for each in shown.measurements for entry in self.store.record(each).history]

    def _rows(self, shown, history):
        """The rows of a history, in which the same may have been measured twice."""
        values = {(at, metric): value for at, metric, value in history}
        history = [(at, metric, value) for (at, metric), value in values.items()]
        sparsity = self.store.record(shown.training).sparsity
        named = _cell(shown.labels)
        return named.results(self.experiment, shown.labels["level"], sparsity, history)

    def _place(self, labels):
        cell = _cell(labels)
        return cell if self.folder_a_model else cell._replace(model="")

    def _record_path(self, shown):
        place = self._place(shown.labels)
        if shown.record:
            return self.run.extra_record_path(place, shown.record)
        return self.run.record_path(place, shown.labels["level"])


def _cell(labels):
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
