"""The figures of "Robust Lottery Tickets", drawn from a run's results as PNG files.

Every function takes a `results.Group`, draws what a run has finished so far
and returns the paths that it wrote. Lines are means over seeds, bands and bars the sample standard
deviation or, of accuracies under attack and one seed, the 95% confidence interval over its
sentences; where there is neither, nothing is drawn. Legends say how many seeds each line has.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.robust_bert_tickets.examples import ATTACK_LABELS
from experiments.robust_bert_tickets.plan import CONVERGENCE
from experiments.robust_bert_tickets.results import (
    METHOD_LABELS,
    Group,
    Network,
    SeedMean,
    accuracies_under,
    attacks,
    clean_accuracies,
    compared_networks,
    network_label,
    searches,
    seed_count,
    sparsities,
    swept_networks,
    training_curves,
)
from experiments.robust_bert_tickets.tables import REGIME_LABELS
from tf_tickets.analysis.drawing import draw_curve, shade, write_png
from tf_tickets.analysis.measurements import mean_and_sd, seeds_label, select

_COLOURS = {"fine_tune": "C7", "free_lb": "C1", "lth": "C0", "robust": "C3"}
_DENSE_STYLES = {"fine_tune": "--", "free_lb": ":"}
_REGIME_STYLES = {"free_lb": "-", "pgd": "-.", "natural": "--"}
_SEARCH_PANELS = {
    "expected_l0": (1, "R(m)"),
    "share_zero": (100, "masks at exactly 0 (%)"),
    "share_one": (100, "masks at exactly 1 (%)"),
}


def regularization_figures(group: Group, directory: Path) -> list[Path]:
    """Figures 1 and 5: R(m) and the share of masks at 0 and 1 during each search."""
    measured = searches(group)
    if measured.empty:
        return []
    penalties = sorted(measured["penalty"].unique())
    colours = {value: shade(rank, len(penalties), 0.9) for rank, value in enumerate(penalties)}
    figure = Figure(figsize=(15, 5), layout="constrained")
    for axes, (quantity, (factor, label)) in zip(figure.subplots(1, 3), _SEARCH_PANELS.items()):
        rows = select(measured, quantity=quantity)
        for (penalty, regime), of_search in rows.groupby(["penalty", "regime"]):
            curve = factor * mean_and_sd(of_search, "progress")[["mean", "sd"]]
            style = _REGIME_STYLES.get(regime, ":")
            draw_curve(axes, curve, color=colours[penalty], linestyle=style)
        axes.set(xlabel="progress of the search (%)", ylabel=label, ylim=(0, 1.02 * factor))
        axes.grid(alpha=0.3)
    lines = [Line2D([], [], color=colour, label=f"λ = {v:g}") for v, colour in colours.items()]
    for regime in sorted(measured["regime"].unique()):
        style, label = _REGIME_STYLES.get(regime, ":"), REGIME_LABELS.get(regime, regime)
        lines.append(Line2D([], [], color="grey", linestyle=style, label=f"{label} loss"))
    figure.legend(handles=lines, loc="outside lower center", ncols=8)
    figure.suptitle(
        f"{group.label}: masks while they are learned\nas the paper's Figures 1 and 5, "
        f"{seeds_label(measured, ' ± ')}"
    )
    return [write_png(figure, directory / f"figure_01_{group.name}_regularization.png")]


def sparsity_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 2: clean accuracy and accuracy under attack at every sparsity."""
    found = swept_networks(group)
    if not found:
        return []
    panels = {"Clean (%)": clean_accuracies(group)}
    for attack in attacks(group):
        panels[f"Aua, {ATTACK_LABELS[attack]} (%)"] = accuracies_under(group, attack)
    figure, grid = _panels(len(panels))
    for axes, (label, means) in zip(grid, panels.items()):
        kept = {network: means[network] for network in found if network in means}
        _draw_sparsities(axes, kept, sparsities(group))
        axes.set(xlabel="sparsity of the masked weights (%)", ylabel=label)
    methods = list(dict.fromkeys(network.method for network in found))
    rows = select(group.rows, split="test")
    lines = [
        Line2D(
            [],
            [],
            color=_COLOURS[name],
            linestyle=_DENSE_STYLES.get(name, "-"),
            marker="" if name in _DENSE_STYLES else "o",
            label=f"{METHOD_LABELS[name]} ({seed_count(select(rows, method=name))})",
        )
        for name in methods
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=4)
    figure.suptitle(
        f"{group.label}: accuracy by sparsity, as the paper's Figure 2\n"
        "means ± sd over seeds; Aua of one seed with its 95% interval over sentences",
        fontsize=10,
    )
    return [write_png(figure, directory / f"figure_02_{group.name}_sparsity.png")]


