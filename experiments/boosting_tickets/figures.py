"""The figures of "Boosting Ticket", drawn from a run's results as PNG files.

Every function takes a `studies.Group`, draws what a run has finished so far
and returns the paths that it wrote. Lines are means over seeds, bands and bars the
sample standard deviation.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.boosting_tickets.results import (
    ADVERSARIAL,
    FAMILY_LABELS,
    full_length,
    of_families,
    pruned_to,
    tested_accuracies,
    validation_curves,
    with_width_and_depth,
)
from experiments.boosting_tickets.times import TIMED, robust_goals, timed_curves
from tf_tickets.analysis.drawing import PERCENT, draw_bars, draw_curve, shade, write_png
from tf_tickets.analysis.measurements import attack_label, mean_and_sd, seeds_label, select
from tf_tickets.analysis.studies import Group, model_label

_FAMILY_COLOURS = {
    "boosting": "C0",
    "winning": "C1",
    "random": "C2",
    "iterative": "C3",
    "dense": "black",
    "natural_ticket": "C1",
    "fgsm_ticket": "C0",
    "pgd_ticket": "C3",
    "fast_ticket": "C5",
    "fgsm_random": "C2",
    "pgd_random": "C4",
}
_TIMED_COLOURS = dict(zip(TIMED, ("black", "C0", "C1", "C2", "C3")))
_CLOCKS = {"seconds": "s by the clock", "cpu_seconds": "CPU s"}


def existence_figures(group: Group, directory: Path) -> list[Path]:
    """Figures 1 and 9: validation accuracy of boosting, winning and other tickets."""
    rows = full_length(group.rows, "natural", ("boosting", "winning", "random", "dense"))
    paths = _pair(group, rows, 1, "existence", "boosting and winning tickets", directory)
    if not full_length(group.rows, "natural", ("iterative",)).empty:
        rows = full_length(group.rows, "natural", ("boosting", "iterative", "random"))
        title = "pruned once and iteratively"
        paths += _pair(group, rows, 9, "iterative_pruning", title, directory)
    return paths


def epochs_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 2: validation accuracy of boosting and winning tickets by training length."""
    rows = validation_curves(of_families(group.rows, "natural", ("boosting", "winning")))
    full = select(rows, percent=100)
    title = "boosting tickets (solid) and winning tickets (dashed)"
    ylabel = "validation accuracy (%)"
    return _lengths_figure(group, rows, full, 2, "epochs", title, ylabel, directory)


def convergence_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 8: validation robust accuracy of FGSM tickets by training length."""
    rows = of_families(group.rows, "pgd", ("fgsm_ticket", "dense"))
    rows = validation_curves(rows, group.attack)
    dense = select(rows, family="dense")
    title = "PGD training of FGSM tickets"
    ylabel = _accuracy(group.attack)
    return _lengths_figure(group, rows, dense, 8, "convergence", title, ylabel, directory)


def learning_rate_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 3: final test accuracy by training length, a line per finding learning rate."""
    rows = tested_accuracies(group.rows).dropna(subset="finding_rate")
    if rows.empty:
        return []
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    rates = sorted(rows["finding_rate"].unique())
    for rank, rate in enumerate(rates):
        line = 100 * mean_and_sd(select(rows, finding_rate=rate), "percent")
        draw_bars(axes, line, PERCENT, color=_shade(rank, len(rates)), label=f"{rate:g}")
    axes.set(xlabel="length (% of the full training)", ylabel="final test accuracy (%)")
    axes.legend(title="found with learning rate", fontsize=8)
    return _finish(figure, group, 3, "learning_rate", "tickets by learning rate", rows, directory)


def pruning_ratio_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 4: validation accuracy after epochs 1 and 5 by pruning ratio."""
    rows = pruned_to(group.rows)
    if rows.empty:
        return []
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for family in ("boosting", "random"):
        for epoch, linestyle in ((1, "--"), (5, "-")):
            line = 100 * mean_and_sd(select(rows, family=family, epoch=epoch), "sparsity_percent")
            label = f"{FAMILY_LABELS[family]}, epoch {epoch}"
            colour = _FAMILY_COLOURS[family]
            draw_bars(axes, line, PERCENT, color=colour, linestyle=linestyle, label=label)
    axes.set(xlabel="pruned weights (%)", ylabel="validation accuracy (%)")
    axes.legend(fontsize=8)
    return _finish(figure, group, 4, "pruning_ratio", "pruning ratio", rows, directory)


def capacity_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 5: validation accuracy of boosting tickets of wider and deeper networks."""
    rows = validation_curves(with_width_and_depth(group.rows))
    if rows.empty:
        return []
    fixed_values = {
        fixed: _most_common(rows, fixed, varied)
        for fixed, varied in (("width", "depth"), ("depth", "width"))
    }
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    for axes, varied, fixed in zip(
        figure.subplots(1, 2, sharey=True), ("width", "depth"), ("depth", "width")
    ):
        value = fixed_values[fixed]
        of_fixed = select(rows, **{fixed: value})
        sizes = sorted(of_fixed[varied].unique())
        for rank, size in enumerate(sizes):
            # Widths have other colours than depths; the network of both panels is black.
            colour = _shade(rank, len(sizes)) if varied == "width" else f"C{rank}"
            if (size, value) == (fixed_values[varied], fixed_values[fixed]):
                colour = "black"
            curves = select(of_fixed, **{varied: size})
            draw_curve(axes, _in_percent(curves), PERCENT, color=colour, label=str(size))
        _epoch_axis(axes, "validation accuracy (%)")
        axes.set_title(f"{fixed} {value}")
        axes.legend(title=varied, fontsize=8)
    title = "boosting tickets of WideResNets"
    return _finish(figure, group, 5, "capacity", title, rows, directory)


