"""The figures of "On the Effect of Pruning on Adversarial Robustness", as PNG files.

Every function takes a `results.Group`, the paper's numbers and a folder, draws what a
run has finished so far and returns the paths that it wrote. Lines and points are means over
seeds, bands and bars the sample standard deviation; one seed has none. Stars are differences
of more than two standard errors, crosses the paper's numbers. A network has the same colour in
all figures, and so has an attack.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.pruning_robustness.comparisons import (
    ADJUSTMENT_ROWS,
    CRITERION_ROWS,
    DEFENSE_ROWS,
    STRUCTURE_ROWS,
    TRANSFER_KEYS,
    adjustment_differences,
    clean_and_robust,
    correlation,
    criterion_differences,
    defense_differences,
    paper_model,
    paper_rows,
    structure_differences,
    transfer_accuracies,
    transfer_rows,
)
from experiments.pruning_robustness.elements import paper_shares, single_elements
from experiments.pruning_robustness.results import (
    ACCURACIES,
    ADJUSTMENTS,
    ATTACKS,
    CLEAR,
    CRITERIA,
    DEFENSES,
    STRUCTURES,
    Group,
    standard_errors,
)
from tf_tickets.analysis.drawing import draw_curve, shade, write_png
from tf_tickets.analysis.measurements import mean_and_sd, seeds_label, select
from tf_tickets.analysis.studies import model_label

_ATTACK_COLOURS = dict(zip(ATTACKS, colormaps["Dark2"].colors))
# What is the same network in several tables has one colour: filters removed by PLS.
_SAME = {"pls": "filters", "fine_tuned": "filters"}
_KEYS = [
    *("control", "filters", "blocks", "both"),
    *(key for key in (*CRITERIA, *ADJUSTMENTS, *DEFENSES) if key not in _SAME),
]
_COLOURS = dict(zip(_KEYS, colormaps["tab20"].colors))
_PAPER = {"marker": "x", "linestyle": "none"}


def structures_figures(group: Group, reference: pd.DataFrame, directory: Path) -> list[Path]:
    """Table 1 as points: differences to the unpruned network, a panel per network."""
    rows = structure_differences(group)
    if rows.empty:
        return []
    models = sorted(rows["model"].unique())
    figure = Figure(figsize=(2 + 4 * len(models), 5), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for axes, model in zip(panels, models):
        axes.set_title(model_label(model))
    by_panel = [select(rows, model=model) for model in models]
    paper = paper_rows(reference, "Table 1")
    papers = [select(paper, model=paper_model(paper["model"].unique(), model)) for model in models]
    _draw_differences(panels, by_panel, papers, STRUCTURE_ROWS, ACCURACIES)
    return _finish(figure, group, "table_1", "structures", "structures removed", rows, directory)


def criteria_figures(group: Group, reference: pd.DataFrame, directory: Path) -> list[Path]:
    """Table 2 as points: differences to the unpruned network by criterion."""
    rows = criterion_differences(group)
    paper = paper_rows(reference, "Table 2")
    figure = _differences_figure(rows, paper, CRITERION_ROWS, ACCURACIES)
    title = "filters removed by different criteria"
    return _finish(figure, group, "table_2", "criteria", title, rows, directory)


def adjustment_figures(group: Group, reference: pd.DataFrame, directory: Path) -> list[Path]:
    """Table 3 as points: differences to the unpruned network by how weights are adjusted."""
    rows = adjustment_differences(group)
    paper = paper_rows(reference, "Table 3")
    figure = _differences_figure(rows, paper, ADJUSTMENT_ROWS, ACCURACIES)
    title = "training after filters are removed"
    return _finish(figure, group, "table_3", "adjustment", title, rows, directory)


def defenses_figures(group: Group, reference: pd.DataFrame, directory: Path) -> list[Path]:
    """Table 5 as points: robustness and generalization of what was measured."""
    rows = defense_differences(group)
    attacks = {"semantic": "Robustness", "natural": "Generalization"}
    paper = paper_rows(reference, "Table 5")
    figure = _differences_figure(rows, paper, DEFENSE_ROWS, attacks)
    title = "pruning beside other defenses"
    return _finish(figure, group, "table_5", "defenses", title, rows, directory)


def iterations_figures(group: Group, reference: pd.DataFrame, directory: Path) -> list[Path]:
    """Figure 2: clean accuracy and robustness, a point per network and panel per attack."""
    points = clean_and_robust(group)
    if points.empty:
        return []
    figure = Figure(figsize=(14, 4.5), layout="constrained")
    levels = sorted(points["level"].unique())
    panels = figure.subplots(1, len(ATTACKS))
    for axes, (attack, label) in zip(panels, ATTACKS.items()):
        for rank, level in enumerate(levels):
            of_level = 100 * select(points, level=level)[["natural", attack]]
            style = {"color": shade(rank, len(levels)), "label": str(level)}
            axes.plot(of_level["natural"], of_level[attack], "o", **style)
        found = correlation(points, attack)
        numbers = "" if np.isnan(found.r) else f": r = {found.r:+.2f}, p = {found.p_value:.2g}"
        axes.set(title=label + numbers, xlabel="clean test accuracy (%)")
    panels[0].set_ylabel("test accuracy under attack (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), title="iteration", loc="outside right")
    count = points["seed"].nunique()
    title = f"iterations of pruning, {count} {'seed' if count == 1 else 'seeds'}"
    return _write(figure, group, "figure_2", "iterations", title, directory)


def single_element_figures(group: Group, reference: pd.DataFrame, directory: Path) -> list[Path]:
    """Figure 3: elements whose removal makes more robust, by the drop in clean accuracy."""
    shares = single_elements(group.rows)
    if shares.empty:
        return []
    kinds = [kind for kind in ("filters", "blocks") if (shares["element_kind"] == kind).any()]
    figure = Figure(figsize=(1 + 5 * len(kinds), 4.5), layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, kind in zip(panels, kinds):
        paper = select(reference, source="Figure 3", element_kind=kind)
        for attack, label in ATTACKS.items():
            curve = 100 * mean_and_sd(select(shares, element_kind=kind, attack=attack), "drop")
            draw_curve(axes, curve, color=_ATTACK_COLOURS[attack], marker=".", label=label)
            theirs = paper_shares(select(paper, attack=attack))
            axes.plot(theirs.keys(), theirs.values(), color=_ATTACK_COLOURS[attack], **_PAPER)
        # The paper's "negligible drop".
        axes.axvline(1, color="black", linestyle="--", linewidth=0.8)
        axes.set(title=STRUCTURES[kind], xlabel="degradation of clean accuracy (points)")
        top = max(10, axes.get_ylim()[1])
        axes.set_ylim(-0.03 * top, top)  # Curves at zero are seen, too.
    panels[0].set_ylabel("elements whose removal adds robustness (%)")
    panels[0].legend(fontsize=8)
    title, note = f"single elements removed, {seeds_label(shares, ' ± ')}", "; crosses: its numbers"
    return _write(figure, group, "figure_3", "single_element", title, directory, note)


def transfer_figures(group: Group, reference: pd.DataFrame, directory: Path) -> list[Path]:
    """Table 4 as a map: mean accuracies on examples made for another network."""
    rows = transfer_accuracies(group)
    if rows.empty:
        return []
    found = mean_and_sd(rows, TRANSFER_KEYS)["mean"].astype(float).to_dict()
    labels = transfer_rows({network for keys in found for network in (keys[:2], keys[2:])})
    means = [[found.get((*of, *to), np.nan) for to in labels] for of in labels]
    means = 100 * np.array(means)
    size = 3 + 1.2 * len(labels)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(means, cmap="viridis", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(means):
        if not np.isnan(value):
            colour = "white" if value < 60 else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(labels)), labels.values(), rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels.values())
    axes.set(xlabel="attacked network", ylabel="network that the examples were made for")
    figure.colorbar(image, label="test accuracy (%)", shrink=0.7)
    return _finish(
        figure, group, "table_4", "transfer", "transfer of FGSM examples", rows, directory
    )


def _differences_figure(rows, paper, labels, attacks):
    figure = Figure(figsize=(9, 5), layout="constrained")
    _draw_differences([figure.subplots()], [rows], [paper], labels, attacks)
    return figure


def _draw_differences(
    panels: Sequence[Axes],
    by_panel: Sequence[pd.DataFrame],
    papers: Sequence[pd.DataFrame],
    labels: Mapping[str, str],
    attacks: Mapping[str, str],
) -> None:
    """Points with error bars, side by side at each attack, and one legend below.

    Args:
      panels: of one figure.
      by_panel: for each panel its differences in [-1, 1], with `key` and `attack`.
      papers: for each panel the paper's, likewise, in percentage points.
      labels: key → its name in the legend, in order; keys that no panel has are left out.
      attacks: name → its label on the x axis, in order.
    """
    measured = pd.concat(by_panel)["key"]
    keys = [key for key in labels if (measured == key).any()]
    offsets = np.linspace(-0.3, 0.3, len(keys)) if len(keys) > 1 else [0.0]
    places = np.arange(len(attacks))
    handles = {}
    for axes, rows, paper in zip(panels, by_panel, papers):
        for key, offset in zip(keys, offsets):
            colour = _COLOURS[_SAME.get(key, key)]
            found = standard_errors(select(rows, key=key), ["attack"]).reindex(list(attacks))
            points = 100 * found[["mean", "sd"]].astype(float)
            sd = None if points["sd"].isna().all() else points["sd"]
            style = {"fmt": "o", "capsize": 3, "color": colour}
            handles[labels[key]] = axes.errorbar(places + offset, points["mean"], sd, **style)
            clear = (found["errors"].abs() > CLEAR).to_numpy()
            style = {"marker": "*", "markersize": 14, "linestyle": "none", "color": colour}
            axes.plot((places + offset)[clear], points["mean"][clear], **style)
            theirs = select(paper, key=key).groupby("attack")["value"].mean()
            theirs = theirs.reindex(list(attacks)).to_numpy()
            (crosses,) = axes.plot(places + offset, theirs, color=colour, **_PAPER)
            if not np.isnan(theirs).all():
                handles["the paper's"] = crosses
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks(places, attacks.values())
    panels[0].set_ylabel("difference to the unpruned network (points)")
    handles |= {"the paper's": handles.pop("the paper's")} if "the paper's" in handles else {}
    legend = {"loc": "outside lower center", "ncols": 4, "fontsize": 8}
    panels[0].figure.legend(handles.values(), handles.keys(), **legend)


def _finish(figure, group, number, name, title, rows, directory):
    """Nothing where there are no rows."""
    title = f"{title}, {seeds_label(rows, ' ± ')}"
    star = "key" in rows and rows["seed"].nunique() > 1
    note = f"; ★: beyond {CLEAR} standard errors" if star else ""
    return [] if rows.empty else _write(figure, group, number, name, title, directory, note)


def _write(figure, group, number, name, title, directory, note=""):
    source = number.replace("_", " ").capitalize()
    figure.suptitle(f"{group.label}: {title}\nas the paper's {source}{note}")
    return [write_png(figure, directory / f"{number}_{group.name}_{name}.png")]


FIGURES = {
    "structures": structures_figures,
    "iterations": iterations_figures,
    "criteria": criteria_figures,
    "single_element": single_element_figures,
    "adjustment": adjustment_figures,
    "transfer": transfer_figures,
    "defenses": defenses_figures,
}
