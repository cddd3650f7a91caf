"""Which networks each table of "On the Effect of Pruning on Adversarial Robustness" compares.

Every function takes a `results.Group`. What is compared has a `key`, its row in the
table; the `..._ROWS` here say how the rows are called, in order.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from experiments.pruning_robustness.results import (
    ACCURACIES,
    ADJUSTMENTS,
    BY_CRITERION,
    CRITERIA,
    DEFENSES,
    FINE_TUNED,
    NETWORK_KEYS,
    STRUCTURES,
    UNPRUNED,
    Group,
    accuracies,
    differences,
    keyed,
    natural_networks,
)
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.studies import model_label, select_any

_CONTROL_ROW = {"control": "trained on (control)"}
STRUCTURE_ROWS = STRUCTURES | _CONTROL_ROW
CRITERION_ROWS = CRITERIA | _CONTROL_ROW
ADJUSTMENT_ROWS = {
    "scratch_2x": "Scratch-E (twice the epochs)",
    "scratch_1x": "Scratch-B (the same epochs)",
    "winning_ticket": "W-ticket",
    "fine_tuned": "fine-tuning",
    **_CONTROL_ROW,
}
DEFENSE_ROWS = {
    "stylized": "Stylized (cited only)",
    **DEFENSES,
    "shape_texture": "Shape-Texture (cited only)",
    "filters": "pruning filters",
    "blocks": "pruning layers",
    **_CONTROL_ROW,
}
# Of each of the paper's tables, the label that tells the pruned networks of its rows apart.
_LABEL_OF = {
    "Table 1": "removed", "Table 2": "criterion", "Table 3": "adjustment", "Table 5": "removed",
}  # fmt: skip
# Which network examples were made for, and which they attack.
TRANSFER_KEYS = ["made_for_model", "made_for_removed", "model", "removed"]
# The order of Table 4.
_TRANSFER_MODELS = ("resnet_56", "mobilenet_v2")
# Networks beside which the paper's of the same family stands.
_LIKE_RESNET_56 = (
    "resnet_18", "resnet_20", "resnet_32", "resnet_44", "resnet_50", "resnet_50_v1",
    "resnet_50_v1_5",
)  # fmt: skip

_FIRST_REMOVAL = {"level": (0, 1)}
_FILTERS = {"removed": ["nothing", "filters"]}
_ADJUSTED = {"adjustment": [*FINE_TUNED["adjustment"], *ADJUSTMENTS]}


def structure_networks(group: Group) -> pd.DataFrame:
    """The rows of Table 1's networks; `key`: a structure, "control" or "unpruned"."""
    rows = natural_networks(group, _FIRST_REMOVAL | BY_CRITERION | FINE_TUNED)
    return keyed(rows, "removed")


def structure_differences(group: Group, baseline: Mapping[str, str] = UNPRUNED) -> pd.DataFrame:
    """Table 1's `differences` to the baseline, the unpruned network or the control."""
    return _compared(structure_networks(group), "removed", baseline)


def criterion_networks(group: Group) -> pd.DataFrame:
    """The rows of Table 2's networks; `key`: a criterion, "control" or "unpruned"."""
    return keyed(natural_networks(group, _FIRST_REMOVAL | _FILTERS | FINE_TUNED), "criterion")


def criterion_differences(group: Group, baseline: Mapping[str, str] = UNPRUNED) -> pd.DataFrame:
    """Table 2's `differences` to the baseline, the unpruned network or the control."""
    return _compared(criterion_networks(group), "criterion", baseline)


def adjustment_differences(group: Group) -> pd.DataFrame:
    """Table 3's `differences`; `key`: in `ADJUSTMENT_ROWS`."""
    rows = natural_networks(group, _FIRST_REMOVAL | BY_CRITERION | _FILTERS | _ADJUSTED)
    return _compared(rows, "adjustment")


def defense_differences(group: Group) -> pd.DataFrame:
    """Table 5's `differences` to the naturally trained network; `key`: in `DEFENSE_ROWS`."""
    where = (
        _FIRST_REMOVAL | BY_CRITERION | FINE_TUNED | {"removed": ["nothing", "filters", "blocks"]}
    )
    defended = select(select_any(group.rows, {"regime": DEFENSES}), **UNPRUNED)
    return _compared(pd.concat([natural_networks(group, where), defended]), "removed")


