"""Pictures of what is in a ticket, or in two that are compared."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tf_tickets.analysis.drawing import write_png
from tf_tickets.analysis.similarity import EVERY_LAYER
from tf_tickets.analysis.ticket_comparison import Comparison
from tf_tickets.analysis.ticket_inspection import DEAD, Inspection, as_matrix, in_order
from tf_tickets.masking.ticket import Ticket

# Cells of a mask's picture along each side, at most; larger masks are averaged.
_CELLS = 128

# Masks in a row of a picture, and rows in a file.
_COLUMNS, _ROWS = 3, 5

_DEAD_LABELS = {
    "outputs": "outputs without incoming weights",
    "inputs": "inputs that are not read",
    "heads": "heads without weights",
}


def draw_inspection(
    inspections: Sequence[Inspection], comparison: Comparison | None, folder: Path
) -> list[Path]:
    """Draws one ticket, or two and what they have in common.

    Args:
      inspections: of the tickets.
      comparison: of two tickets; None for one.
      folder: where the PNG files go.

    Returns:
      The files: densities and dead units by layer, the masks, for dense layers that read
      images the pixels that they read, and of two tickets the overlap by layer.
    """
    paths = [draw_densities(inspections, folder / "densities.png")]
    if any(inspection.layers[list(DEAD)].notna().any(axis=None) for inspection in inspections):
        paths.append(draw_dead_units(inspections, folder / "dead_units.png"))
    for number, inspection in enumerate(inspections, start=1):
        name = f"masks_{number}" if len(inspections) > 1 else "masks"
        paths += draw_masks(inspection, folder, name)
    pixels = {each.name: pixel_reads(each.ticket) for each in inspections}
    if all(image is not None for image in pixels.values()):
        paths.append(draw_pixel_reads(pixels, folder / "pixels.png"))
    if comparison:
        paths.append(draw_overlap(comparison, folder / "overlap.png"))
    return paths


def draw_densities(inspections: Sequence[Inspection], path: Path) -> Path:
    """The share of weights that each layer keeps; dashed, that of all layers."""
    densities = {each.name: _by_layer(each.layers, "density") for each in inspections}
    figure, (axes,) = _layers_figure(len(inspections[0].ticket.masks), len(densities))
    _draw_bars(axes, pd.DataFrame(densities), "remaining weights (%)")
    for number, each in enumerate(inspections):
        label = f"all layers: {each.total['density']:.2%}"
        colour, dashes = f"C{number}", (0, (4, 2 + 2 * number))
        axes.axvline(100 * each.total["density"], color=colour, linestyle=dashes, label=label)
    axes.legend(fontsize=7)
    figure.suptitle("density of each layer", fontsize=11)
    return write_png(figure, path)


def draw_dead_units(inspections: Sequence[Inspection], path: Path) -> Path:
    """The share of each layer's units that no weight is left of, a panel for each ticket."""
    figure, panels = _layers_figure(len(inspections[0].ticket.masks), len(DEAD), len(inspections))
    for axes, each in zip(panels, inspections):
        layers = each.layers.astype(dict.fromkeys([*DEAD, *DEAD.values()], float))
        shares = {
            _DEAD_LABELS[kind]: _by_layer(layers.assign(share=layers[dead] / layers[kind]), "share")
            for kind, dead in DEAD.items()
            if layers[kind].notna().any()
        }
        _draw_bars(axes, pd.DataFrame(shares), "dead units (%)")
        axes.legend(fontsize=7)
        axes.set_title(f"{each.name}: {each.total['sparsity']:.2%} sparse", fontsize=9)
    figure.suptitle("units without weights in each layer", fontsize=11)
    return write_png(figure, path)


def draw_overlap(comparison: Comparison, path: Path) -> Path:
    """The intersection over union of each layer's masks, and that of random masks as dense."""
    layers = comparison.layers
    shown = {
        "the two tickets": _by_layer(layers, "intersection_over_union"),
        "random masks as dense": _by_layer(layers, "chance"),
    }
    figure, (axes,) = _layers_figure(len(layers) - 1, len(shown))
    _draw_bars(axes, pd.DataFrame(shown), "intersection over union (%)")
    axes.legend(fontsize=7)
    total = comparison.total
    figure.suptitle(
        f"overlap of the masks: {total['intersection_over_union']:.2%} of all layers, "
        f"{total['chance']:.2%} by chance",
        fontsize=11,
    )
    return write_png(figure, path)


