"""Where in the encoder robust tickets keep their weights (Figure 3)."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.robust_bert_tickets.results import Group, seed_count
from tf_tickets.analysis.drawing import write_png
from tf_tickets.analysis.markdown import MISSING, captioned, cell, markdown_table
from tf_tickets.analysis.measurements import mean_and_sd, seeds_label, select

MATRIX_LABELS = {
    "query": "query",
    "key": "key",
    "value": "value",
    "attention_output": "attention output",
    "intermediate": "intermediate",
    "output": "output",
}
POOLER = "pooler"

_ENCODER = re.compile(
    r"transformer_layer_(\d+)/(?:self_attention_layer/(query|key|value|attention_output)"
    r"|feedforward_(intermediate|output)_dense)/kernel"
)
_POOLER_PATH = "pooled_dense/kernel"


def matrix_of(path: str) -> tuple[int, str] | None:
    """A mask's place: the encoder's layer from 0 and a name in `MATRIX_LABELS`.

    The pooler's is (-1, `POOLER`); None for what tickets of BERT do not mask.
    """
    if path == _POOLER_PATH:
        return -1, POOLER
    match = _ENCODER.fullmatch(path)
    return (int(match[1]), match[2] or match[3]) if match else None


def surviving_shares(group: Group) -> pd.DataFrame:
    """Reads the group's tickets.

    Returns:
      `level`, `seed`, `layer` (from 0; -1 is the pooler), `matrix` (in `MATRIX_LABELS`, `POOLER`,
      or "all" of a layer's) and `value`, the share of its weights that the ticket keeps, in %.
    """
    rows = []
    for saved in group.tickets:
        places = {}
        for path, mask in saved.load().masks.items():
            place = matrix_of(path)
            if place:
                places[place] = (int(np.count_nonzero(mask)), mask.size)
        for (layer, matrix), (kept, size) in (places | _whole_layers(places)).items():
            rows.append((saved.level, saved.cell.seed, layer, matrix, 100 * kept / size))
    return pd.DataFrame(rows, columns=["level", "seed", "layer", "matrix", "value"])


def patterns_table(group: Group) -> str:
    """Figure 3's numbers, layer by layer."""
    shares = surviving_shares(group)
    if shares.empty:
        return ""
    levels = sorted(shares["level"].unique())
    whole = shares[shares["matrix"].isin(["all", POOLER])]
    shown = {
        row.Index: cell(row.mean, row.sd, 1)
        for row in mean_and_sd(whole, ["level", "layer"]).itertuples()
    }
    layers = [layer for layer in sorted(whole["layer"].unique()) if layer >= 0]
    columns = [("sparsity", {level: f"{level}%" for level in levels})]
    for layer in [*layers, -1]:
        label = POOLER if layer < 0 else f"layer {layer + 1}"
        columns.append((label, {level: shown.get((level, layer), MISSING) for level in levels}))
    caption = (
        f"The share of each layer's masked weights that robust tickets keep, in %, "
        f"{seeds_label(shares)}; layer 1 is next to the embeddings."
    )
    return captioned(caption, markdown_table(columns, levels, MISSING))


def patterns_figures(group: Group, directory: Path) -> list[Path]:
    """Figure 3: a heat map per sparsity, layers from bottom to top, the pooler in its title."""
    shares = surviving_shares(group)
    if shares.empty:
        return []
    levels = sorted(shares["level"].unique())
    layers = shares["layer"].max() + 1
    columns = min(3, len(levels))
    lines = -(-len(levels) // columns)
    size = (1 + 5.2 * columns, 0.8 + lines * (1.9 + 0.34 * layers))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(levels) :]:
        axes.set_visible(False)
    maps = shares[shares["matrix"].isin(list(MATRIX_LABELS))]
    of_maps = maps.groupby(["level", "layer", "matrix"])["value"].mean()
    shown = of_maps.min(), of_maps.max()  # The same colour is the same share in all panels.
    for axes, level in zip(grid.flat, levels):
        of_level = select(shares, level=level)
        means = of_level.groupby(["layer", "matrix"])["value"].mean()
        title = f"{level}% sparsity"
        if (-1, POOLER) in means:
            title += f" (pooler keeps {means[-1, POOLER]:.1f}%)"
        axes.set_title(title, fontsize=10)
        image = _draw_map(axes, means, layers, shown)
        figure.colorbar(image, ax=axes, shrink=0.9)
    figure.suptitle(
        f"{group.label}\nsurviving weights of robust tickets (%)\nas the paper's Figure 3, "
        f"{seed_count(shares)}",
        fontsize=10,
    )
    return [write_png(figure, directory / f"figure_03_{group.name}_patterns.png")]


def _whole_layers(places: Mapping) -> dict:
    """(layer, "all") → kept and all weights of an encoder's layer."""
    whole = {}
    for (layer, _), counts in places.items():
        if layer >= 0:
            so_far = whole.get((layer, "all"), (0, 0))
            whole[layer, "all"] = (so_far[0] + counts[0], so_far[1] + counts[1])
    return whole


def _draw_map(axes: Axes, means: pd.Series, layers: int, limits: tuple[float, float]):
    values = np.full((layers, len(MATRIX_LABELS)), np.nan)
    for row in range(layers):
        for column, matrix in enumerate(MATRIX_LABELS):
            values[row, column] = means.get((row, matrix), np.nan)
    image = axes.imshow(values, cmap="viridis", origin="lower", aspect="auto")
    image.set_clim(*limits)
    middle = sum(limits) / 2
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "black" if value > middle else "white"
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8
            )
    labels = list(MATRIX_LABELS.values())
    axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(layers), range(1, layers + 1))
    axes.set_ylabel("layer")
    return image