def chain_networks(group: Group) -> pd.DataFrame:
    """The rows of the unpruned network, the control and all iterations of removing filters."""
    return keyed(natural_networks(group, BY_CRITERION | _FILTERS | FINE_TUNED), "removed")


def chain_differences(group: Group) -> pd.DataFrame:
    """Their `differences` to the unpruned network; `key`: filters or control."""
    return _compared(chain_networks(group), "removed")


def clean_and_robust(group: Group) -> pd.DataFrame:
    """All networks of the chain but the unpruned one and the control, a row each.

    Returns:
      `NETWORK_KEYS`, `natural` and the names in `ATTACKS`: test accuracies in [0, 1],
      NaN where one is missing.
    """
    tests = accuracies(select(chain_networks(group), key="filters"))
    wide = tests.pivot(index=NETWORK_KEYS, columns="attack", values="value")
    return wide.reindex(columns=list(ACCURACIES)).astype(float).reset_index()


def paper_rows(reference: pd.DataFrame, table: str) -> pd.DataFrame:
    """The paper's differences of a table, in percentage points, with our `key`.

    Args:
      reference: the paper's numbers.
      table: "Table 1", "Table 2", "Table 3" or "Table 5".
    """
    return keyed(select(reference, source=table), _LABEL_OF[table])


def paper_model(papers: Iterable[str], model: str) -> str | None:
    """The paper's network that is the model or, else, of its family; None without one."""
    papers = list(papers)
    beside = [model, *(["resnet_56"] if model in _LIKE_RESNET_56 else [])]
    return next((each for each in beside if each in papers), None)


class Correlation(NamedTuple):
    """Pearson's r with its two-sided p-value, both NaN where undefined, over n networks."""

    r: float
    p_value: float
    networks: int


def correlation(points: pd.DataFrame, attack: str) -> Correlation:
    """Pearson's correlation of clean accuracy with robustness to an attack.

    Args:
      points: from `clean_and_robust`.
      attack: a name in `ATTACKS`.
    """
    points = points[["natural", attack]].dropna()
    if len(points) < 3 or (points.nunique() == 1).any():
        return Correlation(np.nan, np.nan, len(points))
    found = stats.pearsonr(points["natural"], points[attack])
    return Correlation(float(found.statistic), float(found.pvalue), len(points))


def transfer_accuracies(group: Group) -> pd.DataFrame:
    """Test accuracies on FGSM examples that were made for another network.

    Returns:
      `made_for_model` and `made_for_removed`, `model` and `removed`, of the network that the
      examples were made for and of the one that they attack; `seed` and `value`, in [0, 1]. What
      a network has on its own examples stands with it if examples were transferred from or to it.
    """
    rows = natural_networks(group, _FIRST_REMOVAL | BY_CRITERION | _FILTERS | FINE_TUNED)
    rows = rows[(rows["removed"] != "nothing") | (rows["adjustment"] == "")]
    tests = select(rows, split="test", quantity="accuracy")
    transferred = tests.dropna(subset="made_for_model")
    there = set(zip(transferred["made_for_model"], transferred["made_for_removed"]))
    there |= set(zip(transferred["model"], transferred["removed"]))
    own = select(tests, attack="fgsm")
    own = own.assign(made_for_model=own["model"], made_for_removed=own["removed"])
    own = own[[network in there for network in zip(own["model"], own["removed"])]]
    found = pd.concat([transferred, own])
    return found[[*TRANSFER_KEYS, "seed", "value"]]


def transfer_rows(networks: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(`model`, `removed`) → "ResNet-56 + pruning", in the order of Table 4, others last."""

    def place(network):
        model, removed = network
        papers = _TRANSFER_MODELS.index(model) if model in _TRANSFER_MODELS else 2
        return papers, model, removed != "nothing"

    return {
        (model, removed): model_label(model) + ("" if removed == "nothing" else " + pruning")
        for model, removed in sorted(networks, key=place)
    }


def _compared(rows, label, baseline=UNPRUNED):
    """The differences to a baseline of all others but the unpruned network."""
    found = keyed(differences(rows, baseline), label)
    return found[found["key"] != "unpruned"]
