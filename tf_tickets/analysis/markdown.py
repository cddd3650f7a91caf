"""Numbers, tables and pictures in Markdown."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from tf_tickets.analysis.measurements import mean_and_sd

MISSING = "–"
"""The cell of what was not measured."""


def cell(mean: float, sd: float, digits: int = 2, signed: bool = False) -> str:
    """A table's "98.33±0.06", without "±0.06" where `sd` is NaN; "+98.33±0.06" if `signed`."""
    sign = "+" if signed else "-"
    shown = f"{mean:{sign}z,.{digits}f}"
    return shown if pd.isna(sd) else f"{shown}±{sd:,.{digits}f}"


def cells(
    rows: pd.DataFrame,
    by: str | list[str],
    factor: float = 100,
    digits: int = 2,
    signed: bool = False,
) -> dict:
    """Group → `cell` of the group's mean and sd over seeds, times `factor` (100: in %)."""
    return {
        group.Index: cell(factor * group.mean, factor * group.sd, digits, signed)
        for group in mean_and_sd(rows, by).itertuples()
    }


def markdown_table(
    columns: Sequence[tuple[str, Mapping]], keys: Sequence, missing: str = ""
) -> str:
    """A table with a row per key.

    Args:
      columns: each column's heading, which several may share, and key → cell.
      keys: the rows, in order.
      missing: the cell where a column has none.
    """
    rows = [[cells_of.get(key, missing) for _, cells_of in columns] for key in keys]
    headings = [heading for heading, _ in columns]
    return tabulate(rows, headings, tablefmt="pipe", stralign="right", disable_numparse=True)


def captioned(caption: str, table: str) -> str:
    """A table below its caption, which is wrapped."""
    return f"{textwrap.fill(caption, 100)}\n\n{table}"


def paragraphs(*parts: str) -> str:
    """The parts that are not empty, an empty line between them."""
    return "\n\n".join(filter(None, parts))


def image_link(path: Path, directory: Path) -> str:
    """Shows a picture in a Markdown file that lies in `directory`."""
    relative = Path(os.path.relpath(path, directory)).as_posix()
    return f"![{path.stem.replace('_', ' ')}]({relative})"
