"""The studies of "On the Effect of Pruning on Adversarial Robustness", and what their tables
and figures compute from results.

Networks are told apart by the labels that plan.py describes, and networks without a single filter
or block by those of `SingleElements`; a label that a network does not have is "".

What is compared are differences between networks of the same data set, model and seed.
"Semantic" is the mean accuracy over the 15 corruptions at the highest severity there is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from experiments.pruning_robustness.network_tests import transfer_attack
from tf_tickets.analysis import measurements
from tf_tickets.analysis.measurements import mean_and_sd, select
from tf_tickets.analysis.studies import ANY, Study, Values, grouped, select_any
from tf_tickets.attacks.corruptions import SEVERITIES
from tf_tickets.evaluation.shifted_images import semantic_name

LABELS = {
    "removed": str,
    "criterion": str,
    "adjustment": str,
    "element_kind": str,
    "element_place": str,
    "element_index": str,
}
_REFERENCE_LABELS = (
    "model", "regime", "criterion", "removed", "adjustment", "element_kind", "made_for_model",
    "made_for_removed",
)  # fmt: skip
_REFERENCE_COLUMNS = [
    "source", "data_set", *_REFERENCE_LABELS, "attack", "quantity", "value", "unit", "remark",
]  # fmt: skip

# One finished network, and the networks it may be compared with.
NETWORK_KEYS = [
    "data_set", "model", "regime", "criterion", "removed", "adjustment", "level", "seed",
]  # fmt: skip
_PAIRED_KEYS = ["data_set", "model", "seed"]

ATTACKS = {"semantic": "Semantic", "occlusion": "Occlusion", "fgsm": "FGSM"}
ACCURACIES = ATTACKS | {"natural": "Clean"}
# Which accuracies the averages of Tables 1 and 2, of Table 3 and of Table 5 are of.
AVERAGES = {
    "average": tuple(ACCURACIES),
    "attack_average": tuple(ATTACKS),
    "semantic_clean_average": ("semantic", "natural"),
}
# What is removed, and the paper's names of it.
STRUCTURES = {"filters": "filters", "blocks": "layers", "both": "both"}
CRITERIA = {
    "l1": "ℓ1-norm",
    "expected_abs": "expected-ABS",
    "hrank": "HRank",
    "kl": "KL divergence",
    "pls": "PLS",
    "random": "random",
}
# Adjustments other than fine-tuning, by the paper's names.
ADJUSTMENTS = {"scratch_2x": "Scratch-E", "scratch_1x": "Scratch-B", "winning_ticket": "W-ticket"}
# Regimes of the unpruned network.
DEFENSES = {"mixup": "MixUp", "cutout": "Cutout", "cutmix": "CutMix"}
# A difference is called clear beyond this many standard errors.
CLEAR = 2
UNPRUNED = {"removed": "nothing", "adjustment": ""}
# Trained on as long as a pruned network is fine-tuned, with nothing removed.
CONTROL = {"removed": "nothing", "adjustment": "fine_tuned"}

# What the networks are that most studies compare; of the run's criterion and without one.
NATURAL = {"regime": ["natural"], "element_kind": [""]}
BY_CRITERION = {"by_criterion": [True]}
# The adjustments of the unpruned network, and of the control and pruned networks.
FINE_TUNED = {"adjustment": ["", "fine_tuned"]}
_FILTERS = NATURAL | {"removed": ["filters"]}
_NETWORK = ("data_set", "model")

STUDIES = {
    "structures": Study(
        "Structures removed (Table 1)",
        ("data_set",),
        NATURAL | BY_CRITERION | FINE_TUNED,
        {"removed": ["nothing", "blocks", "both"], "adjustment": ["fine_tuned"]},
    ),
    "iterations": Study(
        "Generalization and robustness over the iterations of pruning (Figure 2)",
        _NETWORK,
        _FILTERS | BY_CRITERION | FINE_TUNED | {"level": lambda levels: levels > 1},
    ),
    "criteria": Study(
        "Pruning criteria (Table 2)",
        _NETWORK,
        _FILTERS | FINE_TUNED,
        {"by_criterion": [False]},
    ),
    "single_element": Study(
        "Removing a single element (Algorithm 2, Figure 3)",
        _NETWORK,
        {"regime": ["natural"], "element_kind": ["filters", "blocks", "nothing"]},
    ),
    "adjustment": Study(
        "Training from scratch and fine-tuning (Table 3)",
        _NETWORK,
        _FILTERS | BY_CRITERION,
        {"adjustment": ADJUSTMENTS},
    ),
    "transfer": Study(
        "Transfer of adversarial examples (Table 4)",
        ("data_set",),
        BY_CRITERION | FINE_TUNED | {"removed": ["nothing", "filters"], "made_for_model": ANY},
    ),
    "defenses": Study(
        "Pruning beside other defenses (Table 5)",
        _NETWORK,
        {"regime": DEFENSES, "removed": ["nothing"]},
    ),
}


class Group(NamedTuple):
    """What one table or figure is made of.

    Attributes:
      name: for file names, such as "cifar10_resnet_56".
      label: for headings, such as "ResNet-56 on CIFAR-10".
      rows: of `load_results`; the attack "semantic" is that of the highest severity, and further
        columns are `by_criterion`, whether a network is pruned by the run's criterion or whole,
        and `made_for_model` and `made_for_removed`, the network for which an attack's examples
        were made where that is another one; else NaN.
      severity: the highest of the corruptions; None before there is any.
    """

    name: str
    label: str
    rows: pd.DataFrame
    severity: int | None


def load_results(path: Path) -> pd.DataFrame:
    """Reads the finished networks' measurements; raises as `measurements.load_results`."""
    frame = measurements.load_results(path, ("model", "test"), LABELS)
    return frame.fillna(dict.fromkeys(LABELS, ""))


