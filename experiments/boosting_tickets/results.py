"""The studies of "Boosting Ticket", and what their tables and figures compute from results.

A training's method is a `family` and a `percent`, how long it is: "boosting_40" is the
boosting ticket trained for 40% of the full schedule.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tf_tickets.analysis import measurements
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.studies import Group, Study, evaluation_attack, grouped
from tf_tickets.attacks.threat_model import MARGIN_ATTACK

_REFERENCE_COLUMNS = [
    "source", "data_set", "model", "method", "regime", "epoch", "metric", "value", "unit",
    "remark",
]  # fmt: skip

# One training; what is averaged is several seeds of it.
TRAINING_KEYS = ["data_set", "model", "method", "regime", "seed"]

FAMILY_LABELS = {
    "boosting": "boosting ticket",
    "winning": "winning ticket",
    "random": "boosting's masks, new weights",
    "iterative": "iteratively pruned ticket",
    "dense": "dense (never pruned)",
    "natural_ticket": "natural ticket",
    "fgsm_ticket": "FGSM ticket",
    "pgd_ticket": "PGD ticket",
    "fast_ticket": "fast ticket",
    "fgsm_random": "FGSM ticket's masks, new weights",
    "pgd_random": "PGD ticket's masks, new weights",
    "finding_fgsm": "FGSM training (finds the ticket)",
}
# The columns of Tables 3 and 6.
ACCELERATED = {
    "dense_100": "Madry's",
    "fgsm_ticket_40": "Ours-40",
    "fgsm_ticket_70": "Ours-70",
    "fgsm_ticket_100": "Ours-100",
}


_NETWORK = ("data_set", "model")
_NATURAL = {"regime": "natural"}
_PGD = {"regime": "pgd"}

STUDIES = {
    "existence": Study(
        "Existence of boosting tickets (Figures 1 and 9)",
        _NETWORK,
        _NATURAL | {"method": "(dense|boosting|winning|random|iterative)_100"},
        {"method": "(dense|winning|random|iterative)_100"},
    ),
    "epochs": Study(
        "Length of the training (Figure 2, Table 1)",
        _NETWORK,
        _NATURAL | {"method": r"(boosting|winning)_\d+"},
        {"method": r"(boosting|winning)_(?!100)\d+"},
    ),
    "learning_rate": Study(
        "Learning rate that finds the ticket (Figure 3)",
        _NETWORK,
        _NATURAL | {"method": r"found_at_.+_\d+"},
        {"method": r"found_at_.+_\d+"},
    ),
    "pruning_ratio": Study(
        "Pruning ratio (Figure 4)",
        _NETWORK,
        _NATURAL | {"method": "(boosting|random)_sparsity_.+"},
        {"method": "(boosting|random)_sparsity_.+"},
    ),
    "capacity": Study(
        "Width and depth (Figure 5, Table 4)",
        ("data_set",),
        _NATURAL | {"model": r"wide_resnet_\d+_\d+"} | {"method": "boosting_100"},
        {"method": "boosting_100"},
    ),
    "adversarial": Study(
        "Tickets of adversarial training (Figure 6)",
        _NETWORK,
        _PGD | {"method": "(natural_ticket|fgsm_ticket|pgd_ticket|fgsm_random)_100"},
        {"method": "(natural_ticket|fgsm_random)_100"},
    ),
    "mnist": Study(
        "Small networks (Figure 7, Table 5)",
        ("data_set",),
        {"data_set": "mnist|fashion_mnist"}
        | {"method": "(dense|winning|boosting|random|pgd_ticket|pgd_random)_100"},
        {"method": "(dense|winning|boosting|random|pgd_ticket|pgd_random)_100"},
    ),
    "convergence": Study(
        "Length of adversarial training (Figure 8, Table 2)",
        _NETWORK,
        _PGD | {"method": r"fgsm_ticket_\d+|dense_100"},
        {"method": "fgsm_ticket_(20|60|80)"},
    ),
    "acceleration": Study(
        "Time that adversarial training takes (Tables 3 and 6)",
        _NETWORK,
        _PGD | {"method": "|".join(ACCELERATED)},
        {"method": "fgsm_ticket_70"},
    ),
}


def load_results(path: Path) -> pd.DataFrame:
    """Reads results.csv as `measurements.load_results`, training measurements included.

    Returns:
      Also `epoch`, of the rows at an evaluated iteration; and `family` and
      `percent`, the method "boosting_40" taken apart.
    """
    frame = measurements.load_results(path, ("train", "validation", "test"))
    evaluated = select(frame, split="validation", attack="natural", quantity="accuracy")
    evaluated = evaluated[[*TRAINING_KEYS, "iteration"]]
    # Evaluated before training and after each epoch.
    ranks = evaluated.groupby(TRAINING_KEYS)["iteration"].rank(method="dense")
    evaluated = evaluated.assign(epoch=ranks - 1)
    frame = frame.merge(evaluated, on=[*TRAINING_KEYS, "iteration"], how="left")
    # Runs of before it was measured in every study call it as Table 6 does.
    frame["attack"] = frame["attack"].replace("cw", MARGIN_ATTACK)
    return _with_family(frame)


def load_reference(path: Path) -> pd.DataFrame:
    """Reads the paper's numbers; raises as `measurements.load_reference`."""
    return _with_family(measurements.load_reference(path, _REFERENCE_COLUMNS))


