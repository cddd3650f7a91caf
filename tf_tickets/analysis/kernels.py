"""Which kernels of a ticket are completely pruned, and where.

A kernel is the slice of a convolution's weights between one input and one output channel,
k x k weights. "Data-Efficient Double-Win Lottery Tickets" counts those of which nothing
remains (section 5, Figure A8) and shows where they lie (Figure 7). In a 1x1 convolution, a
kernel is one weight and so says nothing of clusters: counts are given with and without them.
Dense layers have no kernels and are left out.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.special import gammaln

from tf_tickets.analysis.drawing import draw_curve, write_png
from tf_tickets.analysis.measurements import mean_and_sd, select
from tf_tickets.analysis.saved_tickets import SavedTicket, labels_of
from tf_tickets.masking.ticket import Ticket

EVERY_CONVOLUTION = "all"
"""The `layer` of rows about all convolutions."""

SPATIAL_CONVOLUTIONS = "larger than 1x1"
"""The `layer` of rows about the convolutions whose kernels have several weights."""

# stage_2/block_1/conv_1/kernel, group_1/..., conv2_block1_1_conv/kernel of Keras' applications.
_STAGE = re.compile(r"((?:stage|group)_\d+)/|(conv\d+)_block")

# Of a map: a kernel with weights left, a completely pruned one, no kernel there.
_COLOURS = ("#1f1f3d", "#ffd23f", "#e6e6e6")
_REMAINING, _PRUNED, _NOTHING = range(3)


def convolution_masks(ticket: Ticket) -> dict[str, np.ndarray]:
    """The masks of convolutions: path → boolean `[height, width, channels in, channels out]`.

    A depthwise convolution's last axis counts the outputs of each channel.
    """
    return {path: mask for path, mask in ticket.masks.items() if mask.ndim == 4}


def pruned_kernels(mask: np.ndarray) -> np.ndarray:
    """Which kernels are completely pruned: `[height, width, in, out]` → `[in, out]`."""
    return ~mask.any(axis=(0, 1))


def expected_pruned_kernels(mask: np.ndarray) -> float:
    """How many kernels a random mask that keeps as many weights of a layer would prune.

    Of n weights, K are kept, each choice of K equally likely. A kernel of k weights is empty
    with probability C(n − k, K) / C(n, K); for K far below n that is about (1 − K / n)^k.
    """
    height, width, *channels = mask.shape
    weights, kept, kernel = mask.size, np.count_nonzero(mask), height * width
    if kept > weights - kernel:
        return 0.0
    log_probability = _log_choose(weights - kernel, kept) - _log_choose(weights, kept)
    return float(np.exp(log_probability) * np.prod(channels))


def kernel_counts(ticket: Ticket) -> pd.DataFrame:
    """Counts the completely pruned kernels of each convolution, and of all.

    Returns:
      `layer` (a weight path, `EVERY_CONVOLUTION` or `SPATIAL_CONVOLUTIONS`, these two first
      and the second only where it has kernels), `kernel_size` ("3x3"; "" for several layers),
      `kernels`, `pruned`, `random` (expected of random masks with the layers' densities) and
      `density`. Empty without convolutions.
    """
    rows = []
    for path, mask in convolution_masks(ticket).items():
        empty = pruned_kernels(mask)
        size = f"{mask.shape[0]}x{mask.shape[1]}"
        numbers = (empty.size, np.count_nonzero(empty), expected_pruned_kernels(mask))
        rows.append((path, size, *numbers, np.count_nonzero(mask), mask.size))
    columns = ["layer", "kernel_size", "kernels", "pruned", "random", "kept", "weights"]
    layers = pd.DataFrame(rows, columns=columns)
    spatial = layers[layers["kernel_size"] != "1x1"]
    sums = [
        {"layer": name, "kernel_size": "", **rows[columns[2:]].sum().to_dict()}
        for name, rows in ((EVERY_CONVOLUTION, layers), (SPATIAL_CONVOLUTIONS, spatial))
        if len(rows)
    ]
    counts = pd.concat([pd.DataFrame(sums, columns=columns), layers], ignore_index=True)
    counts = counts.astype({"kernels": int, "pruned": int, "random": float})
    return counts.assign(density=counts["kept"] / counts["weights"])[[*columns[:5], "density"]]


def kernel_curves(saved: Iterable[SavedTicket]) -> pd.DataFrame:
    """Counts the pruned kernels of tickets.

    Args:
      saved: see `saved_tickets.comparable`.

    Returns:
      `search` (a name), `seed`, `level`, `sparsity` (of all that the ticket covers) and the
      columns of `kernel_counts`. Empty where no ticket has a convolution.
    """
    saved = list(saved)
    labels = labels_of([entry.cell for entry in saved])
    found = []
    for entry in saved:
        ticket = entry.load()
        named = {
            "search": labels[entry.cell],
            "seed": entry.cell.seed,
            "level": entry.level,
            "sparsity": ticket.sparsity,
        }
        counts = kernel_counts(ticket)
        found.append(counts.assign(**named)[[*named, *counts.columns]])
    return pd.concat(found, ignore_index=True)


def draw_kernel_curves(
    rows: pd.DataFrame, title: str, path: Path, colours: Mapping[str, str] | None = None
) -> Path:
    """Figure A8, bottom: pruned kernels over sparsity, mean and sd over seeds.

    A panel for all convolutions, one for those larger than 1x1 where they differ. Dashed:
    random masks with the layers' densities.

    Args:
      rows: of `kernel_curves`, not empty.
      title: what was searched, for the heading.
      path: the PNG.
      colours: search → colour, of those that have one in other figures.
    """
    colours = colours or {}
    total, spatial = (
        select(rows, layer=name) for name in (EVERY_CONVOLUTION, SPATIAL_CONVOLUTIONS)
    )
    panels = {"all convolutions": total}
    if len(spatial) and spatial["kernels"].max() < total["kernels"].max():
        panels["convolutions larger than 1x1"] = spatial
    figure = Figure(figsize=(6.5 * len(panels), 4.8), layout="constrained")
    for axes, (name, of_panel) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items()
    ):
        searches = list(dict.fromkeys(of_panel["search"]))
        for number, search in enumerate(searches):
            of_search = select(of_panel, search=search)
            free = colormaps["tab10" if len(searches) <= 10 else "tab20"](number % 20)
            colour = colours.get(search, free)
            draw_curve(axes, _curve(of_search, "pruned"), color=colour, marker=".", label=search)
            chance = _curve(of_search, "random")
            axes.plot(chance.index, chance["mean"], "--", color=colour, linewidth=0.8)
        axes.plot(
            [], [], "--", color="grey", linewidth=0.8, label="random masks, as dense by layer"
        )
        axes.set(title=f"{name} ({of_panel['kernels'].max():,} kernels)", xlabel="sparsity (%)")
        axes.set_ylabel("completely pruned kernels")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.suptitle(title)
    return write_png(figure, path)


def draw_kernel_map(ticket: Ticket, title: str, path: Path) -> Path:
    """Figure 7: which kernels are completely pruned (bright), a panel for each stage.

    A stage's convolutions stand side by side in the order of their names, output channels
    down, input channels to the right. Layers outside of any stage have panels of their own.

    Args:
      ticket: with at least one convolution.
      title: of the figure.
      path: the PNG.
    """
    stages = {}
    for name, mask in convolution_masks(ticket).items():
        stages.setdefault(stage_of(name), {})[name] = pruned_kernels(mask).T
    columns = min(2, len(stages))
    lines = -(-len(stages) // columns)
    figure = Figure(figsize=(7.5 * columns, 0.8 + 3 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(stages) :]:
        axes.set_visible(False)
    for axes, (stage, maps) in zip(grid.flat, stages.items()):
        _draw_stage(axes, stage, maps)
    meanings = ("weights remain", "completely pruned", "no kernel there")
    handles = [Patch(color=colour, label=text) for colour, text in zip(_COLOURS, meanings)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.suptitle(title)
    return write_png(figure, path)


def stage_of(path: str) -> str:
    """The stage that a weight's path names, or else its layer: "stage_2", "conv2", "stem/conv"."""
    match = _STAGE.match(path)
    return (match[1] or match[2]) if match else path.rpartition("/")[0]


def _log_choose(n, k):
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _curve(rows, column):
    """Mean and sd over sparsity in %; of equal level, seeds differ a little in it."""
    sparsity = 100 * rows.groupby("level")["sparsity"].transform("mean")
    return mean_and_sd(rows.assign(value=rows[column], sparsity=sparsity), "sparsity")


def _draw_stage(axes, stage, maps):
    """The maps `[out, in]` of a stage's convolutions, side by side."""
    height = max(map(len, maps.values()))
    gap = max(1, sum(image.shape[1] for image in maps.values()) // 60)
    parts, places, start = [], [], 0
    for image in maps.values():
        padded = np.full((height, image.shape[1] + gap), _NOTHING)
        padded[: len(image), : image.shape[1]] = np.where(image, _PRUNED, _REMAINING)
        parts.append(padded)
        places.append(start + image.shape[1] / 2 - 0.5)
        start += padded.shape[1]
    picture = np.concatenate(parts, axis=1)[:, :-gap]
    axes.imshow(picture, cmap=ListedColormap(_COLOURS), vmin=0, vmax=2, aspect="auto")
    names = [name.removesuffix("/kernel").removeprefix(f"{stage}/") for name in maps]
    axes.set_xticks(places, names, rotation=20, ha="right", rotation_mode="anchor", fontsize=7)
    pruned, kernels = (
        sum(image.sum() for image in maps.values()),
        sum(i.size for i in maps.values()),
    )
    axes.set_title(f"{stage}: {pruned:,} of {kernels:,} kernels pruned", fontsize=10)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_ylabel("output channel")
    axes.set_xlabel("input channels of each convolution", fontsize=8)
