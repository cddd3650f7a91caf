"""What the figures of all papers share.

A spread over seeds is drawn only where there is one: of a single seed there is no standard
deviation, which is not a standard deviation of 0.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tf_tickets.runs.files import atomic_path

PERCENT = (0.0, 100.0)
"""The limits of accuracies in %."""
NOT_NEGATIVE = (0.0, np.inf)
"""The limits of losses, times and distances."""


def draw_curve(
    axes: Axes, curve: pd.DataFrame, limits: tuple[float, float] = NOT_NEGATIVE, **style
) -> None:
    """Draws a mean over seeds with a band of one standard deviation.

    Args:
      axes: where.
      curve: `mean` and `sd` (NaN for one seed) by what stands on the x axis. The band has a gap
        where a point is of one seed; such points are rings if others are of several.
      limits: the lowest and the highest possible value, beyond which no band goes.
      **style: of the line; `color` is needed.
    """
    axes.plot(curve.index, curve["mean"], **style)
    low, high = _spread(curve, limits)
    axes.fill_between(curve.index, low, high, color=style["color"], alpha=0.15, linewidth=0)
    _mark_single_seeds(axes, curve, style)


def draw_bars(
    axes: Axes, points: pd.DataFrame, limits: tuple[float, float] = NOT_NEGATIVE, **style
):
    """Draws means over seeds with bars of one standard deviation.

    Args:
      axes: where.
      points: as the curve of `draw_curve`; points of one seed have no bar.
      limits: as for `draw_curve`.
      **style: of matplotlib's `errorbar`; `color` is needed.

    Returns:
      What `errorbar` returns, for legends.
    """
    low, high = _spread(points, limits)
    # Rounding may put a mean a hair beyond a limit.
    lengths = np.maximum(np.stack([points["mean"] - low, high - points["mean"]]), 0)
    style = {"marker": ".", "capsize": 2, "linewidth": 1, **style}
    drawn = axes.errorbar(points.index, points["mean"], lengths, **style)
    _mark_single_seeds(axes, points, style)
    return drawn


def _spread(points, limits):
    """The ends of mean ± sd; NaN for one seed."""
    low = np.maximum(points["mean"] - points["sd"], limits[0])
    return low, np.minimum(points["mean"] + points["sd"], limits[1])


def _mark_single_seeds(axes, points, style):
    single = points["sd"].isna()
    if single.any() and not single.all():
        ring = {"facecolors": "white", "edgecolors": style["color"], "zorder": 3}
        means = points["mean"][single]
        axes.scatter(means.index, means, s=20, **ring)


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis labelled 0.1, 0.2, 0.5, 1, ...; closer where it spans less than 10."""
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    heights = heights[heights > 0]
    wide = heights.size and heights.max() > 10 * heights.min()
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 6, 8)))
    axes.yaxis.set(major_formatter=FuncFormatter("{:g}".format), minor_formatter=NullFormatter())


def shade(rank: int, count: int, lightest: float = 0.95) -> tuple[float, float, float, float]:
    """The colour of the `rank`-th of `count` ordered things, dark to `lightest` (1: yellow)."""
    return colormaps["viridis"](lightest * rank / max(1, count - 1))


def write_png(figure: Figure, path: Path) -> Path:
    """Writes the figure, whole or not at all, and returns `path`."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return path
