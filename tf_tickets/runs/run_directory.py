"""Where a run lives: its configuration, finished levels and everything made from them."""

import errno
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tf_tickets.errors import UserError, one_line
from tf_tickets.runs import results
from tf_tickets.runs.files import (
    TEMPORARY_PREFIX,
    atomic_write_json,
    atomic_write_text,
    load_json,
    naming_full_disk,
)

# What drivers make in a run's folder; the first ones hold work.
_WORK = ("records", "tickets", "checkpoints")
_FOLDERS = (*_WORK, "attacks", "exports", "figures", "tensorboard")
_SUFFIXES = (".csv", ".json", ".keras", ".md", ".npz", ".png")


class Cell(NamedTuple):
    """One search of a study: a data set, a training regime, a pruning strategy, a seed.

    `model` names the network where a study has several.
    """

    data_set: str
    regime: str
    method: str
    seed: int
    model: str = ""

    @property
    def path(self) -> Path:
        """The cell's folder below `tickets/`, `checkpoints/`, `records/` and `tensorboard/`."""
        return Path(self.data_set, self.model, self.regime, self.method, f"seed_{self.seed}")

    def results(
        self,
        experiment: str,
        level: int,
        sparsity: float,
        measured: Iterable[tuple[int, str, float]],
        labels: tuple[tuple[str, str], ...] = (),
    ) -> list[results.Result]:
        """The rows of what was measured here, as (iteration, metric, value)."""
        return [
            results.Result(
                experiment,
                self.data_set,
                self.model,
                self.method,
                self.regime,
                self.seed,
                level,
                sparsity,
                *entry,
                labels,
            )
            for entry in measured
        ]

    @property
    def description(self) -> str:
        """For the progress bar."""
        parts = (self.data_set, self.model, self.regime, self.method, f"seed {self.seed}")
        return " ".join(part for part in parts if part)


