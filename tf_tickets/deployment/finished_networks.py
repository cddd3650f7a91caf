"""The trained networks of a run's folder, whichever driver made it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from tf_tickets.errors import UserError, require
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs import results
from tf_tickets.runs.files import load_json
from tf_tickets.runs.run_directory import Cell, read_record

# What tells the networks of one level apart; flags of the same names choose among them.
CHOICES = ("data_set", "model", "regime", "method", "seed")
DEFAULT_EXAMPLES = 1000
# How many networks an error lists before it only counts them.
_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class FinishedNetwork:
    """A network at the end of a level.

    Attributes:
      run: the run's folder.
      cell: where it belongs in the run.
      level: its level.
      path: its ticket, a `.npz` file, or the network itself, a `.keras` file, where structures
        were removed instead of masked.
    """

    run: Path
    cell: Cell
    level: int
    path: Path

    @property
    def has_masks(self) -> bool:
        """Whether it is a ticket."""
        return self.path.suffix == ".npz"

    @property
    def config(self) -> dict:
        """The run's flags.

        Raises:
          UserError: config.json is missing or damaged.
        """
        return read_config(self.run)

    def measured(self) -> list[results.Result]:
        """What the run measured of it on test data, in the records' order.

        Raises:
          UserError: a record is damaged.
        """
        folder = self.run / "records" / self.cell.path
        rows = []
        for record in sorted(folder.glob("*.csv")):
            rows += read_record(self.run, record)
        return [row for row in rows if row.level == self.level and row.metric.startswith("test/")]


def read_config(run: Path) -> dict:
    """A run's flags.

    Raises:
      UserError: the folder holds no run, or config.json is damaged.
    """
    path = run / "config.json"
    if not path.is_file():
        raise UserError(f"--run_dir={run}: no run (no config.json); expected a driver's run folder")
    config = load_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path}: damaged; expected a JSON object")
    return config


def find_network(run: Path, level: int, wanted: Mapping[str, object]) -> FinishedNetwork:
    """Finds the one finished network of a level that has what is wanted.

    Args:
      run: the run's folder.
      level: the level's number; 0 is the dense network.
      wanted: name of `CHOICES` → value; those left out may have any.

    Raises:
      UserError: there is no run, no such network, or more than one.
    """
    read_config(run)
    networks = finished_networks(run)
    if not networks:
        raise UserError(f"--run_dir={run}: no level is finished yet; expected a ticket or network")
    fitting = [each for each in networks if _fits(each, wanted)]
    if not fitting:
        given = " ".join(f"--{name}={value}" for name, value in wanted.items())
        there = _values(networks, only_several=False)
        raise UserError(f"{given}: nothing like that in {run}; it has {there}")
    at_level = [each for each in fitting if each.level == level]
    if not at_level:
        levels = ", ".join(str(number) for number in sorted({each.level for each in fitting}))
        raise UserError(f"--level={level}: not finished in {run}; levels there are {levels}")
    if len(at_level) > 1:
        raise UserError(
            f"--level={level}: {len(at_level)} networks in {run}; choose one by {_values(at_level)}"
        )
    return at_level[0]


def finished_networks(run: Path) -> list[FinishedNetwork]:
    """All networks of a run whose level is finished, in the order of their paths."""
    found = []
    for path in sorted([*run.glob("tickets/**/level_*.npz"), *_keras_files(run)]):
        inside = path.relative_to(run)
        cell, level = _cell(inside.parts[1:-1]), inside.stem.removeprefix("level_")
        if cell and level.isdecimal() and _is_finished(run, cell, inside.stem):
            found.append(FinishedNetwork(run, cell, int(level), path))
    return found


def refuse_other_level(network: FinishedNetwork, ticket: Ticket | None) -> None:
    """Raises a `UserError` if a ticket says that it is of another level than its place does."""
    if ticket and ticket.provenance.level != network.level:
        raise UserError(
            f"{network.path}: a ticket of level {ticket.provenance.level}; expected one of level "
            f"{network.level} in this place"
        )


def require_data_dir(source: str, data_dir: str | None) -> None:
    """Raises a `UserError` about a `--data_dir` that the run's data do not need."""
    if source == "embedded" and data_dir is not None:
        raise UserError(f"--data_dir={data_dir}: the run's data are embedded; leave the flag out")


def examples_to_judge_on(wanted: int | None, available: int) -> int:
    """How many test examples an artifact is judged on.

    Args:
      wanted: 0 for all there are; None for `DEFAULT_EXAMPLES`, or all of fewer.
      available: how many there are.

    Raises:
      UserError: more are wanted.
    """
    if wanted is None:
        return min(DEFAULT_EXAMPLES, available)
    require(wanted <= available, "examples", wanted, f"1 to {available}, or 0 for all")
    return wanted or available


def _keras_files(run):
    return run.glob("checkpoints/**/level_*.keras")


def _is_finished(run, cell, stem):
    weights = run / "checkpoints" / cell.path / stem
    trained = any(weights.with_suffix(suffix).is_file() for suffix in (".npz", ".keras"))
    return trained and (run / "records" / cell.path / f"{stem}.csv").is_file()


def _cell(parts) -> Cell | None:
    """The cell of a path, see `Cell.path`."""
    data_set, *model, regime, method, seed = parts if len(parts) in (4, 5) else [""] * 4
    number = seed.removeprefix("seed_")
    if not number.isdecimal():
        return None
    return Cell(data_set, regime, method, int(number), "".join(model))


def _fits(network, wanted):
    return all(getattr(network.cell, name) == value for name, value in wanted.items())


def _values(networks, only_several=True):
    """The flags that choose networks, with their values; those that tell them apart, if any do."""
    values = {
        name: sorted({str(getattr(network.cell, name)) for network in networks}) for name in CHOICES
    }
    shown = {name: found for name, found in values.items() if found != [""]}
    several = {name: found for name, found in shown.items() if len(found) > 1}
    shown = several if several and only_several else shown
    return " ".join(f"--{name}={_in_words(found)}" for name, found in shown.items())


def _in_words(values):
    more = "|…" if len(values) > _SHOWN else ""
    return "|".join(values[:_SHOWN]) + more
