"""A run's folder as a view of the store: names for people that lead to finished work."""

import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.models.weights import Weights
from tf_tickets.runs.events import LevelEvents
from tf_tickets.runs.files import atomic_path, load_arrays, save_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.work.nodes import (
    Cut,
    FoundTicket,
    Fresh,
    Imported,
    Inherited,
    Measurement,
    Node,
    Training,
)
from tf_tickets.work.performing import parameters
from tf_tickets.work.store import Store

# Labels that name the place in a run's folder.
_NAMING = (*Cell._fields, "level")


@dataclasses.dataclass(frozen=True)
class Shown:
    """Work whose numbers are recorded together.

    Attributes:
      nodes: measurements of one network, all with its labels; or a network or ticket by itself.
      record: the record's name; None where the numbers join those of the training.
      files: (name in the folder of the first node, place in the run's folder) of what is shown
        beside the numbers.
      trajectory: iterations that the training keeps, whose weights are shown one after the other.
    """

    nodes: tuple[Node, ...]
    record: str | None = None
    files: tuple[tuple[str, str], ...] = ()
    trajectory: tuple[int, ...] = ()

    @property
    def of(self) -> Training | Imported | FoundTicket:
        """The network that was measured; or what is shown by itself."""
        first = self.nodes[0]
        return first if isinstance(first, (Training, Imported, FoundTicket)) else first.of

    @property
    def labels(self) -> Mapping:
        """What tells it from others."""
        return self.nodes[0].labels