def adversarial_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 6: natural and robust validation accuracy of tickets under PGD training."""
    rows = select(full_length(group.rows, "pgd", ADVERSARIAL), split="validation")
    if rows.empty:
        return []
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    _natural_and_robust(figure.subplots(1, 2), rows, group.attack)
    title = "PGD training of tickets"
    return _finish(figure, group, 6, "adversarial", title, rows, directory)


def mnist_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 7: natural and robust validation accuracy of small networks under PGD training.

    And their natural training, of which the paper has Table 5 only.
    """
    return [*_table_5_figures(group, directory), *_small_robust_figures(group, directory)]


def _table_5_figures(group, directory):
    rows = full_length(group.rows, "natural", ("dense", "winning", "boosting", "random"))
    curves = validation_curves(rows)
    paths = []
    for model, of_model in curves.groupby("model"):
        figure = Figure(figsize=(6.5, 4.5), layout="constrained")
        axes = figure.subplots()
        _draw_families(axes, of_model)
        _epoch_axis(axes, "validation accuracy (%)")
        axes.legend(fontsize=8)
        seeds = seeds_label(of_model, " ± ")
        figure.suptitle(
            f"{model_label(model)}, {group.label}: natural training\n"
            f"goes with the paper's Table 5, {seeds}"
        )
        paths.append(write_png(figure, directory / f"{group.name}_{model}_natural_training.png"))
    return paths


def _small_robust_figures(group, directory):
    rows = full_length(group.rows, "pgd", ("pgd_ticket", "pgd_random"))
    rows = select(rows, split="validation")
    if rows.empty:
        return []
    models = sorted(rows["model"].unique())
    figure = Figure(figsize=(12, 4 * len(models)), layout="constrained")
    for model, panels in zip(models, figure.subplots(len(models), 2, squeeze=False)):
        _natural_and_robust(panels, select(rows, model=model), group.attack)
        for axes in panels:
            axes.set_title(model_label(model))
    title = "PGD training of PGD tickets"
    return _finish(figure, group, 7, "small_networks", title, rows, directory)


def acceleration_figures(group: Group, directory: Path) -> list[Path]:
    """Robust validation accuracy against time: Tables 3 and 6 as curves.

    A panel per clock that the table has. A thin line per seed and their mean, in time and in
    accuracy; the table's goal is a dotted line.
    """
    by_clock = {clock: timed_curves(group, clock) for clock in _CLOCKS}
    by_clock = {clock: curves for clock, curves in by_clock.items() if not curves.empty}
    if not by_clock:
        return []
    figure = Figure(figsize=(7 * len(by_clock), 5), layout="constrained")
    panels = figure.subplots(1, len(by_clock), squeeze=False, sharey=True)[0]
    goals = robust_goals(group).accuracies
    for axes, (clock, curves) in zip(panels, by_clock.items()):
        _draw_over_time(axes, curves)
        if not goals.empty:
            goal = "Madry's last less one standard error"
            axes.axhline(100 * goals.mean(), color="black", linestyle=":", label=goal)
        axes.set(xlabel=f"training time, finding the ticket included ({_CLOCKS[clock]})")
    panels[0].set_ylabel(_accuracy(group.attack))
    panels[0].legend(fontsize=8)
    count = next(iter(by_clock.values()))["seed"].nunique()
    seeds = "one seed" if count == 1 else f"{count} seeds (thin) and their mean (thick)"
    figure.suptitle(
        f"{group.label}: robust accuracy over time\ngoes with the paper's Tables 3 and 6; {seeds}"
    )
    return [write_png(figure, directory / f"{group.name}_robust_accuracy_over_time.png")]


