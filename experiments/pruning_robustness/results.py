"""The studies of "On the Effect of Pruning on Adversarial Robustness", and what their tables
and figures compute from results.

What is compared are differences between networks of the same data set, model and seed.
"Semantic" is the mean accuracy over the 15 corruptions at the highest severity there is.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from tf_tickets.analysis import measurements
from tf_tickets.analysis.measurements import mean_and_sd, select
from tf_tickets.analysis.studies import Study, grouped, select_any

_REFERENCE_COLUMNS = [
    "source", "data_set", "model", "method", "attack", "quantity", "value", "unit", "remark",
]  # fmt: skip

# One finished network, and the networks it may be compared with.
NETWORK_KEYS = ["data_set", "model", "method", "regime", "level", "seed"]
_PAIRED_KEYS = ["data_set", "model", "seed"]

ATTACKS = {"semantic": "Semantic", "occlusion": "Occlusion", "fgsm": "FGSM"}
ACCURACIES = ATTACKS | {"natural": "Clean"}
# Which accuracies the averages of Tables 1 and 2, of Table 3 and of Table 5 are of.
AVERAGES = {
    "average": tuple(ACCURACIES),
    "attack_average": tuple(ATTACKS),
    "semantic_clean_average": ("semantic", "natural"),
}
STRUCTURES = {"filters": "filters", "blocks": "layers", "both": "both"}
CRITERIA = {
    "l1": "ℓ1-norm",
    "expected_abs": "expected-ABS",
    "hrank": "HRank",
    "kl": "KL divergence",
    "pls": "PLS",
    "random": "random",
}
# Ways to adjust the weights of `<criterion>_filters_<way>`, by the paper's names.
ADJUSTMENTS = {
    "scratch_2x": "Scratch-E (twice the epochs)",
    "scratch_1x": "Scratch-B (the same epochs)",
    "winning_ticket": "W-ticket",
}
# Regimes of the unpruned network.
DEFENSES = {"mixup": "MixUp", "cutout": "Cutout", "cutmix": "CutMix"}
# A difference is called clear beyond this many standard errors.
CLEAR = 2
# Trained on as long as a pruned network is fine-tuned, with nothing removed.
CONTROL = "unpruned_fine_tuned"

_NETWORK = ("data_set", "model")
_NATURAL = {"regime": "natural"}

# "<criterion>" stands for the one that the run prunes by.
STUDIES = {
    "structures": Study(
        "Structures removed (Table 1)",
        ("data_set",),
        _NATURAL | {"method": f"unpruned|{CONTROL}|<criterion>_({'|'.join(STRUCTURES)})"},
        {"method": f"{CONTROL}|<criterion>_(blocks|both)"},
    ),
    "iterations": Study(
        "Generalization and robustness over the iterations of pruning (Figure 2)",
        _NETWORK,
        _NATURAL | {"level": r"[2-9]|\d{2,}"} | {"method": "<criterion>_filters"},
        {"method": "<criterion>_filters"},
    ),
    "criteria": Study(
        "Pruning criteria (Table 2)",
        _NETWORK,
        _NATURAL | {"method": f"({'|'.join(CRITERIA)})_filters"},
        {"method": f"(?!<criterion>_)({'|'.join(CRITERIA)})_filters"},
    ),
    "single_element": Study(
        "Removing a single element (Algorithm 2, Figure 3)",
        _NETWORK,
        _NATURAL | {"method": "without:.+"},
        {"method": "without:.+"},
    ),
    "adjustment": Study(
        "Training from scratch and fine-tuning (Table 3)",
        _NETWORK,
        _NATURAL | {"method": f"<criterion>_filters(_({'|'.join(ADJUSTMENTS)}))?"},
        {"method": f"<criterion>_filters_({'|'.join(ADJUSTMENTS)})"},
    ),
    "transfer": Study(
        "Transfer of adversarial examples (Table 4)",
        ("data_set",),
        {"attack": "transfer_from_.+"} | {"method": "unpruned|<criterion>_filters"},
        {"method": "unpruned|<criterion>_filters"},
    ),
    "defenses": Study(
        "Pruning beside other defenses (Table 5)",
        _NETWORK,
        {"regime": "|".join(DEFENSES)} | {"method": "unpruned"},
        {"method": "unpruned"},
    ),
}


class Group(NamedTuple):
    """What one table or figure is made of.

    Attributes:
      name: for file names, such as "cifar10_resnet_56".
      label: for headings, such as "ResNet-56 on CIFAR-10".
      rows: of `load_results`; the attack "semantic" is that of the highest severity.
      criterion: which the networks are pruned by, but for the study of criteria.
      severity: the highest of the corruptions; None before there is any.
    """

    name: str
    label: str
    rows: pd.DataFrame
    criterion: str
    severity: int | None


def load_results(path: Path) -> pd.DataFrame:
    """Reads the finished networks' measurements; raises as `measurements.load_results`."""
    return measurements.load_results(path, ("model", "test"))


