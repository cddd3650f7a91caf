"""Results read back as a frame, and what every table and figure computes from it."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import pandas as pd

from tf_tickets.attacks.threat_model import MARGIN_ATTACK
from tf_tickets.errors import UserError, one_line
from tf_tickets.runs import results

DATA_SET_LABELS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "cub200": "CUB-200",
    "visda": "VisDA-17",
    "imagenet": "ImageNet",
}

# More images than any data set has.
_MOST_IMAGES = 10**6

_METRIC = r"^(?P<split>[^/]+)/(?P<attack>[^/]+)/(?P<quantity>[^/]+)$"


def load_results(
    path: Path,
    splits: Sequence[str] = ("validation", "test"),
    labels: Mapping[str, type] | None = None,
) -> pd.DataFrame:
    """Reads results.csv.

    Args:
      path: the file.
      splits: which measurements to keep, by the first part of their metric.
      labels: name of a label column → `str` or `float`. The frame has them in any case, the file
        the first of them, if it has rows.

    Returns:
      A row per measurement: the columns of `Result`, but `metric` taken apart into
      `split`, `attack` and `quantity`; `density_percent`, P_m; and a column for each label, NaN
      in the rows that do not have it. Left out are metrics of another form, and values that are
      NaN, which measure nothing.

    Raises:
      UserError: there is no such file, it does not follow the schema of `results.Result`, it lacks
        the first label, a label is no number, or a measurement is there twice.
    """
    rows, kinds = results.read_results(path), labels or {}
    found = results.read_label_names(path)
    for name in list(kinds)[:1]:
        if rows and name not in found:
            raise UserError(f"{path}: has no column {name}; expected a run of this version")
    _require_different(rows, path)
    frame = pd.DataFrame([row[:-1] for row in rows], columns=results.COLUMNS)
    for name in dict.fromkeys([*kinds, *found]):
        frame[name] = _label_column(rows, name, kinds.get(name, str), path)
    parts = frame["metric"].astype("str").str.extract(_METRIC)
    frame = pd.concat([frame.drop(columns="metric"), parts], axis=1)
    frame = frame[frame["split"].isin(splits) & frame["value"].notna()]
    return frame.assign(density_percent=100 * (1 - frame["sparsity"].astype(float)))


def _require_different(rows, path):
    lines: dict[tuple, int] = {}
    for number, row in enumerate(rows, start=2):
        first = lines.setdefault((*row[:-2], row.labels), number)
        if first != number:
            raise UserError(f"{path}:{number}: measured already in line {first}")


def _label_column(rows, name, kind, path):
    """The label of every row; None, or NaN of numbers, where it has none."""
    column = []
    for number, row in enumerate(rows, start=2):
        text = dict(row.labels).get(name)
        try:
            column.append(text if text is None else kind(text))
        except ValueError:
            expected = f"{name} is {one_line(text, 40)}, expected a number"
            raise UserError(f"{path}:{number}: {expected}") from None
    return pd.Series(column, dtype="object" if kind is str else "float")


def load_reference(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a paper's numbers, as the README of each paper's folder describes them.

    Args:
      path: the CSV file.
      columns: what its header must say.

    Raises:
      UserError: the columns are others.
      FileNotFoundError: there is no such file.
    """
    reference = pd.read_csv(path)
    found = list(reference.columns)
    if found != list(columns):
        raise UserError(f"{path}: its columns are {found}, expected {list(columns)}")
    return reference


def select(frame: pd.DataFrame, **values) -> pd.DataFrame:
    """The rows whose columns equal the values, as in `select(frame, regime="pgd")`."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def attack_label(attack: str) -> str:
    """ "PGD-20" of "pgd_20", "margin loss (C&W)" of "cw_linf"."""
    labels = {"natural": "natural", MARGIN_ATTACK: "margin loss (C&W)"}
    return labels.get(attack, attack.upper().replace("_", "-"))


def mean_and_sd(rows: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """`mean`, `sd` (ddof = 1; NaN for one seed) and `count` of the values in each group."""
    return rows.groupby(by)["value"].agg(mean="mean", sd="std", count="count")


def seeds_label(rows: pd.DataFrame, sign: str = "±") -> str:
    """What a number is over the rows' seeds: "one seed" or "mean±sd of 3 seeds"."""
    count = rows["seed"].nunique()
    return "one seed" if count == 1 else f"mean{sign}sd of {count} seeds"


def image_count(accuracies: pd.Series) -> int:
    """How many images accuracies in [0, 1] were measured on: their least common denominator.

    Of a few accuracies that happen to be round it is a divisor of that; 0 of none.
    """
    values = accuracies.dropna().unique()
    parts = [Fraction(value).limit_denominator(_MOST_IMAGES).denominator for value in values]
    return math.lcm(*parts) if parts else 0


def standard_error(accuracies: pd.Series, images: int) -> pd.Series:
    """Of accuracies in [0, 1] as estimates: √(p (1 − p) / images)."""
    return (accuracies * (1 - accuracies) / images) ** 0.5
