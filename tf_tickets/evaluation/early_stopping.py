"""When a training would have stopped: the paper's proxy for how fast a network learns."""

from collections.abc import Sequence

import numpy as np


def early_stopping_iteration(iterations: Sequence[int], validation_losses: Sequence[float]) -> int:
    """The iteration of the smallest validation loss, the first one on ties.

    The criterion of Figures 3 to 6 and 9 to 12 of "The Search for Sparse, Robust
    Neural Networks".

    Args:
      iterations: shape [evaluations], optimizer steps in increasing order.
      validation_losses: shape [evaluations], in nats: natural loss after natural
        training, loss under the training attack after adversarial training.

    Raises:
      ValueError: no evaluations, unequal lengths, or a loss that is not finite.
    """
    losses = np.asarray(validation_losses, dtype=float)
    if losses.size == 0:
        raise ValueError("no validation losses to choose from")
    if len(iterations) != losses.size:
        raise ValueError(f"{len(iterations)} iterations, but {losses.size} validation losses")
    if not np.isfinite(losses).all():
        raise ValueError(f"a validation loss is not finite: {losses[~np.isfinite(losses)][0]}")
    return int(iterations[int(np.argmin(losses))])