def load_reference(path: Path) -> pd.DataFrame:
    """Reads the paper's numbers; raises as `measurements.load_reference`."""
    return measurements.load_reference(path, _REFERENCE_COLUMNS)


def groups(frame: pd.DataFrame, study: str, criterion: str) -> list[Group]:
    """The groups that the study has results of.

    Args:
      frame: from `load_results`.
      study: a name in `STUDIES`.
      criterion: a name in `CRITERIA`.
    """
    template = STUDIES[study]
    own = template._replace(
        where=_with_criterion(template.where, criterion),
        own=_with_criterion(template.own, criterion),
    )
    severity = highest_severity(frame)
    frame = frame.assign(attack=frame["attack"].replace(f"semantic_{severity}", "semantic"))
    return [Group(*found, criterion, severity) for found in grouped(frame, own)]


def highest_severity(frame: pd.DataFrame) -> int | None:
    """The highest severity that corruptions were averaged at; None if there is none."""
    severities = frame["attack"].astype("str").str.extract(r"^semantic_(\d+)$", expand=False)
    severities = pd.to_numeric(severities).dropna()
    return None if severities.empty else int(severities.max())


def natural_networks(group: Group, methods: str) -> pd.DataFrame:
    """The rows of naturally trained networks whose method matches the pattern.

    Args:
      group: its criterion takes the place of "<criterion>".
      methods: a regular expression, for whole methods.
    """
    rows = select(group.rows, regime="natural")
    return select_any(rows, _with_criterion({"method": methods}, group.criterion))


def _with_criterion(where, criterion):
    return {
        column: pattern.replace("<criterion>", re.escape(criterion))
        for column, pattern in where.items()
    }


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracies and their averages.

    Returns:
      `NETWORK_KEYS`, `attack`, a name in `ACCURACIES` or `AVERAGES`, and `value`, in
      [0, 1]. An average is missing where one of its accuracies is.
    """
    tests = select(rows, split="test", quantity="accuracy")
    tests = tests[tests["attack"].isin(list(ACCURACIES))]
    tests = tests[[*NETWORK_KEYS, "attack", "value"]]
    parts = [tests]
    for name, attacks in AVERAGES.items():
        means = tests[tests["attack"].isin(attacks)].groupby(NETWORK_KEYS)["value"]
        whole = means.mean()[means.count() == len(attacks)]
        parts.append(whole.reset_index().assign(attack=name))
    return pd.concat([part for part in parts if not part.empty] or [tests])


def differences(rows: pd.DataFrame, baseline: str = "unpruned") -> pd.DataFrame:
    """How much more accurate networks are than the naturally trained baseline of their seed.

    Args:
      rows: of `Group.rows`.
      baseline: the method at level 0 to compare with.

    Returns:
      The rows of `accuracies` that have a baseline, the baseline's own left out, with
      differences as `value`, in [-1, 1].
    """
    every = accuracies(rows)
    of_baseline = (every["method"] == baseline) & (every["regime"] == "natural")
    base = every[of_baseline & (every["level"] == 0)]
    base = base[[*_PAIRED_KEYS, "attack", "value"]].rename(columns={"value": "of_baseline"})
    paired = every[~of_baseline].merge(base, on=[*_PAIRED_KEYS, "attack"])
    return paired.assign(value=paired["value"] - paired["of_baseline"])


def removed(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The share of the unpruned network's parameters or FLOPs that is gone.

    Args:
      rows: of `Group.rows`.
      quantity: "parameters" or "flops".

    Returns:
      `NETWORK_KEYS` and `value`, in [0, 1].
    """
    sizes = select(rows, split="model", attack="size", quantity=quantity, regime="natural")
    sizes = sizes[[*NETWORK_KEYS, "value"]]
    whole = select(sizes, method="unpruned", level=0)
    whole = whole[[*_PAIRED_KEYS, "value"]].rename(columns={"value": "whole"})
    paired = sizes.merge(whole, on=_PAIRED_KEYS)
    return paired.assign(value=1 - paired["value"] / paired["whole"])


def standard_errors(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`mean`, `sd`, `count` and `errors`: how many standard errors a mean is from zero.

    `errors` has the mean's sign; NaN for one seed, and for seeds that all are zero.
    """
    summary = mean_and_sd(rows, by)
    error = summary["sd"] / np.sqrt(summary["count"])
    return summary.assign(errors=summary["mean"].astype(float) / error)


def chance_beyond(errors: float, seeds: int) -> float:
    """How likely a mean over `seeds` is more than `errors` standard errors from zero by chance.

    Student's t with seeds - 1 degrees of freedom, both tails; normal differences.
    """
    return float(2 * stats.t.sf(errors, seeds - 1))