def groups(frame: pd.DataFrame, study: str) -> list[Group]:
    """The groups that the study has results of.

    Args:
      frame: from `load_results`.
      study: a name in `STUDIES`.
    """
    attack = evaluation_attack(frame)
    return [Group(*found, attack) for found in grouped(frame, STUDIES[study])]


def validation_curves(rows: pd.DataFrame, attack: str = "natural") -> pd.DataFrame:
    """Validation accuracies in [0, 1] of all epochs."""
    return select(rows, split="validation", attack=attack, quantity="accuracy")


def last_epoch(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of each training's last epoch."""
    return rows[rows["epoch"] == rows.groupby(TRAINING_KEYS)["epoch"].transform("max")]


def tested_accuracies(rows: pd.DataFrame, attack: str = "natural") -> pd.DataFrame:
    """Test accuracies in [0, 1] of the selected weights."""
    return select(rows, split="test", attack=attack, quantity="accuracy")


def full_length(rows: pd.DataFrame, regime: str, families: tuple[str, ...]) -> pd.DataFrame:
    """The rows of `<family>_100` of the families."""
    rows = select(rows, regime=regime, percent=100)
    return rows[rows["family"].isin(families)]


def first_reaching(curves: pd.DataFrame, targets: Mapping[int, float], column: str) -> pd.Series:
    """Where each seed of one method first reaches its target.

    Args:
      curves: rows with `seed`, `epoch`, `value` and `column`.
      targets: seed → value to reach; seeds without one are left out.
      column: what to report.

    Returns:
      Seed → `column` at the first epoch whose value is at least the target, NaN if
      there is none.
    """
    found = {}
    for seed, curve in curves.sort_values("epoch").groupby("seed"):
        if seed in targets:
            reached = curve.loc[curve["value"] >= targets[seed], column]
            found[seed] = np.nan if reached.empty else reached.iloc[0]
    return pd.Series(found, dtype=float)


def finding_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of tickets `found_at_<learning rate>_<percent>`, with `learning_rate`."""
    rates = rows["family"].astype("str").str.extract(r"^found_at_(.+)$", expand=False)
    return rows.assign(learning_rate=pd.to_numeric(rates, errors="coerce")).dropna(
        subset="learning_rate"
    )


def pruned_to(rows: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracies of `<family>_sparsity_<s>`, with `pruned` and `sparsity_percent`."""
    rows = validation_curves(select(rows, regime="natural"))
    families = rows["method"].astype("str").str.extract(r"^(\w+)_sparsity_", expand=False)
    # Exact counts make 80% of a network's weights 79.998% of them.
    percents = (100 * rows["sparsity"].astype(float)).round(1)
    return rows.assign(pruned=families, sparsity_percent=percents).dropna(subset="pruned")


def with_width_and_depth(rows: pd.DataFrame) -> pd.DataFrame:
    """Boosting tickets of WideResNets, with `depth` and `width`."""
    rows = full_length(rows, "natural", ("boosting",))
    sizes = rows["model"].astype("str").str.extract(r"^wide_resnet_(?P<depth>\d+)_(?P<width>\d+)$")
    return pd.concat([rows, sizes], axis=1).dropna().astype({"depth": int, "width": int})


def accelerated(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the networks that Tables 3 and 6 compare."""
    rows = select(rows, regime="pgd")
    return rows[rows["method"].isin(ACCELERATED)]


def trained(curves: pd.DataFrame) -> pd.DataFrame:
    """Without the evaluation before training, at which nothing is reached."""
    return curves[curves["epoch"] > 0]


def _with_family(frame):
    parts = frame["method"].astype("str").str.extract(r"^(?P<family>.+)_(?P<percent>\d+)$")
    return frame.assign(family=parts["family"], percent=pd.to_numeric(parts["percent"]))
