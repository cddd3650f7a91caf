"""The one schema of everything that is measured: a tidy CSV, one number a row."""

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

from tf_tickets.errors import UserError


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
    rows = csv.reader(io.StringIO(text))
    header = next(rows, [])
    if tuple(header) != Result._fields:
        raise UserError(f"{source}: its header is {header}, expected {list(Result._fields)}")
    return [_parse_row(row, f"{source}:{number}") for number, row in enumerate(rows, start=2)]


def _parse_row(row, source):
    if len(row) != len(Result._fields):
        raise UserError(f"{source}: {len(row)} columns, expected {len(Result._fields)}")
    fields = dict(zip(Result._fields, row))
    try:
        return Result(**{name: _NUMERIC.get(name, str)(text) for name, text in fields.items()})
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None
