"""What came of attacked texts: a table with a row each, and the metrics made from it alone."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.stats

from tf_tickets.errors import UserError, one_line
from tf_tickets.runs.files import atomic_write_json, atomic_write_text, load_json, read_text

SUCCEEDED, FAILED, SKIPPED = OUTCOMES = ("succeeded", "failed", "skipped")

WORD_BUDGETS = (0.1, 0.2)
"""Shares of a text's words that accuracy under attack is also measured within."""

_CONFIDENCE = 0.95
_RESAMPLES = 4_999
# What TextAttack takes for a word: letters, digits and these, but for some at its ends.
_WORD, _NOT_AT_ENDS = re.compile(r"[\w'*@\-˗`×]+"), "'-_*@"


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

    def withstands(self, budget: float | None = None) -> bool:
        """Whether the text is classified correctly without the attack and with it.

        Args:
          budget: the attack may change ⌈budget · words⌉ words, as TextAttack's
            `MaxWordsPerturbed(max_percent=budget)` lets it; None for as many as it likes. A
            greedy attack changes one word after the other until it succeeds, so one that was
            free to go on tells what it would have done within a budget: it succeeds if it
            needed no more words. (Where attacks insert words the two count differently:
            `words_changed` counts what was inserted, the constraint each word that moved.)
        """
        if self.outcome != SUCCEEDED or budget is None:
            return self.outcome == FAILED
        words = count_words(self.texts)
        return round(self.words_changed * max(words, 1)) > math.ceil(words * budget)

    @property
    def needed_change(self) -> float:
        """The share of its words, in [0, 1], that must change for it to be classified wrongly.

        0 of a text that is classified wrongly as it is, 1 of one that withstands.
        """
        return {SKIPPED: 0.0, FAILED: 1.0, SUCCEEDED: min(self.words_changed, 1.0)}[self.outcome]


def count_words(texts: Sequence[str]) -> int:
    """The words of a text's parts, as TextAttack counts them where words stand between spaces."""
    found = (word for text in texts for word in _WORD.findall(text))
    return sum(bool(word.strip(_NOT_AT_ENDS)) for word in found)


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
      accuracy_within: Aua at a budget: a budget of `WORD_BUDGETS` → the share of N that
        withstands an attack within it.
    """

    examples: int
    clean_accuracy: Estimate
    accuracy: Estimate
    success_rate: Estimate
    queries: Estimate
    accuracy_within: Mapping[float, Estimate]


def measure_attack(rows: Sequence[AttackedText]) -> TextAttackMetrics:
    """Makes the metrics of a table; shares with Wilson's interval, the mean with a bootstrap's."""
    outcomes = [row.outcome for row in rows]
    attacked = len(rows) - outcomes.count(SKIPPED)
    return TextAttackMetrics(
        examples=len(rows),
        clean_accuracy=wilson_share(attacked, len(rows)),
        accuracy=wilson_share(outcomes.count(FAILED), len(rows)),
        success_rate=wilson_share(outcomes.count(SUCCEEDED), attacked),
        queries=_mean([row.queries for row in rows if row.outcome != SKIPPED]),
        accuracy_within={
            budget: wilson_share(sum(row.withstands(budget) for row in rows), len(rows))
            for budget in WORD_BUDGETS
        },
    )


def wilson_share(count: int, total: int) -> Estimate:
    """`count` of `total`, with Wilson's interval."""
    if not total:
        return Estimate(math.nan, math.nan, math.nan)
    test = scipy.stats.binomtest(count, total)
    interval = test.proportion_ci(confidence_level=_CONFIDENCE, method="wilson")
    return Estimate(count / total, float(interval.low), float(interval.high))


def _mean(values):
    """With the percentile bootstrap's interval, which never leaves the values' own range.

    It has none of equal values, whose bootstrap is as sure of one as of a thousand.
    """
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(np.mean(values))
    if min(values) == max(values):
        return Estimate(mean, math.nan, math.nan)
    drawn = np.random.default_rng(0).integers(len(values), size=[_RESAMPLES, len(values)])
    means = np.asarray(values, float)[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Estimate(mean, float(low), float(high))


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
