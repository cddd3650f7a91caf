"""The networks of a run from which structures were taken out, and what was taken out."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.models.keras_files import read_keras_model
from tf_tickets.runs.files import atomic_path, atomic_write_json, load_json
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.structured.criteria import Scores
from tf_tickets.structured.surgery import Removal


@dataclasses.dataclass(frozen=True)
class NetworkStore:
    """Reads and writes the networks of one cell.

    Attributes:
      run: the run directory.
      cell: what the networks belong to.
    """

    run: RunDirectory
    cell: Cell

    def network_path(self, level: int) -> Path:
        """The trained network, a `.keras` file."""
        return self.run.trained_weights_path(self.cell, level).with_suffix(".keras")

    def removal_path(self, level: int) -> Path:
        """What was taken out of the network before, as JSON."""
        return self.run.ticket_path(self.cell, level).with_suffix(".json")

    def save_network(self, level: int, model: keras.Model) -> None:
        """Writes a trained network."""
        if self.run.writable:
            with atomic_path(self.network_path(level)) as temporary:
                model.save(temporary, save_format="keras")
            return
        # BatchNorm's statistics are averaged over all workers as one saves.
        with tempfile.TemporaryDirectory() as nowhere:
            model.save(Path(nowhere, "network.keras"), save_format="keras")

    def load_network(self, level: int) -> keras.Model:
        """Reads a trained network.

        Raises:
          UserError: it is missing or damaged.
        """
        path = self.network_path(level)
        try:
            return read_keras_model(path)
        except UserError as error:
            record = self.run.record_path(self.cell, level)
            raise UserError(f"{error}; to train it anew, delete {record}") from None

    def save_removal(
        self, level: int, removal: Removal, scores: Scores, provenance: Mapping
    ) -> None:
        """Writes what is taken out, why, and of what."""
        value = {
            **removal.to_json(),
            "scores": {
                "filters": {name: values.tolist() for name, values in scores.filters.items()},
                "blocks": dict(scores.blocks),
            },
            "provenance": dict(provenance),
        }
        if self.run.writable:
            atomic_write_json(self.removal_path(level), value)

    def load_removal(self, level: int) -> Removal:
        """Reads what was taken out.

        Raises:
          UserError: the file is damaged.
        """
        path = self.removal_path(level)
        try:
            content = load_json(path)
            if isinstance(content, dict):
                content = {name: content.get(name) for name in ("filters", "blocks")}
            return Removal.from_json(content, path)
        except UserError as error:
            raise UserError(f"{error}; to choose anew, delete it") from None