def label_names(shown: Iterable[Shown]) -> list[str]:
    """The labels that become columns of `results.csv` beside those that all results have."""
    return list(dict.fromkeys(name for each in shown for name in _others(each.labels)))


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """Shows what a run asked for, under the names that its labels give.

    Attributes:
      run: the run's folder.
      store: where work is kept.
      experiment: the run's name in the results.
      shown: all that the run asked for. A training is shown with what its network met.
      start_of: see `Setup`.
      folder_a_model: whether names lead through a folder for each model.
    """

    run: RunDirectory
    store: Store
    experiment: str
    shown: tuple[Shown, ...]
    start_of: Callable[[Training, Store], Weights]
    folder_a_model: bool = True

    def events_path(self, training: Training) -> Path:
        """Where a training's TensorBoard events go: under the first of its names."""
        labels = self._first_labels.get(training.identity, training.labels)
        return self.run.events_directory(self._place(labels), labels["level"])

    def show(self, node: Node) -> None:
        """Makes what was finished visible, under all its names."""
        if not self.run.writable:
            return
        for shown in self._shown_with.get(node.identity, ()):
            self._show_if_finished(shown)

    def show_finished(self) -> None:
        """Makes all that is finished visible, and `results.csv` anew.

        That is of what was asked for now. What another configuration asked for stays where it is,
        but no average may take it for the same.
        """
        if not self.run.writable:
            return
        for shown in self.shown:
            self._show_if_finished(shown)
        self.run.write_results({self._record_path(shown) for shown in self.shown})

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
        return {shown.of.identity: shown.labels for shown in reversed(self.shown)}

    def _show_if_finished(self, shown):
        if not all(map(self.store.is_finished, _shown_from(shown))):
            return
        if shown.record:
            self._show_apart(shown)
        elif isinstance(shown.of, FoundTicket):
            path = self.run.ticket_path(self._place(shown.labels), shown.labels["level"])
            self._link(shown.of, self.store.ticket_path(shown.of), path)
        else:
            self._show_network(shown)

    def _show_network(self, shown):
        network, run, store = shown.of, self.run, self.store
        place, level = self._place(shown.labels), shown.labels["level"]
        rows = self._rows(shown, [*store.record(network).history, *self._measured(shown)])
        weights, ticket = run.trained_weights_path(place, level), run.ticket_path(place, level)
        if store.has_network(network):
            self._link(network, store.network_path(network), weights.with_suffix(".keras"))
        else:
            self._link(network, store.weights_path(network), weights)
        if store.has_ticket(network):
            self._link(network, store.ticket_path(network), ticket)
        if isinstance(network.network, Cut):
            removal = store.removal_path(network.network)
            self._link(network.network, removal, ticket.with_suffix(".json"))
        is_shown = run.is_finished(place, level) and run.finished_results(place, level) == rows
        # What is there may be of an attempt that was killed, or of what the name stood for before.
        way = run.trajectory_path(place, level)
        if shown.trajectory and not (is_shown and way.exists()):
            self._show_trajectory(shown, way)
        if isinstance(network, Training):
            if not is_shown:
                self._show_start(network, place)
            if not is_shown or not run.events_directory(place, level).exists():
                self._show_events(network, run.events_directory(place, level))
        if not is_shown:
            run.finish_level(place, level, rows)

    def _show_start(self, training, place):
        """The weights that the trainings of a network and a seed begin with, but redrawn ones."""
        start, path = training.start, self.run.initial_weights_path(place)
        if isinstance(start, Inherited):
            if start.at is not None:
                kept = self.store.weights_path(start.of, start.at)
                rewind = self.run.rewind_weights_path(self._place(start.of.labels))
                self._link(start.of, kept, rewind)
            return
        if not isinstance(start, Fresh) or start.seed != training.seed:
            return
        if not self.store.has_ticket(training):
            return
        stated = self.store.ticket(training).provenance.initial_weights_sha256
        if not path.exists() or arrays_sha256(load_arrays(path)) != stated:
            save_arrays(path, self.start_of(training, self.store))

    def _show_trajectory(self, shown, path):
        """One file, `<number>/<weight path>` → array, of all weights on the way."""
        weights = {
            f"{number:03d}/{name}": array
            for number, iteration in enumerate(shown.trajectory)
            for name, array in self.store.weights(shown.of, iteration).items()
        }
        save_arrays(path, weights)

    def _show_events(self, training, path):
        history = self.store.record(training).history
        events = LevelEvents(path, parameters(training))
        events.add_history(list(history))
        masks = self.store.ticket(training).masks if self.store.has_ticket(training) else {}
        events.finish(masks, history[-1][0])

    def _show_apart(self, shown):
        records = [self.store.record(each) for each in shown.nodes]
        rows = [
            row
            for measurement, record in zip(shown.nodes, records)
            for row in self._rows_apart(shown.labels, measurement, record)
        ]
        for name, place in shown.files:
            source = self.store.path(shown.nodes[0]) / name
            self._link(shown.nodes[0], source, self.run.path / place)
        self.run.add_record(self._place(shown.labels), shown.record, rows)

    def _rows_apart(self, labels, measurement, record):
        versions = record.versions or [{}] * len(record.history)
        return [
            row
            for version, entry in zip(versions, record.history, strict=True)
            if not isinstance(measurement, Measurement) or _is_new(entry[1])
            for row in self._named({**labels, **version}, record.sparsity, [entry])
        ]

    def _link(self, node, source, target):
        """Another name for a file of the store, or a copy where there can be no such names.

        What is damaged does not take the place of what is whole.
        """
        if source.is_file() and target.exists() and target.samefile(source):
            return
        self.store.require_unchanged(node, source.name)
        with atomic_path(target) as temporary:
            try:
                os.link(source, temporary)
            except OSError:
                shutil.copyfile(source, temporary)

    def _measured(self, shown):
        return [entry for each in shown.nodes for entry in self.store.record(each).history]

    def _rows(self, shown, history):
        """The rows of a history, in which the same may have been measured twice."""
        values = {(at, metric): value for at, metric, value in history}
        history = [(at, metric, value) for (at, metric), value in values.items()]
        return self._named(shown.labels, self.store.record(shown.nodes[0]).sparsity, history)

    def _named(self, labels, sparsity, history):
        """The rows of a history, with labels."""
        others = tuple((name, f"{labels[name]}") for name in _others(labels))
        cell = _cell(labels)
        return cell.results(self.experiment, labels["level"], sparsity, history, others)

    def _place(self, labels):
        cell = _cell(labels)
        return cell if self.folder_a_model else cell._replace(model="")

    def _record_path(self, shown):
        place = self._place(shown.labels)
        if shown.record:
            return self.run.extra_record_path(place, shown.record)
        return self.run.record_path(place, shown.labels["level"])


def _shown_from(shown):
    """What must be there for something to be shown: of a network also weights that it keeps."""
    if shown.record:
        return shown.nodes
    cut = getattr(shown.of, "network", None)
    return (*shown.nodes, shown.of, *([cut] if isinstance(cut, Cut) else []))


def _is_new(metric):
    """Natural accuracy was recorded with the training."""
    return metric.endswith("/accuracy") and "/natural/" not in metric


def _others(labels):
    """The labels that no column of its own has yet, but for what does not apply."""
    return [name for name in labels if name not in _NAMING and labels[name] is not None]


def _cell(labels):
    return Cell(
        labels["data_set"], labels["regime"], labels["method"], labels["seed"], labels["model"]
    )