class RunDirectory:
    """A run's folder, created on first use and resumed afterwards.

    A level counts as finished once its file in `records/` exists; that file is
    written last. `results.csv` is all records in the order of their paths.

    Args:
      path: the folder.
      config: everything that was asked for; JSON values only. The folder may hold what another
        configuration of the same driver asked for.
      environment: versions and hardware, kept for the reader.
      labels: names of the columns of `results.csv` beside those that all results have.
      writable: False on every worker but the chief of a multi-worker run, which
        then reads the chief's folder and writes nothing.

    Raises:
      UserError: the folder holds a run of another driver or of an earlier version, something that
        is not a run, a damaged record, or files where folders must be.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping,
        environment: Mapping,
        writable: bool = True,
        labels: Sequence[str] = (),
    ):
        self.path = path
        self._asked_for_labels = self._labels = tuple(labels)
        self.writable = writable
        self._refuse_strangers(config)
        self._refuse_misplaced()
        if writable:
            self._refuse_unwritable()
            self._remove_unfinished_files()
            atomic_write_json(path / "environment.json", environment)
            atomic_write_json(self._config_path, config)
            self.write_results()

    @property
    def _config_path(self) -> Path:
        return self.path / "config.json"

    def initial_weights_path(self, cell: Cell) -> Path:
        """The weights that the cell's tickets belong to; a model's searches share them."""
        shared = Path(cell.data_set, cell.model, f"seed_{cell.seed}")
        return self.path / "tickets" / (shared if cell.model else cell.path) / "initial_weights.npz"

    def ticket_path(self, cell: Cell, level: int) -> Path:
        """The masks that the level trained under."""
        return self.path / "tickets" / cell.path / f"level_{level:02d}.npz"

    def trained_weights_path(self, cell: Cell, level: int) -> Path:
        """The weights at the end of the level."""
        return self.path / "checkpoints" / cell.path / f"level_{level:02d}.npz"

    def trajectory_path(self, cell: Cell, level: int) -> Path:
        """The weights on the way to those at the end of the level, where they were kept."""
        return self.path / "checkpoints" / cell.path / f"level_{level:02d}_trajectory.npz"

    def rewind_weights_path(self, cell: Cell) -> Path:
        """The weights of level 0 at the iteration that later levels rewind to."""
        return self.path / "checkpoints" / cell.path / "rewind.npz"

    def events_directory(self, cell: Cell, level: int) -> Path:
        """The level's TensorBoard events; TensorBoard shows it as a run of its own."""
        return self.path / "tensorboard" / cell.path / f"level_{level:02d}"

    @property
    def results_path(self) -> Path:
        """All results of the run so far."""
        return self.path / "results.csv"

    def is_finished(self, cell: Cell, level: int) -> bool:
        """Whether the level's results are on disk."""
        return self.record_path(cell, level).exists()

    def extra_record_path(self, cell: Cell, name: str) -> Path:
        """Results measured on a cell's finished network, apart from its training."""
        return self.path / "records" / cell.path / f"{name}.csv"

    def add_record(self, cell: Cell, name: str, rows: Iterable[results.Result]) -> None:
        """Records results measured on a cell's finished network."""
        if self.writable:
            results.write_record(self.extra_record_path(cell, name), rows)

    def finish_level(self, cell: Cell, level: int, rows: Iterable[results.Result]) -> None:
        """Records the level's results, which marks it as finished."""
        if not self.writable:
            return
        rows = list(rows)
        results.write_record(self.record_path(cell, level), rows)
        with (
            naming_full_disk(self.results_path),
            self.results_path.open("a", encoding="utf-8") as file,
        ):
            file.write(results.to_csv(rows, self._labels, header=False))

    def finished_results(self, cell: Cell, level: int) -> list[results.Result]:
        """The results of a finished level."""
        return read_record(self.path, self.record_path(cell, level))

    def discard(self) -> None:
        """Removes the folder again, unless anything was computed in it."""
        if self.writable and not self._holds_work():
            shutil.rmtree(self.path, ignore_errors=True)

    def write_results(self, asked_for: Collection[Path] | None = None) -> None:
        """Makes `results.csv` anew from the records.

        Args:
          asked_for: those that count, where a run has grown; None for all.
        """
        rows = []
        for path in sorted((self.path / "records").rglob("*.csv")):
            is_ours = path.parent.name.startswith("seed_")  # Others are the user's.
            if is_ours and (asked_for is None or path in asked_for):
                rows += read_record(self.path, path)
        # What is there may have other labels than what is asked for now.
        names = [*self._asked_for_labels, *results.label_names(rows)]
        self._labels = tuple(dict.fromkeys(names))
        atomic_write_text(self.results_path, results.to_csv(rows, self._labels))

    def record_path(self, cell: Cell, level: int) -> Path:
        """The results of a finished level; deleting the file has it trained anew."""
        return self.path / "records" / cell.path / f"level_{level:02d}.csv"

    def _refuse_strangers(self, config):
        if self._config_path.exists():
            if self._read_config().keys() != config.keys() and self._holds_work():
                raise UserError(
                    f"--run_dir={self.path}: holds a run of another driver or of an earlier "
                    "version, which cannot go on; what it holds stays readable. Give another "
                    "--run_dir"
                )
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            if not self._is_interrupted_creation():
                raise UserError(
                    f"--run_dir={self.path}: exists but holds no run (no config.json). "
                    "Give an empty or a new folder"
                )

    def _read_config(self):
        try:
            config = load_json(self._config_path)
            if isinstance(config, dict):
                return config
            reason = f"{self._config_path}: expected a JSON object"
        except UserError as error:
            reason = str(error)
        raise UserError(f"{reason}; put back what it was, or give another --run_dir")

    def _holds_work(self):
        """Whether anything was computed here."""
        return any((self.path / folder).exists() for folder in _WORK)

    def _refuse_misplaced(self):
        """Says before the work, not after it, that a file lies where a folder must be made."""
        for place in (self.path / name for name in _FOLDERS):
            if place.exists() and not place.is_dir():
                raise _misplaced(place)
        for place in self.path.glob("*"):
            if place.suffix in _SUFFIXES and place.is_dir():
                raise _misplaced(place)
        for place in (place for name in _WORK for place in (self.path / name).rglob("*")):
            if place.name.startswith("."):
                continue
            # All our files have a suffix, and no folder has one of a file's.
            if place.suffix in _SUFFIXES if place.is_dir() else not place.suffix:
                raise _misplaced(place)

    def _refuse_unwritable(self):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise UserError(
                f"--run_dir={self.path}: cannot be written ({error.strerror}). "
                "Give a folder that can be made and written to"
            ) from None

    def _is_interrupted_creation(self):
        """Killed between its first files: nothing but what `__init__` writes is there."""
        return self.path.is_dir() and all(
            entry.name == "environment.json" or entry.name.startswith(TEMPORARY_PREFIX)
            for entry in self.path.iterdir()
        )

    def _remove_unfinished_files(self):
        """What `atomic_path` left when the process was killed."""
        for leftover in list(self.path.rglob(f"{TEMPORARY_PREFIX}*")):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)


def read_record(run: Path, path: Path) -> list[results.Result]:
    """Reads a record of a run.

    Args:
      run: the run's folder.
      path: the record, below `records/`.

    Raises:
      UserError: it is missing or damaged, or a level's that is of another level or cell than its
        place says.
    """
    is_level = path.stem.startswith("level_")
    try:
        rows = results.read_record(path)
        if is_level:
            _require_place(path, path.relative_to(run / "records"), rows)
        return rows
    except UserError as error:
        yours = "" if is_level else ", or move it away if it is yours"
        raise UserError(f"{error}; delete it to make it anew{yours}") from None


def _misplaced(place):
    found, needed = ("folder", "file") if place.is_dir() else ("file", "folder")
    return UserError(f"{place}: a {found}, but a {needed} is needed here; move it away")


def _require_place(path, inside, rows):
    """Raises a `UserError` if a level's record is of another level or cell than its place says."""
    for row in rows:
        cell = Cell(row.data_set, row.regime, row.method, row.seed)
        cells = (cell.path, cell._replace(model=row.model).path)
        # Attacks' records are called after their level, too, such as level_30_test_textfooler.
        is_of_level = f"{inside.stem}_".startswith(f"level_{row.level:02d}_")
        if inside.parent not in cells or not is_of_level:
            found = one_line(f"level {row.level} of {cells[-1]}")
            raise UserError(f"{path}: damaged (it is of {found})")
