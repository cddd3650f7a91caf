"""Occlusion: a square of zeros in the middle of an image."""

import numpy as np

from tf_tickets.errors import require


def occlude(images: np.ndarray, side: int) -> np.ndarray:
    """Fills the centre of images with a square of zeros.

    The attack of "On the Effect of Pruning on Adversarial Robustness" (section 4, side 16 of 32)
    and of Chun et al. (arXiv:2003.03879). If as many pixels cannot remain on both sides, one more
    does on the right or below.

    Args:
      images: `[n, height, width, channels]`, any dtype.
      side: height and width of the square in pixels.

    Returns:
      A new array of the same shape and dtype.

    Raises:
      UserError: the side is less than 1 or does not fit into the images.
    """
    height, width = images.shape[1:3]
    largest = min(height, width)
    require(1 <= side <= largest, "occlusion_side", side, f"from 1 to the images' {largest}")
    top, left = (height - side) // 2, (width - side) // 2
    occluded = images.copy()
    occluded[:, top : top + side, left : left + side] = 0
    return occluded
