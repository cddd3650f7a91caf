"""Which networks each table of "On the Effect of Pruning on Adversarial Robustness" compares.

Every function takes a `results.Group`. What is compared has a `key`, its row in the
table; the `..._ROWS` here say how the rows are called, in order.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from experiments.pruning_robustness.results import (
    ACCURACIES,
    ADJUSTMENTS,
    CONTROL,
    CRITERIA,
    DEFENSES,
    NETWORK_KEYS,
    STRUCTURES,
    Group,
    accuracies,
    differences,
    natural_networks,
)
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.studies import model_label

_CONTROL_ROW = {"control": "trained on (control)"}
STRUCTURE_ROWS = STRUCTURES | _CONTROL_ROW
CRITERION_ROWS = CRITERIA | _CONTROL_ROW
ADJUSTMENT_ROWS = ADJUSTMENTS | {"fine_tuning": "fine-tuning"} | _CONTROL_ROW
DEFENSE_ROWS = {
    "stylized": "Stylized (cited only)",
    **DEFENSES,
    "shape_texture": "Shape-Texture (cited only)",
    "filters": "pruning filters",
    "blocks": "pruning layers",
    **_CONTROL_ROW,
}
# The order of Table 4.
_TRANSFER_MODELS = ("resnet_56", "mobilenet_v2")


def structure_networks(group: Group) -> pd.DataFrame:
    """The rows of Table 1's networks; `key`: a structure, "control" or "unpruned"."""
    structures = "|".join(STRUCTURES)
    rows = _first_removal(group, f"unpruned|{CONTROL}|<criterion>_({structures})")
    return rows.assign(key=_structures(rows["method"]))


def structure_differences(group: Group, baseline: str = "unpruned") -> pd.DataFrame:
    """Table 1's `differences` to the baseline, the unpruned network or the control."""
    found = differences(structure_networks(group), baseline)
    found = found[found["method"] != "unpruned"]
    return found.assign(key=_structures(found["method"]))


def criterion_differences(group: Group, baseline: str = "unpruned") -> pd.DataFrame:
    """Table 2's `differences` to the baseline, the unpruned network or the control.

    `key`: a criterion or "control".
    """
    found = differences(criterion_networks(group), baseline)
    found = found[found["method"] != "unpruned"]
    return found.assign(key=criterion_keys(found["method"]))


def criterion_networks(group: Group) -> pd.DataFrame:
    """The rows of Table 2's networks, the unpruned one and the control."""
    criteria = "|".join(CRITERIA)
    return _first_removal(group, f"unpruned|{CONTROL}|({criteria})_filters")


def criterion_keys(methods: pd.Series) -> pd.Series:
    """ "l1" of "l1_filters"."""
    return _without_control(methods).str.removesuffix("_filters")


def adjustment_differences(group: Group) -> pd.DataFrame:
    """Table 3's `differences`; `key`: in `ADJUSTMENT_ROWS`."""
    adjusted = f"<criterion>_filters(_({'|'.join(ADJUSTMENTS)}))?"
    found = differences(_first_removal(group, f"unpruned|{CONTROL}|{adjusted}"))
    return found.assign(key=adjustment_keys(found["method"], group.criterion))


def adjustment_keys(methods: pd.Series, criterion: str) -> pd.Series:
    """ "scratch_1x" of "<criterion>_filters_scratch_1x", "fine_tuning" of "<criterion>_filters"."""
    keys = _without_control(methods).replace(f"{criterion}_filters", "fine_tuning")
    return keys.str.removeprefix(f"{criterion}_filters_")


def defense_differences(group: Group) -> pd.DataFrame:
    """Table 5's `differences` to the naturally trained network; `key`: in `DEFENSE_ROWS`."""
    pruned = _first_removal(group, f"unpruned|{CONTROL}|<criterion>_(filters|blocks)")
    defended = select(group.rows, method="unpruned")
    defended = defended[defended["regime"].isin(list(DEFENSES))]
    found = differences(pd.concat([pruned, defended]))
    keys = _structures(found["method"]).where(found["regime"] == "natural", found["regime"])
    return found.assign(key=keys)


def chain_networks(group: Group) -> pd.DataFrame:
    """The rows of the unpruned network, the control and all iterations of removing filters."""
    return natural_networks(group, f"unpruned|{CONTROL}|<criterion>_filters")


def clean_and_robust(group: Group) -> pd.DataFrame:
    """All networks of the chain but the unpruned one, a row each.

    Returns:
      `NETWORK_KEYS`, `natural` and the names in `ATTACKS`: test accuracies in [0, 1],
      NaN where one is missing.
    """
    tests = accuracies(natural_networks(group, "<criterion>_filters"))
    wide = tests.pivot(index=NETWORK_KEYS, columns="attack", values="value")
    return wide.reindex(columns=list(ACCURACIES)).astype(float).reset_index()


def paper_rows(reference: pd.DataFrame, table: str) -> pd.DataFrame:
    """The paper's differences of a table, in percentage points, with our `key`.

    Args:
      reference: the paper's numbers.
      table: "Table 1", "Table 2", "Table 3" or "Table 5".
    """
    rows = select(reference, source=table)
    if table == "Table 2":
        return rows.assign(key=criterion_keys(rows["method"]))
    if table == "Table 3":
        return rows.assign(key=adjustment_keys(rows["method"], "pls"))
    return rows.assign(key=rows["method"].str.removeprefix("pls_"))


def paper_model(papers: Iterable[str], model: str) -> str | None:
    """The paper's network that is the model or, else, of its family; None without one."""
    papers = list(papers)
    family = [paper for paper in papers if paper.split("_")[0] == model.split("_")[0]]
    return model if model in papers else next(iter(family), None)


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
      `source` and `target`, "<model>.<method>", `seed` and `value`, in [0, 1]. What a
      network has on its own examples stands with it if examples were transferred from
      or to it.
    """
    rows = _first_removal(group, "unpruned|<criterion>_filters")
    tests = select(rows, split="test", quantity="accuracy")
    target = tests["model"].astype("str") + "." + tests["method"].astype("str")
    tests = tests.assign(
        source=tests["attack"].astype("str").str.extract(r"^transfer_from_(.+)$", expand=False),
        target=target,
    )
    transferred = tests.dropna(subset="source")
    own = select(tests, attack="fgsm")
    own = own[own["target"].isin([*transferred["source"], *transferred["target"]])]
    found = pd.concat([transferred, own.assign(source=own["target"])])
    return found[["source", "target", "seed", "value"]]


def transfer_rows(networks: Iterable[str]) -> dict[str, str]:
    """ "<model>.<method>" → "ResNet-56 + pruning", in the order of Table 4, others last."""

    def place(network):
        model, method = network.split(".")
        papers = _TRANSFER_MODELS.index(model) if model in _TRANSFER_MODELS else 2
        return papers, model, method != "unpruned"

    labels = {}
    for network in sorted(networks, key=place):
        model, method = network.split(".")
        labels[network] = model_label(model) + ("" if method == "unpruned" else " + pruning")
    return labels


def _first_removal(group, methods):
    """The rows of unpruned networks and of those with one removal behind them."""
    rows = natural_networks(group, methods)
    return rows[rows["level"].isin((0, 1))]


def _structures(methods):
    """Methods → filters, blocks, both, control or unpruned."""
    return _without_control(methods).str.split("_").str[-1]


def _without_control(methods):
    return methods.astype("str").replace(CONTROL, "control")
