"""The paper's figures, and one overview, drawn from a run's results as PNG files.

Every function takes the frame of `measurements.load_results`, draws what a run has
finished so far and returns the paths that it wrote: none where there is nothing
to draw. Lines are means over seeds, bands and bars the sample standard deviation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from experiments.sparse_robust_networks.speed_tables import at_the_cap
from experiments.sparse_robust_networks.tables import (
    METHODS,
    REGIME_LABELS,
    REGIMES,
    at_iteration,
    comparison_densities,
    density_label,
    early_stopping,
    matching_densities,
    methods_in,
)
from tf_tickets.analysis.drawing import (
    NOT_NEGATIVE,
    PERCENT,
    draw_bars,
    draw_curve,
    logarithmic,
    shade,
    write_png,
)
from tf_tickets.analysis.measurements import (
    DATA_SET_LABELS,
    attack_label,
    mean_and_sd,
    seeds_label,
    select,
)
from tf_tickets.attacks.threat_model import MARGIN_ATTACK

# The P_m, in %, that the paper's tables and figures show.
PAPER_DENSITIES = (100.0, 51.3, 16.9, 8.7, 3.6, 1.8)

_PAPER_FIGURES = {
    "test_accuracy": {
        ("mnist", "fgsm"): 1,
        ("mnist", "pgd"): 2,
        ("fashion_mnist", "fgsm"): 7,
        ("fashion_mnist", "pgd"): 8,
    },
    "early_stopping": {
        ("mnist", "fgsm"): 3,
        ("mnist", "pgd"): 5,
        ("fashion_mnist", "fgsm"): 9,
        ("fashion_mnist", "pgd"): 11,
    },
    # The caption of Figure 6 says MNIST Fashion, the text (and Figure 12) MNIST Digits.
    "validation_loss": {
        ("mnist", "fgsm"): 4,
        ("mnist", "pgd"): 6,
        ("fashion_mnist", "fgsm"): 10,
        ("fashion_mnist", "pgd"): 12,
    },
    "initial_weights": {
        ("mnist", "natural"): 13,
        ("mnist", "fgsm"): 14,
        ("mnist", "pgd"): 15,
    },
}

_REGIME_COLOURS = {"natural": "C0", "fgsm": "C1", "pgd": "C2"}
_COMPARED_WITH = ("random", "continued")

# Bins chosen by rule ("auto") would be so wide for what is left of the output layer
# that they hide the gap which pruning by magnitude leaves around zero.
_BINS = 40


def paper_figure_number(kind: str, data_set: str, regime: str) -> int | None:
    """The number of the paper's figure that shows this, None if it has none.

    Args:
      kind: "test_accuracy", "early_stopping", "validation_loss" or "initial_weights".
      data_set: "mnist" or "fashion_mnist".
      regime: "natural", "fgsm" or "pgd", how the networks were trained.
    """
    return _PAPER_FIGURES[kind].get((data_set, regime))


def accuracy_curves(frame: pd.DataFrame, data_set: str, directory: Path) -> list[Path]:
    """Figures 1, 2, 7 and 8: test accuracy under the training attack as training proceeds.

    One file per regime (natural accuracy after natural training, which the paper
    does not draw). Panels: "original" by density, then against "random" and
    "continued" where they have results.
    """
    return _curves(frame, data_set, directory, "test_accuracy")


def validation_loss_curves(frame: pd.DataFrame, data_set: str, directory: Path) -> list[Path]:
    """Figures 4, 6, 10 and 12: the validation loss under the training attack, in nats.

    Files and panels as in `accuracy_curves`.
    """
    return _curves(frame, data_set, directory, "validation_loss")


def early_stopping_curves(frame: pd.DataFrame, data_set: str, directory: Path) -> list[Path]:
    """Figures 3, 5, 9 and 11: the early-stopping iteration and the accuracies there.

    One file per regime; a line per pruning strategy over the density P_m.
    Accuracies are validation accuracies, as in the paper's text. "dense" stands at
    the density that the others have after as much training.
    """
    stops = early_stopping(select(frame, data_set=data_set))
    stops = stops.assign(density_percent=comparison_densities(stops))
    paths = []
    for regime in REGIMES:
        of_regime = select(stops, regime=regime)
        if not of_regime.empty:
            figure = _early_stopping_figure(of_regime, data_set, regime)
            paths.append(_save(figure, directory, "early_stopping", data_set, regime))
    return paths


def overview(
    frame: pd.DataFrame, reference: pd.DataFrame, data_set: str, directory: Path
) -> list[Path]:
    """Final test accuracy of "original" against density: natural, under FGSM, under PGD.

    And under the margin loss, where it was measured. A line per regime, with the paper's
    numbers (after 30,000 iterations) as crosses.

    Args:
      frame: from `measurements.load_results`.
      reference: from `tables.load_reference`.
      data_set: "mnist" or "fashion_mnist".
      directory: where the PNG goes.
    """
    rows = select(frame, data_set=data_set, method="original")
    rows = select(at_iteration(rows, "end"), split="test", quantity="accuracy")
    if rows.empty:
        return []
    attacks = [*REGIMES, *({MARGIN_ATTACK} & set(rows["attack"]))]
    figure = Figure(figsize=(4 * len(attacks), 4), layout="constrained")
    for axes, attack in zip(figure.subplots(1, len(attacks)), attacks):
        for regime in REGIMES:
            shown = select(rows, attack=attack, regime=regime)
            colour, label = _REGIME_COLOURS[regime], REGIME_LABELS[regime]
            if not shown.empty:
                values = 100 * shown["value"]
                _draw_over_density(axes, shown, values, PERCENT, color=colour, label=label)
                paper = _paper_rows(reference, data_set, attack, regime)
                paper = paper[
                    matching_densities(paper["density_percent"], shown["density_percent"])
                ]
                axes.plot(paper["density_percent"], paper["mean_percent"], "x", color=colour)
        axes.set(title=f"test accuracy {_images(attack)}", ylabel="accuracy (%)")
        _density_axis(axes, rows)
    figure.axes[0].plot([], [], "kx", label="paper, its iteration 30,000")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(
        f"{DATA_SET_LABELS[data_set]}, original, end of training, {seeds_label(rows, ' ± ')}"
    )
    return [write_png(figure, directory / f"{data_set}_overview.png")]


def initial_weight_distributions(
    initial_weights: Mapping[str, np.ndarray],
    tickets: Sequence[tuple[float, Mapping[str, np.ndarray]]],
    data_set: str,
    regime: str,
    seed: int,
    directory: Path,
) -> list[Path]:
    """Figures 13 to 15: how the initial weights that a ticket keeps are distributed.

    A panel per density, a line per layer, the area under each line 1; a panel's legend has the
    numbers of weights.

    Args:
      initial_weights: layer name → initial kernel, in the order of the layers.
      tickets: (density in [0, 1], layer name → boolean mask of the kernel's shape).
      data_set: "mnist" or "fashion_mnist".
      regime: "natural", "fgsm" or "pgd", how the tickets were found.
      seed: the trial's.
      directory: where the PNG goes.

    Raises:
      ValueError: a mask's shape is not its kernel's.
    """
    if not tickets:
        return []
    columns = min(3, len(tickets))
    rows = -(-len(tickets) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    for place, (density, masks) in enumerate(tickets, start=1):
        axes = figure.add_subplot(rows, columns, place, xlabel="initial weight")
        axes.set(title=f"$P_m$ = {density_label(100 * density)}%", ylabel="probability density")
        _draw_surviving_weights(axes, initial_weights, masks)
        axes.legend(fontsize=6)
    what = f"initial weights that are kept, seed {seed}"
    figure.suptitle(_title("initial_weights", data_set, regime, what))
    return [_save(figure, directory, "initial_weights", data_set, regime)]


def weight_density(weights: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """A normalised histogram of weights.

    Args:
      weights: any shape, at least one.

    Returns:
      heights, shape [bins], and edges, shape [bins + 1]; Σ height · width = 1.
    """
    return np.histogram(np.ravel(weights), bins=_BINS, density=True)


def draw_figures(
    frame: pd.DataFrame, reference: pd.DataFrame, data_set: str, directory: Path
) -> list[Path]:
    """Draws every figure of one data set that needs nothing but results."""
    return [
        *overview(frame, reference, data_set, directory),
        *accuracy_curves(frame, data_set, directory),
        *early_stopping_curves(frame, data_set, directory),
        *validation_loss_curves(frame, data_set, directory),
    ]


def _curves(frame, data_set, directory, kind):
    split, quantity = kind.split("_")
    rows = select(frame, data_set=data_set, split=split, quantity=quantity)
    rows = rows[rows["attack"] == rows["regime"]]
    paths = []
    for regime in REGIMES:
        of_regime = select(rows, regime=regime)
        if (of_regime["method"] == "original").any():
            figure = _curve_figure(of_regime, kind, data_set, regime)
            paths.append(_save(figure, directory, kind, data_set, regime))
    return paths


def _curve_figure(rows, kind, data_set, regime):
    others = [method for method in methods_in(rows) if method in _COMPARED_WITH]
    count = 1 + len(others)
    figure = Figure(figsize=(5 * count + 1, 4.5), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    original = select(rows, method="original")
    levels = _spread_levels(original.groupby("level")["density_percent"].first(), at_most=7)
    # A density has one colour in all panels.
    colours = {level: shade(rank, len(levels)) for rank, level in enumerate(levels)}
    _draw_levels(panels[0], kind, original, colours)
    panels[0].set_title("original")
    for axes, other in zip(panels[1:], others):
        compared = select(rows, method=other)
        common = original[original["level"].isin(set(compared["level"]) & set(levels))]
        if not common.empty:
            shown = _spread_levels(common.groupby("level")["density_percent"].first(), at_most=4)
            of_shown = {level: colours[level] for level in shown}
            _draw_levels(axes, kind, common, of_shown)
            _draw_levels(axes, kind, compared, of_shown, linestyle="--")
        axes.set_title(f"original (solid) and {other} (dashed)")
    name, unit = kind.replace("_", " "), "nats" if kind == "validation_loss" else "%"
    panels[0].set_ylabel(f"{name} ({unit})")
    if kind == "validation_loss":
        logarithmic(panels[0])
    for axes in panels:
        axes.set_xlabel("iteration")
        axes.legend(title="$P_m$ (%)", fontsize=8)
    what = f"{name} {_images(regime)}, {seeds_label(rows, ' ± ')}"
    figure.suptitle(_title(kind, data_set, regime, what))
    return figure


def _draw_levels(axes, kind, rows, colours, linestyle="-"):
    """Draws a curve for each of the levels in `colours`."""
    densities = rows.groupby("level")["density_percent"].first()
    factor, limits = (100, PERCENT) if kind == "test_accuracy" else (1, NOT_NEGATIVE)
    for level, colour in colours.items():
        curve = factor * mean_and_sd(select(rows, level=level), "iteration")
        # One legend entry per density: the dashed curves share their partner's colour.
        label = density_label(densities[level]) if linestyle == "-" else None
        draw_curve(axes, curve, limits, linestyle=linestyle, color=colour, label=label)


def _spread_levels(densities: pd.Series, at_most: int) -> list[int]:
    """Up to `at_most` levels, far apart; those of the paper's densities come first.

    Args:
      densities: P_m in %, by level; at least one.
      at_most: how many to choose.
    """
    every = densities.index.to_list()
    papers = densities.index[matching_densities(densities, PAPER_DENSITIES)].to_list()
    chosen = every[:1]
    for pool in (papers, every):
        while len(chosen) < at_most and (left := [level for level in pool if level not in chosen]):
            distances = [min(abs(level - other) for other in chosen) for level in left]
            chosen.append(left[int(np.argmax(distances))])
    return sorted(chosen)


def _early_stopping_figure(stops, data_set, regime):
    accuracies = {f"validation/{attack}/accuracy": attack for attack in (regime, "natural")}
    figure = Figure(figsize=(5 * (1 + len(accuracies)), 4.5), layout="constrained")
    cap, censored = stops["last_iteration"].max(), at_the_cap(stops)
    columns = {"stopping_iteration": ("early-stopping iteration", 1, (0, cap))}
    for column, attack in accuracies.items():
        columns[column] = (f"validation accuracy {_images(attack)} (%)", 100, PERCENT)
    panels = figure.subplots(1, len(columns))
    for axes, (column, (name, factor, limits)) in zip(panels, columns.items()):
        for method in methods_in(stops):
            rows = select(stops, method=method).dropna(subset=column)
            style = {"label": _legend(method), "color": f"C{METHODS.index(method)}"}
            _draw_over_density(axes, rows, factor * rows[column], limits, **style)
        axes.set_ylabel(name)
        _density_axis(axes, stops)
    panels[0].axhline(cap, color="black", linestyle=":", linewidth=1)
    panels[0].set_title(
        f"{censored.sum()} of {len(stops)} trainings are cut off at the last iteration\n"
        f"(dotted, {cap:,}) with their smallest loss",
        fontsize=8,
    )
    panels[-1].legend(fontsize=8)
    what = f"at the smallest validation loss {_images(regime)}, {seeds_label(stops, ' ± ')}"
    figure.suptitle(_title("early_stopping", data_set, regime, what))
    return figure


def _legend(method):
    return "dense (never pruned)" if method == "dense" else method.replace("_", " ")


def _draw_over_density(axes, rows, values, limits, **style):
    draw_bars(axes, mean_and_sd(rows.assign(value=values), "density_percent"), limits, **style)


def _density_axis(axes, rows):
    """P_m from dense on the left to sparse on the right, logarithmic."""
    densities = rows.groupby("level")["density_percent"].first()
    axes.set(xscale="log", xlabel="$P_m$, weights that remain (%)")
    ticks = []
    for density in densities[_spread_levels(densities, at_most=len(PAPER_DENSITIES))]:
        if not ticks or ticks[-1] > 1.5 * density:  # Closer labels would overlap.
            ticks.append(density)
    axes.set_xticks(ticks, [density_label(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.invert_xaxis()


def _paper_rows(reference, data_set, attack, regime):
    """The paper's test accuracies under `attack`; the natural networks are its FGSM half's."""
    setting = next(name for name in (attack, regime, "fgsm") if name != "natural")
    training = "natural" if regime == "natural" else "adversarial"
    metric = "natural_accuracy" if attack == "natural" else "adversarial_accuracy"
    # The paper never attacks a network with another attack than it was trained with.
    if {attack, regime} == {"fgsm", "pgd"} or attack == MARGIN_ATTACK:
        reference = reference[:0]
    return select(
        reference, data_set=data_set, attack_setting=setting, training=training, metric=metric
    )


def _draw_surviving_weights(axes, initial_weights, masks):
    for index, (layer, kernel) in enumerate(initial_weights.items()):
        mask = np.asarray(masks[layer], dtype=bool)
        if mask.shape != kernel.shape:
            raise ValueError(f"{layer}: mask of shape {mask.shape}, kernel of {kernel.shape}")
        if mask.any():
            heights, edges = weight_density(kernel[mask])
            # C0, C1 and C2 are the paper's blue, orange and green.
            axes.stairs(heights, edges, color=f"C{index}", label=f"{layer} ({mask.sum():,})")


def _images(attack):
    return "on natural images" if attack == "natural" else f"under {attack_label(attack)}"


def _title(kind, data_set, regime, what):
    number = paper_figure_number(kind, data_set, regime)
    paper = f" (as the paper's Figure {number})" if number else ""
    return f"{DATA_SET_LABELS[data_set]}, {REGIME_LABELS[regime]}{paper}\n{what}"


def _save(figure, directory, kind, data_set, regime):
    number = paper_figure_number(kind, data_set, regime)
    prefix = f"figure_{number:02d}_" if number else ""
    return write_png(figure, directory / f"{prefix}{data_set}_{regime}_{kind}.png")
