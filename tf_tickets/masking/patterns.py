"""Masks whose zeros lie in a pattern that a kernel can use, chosen by TF-MOT's pruning."""

from collections.abc import Mapping

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras

from tf_tickets.errors import require
from tf_tickets.masking.magnitude import Masks, magnitude, select
from tf_tickets.masking.ticket import Ticket

_sparsity = tfmot.sparsity.keras

# Name → how TF-MOT is asked for it.
PATTERNS = {
    "unstructured": {},
    "block_4x1": {"block_size": (4, 1)},
    "2_by_4": {"sparsity_m_by_n": (2, 4)},
}
_BLOCK = 4


def pattern_masks(weights: Mapping[str, np.ndarray], pattern: str, sparsity: float) -> Masks:
    """Prunes every kernel by magnitude, all to the same sparsity.

    - `unstructured`: the weights of largest magnitude stay.
    - `block_4x1`: of blocks of four consecutive inputs of one unit, those of largest mean
      magnitude stay whole. Of dense kernels only.
    - `2_by_4`: of every four consecutive inputs of one unit, or input channels at one place of
      one filter, the two of largest magnitude stay.

    Args:
      weights: path → kernel of a dense layer `[inputs, units]` or of a convolution
        `[height, width, channels, filters]`.
      pattern: one of `PATTERNS`.
      sparsity: the removed fraction of each kernel, in [0, 1); 0.5 for `2_by_4`.

    Returns:
      Path → mask. What ties with the last weight or block that stays, stays too.

    Raises:
      UserError: no such pattern, or no such sparsity of it.
      ValueError: a kernel that cannot have the pattern.
    """
    require(pattern in PATTERNS, "pattern", pattern, f"one of {', '.join(PATTERNS)}")
    require(0 <= sparsity < 1, "sparsity", sparsity, "at least 0 and less than 1")
    require(pattern != "2_by_4" or sparsity == 0.5, "sparsity", sparsity, "0.5 for 2_by_4")
    for path, kernel in weights.items():
        if pattern == "block_4x1" and not _has_blocks(kernel):
            raise ValueError(
                f"{path} {kernel.shape}: block_4x1 is of dense layers with a multiple of 4 inputs"
            )
    return {path: _mask(kernel, PATTERNS[pattern], sparsity) for path, kernel in weights.items()}


def prune_blocks(
    weights: Mapping[str, np.ndarray], ticket: Ticket, keep: Mapping[str, int]
) -> Masks:
    """Takes whole blocks out of a ticket, those of smallest mean magnitude first.

    Blocks are those of `block_4x1`. Of kernels that cannot have them, convolutions and dense
    layers whose inputs are no multiple of 4, the smallest weights go one by one.

    Args:
      weights: path → weights, at least those of the ticket.
      ticket: what remains; of kernels that can have them, in whole blocks.
      keep: path → how many weights stay; rounded to whole blocks, at least one.

    Returns:
      Path → mask, nested in the ticket.
    """
    masks = {}
    single = {path: count for path, count in keep.items() if not _has_blocks(ticket.masks[path])}
    for path in keep.keys() - single.keys():
        mask = ticket.masks[path]
        blocks = max(1, round(keep[path] / _BLOCK))
        sparsity = 1 - blocks * _BLOCK / mask.size
        masks |= pattern_masks({path: weights[path] * mask}, "block_4x1", sparsity)
    if single:
        rest = Ticket({path: ticket.masks[path] for path in single}, ticket.provenance)
        masks |= select(magnitude(weights, rest), rest, single)
    return {path: masks[path] for path in ticket.masks}


def _has_blocks(kernel):
    return kernel.ndim == 2 and len(kernel) % _BLOCK == 0


def _mask(kernel, pattern, sparsity):
    wrapper = _sparsity.prune_low_magnitude(
        _layer(kernel),
        _sparsity.ConstantSparsity(sparsity, begin_step=0, frequency=1),
        **pattern,
    )
    wrapper.build(None)  # The layer is built already; this makes the mask.
    wrapper.pruning_step.assign(1)  # The only step at which TF-MOT sets the masks of 2:4.
    wrapper.pruning_obj.conditional_mask_update()
    ((_, mask, _),) = wrapper.pruning_vars
    return mask.numpy() > 0


def _layer(kernel):
    """A layer that holds the kernel."""
    *window, channels, units = kernel.shape
    if window:
        layer = keras.layers.Conv2D(units, window, use_bias=False)
    else:
        layer = keras.layers.Dense(units, use_bias=False)
    layer.build([None] * (len(window) + 1) + [channels])
    layer.kernel.assign(kernel)
    return layer
