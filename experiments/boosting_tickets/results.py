"""The studies of "Boosting Ticket", and what their tables and figures compute from results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tf_tickets.analysis import measurements
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.studies import ANY, Group, Study, evaluation_attack, grouped
from tf_tickets.attacks.threat_model import MARGIN_ATTACK
from tf_tickets.models.registry import wide_resnet_size

# As `trainings.Trainings` and `plan.Studies` describe them.
LABELS = {"family": str, "percent": float, "finding_rate": float, "pruned_to": float}

_REFERENCE_COLUMNS = [
    "source", "data_set", "model", "method", "family", "percent", "regime", "epoch", "metric",
    "value", "unit", "remark",
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
    # Only FGSM's is shown.
    "finding": "FGSM training (finds the ticket)",
}
# Figure 6.
ADVERSARIAL = ("natural_ticket", "fgsm_ticket", "pgd_ticket", "fast_ticket", "fgsm_random")
# Tables 3 and 6: (family, percent) → its name there.
MADRYS = "Madry's"
ACCELERATED = {
    ("dense", 100): MADRYS,
    ("fgsm_ticket", 40): "Ours-40",
    ("fgsm_ticket", 70): "Ours-70",
    ("fgsm_ticket", 100): "Ours-100",
}


def _are_wide(models):
    return models.isin([model for model in models.unique() if wide_resnet_size(model)])


_NETWORK = ("data_set", "model")
_NATURAL = {"regime": ["natural"], "finding_rate": pd.Series.isna}
_PGD = {"regime": ["pgd"]}
_WHOLE = {"percent": [100]}

STUDIES = {
    "existence": Study(
        "Existence of boosting tickets (Figures 1 and 9)",
        _NETWORK,
        _NATURAL | _WHOLE | {"family": ["dense", "boosting", "winning", "random", "iterative"]},
        {"family": ["dense", "winning", "random", "iterative"]},
    ),
    "epochs": Study(
        "Length of the training (Figure 2, Table 1)",
        _NETWORK,
        _NATURAL | {"family": ["boosting", "winning"], "percent": ANY},
        {"percent": lambda percents: percents != 100},
    ),
    "learning_rate": Study(
        "Learning rate that finds the ticket (Figure 3)",
        _NETWORK,
        {"finding_rate": ANY},
    ),
    "pruning_ratio": Study(
        "Pruning ratio (Figure 4)",
        _NETWORK,
        {"pruned_to": ANY},
    ),
    "capacity": Study(
        "Width and depth (Figure 5, Table 4)",
        ("data_set",),
        _NATURAL | _WHOLE | {"model": _are_wide, "family": ["boosting"]},
    ),
    "adversarial": Study(
        "Tickets of adversarial training (Figure 6)",
        _NETWORK,
        _PGD | _WHOLE | {"family": ADVERSARIAL},
        {"family": ["natural_ticket", "fast_ticket", "fgsm_random"]},
    ),
    "mnist": Study(
        "Small networks (Figure 7, Table 5)",
        ("data_set",),
        {"data_set": ["mnist", "fashion_mnist"], "finding_rate": pd.Series.isna}
        | _WHOLE
        | {"family": ["dense", "winning", "boosting", "random", "pgd_ticket", "pgd_random"]},
    ),
    "convergence": Study(
        "Length of adversarial training (Figure 8, Table 2)",
        _NETWORK,
        _PGD | {"family": ["fgsm_ticket", "dense"]},
        {"family": ["fgsm_ticket"], "percent": [20, 60, 80]},
    ),
    "acceleration": Study(
        "Time that adversarial training takes (Tables 3 and 6)",
        _NETWORK,
        _PGD | {"family": ["dense", "fgsm_ticket"], "percent": [40, 70, 100]},
        {"family": ["fgsm_ticket"], "percent": [70]},
    ),
}


def load_results(path: Path) -> pd.DataFrame:
    """Reads results.csv as `measurements.load_results`, training measurements included.

    Returns:
      Also `epoch`, of the rows at an evaluated iteration.
    """
    frame = measurements.load_results(path, ("train", "validation", "test"), LABELS)
    evaluated = select(frame, split="validation", attack="natural", quantity="accuracy")
    evaluated = evaluated[[*TRAINING_KEYS, "iteration"]]
    # Evaluated before training and after each epoch.
    ranks = evaluated.groupby(TRAINING_KEYS)["iteration"].rank(method="dense")
    evaluated = evaluated.assign(epoch=ranks - 1)
    frame = frame.merge(evaluated, on=[*TRAINING_KEYS, "iteration"], how="left")
    # Runs of before it was measured in every study call it as Table 6 does.
    frame["attack"] = frame["attack"].replace("cw", MARGIN_ATTACK)
    return frame


def load_reference(path: Path) -> pd.DataFrame:
    """Reads the paper's numbers; raises as `measurements.load_reference`."""
    return measurements.load_reference(path, _REFERENCE_COLUMNS)


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


def of_families(rows: pd.DataFrame, regime: str, families: Sequence[str]) -> pd.DataFrame:
    """The rows of retrained networks of any length, without those of varied learning rates."""
    chosen = rows["family"].isin(families) & rows["percent"].notna() & rows["finding_rate"].isna()
    return select(rows[chosen], regime=regime)


def full_length(rows: pd.DataFrame, regime: str, families: Sequence[str]) -> pd.DataFrame:
    """Those of `of_families` that were trained for the whole schedule."""
    return select(of_families(rows, regime, families), percent=100)


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


def pruned_to(rows: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracies of networks of varied sparsities, with `sparsity_percent`."""
    rows = validation_curves(rows).dropna(subset="pruned_to")
    return rows.assign(sparsity_percent=100 * rows["pruned_to"])


def with_width_and_depth(rows: pd.DataFrame) -> pd.DataFrame:
    """Boosting tickets of WideResNets, with `depth` and `width`."""
    rows = full_length(rows, "natural", ("boosting",))
    rows = rows[_are_wide(rows["model"])]
    sizes = [wide_resnet_size(model) for model in rows["model"]]
    sizes = pd.DataFrame(sizes, index=rows.index, columns=["depth", "width"], dtype=int)
    return pd.concat([rows, sizes], axis=1)


def accelerated(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the networks that Tables 3 and 6 compare, each with its name there, `network`."""
    keys = zip(rows["family"], rows["percent"])
    rows = rows.assign(network=[ACCELERATED.get(key) for key in keys])
    return select(rows, regime="pgd").dropna(subset="network")


def trained(curves: pd.DataFrame) -> pd.DataFrame:
    """Without the evaluation before training, at which nothing is reached."""
    return curves[curves["epoch"] > 0]
