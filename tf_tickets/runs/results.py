"""The one schema of everything that is measured: a tidy CSV, one number a row."""

import csv
import hashlib
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tf_tickets.errors import UserError, one_line
from tf_tickets.runs.files import atomic_write_text, read_text

# Starts the first line of a record, which says the SHA-256 of all that follows it.
_SEAL = "# sha256 "


class Result(NamedTuple):
    """One measured number and where it belongs.

    `metric` is `<split>/<attack>/<quantity>`, for example `test/pgd/accuracy`;
    the attack `natural` stands for none. Accuracies lie in [0, 1], losses are in
    nats, `sparsity` is the removed fraction of the prunable weights, `iteration`
    counts optimizer steps since the level began.
    """

    experiment: str
    data_set: str
    model: str
    method: str
    regime: str
    seed: int
    level: int
    sparsity: float
    iteration: int
    metric: str
    value: float


_NUMERIC = {name: kind for name, kind in Result.__annotations__.items() if kind is not str}


def to_csv(results: Iterable[Result], header: bool = True) -> str:
    """Writes results as CSV text; floats keep every bit (`repr`)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(Result._fields)
    writer.writerows(results)
    return text.getvalue()


def from_csv(text: str, source: str) -> list[Result]:
    """Reads what `to_csv` wrote.

    Args:
      text: CSV with a header line.
      source: the file it came from, for messages.

    Raises:
      UserError: another header, or a row that does not fit the schema.
    """
    return _parse(text, source, first_line=1)


def read_results(path: Path) -> list[Result]:
    """Reads a file of results.

    Raises:
      UserError: it is missing or damaged.
    """
    return from_csv(read_text(path), str(path))


def write_record(path: Path, results: Iterable[Result]) -> None:
    """Writes a record: results, with their SHA-256 before them, as no other file has them."""
    text = to_csv(results)
    atomic_write_text(path, f"{_SEAL}{_sha256(text)}\n{text}")


def read_record(path: Path) -> list[Result]:
    """Reads a record.

    Those of earlier versions have no SHA-256; of them it is only asked that they hold a row and
    no NaN.

    Raises:
      UserError: it is missing, or not what was written.
    """
    text = read_text(path)
    first, _, rest = text.partition("\n")
    if not first.startswith(_SEAL):
        rows = from_csv(text, str(path))
        if not rows or any(math.isnan(row.value + row.sparsity) for row in rows):
            raise UserError(f"{path}: damaged ({'holds NaN' if rows else 'holds no row'})")
        return rows
    rows = _parse(rest, str(path), first_line=2)
    if first.removeprefix(_SEAL) != _sha256(rest):
        raise UserError(f"{path}: damaged (its rows do not have the SHA-256 it states)")
    return rows


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _parse(text, source, first_line):
    rows = csv.reader(io.StringIO(text))
    number = first_line
    try:
        header = next(rows, [])
        if tuple(header) != Result._fields:
            expected = ",".join(Result._fields)
            found = one_line(",".join(header) or "empty", 40)
            raise UserError(f"{source}: its header is {found}, expected {expected}")
        results = []
        for number, row in enumerate(rows, start=first_line + 1):
            results.append(_parse_row(row, f"{source}:{number}"))
        return results
    except csv.Error as error:
        raise UserError(f"{source}:{number}: no CSV ({one_line(error)})") from None


def _parse_row(row, source):
    if len(row) != len(Result._fields):
        raise UserError(f"{source}: {len(row)} columns, expected {len(Result._fields)}")
    fields = dict(zip(Result._fields, row))
    try:
        result = Result(**{name: _NUMERIC.get(name, str)(text) for name, text in fields.items()})
    except ValueError as error:
        raise UserError(f"{source}: {one_line(error)}") from None
    if min(result.seed, result.level, result.iteration) < 0:
        raise UserError(f"{source}: a seed, level or iteration below 0")
    return result
