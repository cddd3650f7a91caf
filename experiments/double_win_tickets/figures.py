"""The figures of "Double-Win Lottery Tickets", drawn from a run's results as PNG files.

Every function takes a `studies.Group`, draws what a run has finished so far
and returns the paths that it wrote. Lines are means over seeds, bands the sample standard
deviation; the dense network is a line's first point and a dashed line of its own.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.double_win_tickets.results import (
    METRIC_LABELS,
    PRETRAINING_LABELS,
    PRUNING_LABELS,
    Network,
    networks,
    tested,
)
from experiments.double_win_tickets.verdicts import METRICS
from tf_tickets.analysis.drawing import PERCENT, draw_curve, write_png
from tf_tickets.analysis.measurements import attack_label, seeds_label
from tf_tickets.analysis.studies import Group

# (pruning, pretraining) → colour, the paper's for Figure 3, in all figures of a summary.
COLOURS = {
    ("imp_st", "std"): "C1",
    ("imp_st", "fat"): "C2",
    ("imp_st", "at"): "C0",
    ("imp_at", "at"): "C4",
    ("omp", "at"): "C5",
    ("random", "at"): "C3",
}
_BY_PRETRAINING = [("imp_st", pretraining) for pretraining in PRETRAINING_LABELS]
_BY_PRUNING = [(pruning, "at") for pruning in PRUNING_LABELS if pruning != "dense"]


def pretraining_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 3: tickets of three kinds of pre-training, and random ones of AT."""
    kinds = [*_BY_PRETRAINING, ("random", "at")]
    found = _of_kinds(networks(group), kinds, [100])
    if not _has(found, _BY_PRETRAINING):
        return []
    title = "tickets of different pre-training"
    return _draw(group, found, kinds, 3, "pretraining", title, directory)


def pruning_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 4: four kinds of pruning of adversarially pre-trained weights."""
    found = _of_kinds(networks(group), _BY_PRUNING, [100])
    if not _has(found, [("imp_at", "at"), ("omp", "at")]):
        return []
    title = "tickets of adversarial pre-training by pruning"
    return _draw(group, found, _BY_PRUNING, 4, "pruning", title, directory)


def data_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 5: tickets of three kinds of pre-training, a column per share of the data."""
    found = networks(group)
    percents = list(dict.fromkeys(network.percent for network in found))
    found = _of_kinds(found, _BY_PRETRAINING, percents)
    little = [network for network in found if network.percent < 100]
    if not _has(little, _BY_PRETRAINING):
        return []
    title = "tickets of different pre-training by training data"
    return _draw(group, found, _BY_PRETRAINING, 5, "data", title, directory)


def _of_kinds(found, kinds, percents):
    """The networks of the kinds, and the dense ones of their pre-training."""
    wanted = {*kinds, *(("dense", pretraining) for _, pretraining in kinds)}
    return [
        network
        for network in found
        if (network.pruning, network.pretraining) in wanted and network.percent in percents
    ]


def _has(found, kinds):
    return any((network.pruning, network.pretraining) in kinds for network in found)


def _draw(group, found, kinds, number, name, title, directory):
    """A row of panels per metric and a column per share of the training data."""
    percents = list(dict.fromkeys(network.percent for network in found))
    figure = Figure(figsize=(2 + 6 * len(percents), 10), layout="constrained")
    panels = figure.subplots(len(METRICS), len(percents), squeeze=False, sharex=True)
    for row, metric in zip(panels, METRICS):
        for axes, percent in zip(row, percents):
            _draw_panel(axes, [n for n in found if n.percent == percent], kinds, metric)
            _widen(axes)
        label = METRIC_LABELS[metric]
        row[0].set_ylabel(f"{label.replace('RA', f'RA ({attack_label(group.attack)})')} (%)")
    if len(percents) > 1:
        for axes, percent in zip(panels[0], percents):
            axes.set_title(f"{percent:g}% of the training data")
    _sparsity_axes(panels[-1], found)
    _legend(figure, found, kinds)
    rows = pd.concat([tested(group.rows, metric, group.attack) for metric in METRICS])
    rows = rows[rows["percent"].isin(percents)]
    seeds = seeds_label(rows, " ± ")
    counts = {len(getattr(n.scores, metric)) for n in found for metric in METRICS} - {0}
    if 1 in counts and len(counts) > 1:
        seeds += "; without a band: one seed"
    figure.suptitle(f"{group.label}: {title}\nas the paper's Figure {number}, {seeds}")
    return [write_png(figure, directory / f"figure_{number:02d}_{group.name}_{name}.png")]


def _draw_panel(axes: Axes, found: Sequence[Network], kinds: Sequence, metric: str) -> None:
    # Kinds of one pre-training share the dense network, which is the first one's in colour.
    for pruning, pretraining in reversed(kinds):
        of_pretraining = [network for network in found if network.pretraining == pretraining]
        tickets = _measured(of_pretraining, pruning, metric)
        if tickets:
            dense = _measured(of_pretraining, "dense", metric)
            _draw_tickets(axes, tickets, dense, metric, COLOURS[pruning, pretraining])


def _draw_tickets(axes, tickets, dense, metric, colour):
    drawn = [*dense, *tickets]
    curve = _curve(drawn, metric)
    style = {"marker": "o", "markersize": 5, "markerfacecolor": "white"}
    draw_curve(axes, curve, PERCENT, color=colour, **style)
    matching = [network.level for network in drawn if network.verdict.matching[metric]]
    axes.plot(matching, curve["mean"][matching], "o", color=colour, markersize=5)
    if dense:
        axes.axhline(curve["mean"][0], color=colour, linestyle="--", linewidth=0.8)


def _widen(axes):
    """An axis of at least a point, where all accuracies are the same."""
    low, high = axes.get_ylim()
    if axes.lines and high - low < 1:
        axes.set_ylim((low + high - 1) / 2, (low + high + 1) / 2)


def _measured(found, pruning, metric):
    return [n for n in found if n.pruning == pruning and getattr(n.scores, metric)]


def _curve(found, metric):
    """`mean` and `sd` in % by level."""
    values = {network.level: pd.Series(getattr(network.scores, metric)) for network in found}
    return pd.DataFrame(
        {
            "mean": {level: 100 * of_level.mean() for level, of_level in values.items()},
            "sd": {level: 100 * of_level.std() for level, of_level in values.items()},
        }
    )


def _sparsity_axes(panels, found):
    """Evenly spaced levels, as in the paper, under the names of their sparsities."""
    sparsities = {network.level: f"{network.sparsity_percent:.2f}" for network in found}
    for axes in panels:
        axes.set_xticks(list(sparsities), list(sparsities.values()), rotation=60, fontsize=8)
        axes.set_xlabel("sparsity (%)")


def _legend(figure, found, kinds):
    drawn = {(network.pruning, network.pretraining) for network in found}
    lines = [
        Line2D(
            [],
            [],
            color=COLOURS[kind],
            label=f"{PRETRAINING_LABELS[kind[1]]}, {PRUNING_LABELS[kind[0]]}",
        )
        for kind in kinds
        if kind in drawn
    ]
    if any(network.pruning == "dense" for network in found):
        lines.append(Line2D([], [], color="grey", linestyle="--", linewidth=0.8, label="dense"))
    if any(True in network.verdict.matching.values() for network in found):
        dot = {"color": "grey", "marker": "o", "linestyle": ""}
        lines.append(Line2D([], [], **dot, label="matches dense"))
    figure.legend(handles=lines, loc="outside lower center", ncols=3, fontsize=8)