def _draw_over_time(axes, curves):
    for network, colour in _TIMED_COLOURS.items():
        of_network = select(curves, network=network).sort_values("epoch")
        for _, of_seed in of_network.groupby("seed"):
            axes.plot(
                of_seed["seconds"], 100 * of_seed["value"], color=colour, linewidth=0.6, alpha=0.5
            )
        if not of_network.empty:
            mean = of_network.groupby("epoch")[["seconds", "value"]].mean()
            style = {"color": colour, "linewidth": 2, "label": network}
            axes.plot(mean["seconds"], 100 * mean["value"], **style)


def _most_common(rows, fixed, varied):
    """The paper's 34 and 10; here the one that most networks share, the larger on ties."""
    return rows.groupby(fixed)[varied].nunique().sort_index()[::-1].idxmax()


def _pair(group, rows, number, name, title, directory):
    """One line per family: all epochs, and closer at what the trainings end with."""
    curves = validation_curves(rows)
    if curves.empty:
        return []
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    whole, close = figure.subplots(1, 2)
    for axes in (whole, close):
        _draw_families(axes, curves)
        _epoch_axis(axes, "validation accuracy (%)")
    _look_closer(close)
    whole.legend(fontsize=8)
    return _finish(figure, group, number, name, title, rows, directory)


def _natural_and_robust(panels, rows, attack):
    for axes, kind in zip(panels, ("natural", attack)):
        _draw_families(axes, validation_curves(rows, kind))
        _epoch_axis(axes, _accuracy(kind))
    panels[0].legend(fontsize=8)


def _lengths_figure(group, rows, compared, number, name, title, ylabel, directory):
    """All lengths twice, the second time closer, then each beside those in `compared`."""
    if rows.empty:
        return []
    lengths = sorted(rows["percent"].unique())
    shorter = [length for length in lengths if length < 100]
    count = 2 + len(shorter)
    figure = Figure(figsize=(15, 4.2 * -(-count // 3)), layout="constrained")
    panels = [figure.add_subplot(-(-count // 3), 3, place + 1) for place in range(count)]
    for axes in panels[:2]:
        _draw_lengths(axes, rows, lengths)
    for axes, length in zip(panels[2:], shorter):
        _draw_lengths(axes, pd.concat([select(rows, percent=length), compared]), lengths)
        axes.set_title(f"{length:g}% of the full training")
    _look_closer(panels[1])
    for axes in panels:
        _epoch_axis(axes, ylabel)
        # The closer look needs its corner, and has the lines of the panel beside it.
        if axes is not panels[1]:
            axes.legend(fontsize=7, loc="lower right")
    return _finish(figure, group, number, name, title, rows, directory)


def _shade(rank, count):
    # Viridis ends in a yellow that thin lines on white do without.
    return shade(rank, count, lightest=0.8)


def _draw_lengths(axes, rows, lengths):
    for (family, length), curves in rows.groupby(["family", "percent"]):
        colour = "black" if family == "dense" else _shade(lengths.index(length), len(lengths))
        style = "--" if family == "winning" else "-"
        label = f"{FAMILY_LABELS[family]}, {length:g}%"
        draw_curve(axes, _in_percent(curves), PERCENT, color=colour, linestyle=style, label=label)


def _draw_families(axes, curves):
    for family in FAMILY_LABELS:
        of_family = select(curves, family=family)
        if not of_family.empty:
            style = {"color": _FAMILY_COLOURS[family], "label": FAMILY_LABELS[family]}
            draw_curve(axes, _in_percent(of_family), PERCENT, **style)


def _in_percent(curves):
    return 100 * mean_and_sd(curves, "epoch")


def _look_closer(axes: Axes) -> None:
    """Shows the curves from a little below the lowest last value upwards."""
    lines = [line.get_ydata() for line in axes.lines]
    ends = [line[-1] for line in lines]
    top = max(line.max() for line in lines)
    margin = max(1.0, 0.5 * (top - min(ends)))
    axes.set(ylim=(min(ends) - 2 * margin, top + 0.5 * margin), title="magnified")


def _epoch_axis(axes, ylabel):
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _accuracy(attack):
    kind = "natural" if attack == "natural" else f"robust ({attack_label(attack)})"
    return f"{kind} validation accuracy (%)"


def _finish(figure, group, number, name, title, rows, directory):
    seeds = seeds_label(rows, " ± ")
    figure.suptitle(f"{group.label}: {title}\nas the paper's Figure {number}, {seeds}")
    return [write_png(figure, directory / f"figure_{number:02d}_{group.name}_{name}.png")]


FIGURES = {
    "existence": existence_figures,
    "epochs": epochs_figures,
    "learning_rate": learning_rate_figures,
    "pruning_ratio": pruning_ratio_figures,
    "capacity": capacity_figures,
    "adversarial": adversarial_figures,
    "mnist": mnist_figures,
    "convergence": convergence_figures,
    "acceleration": acceleration_figures,
}
