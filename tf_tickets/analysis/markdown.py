"""Numbers, tables and pictures in Markdown."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from tf_tickets.analysis.measurements import mean_and_sd


def cell(mean: float, sd: float, digits: int = 2) -> str:
    """A table's "98.33±0.06", without "±0.06" where `sd` is NaN."""
    shown = f"{mean:,.{digits}f}"
    return shown if pd.isna(sd) else f"{shown}±{sd:,.{digits}f}"


def cells(rows: pd.DataFrame, by: str, factor: float = 100, digits: int = 2) -> dict:
    """Group → `cell` of the group's mean and sd over seeds, times `factor` (100: in %)."""
    return {
        group.Index: cell(factor * group.mean, factor * group.sd, digits)
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


def image_link(path: Path, directory: Path) -> str:
    """Shows a picture in a Markdown file that lies in `directory`."""
    relative = Path(os.path.relpath(path, directory)).as_posix()
    return f"![{path.stem.replace('_', ' ')}]({relative})"
