"""What came of attacked texts: a table with a row each, and the metrics made from it alone."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.stats

from tf_tickets.errors import UserError, one_line
from tf_tickets.runs.files import atomic_write_json, atomic_write_text, load_json, read_text

SUCCEEDED, FAILED, SKIPPED = OUTCOMES = ("succeeded", "failed", "skipped")

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class AttackedText:
    """One example after an attack.

    Attributes:
      index: its position in the split.
      label: its class.
      outcome: of `OUTCOMES`; skipped is one that was classified wrongly to begin with.
      queries: how often the victim was asked, answers from a cache counted.
      predicted: the class of the text as it was.
      predicted_attacked: the class of the text after the attack.
      words_changed: words replaced, inserted and deleted per word of the text, at least 0.
      texts: its parts as they were.
      attacked_texts: its parts after the attack; of a failed attack the best attempt.
    """

    index: int
    label: int
    outcome: str
    queries: int
    predicted: int
    predicted_attacked: int
    words_changed: float
    texts: tuple[str, ...]
    attacked_texts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95% confidence interval; NaN where nothing can be said."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class TextAttackMetrics:
    """The metrics of Tables 1 and 2; shares in [0, 1].

    Attributes:
      examples: N, how many were attacked or skipped.
      clean_accuracy: Clean, not skipped / N.
      accuracy: Aua, failed / N.
      success_rate: Suc, succeeded / not skipped.
      queries: #Query, the mean over those not skipped.
    """

    examples: int
    clean_accuracy: Estimate
    accuracy: Estimate
    success_rate: Estimate
    queries: Estimate


def measure_attack(rows: Sequence[AttackedText]) -> TextAttackMetrics:
    """Makes the metrics of a table; shares with Wilson's interval, the mean with Student's."""
    outcomes = [row.outcome for row in rows]
    attacked = len(rows) - outcomes.count(SKIPPED)
    return TextAttackMetrics(
        examples=len(rows),
        clean_accuracy=_share(attacked, len(rows)),
        accuracy=_share(outcomes.count(FAILED), len(rows)),
        success_rate=_share(outcomes.count(SUCCEEDED), attacked),
        queries=_mean([row.queries for row in rows if row.outcome != SKIPPED]),
    )


def _share(count, total):
    if not total:
        return Estimate(math.nan, math.nan, math.nan)
    test = scipy.stats.binomtest(count, total)
    interval = test.proportion_ci(confidence_level=_CONFIDENCE, method="wilson")
    return Estimate(count / total, float(interval.low), float(interval.high))


def _mean(values):
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, math.nan, math.nan)
    # Equal values have an interval of no width, for which SciPy returns NaN.
    error = float(scipy.stats.sem(values))
    half = error * float(scipy.stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1))
    return Estimate(mean, mean - half, mean + half)


class OutcomeTable:
    """A CSV file of attacked texts, and beside it what made them, as `.json`.

    Args:
      path: the CSV file.
      parts: the names of the texts' parts.
      identity: everything that decides the rows, as JSON values.
    """

    def __init__(self, path: str | Path, parts: Sequence[str], identity: Mapping):
        self._path = Path(path)
        self._parts = tuple(parts)
        self._identity = dict(identity)
        self._rows = {}

    @property
    def rows(self) -> list[AttackedText]:
        """The rows, in the order of their indices."""
        return [self._rows[index] for index in sorted(self._rows)]

    def __contains__(self, index: int) -> bool:
        return index in self._rows

    def add(self, row: AttackedText) -> None:
        self._rows[row.index] = row

    def load(self, examples: Sequence) -> None:
        """Takes over the rows that the file holds, if the same identity made them.

        Rows of another identity, such as another victim's, are left out and will be replaced;
        so are rows that do not belong to the examples.

        Args:
          examples: with `index`, `texts` and `label`.

        Raises:
          UserError: the file is damaged.
        """
        identity_path = self._path.with_suffix(".json")
        if not (self._path.is_file() and identity_path.is_file()):
            return
        if load_json(identity_path) != self._identity:
            return
        known = {(example.index, example.texts, example.label) for example in examples}
        for row in read_outcomes(self._path):
            if (row.index, row.texts, row.label) in known:
                self.add(row)

    def save(self) -> None:
        """Writes both files atomically."""
        # Rows of another identity must not be found beside this one's.
        identity_path = self._path.with_suffix(".json")
        if not identity_path.is_file() or load_json(identity_path) != self._identity:
            self._path.unlink(missing_ok=True)
            atomic_write_json(identity_path, self._identity)
        atomic_write_text(self._path, _to_csv(self.rows, self._parts))


_NUMBERS = ("index", "label", "outcome", "queries", "predicted", "predicted_attacked")
_COLUMNS = (*_NUMBERS, "words_changed")
_ATTACKED = "attacked_"


def _to_csv(rows, parts):
    file = io.StringIO(newline="")
    file.write(",".join([*_COLUMNS, *parts, *(_ATTACKED + part for part in parts)]) + "\n")
    # Quoted, whatever is in a text: a carriage return would else end its line.
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for row in rows:
        numbers = [getattr(row, name) for name in _NUMBERS]
        share = round(row.words_changed, 6)
        writer.writerow([*numbers, share, *row.texts, *row.attacked_texts])
    return file.getvalue()


def read_outcomes(path: str | Path) -> list[AttackedText]:
    """Reads the rows of an `OutcomeTable`'s CSV file.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        # Line ends within a text must stay as they are.
        header, *lines = csv.reader(io.StringIO(read_text(Path(path), newline=""), newline=""))
        return [_from_csv(header, line) for line in lines]
    except (ValueError, KeyError, csv.Error) as error:
        found = one_line(repr(error))
        raise UserError(f"{path}: expected a table of attacked texts ({found})") from None


def _from_csv(header, line):
    values = dict(zip(header, line, strict=True))
    numbers = {name: values[name] for name in _COLUMNS}
    outcome = numbers.pop("outcome")
    if outcome not in OUTCOMES:
        raise ValueError(f"outcome {outcome}")
    share = float(numbers.pop("words_changed"))
    texts = line[len(_COLUMNS) :]
    half = len(texts) // 2
    return AttackedText(
        outcome=outcome,
        words_changed=share,
        texts=tuple(texts[:half]),
        attacked_texts=tuple(texts[half:]),
        **{name: int(value) for name, value in numbers.items()},
    )
