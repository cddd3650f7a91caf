"""Results as tables beside the paper's: mean ± sample standard deviation over seeds.

Every function takes the frame that `measurements.load_results` makes and accepts whatever a
run has finished so far: one regime, one seed, a few levels.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from tf_tickets.analysis import measurements
from tf_tickets.analysis.markdown import MISSING, cell, cells, markdown_table
from tf_tickets.analysis.measurements import attack_label, seeds_label, select
from tf_tickets.attacks.threat_model import MARGIN_ATTACK
from tf_tickets.evaluation.early_stopping import early_stopping_iteration

ATTACKS = ("fgsm", "pgd")
REGIMES = ("natural", *ATTACKS)
METHODS = ("original", "random", "continued", "random_pruning", "dense", "gradual", "blocks")
REGIME_LABELS = {
    "natural": "naturally trained",
    "fgsm": "FGSM-trained",
    "pgd": "PGD-trained",
}

# One search at one level; what is averaged is several seeds of it.
LEVEL_KEYS = ["data_set", "method", "regime", "seed", "level"]

# The paper prints P_m with one decimal, and its code prunes a weight too many per
# layer and level: its 1.8% is 1.844%, exact counts give 1.851%. Hence a little more
# than half a decimal. Neighbouring levels lie at least 0.3 points apart there.
_DENSITY_TOLERANCE = 0.06

_REFERENCE_COLUMNS = [
    "table", "data_set", "density_percent", "training", "attack_setting", "metric",
    "mean_percent", "sd_percent",
]  # fmt: skip


def load_reference(path: Path) -> pd.DataFrame:
    """Reads the paper's Tables 1 and 2; raises as `measurements.load_reference`."""
    return measurements.load_reference(path, _REFERENCE_COLUMNS)


def methods_in(frame: pd.DataFrame) -> list[str]:
    """The pruning strategies that have results, the paper's first."""
    return [method for method in METHODS if (frame["method"] == method).any()]


def density_label(density_percent: float) -> str:
    """P_m in % as the paper writes it: one decimal; below 1%, two significant digits."""
    return f"{density_percent:.1f}" if density_percent >= 0.95 else f"{density_percent:.2g}"


def matching_densities(densities: pd.Series, others: ArrayLike) -> pd.Series:
    """Which densities are among the others, up to how the paper's are rounded.

    Args:
      densities: P_m in %.
      others: one P_m or several, in %.

    Returns:
      Booleans, with the index of `densities`.
    """
    differences = np.abs(np.subtract.outer(densities.to_numpy(float), np.atleast_1d(others)))
    return pd.Series((differences <= _DENSITY_TOLERANCE).any(axis=1), index=densities.index)


def early_stopping(frame: pd.DataFrame) -> pd.DataFrame:
    """Where every training would have stopped, by validation data alone.

    The criterion is the regime's own validation loss: natural after natural
    training, under the training attack after adversarial training.

    Returns:
      A row for every (data_set, method, regime, seed, level), with
      `density_percent`, `stopping_iteration`, `last_iteration` and the accuracies where it
      stops, in [0, 1], as columns such as `validation/pgd/accuracy`; NaN if not evaluated there.
    """
    stops = _stopping_iterations(frame)
    rows = select(frame.merge(stops, on=LEVEL_KEYS), quantity="accuracy")
    rows = rows[rows["iteration"] == rows["stopping_iteration"]]
    metric = rows["split"] + "/" + rows["attack"] + "/" + rows["quantity"]
    accuracies = rows.assign(metric=metric).pivot(
        index=LEVEL_KEYS, columns="metric", values="value"
    )
    return stops.merge(accuracies.reset_index(), on=LEVEL_KEYS, how="left")


def _stopping_iterations(frame):
    own = select(frame, split="validation", quantity="loss")
    own = own[own["attack"] == own["regime"]].sort_values("iteration")
    rows = [
        (*keys, level["density_percent"].iloc[0],
         early_stopping_iteration(level["iteration"].to_list(), level["value"].to_list()),
         level["iteration"].iloc[-1])
        for keys, level in own.groupby(LEVEL_KEYS)
    ]  # fmt: skip
    columns = [*LEVEL_KEYS, "density_percent", "stopping_iteration", "last_iteration"]
    return pd.DataFrame(rows, columns=columns)


