"""Cells and sentences that the tables of "Boosting Ticket" share."""

import numpy as np
import pandas as pd

from experiments.boosting_tickets.results import tested_accuracies
from tf_tickets.analysis.markdown import MISSING, cell
from tf_tickets.analysis.measurements import (
    attack_label,
    image_count,
    select,
    standard_error,
)
from tf_tickets.analysis.studies import group_label

_DIGITS = {"%": 2, "s": 0, "1": 2, "epoch": 0}


def reached_cell(values: pd.Series, digits: int) -> str:
    """Mean and sd of the seeds that get there, which NaN does not; "never" if none does."""
    count = values.count()
    if not count:
        return "never" if len(values) else MISSING
    shown = cell(values.mean(), values.std(), digits)
    return shown if count == len(values) else f"{shown} ({count} of {len(values)} seeds)"


def paper_cells(
    reference: pd.DataFrame, source: str, by: str, metric: str = "test/natural/accuracy"
) -> dict:
    """`by` → the paper's cell, of one metric of one table."""
    rows = select(reference, source=source, metric=metric)
    return {
        key: cell(value, np.nan, _DIGITS[unit])
        for key, value, unit in zip(rows[by], rows["value"], rows["unit"])
    }


def paper_network(reference: pd.DataFrame, source: str) -> str:
    """A sentence that names the network of one of the paper's tables."""
    row = select(reference, source=source).iloc[0]
    return f"The paper's numbers: {group_label(row['data_set'], row['model'])}."


def uncertainty(rows: pd.DataFrame, attack: str) -> str:
    """A sentence on how far a test accuracy of one seed can be trusted; "" without any.

    Args:
      rows: of the table's networks.
      attack: whose accuracies are meant.
    """
    tested = tested_accuracies(rows, attack)["value"]
    if tested.empty:
        return ""
    # Of all accuracies, as few may happen to be round.
    images = image_count(select(rows, split="test", quantity="accuracy")["value"])
    points = 100 * standard_error(tested, images).max()
    return (
        f"One standard error of a {attack_label(attack)} accuracy of one seed: {points:.1f} points "
        f"({images:,} test images), of a difference of two 1.4 times that."
    )
