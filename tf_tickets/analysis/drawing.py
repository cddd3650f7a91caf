"""What the figures of all papers share."""

from pathlib import Path

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tf_tickets.runs.files import atomic_path


def draw_curve(axes: Axes, curve: pd.DataFrame, **style) -> None:
    """Draws a mean over seeds with a band of one standard deviation.

    Args:
      axes: where.
      curve: `mean` and `sd` (NaN for one seed) by what stands on the x axis.
      **style: of the line; `color` is needed.
    """
    axes.plot(curve.index, curve["mean"], **style)
    sd = curve["sd"].fillna(0)
    low, high = curve["mean"] - sd, curve["mean"] + sd
    axes.fill_between(curve.index, low, high, color=style["color"], alpha=0.15, linewidth=0)


def shade(rank: int, count: int, lightest: float = 0.95) -> tuple[float, float, float, float]:
    """The colour of the `rank`-th of `count` ordered things, dark to `lightest` (1: yellow)."""
    return colormaps["viridis"](lightest * rank / max(1, count - 1))


def write_png(figure: Figure, path: Path) -> Path:
    """Writes the figure, whole or not at all, and returns `path`."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path