def load_reference(path: Path) -> pd.DataFrame:
    """Reads the paper's numbers; raises as `measurements.load_reference`."""
    reference = measurements.load_reference(path, _REFERENCE_COLUMNS)
    return reference.fillna(dict.fromkeys(_REFERENCE_LABELS, ""))


def groups(frame: pd.DataFrame, study: str, criterion: str) -> list[Group]:
    """The groups that the study has results of.

    Args:
      frame: from `load_results`.
      study: a name in `STUDIES`.
      criterion: that of all studies but one, a name in `CRITERIA`.
    """
    severity = highest_severity(frame)
    networks = frame[frame["element_kind"] == ""].drop_duplicates(["model", "method"])
    made_for = {
        transfer_attack(network.model, network.method): network for network in networks.itertuples()
    }
    frame = frame.assign(
        attack=frame["attack"].replace({semantic_name(severity): "semantic"}),
        by_criterion=frame["criterion"].isin(["", criterion]),
        made_for_model=frame["attack"].map({name: of.model for name, of in made_for.items()}),
        made_for_removed=frame["attack"].map({name: of.removed for name, of in made_for.items()}),
    )
    return [Group(*found, severity) for found in grouped(frame, STUDIES[study])]


def highest_severity(frame: pd.DataFrame) -> int | None:
    """The highest severity that corruptions were averaged at; None if there is none."""
    attacks = set(frame["attack"])
    return max((each for each in SEVERITIES if semantic_name(each) in attacks), default=None)


def natural_networks(group: Group, where: Mapping[str, Values]) -> pd.DataFrame:
    """The rows of naturally trained networks with the given values, see `Study`."""
    return select_any(group.rows, NATURAL | where)


def keyed(rows: pd.DataFrame, label: str) -> pd.DataFrame:
    """Adds `key`, by which a table tells networks apart.

    It is the given label; of networks with nothing removed "unpruned" or "control", and of those
    that were not trained naturally the regime.
    """
    whole, adjusted = rows["removed"] == "nothing", rows["adjustment"] != ""
    keys = rows[label].mask(whole & adjusted, "control").mask(whole & ~adjusted, "unpruned")
    return rows.assign(key=keys.where(rows["regime"] == "natural", rows["regime"]))


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
    return pd.concat([part for part in parts if not part.empty] or [tests], ignore_index=True)


def differences(rows: pd.DataFrame, baseline: Mapping[str, str] = UNPRUNED) -> pd.DataFrame:
    """How much more accurate networks are than the naturally trained baseline of their seed.

    Args:
      rows: of `Group.rows`.
      baseline: `UNPRUNED` or `CONTROL`.

    Returns:
      The rows of `accuracies` that have a baseline, the baseline's own left out, with
      differences as `value`, in [-1, 1].
    """
    every = accuracies(rows)
    base = select(every, regime="natural", **baseline)
    others = every.drop(base.index)
    base = base[[*_PAIRED_KEYS, "attack", "value"]].rename(columns={"value": "of_baseline"})
    paired = others.merge(base, on=[*_PAIRED_KEYS, "attack"])
    return paired.assign(value=paired["value"] - paired["of_baseline"])


def share_removed(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """The share of the unpruned network's parameters or FLOPs that is gone.

    Args:
      rows: of `Group.rows`.
      quantity: "parameters" or "flops".

    Returns:
      `NETWORK_KEYS` and `value`, in [0, 1].
    """
    sizes = select(rows, split="model", attack="size", quantity=quantity, regime="natural")
    sizes = sizes[[*NETWORK_KEYS, "value"]]
    whole = select(sizes, **UNPRUNED)
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
