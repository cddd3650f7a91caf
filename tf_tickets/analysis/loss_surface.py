"""Loss contours on a plane of weights, as a picture and as a frame.

Li et al. (arXiv:1712.09913); Figures 6 and A9 of "Data-Efficient Double-Win Lottery Tickets".
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from tabulate import tabulate

from tf_tickets.analysis.drawing import write_png
from tf_tickets.analysis.saved_tickets import file_name
from tf_tickets.evaluation.loss_surface import ATTACKED, CLEAN, Surveyed
from tf_tickets.evaluation.weight_planes import Plane
from tf_tickets.runs.files import atomic_write_text

# Steps of colour, and contour lines with their ends, evenly spaced in log(loss).
_COLOURS, _CONTOURS = 60, 12
_TITLES = {CLEAN: "clean images", ATTACKED: "images attacked at the trained weights"}
# What is drawn of losses: a network that is right about everything has almost none.
_SMALLEST_LOSS, _LARGEST_LOSS = 1e-3, 1e3


def surface_rows(surveyed: Surveyed) -> pd.DataFrame:
    """The losses as rows.

    Returns:
      `images` (clean or attacked), `a`, `b`, `loss` and `trained`, the loss at a = b = 0;
      losses in nats.
    """
    a, b = np.meshgrid(surveyed.first, surveyed.second)
    frames = [
        pd.DataFrame(
            {
                "images": name,
                "a": a.ravel(),
                "b": b.ravel(),
                "loss": losses.ravel(),
                "trained": surveyed.trained[name],
            }
        )
        for name, losses in surveyed.losses.items()
    ]
    return pd.concat(frames, ignore_index=True)


def trajectory_rows(plane: Plane) -> pd.DataFrame:
    """A plane's trajectory as rows: `snapshot` (0 is the start), `a` and `b`."""
    first, second = plane.trajectory.T
    return pd.DataFrame({"snapshot": range(len(first)), "a": first, "b": second})


def describe(plane: Plane, surveyed: Surveyed) -> dict:
    """What decided a surface and what it comes to, as JSON values."""
    return {
        "directions": plane.kind,
        "cosine_of_directions": plane.cosine,
        "variance_shares": list(plane.variance_shares),
        "trajectory": plane.trajectory.tolist(),
        "sides": {"a": _ends(surveyed.first), "b": _ends(surveyed.second)},
        "loss_of_trained_weights": surveyed.trained,
        "batch_norm_statistics": "as trained",
        "attacked_images": "attacked once, at the trained weights",
    }


def write_surfaces(
    surveys: Mapping[str, Surveyed], planes: Mapping[str, Plane], folder: Path
) -> str:
    """Writes CSV files and a picture for each ticket.

    Args:
      surveys: name of a ticket → what was measured.
      planes: name of a ticket → where.
      folder: where loss_surface.csv, trajectory.csv (of those that have one) and the
        pictures go.

    Returns:
      The table.
    """
    named = [surface_rows(found).assign(ticket=name) for name, found in surveys.items()]
    rows = pd.concat(named, ignore_index=True)
    atomic_write_text(folder / "loss_surface.csv", rows.to_csv(index=False))
    ways = [trajectory_rows(plane).assign(ticket=name) for name, plane in planes.items()]
    ways = pd.concat(ways, ignore_index=True)
    if len(ways):
        atomic_write_text(folder / "trajectory.csv", ways.to_csv(index=False))
    limits = common_limits(surveys.values())
    for name, found in surveys.items():
        picture = folder / f"loss_surface_{file_name(name)}.png"
        draw_loss_surface(found, planes[name], name, picture, limits)
    return surface_table(rows)


def surface_table(rows: pd.DataFrame) -> str:
    """Of each ticket and kind of images, the loss of the trained weights and on the plane.

    Args:
      rows: of `surface_rows`, with the ticket's name as `ticket`.
    """
    groups = rows.groupby(["ticket", "images"], sort=False)
    shown = [
        [*names, *(f"{value:.4g}" for value in (group["trained"].iloc[0], *_spread(group["loss"])))]
        for names, group in groups
    ]
    headings = ["ticket", "images", "trained weights", "lowest", "median", "highest"]
    table = tabulate(
        shown, headings, tablefmt="pipe", disable_numparse=True, colalign=("left", "left")
    )
    return f"Cross-entropy in nats:\n\n{table}"


