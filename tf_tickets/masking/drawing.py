"""Drawing tickets at once at any sparsity: from learned masks, from magnitudes, or at random."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tf_tickets.masking.magnitude import (
    Masks,
    layer_counts,
    magnitude,
    random_scores,
    select,
)
from tf_tickets.masking.ticket import Ticket, dense_ticket


def one_shot_ticket(log_alphas: Mapping[str, np.ndarray], dense: Ticket, sparsity: float) -> Ticket:
    """Keeps the weights of the highest σ(log α) among all of the network.

    "Robust Lottery Tickets for Pre-trained Language Models", section 3.3. The order is taken from
    log α itself: σ has the same, but is rounded to 1 in float32 above 17.

    Where weights share a mask they stay or go together, best first, and as many groups stay as
    bring the number of weights nearest to `(1 - sparsity) · size`, more of two equally near. So it
    misses that number by at most half of a group; where every weight has its own mask it is that
    number, rounded half up. Among equal scores earlier layers win, then the row-major order.

    Args:
      log_alphas: weight path → locations of the masks, of a shape that broadcasts to the weight's.
      dense: keeps every weight that has a mask; its provenance passes on.
      sparsity: the removed fraction of all weights, in [0, 1].

    Raises:
      ValueError: other weights than those of `dense`.
    """
    if set(log_alphas) != set(dense.masks):
        raise ValueError(f"log α of {sorted(log_alphas)} for masks of {sorted(dense.masks)}")
    locations = {path: np.asarray(log_alphas[path]) for path in dense.masks}
    group_sizes = [dense.masks[path].size // array.size for path, array in locations.items()]
    sizes = np.repeat(group_sizes, [array.size for array in locations.values()])
    competing = np.concatenate([array.ravel() for array in locations.values()])
    best_first = np.argsort(-competing, kind="stable")
    stay = np.zeros(competing.size, bool)
    stay[best_first[: _groups_nearest(sizes[best_first], (1.0 - sparsity) * sizes.sum())]] = True

    ends = np.cumsum([array.size for array in locations.values()])
    masks = {
        path: np.broadcast_to(part.reshape(array.shape), dense.masks[path].shape)
        for (path, array), part in zip(locations.items(), np.split(stay, ends[:-1]))
    }
    return _descendant(dense, "one_shot", masks)


def magnitude_ticket(weights: Mapping[str, np.ndarray], parent: Ticket, sparsity: float) -> Ticket:
    """Keeps the largest of the parent's weights, which all compete for the places of a network.

    Exactly `(1 - sparsity) · size` of them, rounded half up; ties as in `magnitude.select`.

    Args:
      weights: path → trained weight; at least those of `parent`.
      parent: what remains.
      sparsity: the fraction of all weights that the result removes, not less than the parent's.

    Raises:
      ValueError: the parent has fewer weights.
    """
    scores = magnitude(weights, parent)
    masks = select(scores, parent, layer_counts(scores, parent, sparsity))
    return _descendant(parent, "magnitude", masks)


def random_ticket(like: Ticket, seed: int) -> Ticket:
    """As many weights in each layer as `like` keeps there, in places that `seed` decides."""
    shapes = {path: mask.shape for path, mask in like.masks.items()}
    everything = dense_ticket(shapes, like.provenance)
    keep = {path: int(np.count_nonzero(mask)) for path, mask in like.masks.items()}
    return _descendant(like, "random", select(random_scores(everything, seed), everything, keep))


def _groups_nearest(sizes: np.ndarray, wanted: float) -> int:
    """How many of the first groups have a total size nearest to `wanted`."""
    totals = np.concatenate([[0], np.cumsum(sizes)])
    above = min(int(np.searchsorted(totals, wanted)), sizes.size)
    below = max(above - 1, 0)
    return above if totals[above] - wanted <= wanted - totals[below] else below


def _descendant(parent: Ticket, algorithm: str, masks: Masks) -> Ticket:
    provenance = dataclasses.replace(
        parent.provenance, algorithm=algorithm, parent_sha256=parent.sha256
    )
    return Ticket(masks, provenance)
