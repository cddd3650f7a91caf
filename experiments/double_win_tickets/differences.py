"""How far tickets are from the dense network, trial by trial, beside the paper's rule."""

import math

from experiments.double_win_tickets.results import METRIC_LABELS, networks
from experiments.double_win_tickets.tables import network_columns
from tf_tickets.analysis.markdown import MISSING, captioned, cell, markdown_table
from tf_tickets.analysis.studies import Group

_NO_INTERVAL = "¹"


def differences_table(group: Group, percent: float) -> str:
    """Paired differences of tickets from the dense network, with intervals.

    Args:
      group: of a target.
      percent: the part of the training data; no text without a ticket that has seen it.
    """
    found = [
        network
        for network in networks(group)
        if network.percent == percent and network.pruning != "dense" and network.differences
    ]
    if not found:
        return ""
    keys, columns = network_columns(found)
    for metric, label in METRIC_LABELS.items():
        shown = {key: _difference(network, metric) for key, network in keys.items()}
        columns.append((label, shown))
    caption = (
        f"{percent:g}% of the training data: ticket less dense network of the same pre-training, "
        "seed by seed, in percentage points, with the 95% interval of Student's t on the paired "
        "differences. Bold: the interval does not hold 0. "
        f"{_NO_INTERVAL}: no interval, as there is one pair, or all differ by the same. With this "
        "many intervals one in twenty misses the truth."
    )
    return captioned(caption, markdown_table(columns, list(keys), MISSING))


def _difference(network, metric):
    difference = network.differences.get(metric)
    if difference is None:
        return MISSING
    mean, half_width, _ = difference
    shown = cell(100 * mean, 100 * half_width, signed=True)
    if math.isnan(half_width):
        return shown + _NO_INTERVAL
    return f"**{shown}**" if abs(mean) > half_width else shown