def draw_masks(inspection: Inspection, folder: Path, name: str) -> list[Path]:
    """Where the weights of each layer remain, inputs to the right and outputs down.

    A cell is the share of weights that remains: of a convolution's window, and of neighbouring
    units where a layer has more than 128. Attention's heads lie behind one another.

    Returns:
      The files; those after the first are numbered.
    """
    layers, at_once = list(in_order(inspection.ticket)), _COLUMNS * _ROWS
    paths = []
    for number, start in enumerate(range(0, len(layers), at_once), start=1):
        shown = layers[start : start + at_once]
        columns = min(_COLUMNS, len(shown))
        rows = -(-len(shown) // columns)
        figure = Figure(figsize=(4.6 * columns, 0.6 + 3.4 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, (path, mask) in zip(grid.flat, shown):
            _draw_mask(axes, path, mask)
        figure.suptitle(
            f"{inspection.name}: remaining weights, {inspection.total['density']:.2%}", fontsize=11
        )
        numbered = f"{name}.png" if number == 1 else f"{name}_part_{number}.png"
        paths.append(write_png(figure, folder / numbered))
    return paths


def pixel_reads(ticket: Ticket) -> np.ndarray | None:
    """How many units of the first dense layer read each pixel.

    Returns:
      Shape [height, width]; None unless the ticket covers a dense layer that reads flattened
      images, as its model's configuration describes them, and no convolutions.
    """
    image_shape = ticket.provenance.model_config.get("image_shape", ())
    masks = [mask for _, mask in in_order(ticket)]
    if len(image_shape) != 3 or any(mask.ndim == 4 for mask in masks):
        return None
    reading = [mask for mask in masks if mask.ndim == 2 and len(mask) == np.prod(image_shape)]
    if not reading:
        return None
    return reading[0].reshape(*image_shape, -1).any(axis=2).sum(axis=-1)


def draw_pixel_reads(reads: dict[str, np.ndarray], path: Path) -> Path:
    """How many units read each pixel, on one scale.

    Args:
      reads: name of a ticket → of `pixel_reads`.
      path: the PNG.
    """
    figure = Figure(figsize=(4.2 * len(reads) + 0.8, 4.4), layout="constrained")
    panels = figure.subplots(1, len(reads), squeeze=False)[0]
    most = max(1, *(image.max() for image in reads.values()))
    for axes, (name, image) in zip(panels, reads.items()):
        shown = axes.imshow(image, cmap="viridis", vmin=0, vmax=most)
        unread = np.count_nonzero(image == 0)
        axes.set_title(f"{name}\n{unread:,} of {image.size:,} pixels are not read", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(shown, ax=list(panels), label="units that read the pixel", shrink=0.85)
    return write_png(figure, path)


def downsampled(matrix: np.ndarray, most: int) -> np.ndarray:
    """Averages blocks of neighbours, which differ by one in size where they must.

    Args:
      matrix: two axes.
      most: the length to which longer axes are brought.
    """
    for axis in (0, 1):
        length = matrix.shape[axis]
        if length > most:
            edges = np.arange(most) * length // most
            sums = np.add.reduceat(matrix, edges, axis=axis)
            sizes = np.diff(edges, append=length)
            matrix = sums / (sizes[:, None] if axis == 0 else sizes)
    return matrix


def _draw_mask(axes: Axes, path, mask):
    matrix = as_matrix(path, mask)
    cells = 100 * downsampled(matrix, _CELLS).T
    image = axes.imshow(
        cells, cmap="viridis", vmin=0, aspect="auto", interpolation="nearest",
        vmax=max(cells.max(), 1e-9), extent=(0, matrix.shape[0], matrix.shape[1], 0),
    )  # fmt: skip
    axes.set_title(f"{_label(path)}: {mask.mean():.2%}", fontsize=8)
    axes.set_xlabel("input", fontsize=7)
    axes.set_ylabel("output", fontsize=7)
    axes.tick_params(labelsize=6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    bar = axes.figure.colorbar(image, ax=axes)
    bar.ax.tick_params(labelsize=6)
    bar.set_label("remaining (%)", fontsize=7)


def _layers_figure(layers, series, panels=1):
    """A figure with a line for each layer, and its panels."""
    size = (3 + 4.5 * panels, 1.4 + layers * (0.12 + 0.14 * series))
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False, sharex=True, sharey=True)[0]


def _draw_bars(axes: Axes, shares: pd.DataFrame, xlabel: str) -> None:
    """Bars of shares, in [0, 1], of layers (rows), side by side for each column."""
    height = 0.8 / shares.shape[1]
    for number, (name, values) in enumerate(shares.items()):
        places = np.arange(len(shares)) + (number - (shares.shape[1] - 1) / 2) * height
        known = values.notna().to_numpy()
        percent = 100 * values[known]
        bars = axes.barh(places[known], percent, height, color=f"C{number}", label=name)
        labels = [f"{value:.3g}" if value else "" for value in percent]
        axes.bar_label(bars, labels, padding=2, fontsize=6)
    axes.set_yticks(range(len(shares)), shares.index, fontsize=7)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    longest = 100 * np.nanmax(shares.to_numpy(), initial=0.0)
    axes.set_xlim(0, max(1, 1.15 * longest, axes.get_xlim()[1]))  # Panels beside it share it.
    axes.set_xlabel(xlabel)
    axes.grid(axis="x", alpha=0.3)


def _by_layer(rows, column):
    """The layers' values, without that of all of them."""
    of_layers = rows[rows["layer"] != EVERY_LAYER]
    return of_layers.set_index(of_layers["layer"].map(_label))[column]


def _label(path):
    return path.removesuffix("/kernel")