def convergence_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 4: clean accuracy and accuracy under attack on validation data during training."""
    shown = compared_networks(group, CONVERGENCE)
    panels = {"Clean (%)": training_curves(group, "natural")}
    for attack in attacks(group, "validation"):
        panels[f"Aua, {ATTACK_LABELS[attack]} (%)"] = training_curves(group, attack)
    drawn = [network for network in shown if any(network in curves for curves in panels.values())]
    if not drawn:
        return []
    styles = _network_styles(drawn)
    figure, grid = _panels(len(panels))
    for axes, (label, curves) in zip(grid, panels.items()):
        for network in drawn:
            if network in curves:
                draw_curve(axes, curves[network], marker=".", **styles[network])
        axes.set(xlabel="optimizer steps", ylabel=label)
    rows = select(group.rows, split="validation", quantity="accuracy")
    lines = [
        Line2D(
            [],
            [],
            label=f"{network_label(group, n)} ({seed_count(select(rows, **n._asdict()))})",
            **styles[n],
        )
        for n in drawn
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=4)
    missing = "" if len(panels) > 1 else " without its Aua, which was not measured"
    figure.suptitle(
        f"{group.label}: validation accuracy as training proceeds\n"
        f"as the paper's Figure 4{missing}; means ± sd over seeds\n"
        "methods of one seed share their new classifier, which the masks of tickets were "
        "learned around",
        fontsize=10,
    )
    return [write_png(figure, directory / f"figure_04_{group.name}_convergence.png")]


def _panels(count):
    """A figure of panels with a grid in each; more than three stand in two columns."""
    columns = count if count <= 3 else 2
    lines = -(-count // columns)
    figure = Figure(figsize=(1 + 5.5 * columns, 1 + 4 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).flat
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels[:count]:
        axes.grid(alpha=0.3)
        # With a shared axis, matplotlib writes numbers below the last line's panels alone.
        axes.tick_params(labelbottom=True)
    return figure, panels[:count]


def _draw_sparsities(
    axes: Axes, means: Mapping[Network, SeedMean], removed: Mapping[Network, float]
) -> None:
    """A line per kind of ticket, and a horizontal one for each network that is not pruned."""
    by_method = {}
    for network in means:
        by_method.setdefault(network.method, []).append(network)
    for method, of_method in by_method.items():
        colour = _COLOURS[method]
        if of_method == [Network(method, 0)]:
            mean = means[of_method[0]]
            axes.axhline(mean.mean, color=colour, linestyle=_DENSE_STYLES[method])
            low, high = _ends(mean)
            if not np.isnan(low):
                axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)
            continue
        places = [removed[network] for network in of_method]
        heights = np.array([means[network].mean for network in of_method])
        lows, highs = np.array([_ends(means[network]) for network in of_method]).T
        lengths = np.stack([heights - lows, highs - heights]).clip(0)
        bars = {"marker": "o", "markersize": 4, "elinewidth": 1.5, "capsize": 0}
        axes.errorbar(places, heights, lengths, color=colour, **bars)


def _ends(mean: SeedMean) -> tuple[float, float]:
    """The ends of a mean's interval, or of its standard deviation within [0, 100]; NaN without."""
    if not np.isnan(mean.low):
        return mean.low, mean.high
    low, high = np.clip([mean.mean - mean.sd, mean.mean + mean.sd], 0.0, 100.0)
    return low, high


def _network_styles(drawn):
    """A colour per method; where one has several sparsities, a style for each of them."""
    styles = ("-", "--", "-.", ":")
    found, count = {}, {}
    for network in drawn:
        number = count.setdefault(network.method, 0)
        found[network] = {"color": _COLOURS[network.method], "linestyle": styles[number % 4]}
        count[network.method] += 1
    return found
