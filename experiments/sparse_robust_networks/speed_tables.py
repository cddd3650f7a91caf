"""How fast tickets train, by two measures, beside the dense network.

The paper's is the early-stopping iteration. A training whose validation loss is smallest at the
last evaluation has none: it was cut off (censored), and the cap says nothing of its speed.
Hence the second: when the accuracy is reached that the dense network ends with.
"""

import numpy as np
import pandas as pd

from experiments.sparse_robust_networks.tables import (
    LEVEL_KEYS,
    REGIME_LABELS,
    REGIMES,
    comparison_densities,
    density_label,
    early_stopping,
    methods_in,
)
from tf_tickets.analysis.markdown import MISSING, cell, markdown_table, paragraphs
from tf_tickets.analysis.measurements import seeds_label, select


def speed_table(frame: pd.DataFrame, data_set: str) -> str:
    """Iterations to early stopping and to the dense network's accuracy, on validation data.

    One Markdown table per regime, a row per density, of the accuracy under the attack that
    the regime trained with (natural accuracy after natural training).

    Args:
      frame: from `measurements.load_results`.
      data_set: "mnist" or "fashion_mnist".
    """
    frame = select(frame, data_set=data_set)
    stops = early_stopping(frame).merge(iterations_to_dense(frame), on=LEVEL_KEYS, how="left")
    stops = stops.assign(density_percent=comparison_densities(stops))
    tables = [_speed_table_of(select(stops, regime=regime), regime) for regime in REGIMES]
    return paragraphs(*tables) or "No results yet."


def iterations_to_dense(frame: pd.DataFrame) -> pd.DataFrame:
    """When a training is as accurate as the same search's dense network is at its end.

    On validation images, natural after natural training, under the training attack after
    adversarial training.

    Args:
      frame: from `measurements.load_results`.

    Returns:
      A row for every (data_set, method, regime, seed, level) of a search with a dense level,
      with `reached`: the first evaluated iteration of at least that accuracy, ∞ for none.
      Before training nothing is reached, though tickets of trained weights may be as good.
    """
    own = select(frame, split="validation", quantity="accuracy")
    own = own[own["iteration"] > 0]
    own = own[own["attack"] == own["regime"]].sort_values("iteration")
    search = LEVEL_KEYS[:-1]
    goals = select(own, level=0).groupby(search)["value"].last().rename("goal")
    own = own.merge(goals.reset_index(), on=search)
    rows = [
        (*keys, _first(level, level["value"] >= level["goal"]))
        for keys, level in own.groupby(LEVEL_KEYS)
    ]
    return pd.DataFrame(rows, columns=[*LEVEL_KEYS, "reached"])


def at_the_cap(stops: pd.DataFrame) -> pd.Series:
    """Which trainings of `early_stopping` have the smallest loss at the last evaluation."""
    return stops["stopping_iteration"] == stops["last_iteration"]


def _first(level, is_there):
    iterations = level["iteration"][is_there]
    return np.inf if iterations.empty else iterations.iloc[0]


def _speed_table_of(stops, regime):
    if stops.empty:
        return ""
    stops = stops.assign(label=stops["density_percent"].map(density_label))
    labels = stops.sort_values("density_percent", ascending=False)["label"].unique()
    columns = [("P_m (%)", {label: label for label in labels})]
    for method in methods_in(stops):
        of_label = select(stops, method=method).groupby("label")
        columns.append((f"{method}, stops", of_label.apply(_stops_cell).to_dict()))
        reached = of_label["reached"].apply(_reached_cell).to_dict()
        columns.append((f"{method}, as good as dense", reached))
    what = "natural accuracy" if regime == "natural" else f"accuracy under {regime.upper()}"
    cap = int(stops["last_iteration"].max())
    trained = REGIME_LABELS[regime]
    caption = (
        f"{trained[0].upper()}{trained[1:]}, {seeds_label(stops)}: iteration of the smallest "
        f"validation loss (≥: of {at_the_cap(stops).sum()} of {len(stops)} trainings\nit is that "
        f"of the last evaluation, iteration {cap:,}, where training was cut off: censored), and "
        f"first evaluated\niteration with the validation {what} that the dense network ends with."
    )
    return f"{caption}\n\n{markdown_table(columns, labels, MISSING)}"


def _stops_cell(stops):
    shown = _mean(stops["stopping_iteration"])
    return f"≥{shown}" if at_the_cap(stops).any() else shown


def _reached_cell(iterations):
    if iterations.isna().any():
        return MISSING
    reached = iterations[np.isfinite(iterations)]
    if reached.empty:
        return "never"
    of_all = len(reached) == len(iterations)
    return _mean(reached) + ("" if of_all else f" ({len(reached)} of {len(iterations)} seeds)")


def _mean(iterations):
    return cell(iterations.mean(), iterations.std(), 0)
