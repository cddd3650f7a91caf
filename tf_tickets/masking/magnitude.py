"""Which weights a round of pruning keeps: exact counts, best scores first."""

import math
from collections.abc import Mapping

import numpy as np

from tf_tickets.masking.ticket import Ticket

Masks = dict[str, np.ndarray]


def counts_after_round(ticket: Ticket, rates: Mapping[str, float]) -> dict[str, int]:
    """How many weights each layer keeps when `rates[path]` of what remains is removed.

    The number removed is rounded to the nearest whole weight, halves up.

    Args:
      ticket: what remains now.
      rates: weight path → removed fraction of the remaining weights, in [0, 1).
    """
    remaining = {path: int(np.count_nonzero(mask)) for path, mask in ticket.masks.items()}
    return {
        path: count - math.floor(rates[path] * count + 0.5) for path, count in remaining.items()
    }


def counts_at_level(
    shapes: Mapping[str, tuple[int, ...]], rates: Mapping[str, float], level: int
) -> dict[str, int]:
    """What `level` rounds of `counts_after_round` leave of a dense network."""
    counts = {path: math.prod(shape) for path, shape in shapes.items()}
    for _ in range(level):
        counts = {
            path: count - math.floor(rates[path] * count + 0.5) for path, count in counts.items()
        }
    return counts


def select(scores: Mapping[str, np.ndarray], ticket: Ticket, keep: Mapping[str, int]) -> Masks:
    """Keeps, in each layer, the `keep[path]` remaining weights of highest score.

    Equal scores are settled in favour of the earlier weight in row-major order,
    so counts are exact and the result is nested in `ticket`.

    Args:
      scores: weight path → score of each weight, in the shape of its mask.
      ticket: only its weights can be kept.
      keep: weight path → number of weights to keep.

    Raises:
      ValueError: more weights to keep than remain.
    """
    return {
        path: _select_in_layer(np.asarray(scores[path]), mask, keep[path])
        for path, mask in ticket.masks.items()
    }


def _select_in_layer(scores, mask, keep):
    remaining = np.flatnonzero(mask)
    if keep > remaining.size:
        raise ValueError(f"cannot keep {keep} of {remaining.size} remaining weights")
    best_first = np.argsort(-scores.ravel()[remaining], kind="stable")
    selected = np.zeros(mask.size, bool)
    selected[remaining[best_first[:keep]]] = True
    return selected.reshape(mask.shape)