def at_iteration(frame: pd.DataFrame, at: int | str) -> pd.DataFrame:
    """The rows measured at one iteration of every level.

    Args:
      frame: from `measurements.load_results`.
      at: an iteration, taken exactly; or "end", the last one of each level; or
        "early_stopping", see `early_stopping`.

    Raises:
      ValueError: `at` is something else.
    """
    if isinstance(at, int):
        return frame[frame["iteration"] == at]
    if at == "end":
        last = frame.groupby(LEVEL_KEYS)["iteration"].transform("max")
        return frame[frame["iteration"] == last]
    if at == "early_stopping":
        stops = _stopping_iterations(frame).rename(columns={"stopping_iteration": "iteration"})
        return frame.merge(stops[[*LEVEL_KEYS, "iteration"]], on=[*LEVEL_KEYS, "iteration"])
    raise ValueError(f"at={at!r}: expected an iteration, 'end' or 'early_stopping'")


def accuracy_table(
    frame: pd.DataFrame,
    reference: pd.DataFrame,
    data_set: str,
    method: str = "original",
    at: int | str = "end",
) -> str:
    """Tables 1 and 2 of "The Search for Sparse, Robust Neural Networks", ours beside theirs.

    One Markdown table for FGSM and one for PGD. A row per level; test accuracies in
    % of naturally and of adversarially trained networks, on natural images (SA) and
    under attack (RA); at the end of training also under the margin loss at PGD's cost (MA).
    The paper trained its natural networks anew for each half of a table; ours serve both.
    The paper's numbers are of the strategy "original", so only that one has them. Columns
    without a number of ours are left out, but for MA's.

    Args:
      frame: from `measurements.load_results`.
      reference: from `load_reference`.
      data_set: "mnist" or "fashion_mnist".
      method: a pruning strategy.
      at: as in `at_iteration`; an iteration that the run has not evaluated gets
        one line that says so.
    """
    ours = select(frame, data_set=data_set, method=method)
    chosen = _test_accuracies(ours, at)
    if chosen.empty:
        return _nothing_to_show(ours, at)
    theirs = select(reference if method == "original" else reference[:0], data_set=data_set)
    densities = ours.groupby("level")["density_percent"].first()
    tables = [_accuracy_table_under(attack, chosen, theirs, densities, at) for attack in ATTACKS]
    return "\n\n".join(filter(None, tables))


def strategy_table(frame: pd.DataFrame, data_set: str, at: int | str = "end") -> str:
    """Test accuracies in % of the pruning strategies, a row per density.

    One Markdown table per training regime, of the accuracy under the attack that
    the regime trained with (natural accuracy after natural training), and at the end of
    PGD training also under the margin loss. "dense", the network that is never pruned,
    stands at the density that the others have after as many levels of training.

    Args:
      frame: from `measurements.load_results`.
      data_set: "mnist" or "fashion_mnist".
      at: as in `accuracy_table`.
    """
    ours = select(frame, data_set=data_set)
    chosen = _test_accuracies(ours, at)
    if chosen.empty:
        return _nothing_to_show(ours, at)
    chosen = chosen.assign(density_percent=comparison_densities(chosen))
    tables = [_strategy_table_of(select(chosen, regime=regime), regime, at) for regime in REGIMES]
    return "\n\n".join(filter(None, tables))


_MARGIN = f"Margin loss (C&W): with PGD's eps, step and steps; {MISSING}: not measured."


def cross_attack_table(frame: pd.DataFrame, data_set: str, method: str = "original") -> str:
    """Test accuracies in % of every regime under every attack at the end of training.

    A network trained with FGSM may resist FGSM by masking its gradients; then it
    falls to PGD. One that withstands PGD may fall to the margin loss. One Markdown table;
    the paper has none.

    Args:
      frame: from `measurements.load_results`.
      data_set: "mnist" or "fashion_mnist".
      method: a pruning strategy.
    """
    ours = select(frame, data_set=data_set, method=method)
    chosen = _test_accuracies(ours, "end")
    if chosen.empty:
        return _nothing_to_show(ours, "end")
    densities = ours.groupby("level")["density_percent"].first()
    columns = {"P_m (%)": densities.map(density_label).to_dict()}
    for regime in ATTACKS:
        trained = select(chosen, regime=regime)
        for attack in ATTACKS:
            heading = f"{REGIME_LABELS[regime]}, {attack_label(attack)}"
            columns[heading] = cells(select(trained, attack=attack), "level")
        if not trained.empty:
            heading = f"{REGIME_LABELS[regime]}, {attack_label(MARGIN_ATTACK)}"
            columns[heading] = _margin_cells(trained, "level", densities.index)
    if not any(list(columns.values())[1:]):
        return f"No adversarially trained networks of {method} on {data_set} yet."
    caption = f"Training, attack: test accuracy in % {_moment(chosen, 'end')}. {_MARGIN}"
    return f"{caption}\n\n{_markdown(columns, densities.index)}"


