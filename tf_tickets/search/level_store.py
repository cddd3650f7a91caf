"""The finished levels of one search, in its run directory."""

from collections.abc import Callable, Mapping

from tf_tickets.errors import UserError, one_line
from tf_tickets.masking.ticket import Provenance, Ticket, load_for, refuse_disagreement
from tf_tickets.models.weights import Weights
from tf_tickets.runs.files import load_arrays, save_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory


class LevelStore:
    """Reads and writes the tickets, weights and results of a cell's levels.

    Args:
      run: the run directory.
      cell: the search.
      experiment: name of the experiment, for results.
      model: name of the model, for results.
    """

    def __init__(self, run: RunDirectory, cell: Cell, experiment: str, model: str):
        self._run = run
        self._cell = cell
        self._experiment = experiment
        self._model = model

    def initial_weights(self, draw: Callable[[], Weights]) -> Weights:
        """The search's initial weights; drawn and stored the first time.

        Raises:
          UserError: the file is damaged.
        """
        path = self._run.initial_weights_path(self._cell)
        if path.exists():
            try:
                return load_arrays(path)
            except UserError as error:
                raise UserError(f"{error}; delete it to have the same drawn again") from None
        weights = draw()
        if self._run.writable:
            save_arrays(path, weights)
        return weights

    def rewind_weights(self) -> Weights:
        """The weights stored by `save_rewind_weights`."""
        return load_arrays(self._run.rewind_weights_path(self._cell))

    def save_rewind_weights(self, weights: Weights) -> None:
        """Stores the weights that later levels rewind to."""
        if self._run.writable:
            save_arrays(self._run.rewind_weights_path(self._cell), weights)

    def is_finished(self, level: int) -> bool:
        """Whether the level need not be trained."""
        return self._run.is_finished(self._cell, level)

    def load(
        self, level: int, shapes: Mapping[str, tuple[int, ...]], expected: Provenance
    ) -> tuple[Ticket, Weights]:
        """The ticket and trained weights of a finished level.

        Raises:
          UserError: a file is damaged, or of another level or search, or belongs to other
            initial weights.
        """
        try:
            ticket = load_for(
                self._run.ticket_path(self._cell, level), shapes, expected.initial_weights_sha256
            )
            _require_descent(self._run.ticket_path(self._cell, level), ticket.provenance, expected)
            path = self._run.trained_weights_path(self._cell, level)
            weights = load_arrays(path)
            refuse_disagreement(ticket, weights, path)
            return ticket, weights
        except UserError as error:
            record = self._run.record_path(self._cell, level)
            raise UserError(f"{error}; to train this level anew, delete {record}") from None

    def save(
        self,
        level: int,
        ticket: Ticket,
        weights: Weights,
        history: list[tuple[int, str, float]],
    ) -> None:
        """Stores a level and marks it as finished."""
        if not self._run.writable:
            return
        save_arrays(self._run.trained_weights_path(self._cell, level), weights)
        ticket.save(self._run.ticket_path(self._cell, level))
        # A study of one model has no folders for models, but its results name it.
        cell = self._cell._replace(model=self._model)
        rows = cell.results(self._experiment, level, ticket.sparsity, history)
        self._run.finish_level(self._cell, level, rows)


def _require_descent(path, found, expected):
    """Raises a `UserError` unless a ticket comes from where the search has its level from."""
    fields = ["algorithm", "model", "seed", "level"]
    if expected.parent_sha256:  # Else the level may have a parent, which is not known here.
        fields.append("parent_sha256")
    for field in fields:
        stated, needed = getattr(found, field), getattr(expected, field)
        if stated != needed:
            raise UserError(f"{path}: {field} {one_line(stated, 60)}, not {one_line(needed, 60)}")