def common_limits(surveys: Iterable[Surveyed]) -> tuple[float, float]:
    """The lowest and the highest loss to draw of several surfaces, for one scale and one set of
    contours, so that the areas within a contour can be compared."""
    shown = [_drawable(losses) for found in surveys for losses in found.losses.values()]
    lowest = min(losses.min() for losses in shown)
    # Strictly above, as a scale needs it.
    return lowest, max(1.01 * lowest, *(losses.max() for losses in shown))


def draw_loss_surface(
    surveyed: Surveyed,
    plane: Plane,
    title: str,
    path: Path,
    limits: tuple[float, float] | None = None,
) -> Path:
    """Figures 6 and A9: contours of the loss, clean and attacked, on one scale.

    A loss that is not finite or above 1000 is drawn as 1000, one below 0.001 as 0.001.

    Args:
      surveyed: the losses.
      plane: what they were measured on; its trajectory is drawn.
      title: of the figure.
      path: the PNG.
      limits: of the scale and the contours, see `common_limits`; by default its own.
    """
    first, second = surveyed.first, surveyed.second
    shown = {name: _drawable(losses) for name, losses in surveyed.losses.items()}
    lowest, highest = limits or common_limits([surveyed])
    contours = np.geomspace(lowest, highest, _CONTOURS)[1:-1]
    norm, filling = LogNorm(lowest, highest), np.geomspace(lowest, highest, _COLOURS)
    figure = Figure(figsize=(1 + 5.5 * len(shown), 5.2), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for axes, (name, values) in zip(panels, shown.items()):
        axes.contourf(first, second, values, filling, norm=norm)
        if values.max() > 1.001 * values.min():  # Nothing rises or falls otherwise.
            lines = axes.contour(first, second, values, contours, colors="white", linewidths=0.6)
            axes.clabel(lines, fontsize=7, fmt=dict(zip(contours, distinct_labels(contours))))
        _draw_weights(axes, plane)
        axes.set(title=_TITLES[name], xlabel=_axis_label(plane, 0))
    panels[0].set_ylabel(_axis_label(plane, 1))
    panels[0].legend(fontsize=8, loc="best")
    colours = ScalarMappable(norm, "viridis")
    bar = figure.colorbar(colours, ax=panels, label="cross-entropy (nats)")
    # "2" where the default says "2 × 10⁰".
    bar.ax.yaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
    figure.suptitle(title)
    return write_png(figure, path)


def distinct_labels(values: Sequence[float]) -> list[str]:
    """Short numbers, with as many digits as tell them apart."""
    for digits in range(3, 17):
        labels = [f"{value:.{digits}g}" for value in values]
        if len(set(labels)) == len(set(values)):
            break
    return labels


def _ends(side):
    return [float(side[0]), float(side[-1])]


def _spread(losses):
    return losses.min(), losses.median(), losses.max()


def _drawable(losses):
    finite = np.nan_to_num(losses, nan=_LARGEST_LOSS, posinf=_LARGEST_LOSS)
    return np.clip(finite, _SMALLEST_LOSS, _LARGEST_LOSS)


def _draw_weights(axes, plane):
    """The trained weights, and the way there."""
    if len(plane.trajectory):
        axes.plot(*plane.trajectory.T, ".-", color="tab:red", linewidth=1.2, label="training")
        start = plane.trajectory[0]
        axes.plot(*start, "o", color="white", markeredgecolor="tab:red", label="its start")
    axes.plot(0, 0, "*", color="tab:red", markeredgecolor="white", markersize=13, label="trained")


def _axis_label(plane, index):
    if plane.kind == "pca":
        share = plane.variance_shares[index]
        return f"principal component {index + 1} ({share:.1%} of the variance)"
    return f"random direction {index + 1} (1: as long as the trained filters)"