def comparison_densities(frame: pd.DataFrame) -> pd.Series:
    """P_m in % at which the rows of several strategies are compared.

    It is a network's own density, but for "dense" the one that the pruned networks
    have at its level, that is, after as much training.
    """
    dense = frame["method"] == "dense"
    levelled = frame[~dense & (frame["method"] != "gradual")]
    pruned = levelled.groupby("level")["density_percent"].first()
    placed = frame["level"].map(pruned).fillna(frame["density_percent"])
    return frame["density_percent"].where(~dense, placed)


def _test_accuracies(frame, at):
    return select(at_iteration(frame, at), split="test", quantity="accuracy")


def _nothing_to_show(frame, at):
    if frame.empty:
        return "No results yet."
    if isinstance(at, int):
        last = frame["iteration"].max()
        return f"Not evaluated at iteration {at:,}; the last evaluated iteration is {last:,}."
    return "No test accuracies yet."


def _accuracy_table_under(attack, chosen, theirs, densities, at):
    columns = {"P_m (%)": densities.map(density_label).to_dict()}
    for short, image_kind, metric in (
        ("SA", "natural", "natural_accuracy"),
        ("RA", attack, "adversarial_accuracy"),
    ):
        for regime, training in (("natural", "natural"), (attack, "adversarial")):
            ours = cells(select(chosen, regime=regime, attack=image_kind), "level")
            paper = select(theirs, attack_setting=attack, training=training, metric=metric)
            columns[f"{short} {training[:3]}."] = ours
            columns[f"{short} {training[:3]}. paper"] = _paper_cells(paper, densities, ours)
    if not any(list(columns.values())[1:]):
        return ""
    name = attack.upper()
    caption = (
        f"{name}: test accuracy in % {_moment(chosen, at)}; SA on natural images, RA under "
        f"{name};\nnat.: naturally trained, adv.: {REGIME_LABELS[attack]}."
    )
    if columns["RA adv."] and attack == "pgd" and at == "end":
        caption += f"\nMA: under the margin loss. {_MARGIN}"
        trained = select(chosen, regime="pgd")
        columns["MA adv."] = _margin_cells(trained, "level", densities.index)
    return f"{caption}\n\n{_markdown(columns, densities.index)}"


def _margin_cells(chosen, by, keys):
    """The cells of the margin loss, which a reader must not think forgotten."""
    missing = dict.fromkeys(keys, MISSING)
    return missing | cells(select(chosen, attack=MARGIN_ATTACK), by)


def _strategy_table_of(chosen, regime, at):
    if chosen.empty:
        return ""
    chosen = chosen.assign(label=chosen["density_percent"].map(density_label))
    labels = chosen.sort_values("density_percent", ascending=False)["label"].unique()
    columns = {"P_m (%)": {label: label for label in labels}}
    own = select(chosen, attack=regime)
    for method in methods_in(own):
        columns[method] = cells(select(own, method=method), "label")
    if regime == "pgd" and at == "end":
        for method in methods_in(own):
            of_method = select(chosen, method=method)
            columns[f"{method}, margin"] = _margin_cells(of_method, "label", labels)
    images = "on natural images" if regime == "natural" else f"under {regime.upper()}"
    trained = REGIME_LABELS[regime]
    caption = (
        f"{trained[0].upper()}{trained[1:]}: test accuracy in % {images} {_moment(chosen, at)}."
    )
    if regime == "pgd" and at == "end":
        caption += f"\n{_MARGIN}"
    if "dense" in columns:
        caption += "\ndense: never pruned, trained for as many levels."
    return f"{caption}\n\n{_markdown(columns, labels)}"


def _moment(chosen, at):
    averaged = seeds_label(chosen)
    if at == "early_stopping":
        return f"at the smallest validation loss, {averaged}"
    iterations = sorted(chosen["iteration"].unique())
    return f"after {' or '.join(f'{i:,}' for i in iterations)} iterations, {averaged}"


def _paper_cells(paper, densities, levels) -> dict:
    """Level → the paper's cell, for those of the levels that the paper's table has."""
    found = {}
    for row in paper.itertuples():
        for level in densities.index[matching_densities(densities, row.density_percent)]:
            found[level] = cell(row.mean_percent, row.sd_percent)
    return {level: shown for level, shown in found.items() if level in levels}


def _markdown(columns, keys):
    """A table of the columns that hold any cell."""
    # "SA nat. paper" stands right of "SA nat.", so "paper" alone says it, in less width.
    filled = [
        ("paper" if heading.endswith(" paper") else heading, cells_of)
        for heading, cells_of in columns.items()
        if cells_of
    ]
    return markdown_table(filled, keys)
