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


def layer_counts(
    scores: Mapping[str, np.ndarray], ticket: Ticket, sparsity: float
) -> dict[str, int]:
    """How many weights each layer keeps when all of them compete for the places of a network.

    `round((1 - sparsity) · size)` weights of the whole network stay, those of the highest
    scores among the remaining ones; equal scores as in `select`, earlier layers first.

    Args:
      scores: weight path → score of each weight, in the shape of its mask.
      ticket: only its weights can be kept.
      sparsity: the fraction of all weights of the network that the result removes.

    Returns:
      Weight path → number of weights to keep, for `select`.

    Raises:
      ValueError: more weights to keep than remain.
    """
    size = sum(mask.size for mask in ticket.masks.values())
    keep = math.floor((1.0 - sparsity) * size + 0.5)
    remaining = {path: np.asarray(scores[path])[mask] for path, mask in ticket.masks.items()}
    competing = np.concatenate(list(remaining.values()))
    if keep > competing.size:
        raise ValueError(f"cannot keep {keep} of {competing.size} remaining weights")
    kept = np.zeros(competing.size, bool)
    kept[np.argsort(-competing, kind="stable")[:keep]] = True
    ends = np.cumsum([part.size for part in remaining.values()])
    parts = np.split(kept, ends[:-1])
    return {path: int(np.count_nonzero(part)) for path, part in zip(remaining, parts)}


def sparsity_after_rounds(rounds: int, rate: float = 0.2) -> float:
    """1 − (1 − rate)^rounds: what is removed when every round removes `rate` of what remains."""
    return 1.0 - (1.0 - rate) ** rounds


def random_scores(ticket: Ticket, seed: int) -> dict[str, np.ndarray]:
    """Scores that make every choice of the ticket's weights equally likely, in [0, 1)."""
    random = np.random.default_rng(seed)
    return {path: random.random(mask.shape) for path, mask in ticket.masks.items()}


def magnitude(weights: Mapping[str, np.ndarray], ticket: Ticket) -> dict[str, np.ndarray]:
    """|w|, the score of "Boosting Ticket", section 3.1."""
    return {path: np.abs(weights[path]) for path in ticket.masks}


def normalized_magnitude(
    weights: Mapping[str, np.ndarray], ticket: Ticket
) -> dict[str, np.ndarray]:
    """|w| over the mean |w| of the layer's remaining weights, as the paper's published code.

    It gives every layer the same mean score, so that none is emptied for its scale.
    """
    scores = {}
    for path, mask in ticket.masks.items():
        sizes = np.abs(weights[path])
        mean = sizes[mask].mean() if mask.any() else 1.0
        scores[path] = sizes / (mean or 1.0)
    return scores


SCORES = {"magnitude": magnitude, "normalized_magnitude": normalized_magnitude}


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
