"""Similarities and pruned kernels of tickets as tables for a terminal."""

import numpy as np
import pandas as pd
from tabulate import tabulate

from tf_tickets.analysis.kernels import EVERY_CONVOLUTION
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.similarity import EVERY_LAYER

# Columns that a terminal has room for.
_LEVELS = 6


def similarity_curve_table(rows: pd.DataFrame) -> str:
    """A row for each pair of searches, a column for each of a few levels; means over seeds.

    Args:
      rows: of `similarity.similarity_curves`, at least one.
    """
    rows = select(rows, layer=EVERY_LAYER)
    same = rows["first"] == rows["second"]
    names = (rows["first"] + " and " + rows["second"]).where(~same, rows["first"] + ", seeds")
    table = _by_level(rows.assign(name=names), "similarity", _percent)
    return f"{table}\n\nSimilarity in %, in brackets that of random masks as dense."


def similarity_table(rows: pd.DataFrame) -> str:
    """A row for each pair of tickets.

    Args:
      rows: of `similarity.similarity_matrix`.
    """
    shown = [
        [
            row.first,
            row.second,
            *(_percent(1 - density) for density in (row.density_1, row.density_2)),
            *map(_percent, (row.similarity, row.random, row.random_layerwise)),
        ]
        for row in select(rows, layer=EVERY_LAYER).itertuples()
    ]
    headings = ["first", "second", "sparsity (%)", "sparsity (%)", "similarity (%)"]
    headings += ["random masks (%)", "random within layers (%)"]
    return tabulate(
        shown, headings, tablefmt="pipe", disable_numparse=True, colalign=("left", "left")
    )


def kernel_curve_table(rows: pd.DataFrame) -> str:
    """A row for each search, a column for each of a few levels; means over seeds.

    Args:
      rows: of `kernels.kernel_curves`, with some convolution.
    """
    rows = select(rows, layer=EVERY_CONVOLUTION)
    table = _by_level(rows.assign(name=rows["search"]), "pruned", _count)
    kernels = " or ".join(f"{count:,}" for count in sorted(rows["kernels"].unique()))
    meaning = "in brackets those of random masks with the layers' densities."
    return f"{table}\n\nCompletely pruned kernels, of {kernels}; {meaning}"


def kernel_table(rows: pd.DataFrame) -> str:
    """A row for each ticket.

    Args:
      rows: of `kernels.kernel_counts`, with the ticket's name as `ticket`.
    """
    shown = [
        [row.ticket, _percent(1 - row.density), *map(_count, (row.kernels, row.pruned, row.random))]
        for row in select(rows, layer=EVERY_CONVOLUTION).itertuples()
    ]
    headings = ["ticket", "sparsity of convolutions (%)", "kernels", "completely pruned"]
    headings += ["of random masks, by layer"]
    return tabulate(shown, headings, tablefmt="pipe", disable_numparse=True, colalign=("left",))


def _by_level(rows, column, text):
    """The mean of a column, and of what random masks have, by name and level."""
    sparsities = rows.groupby("level")["sparsity"].mean()
    levels = list(sparsities.index)
    places = np.linspace(0, len(levels) - 1, min(len(levels), _LEVELS))
    shown = [levels[place] for place in places.round().astype(int)]
    means = rows.groupby(["name", "level"], sort=False)[[column, "random"]].mean()
    cells = {key: f"{text(value)} ({text(chance)})" for key, value, chance in means.itertuples()}
    body = [
        [name, *(cells.get((name, level), "") for level in shown)] for name in rows["name"].unique()
    ]
    headings = ["", *(f"{_percent(sparsities[level])}% sparse" for level in shown)]
    return tabulate(body, headings, tablefmt="pipe", disable_numparse=True)


def _percent(share):
    return f"{100 * share:.2f}"


def _count(number):
    return f"{number:,.0f}"
