"""The one schema of everything that is measured: a tidy CSV, one number a row."""

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable, Sequence
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
    counts optimizer steps since the level began. `labels` are further columns, (name, text),
    by which a study tells its networks apart; what has none of a name is empty there.
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
    labels: tuple[tuple[str, str], ...] = ()


# The columns that all results have.
COLUMNS = Result._fields[:-1]
_NUMERIC = {"seed": int, "level": int, "sparsity": float, "iteration": int, "value": float}
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST_LABELS = 50


def to_csv(
    results: Sequence[Result], labels: Sequence[str] | None = None, header: bool = True
) -> str:
    """Writes results as CSV text; floats keep every bit (`repr`).

    Args:
      results: a row each.
      labels: names of the labels' columns; None for those that the results have.
      header: whether a line with the columns' names comes first.
    """
    names = label_names(results) if labels is None else labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow([*COLUMNS, *names])
    for *columns, given in results:
        of_row = dict(given)
        writer.writerow([*columns, *(of_row.get(name, "") for name in names)])
    return text.getvalue()


def label_names(results: Iterable[Result]) -> list[str]:
    """The names of the labels of any of the results, in the order in which they appear."""
    return list(dict.fromkeys(name for row in results for name, _ in row.labels))


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


def read_label_names(path: Path) -> list[str]:
    """The names of a file's label columns; raises as `read_results`."""
    first_line = read_text(path).partition("\n")[0]
    return _labels_of(next(csv.reader([first_line]), []), str(path))


def write_record(path: Path, results: Iterable[Result]) -> None:
    """Writes a record: results, with their SHA-256 before them, as no other file has them."""
    text = to_csv(list(results))
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
        labels = _labels_of(next(rows, []), source)
        results = []
        for number, row in enumerate(rows, start=first_line + 1):
            results.append(_parse_row(row, labels, f"{source}:{number}"))
        return results
    except csv.Error as error:
        raise UserError(f"{source}:{number}: no CSV ({one_line(error)})") from None


def _labels_of(header, source):
    """The names of the columns after those that all results have."""
    count = len(COLUMNS)
    labels = header[count:]
    if tuple(header[:count]) != COLUMNS:
        found = one_line(",".join(header) or "empty", 40)
        raise UserError(f"{source}: its header is {found}, expected {','.join(COLUMNS)}")
    are_names = all(_LABEL.fullmatch(name) for name in labels) and not {*labels} & {*COLUMNS}
    if not are_names or len({*labels}) < len(labels) or len(labels) > _MOST_LABELS:
        found = one_line(",".join(labels), 40)
        raise UserError(f"{source}: its further columns are {found}, expected different names")
    return labels


def _parse_row(row, labels, source):
    expected = len(COLUMNS) + len(labels)
    if len(row) != expected:
        raise UserError(f"{source}: {len(row)} columns, expected {expected}")
    of_row = tuple((name, text) for name, text in zip(labels, row[len(COLUMNS) :]) if text)
    fields = {name: _NUMERIC.get(name, str) for name in COLUMNS}
    try:
        columns = (kind(text) for kind, text in zip(fields.values(), row))
        result = Result(*columns, of_row)
    except ValueError as error:
        raise UserError(f"{source}: {one_line(error)}") from None
    if min(result.seed, result.level, result.iteration) < 0:
        raise UserError(f"{source}: a seed, level or iteration below 0")
    return result
