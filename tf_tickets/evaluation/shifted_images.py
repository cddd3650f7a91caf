"""Test images changed by someone who knows nothing of the network."""

from collections.abc import Callable, Sequence

import numpy as np

from tf_tickets.attacks.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tf_tickets.attacks.occlusion import occlude
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import require

OCCLUSION = "occlusion"

# (share of the work done, what was done) → None
Progress = Callable[[float, str], None]


def require_severities(severities: Sequence[float]) -> None:
    """Checks a list of severities.

    Raises:
      UserError: it is empty, or one is none of `SEVERITIES` or there twice.
    """
    text = ",".join(f"{severity:g}" for severity in severities)
    valid = set(severities) <= set(SEVERITIES) and len(set(severities)) == len(severities)
    require(
        bool(severities) and valid, "severities", text, f"different ones of {SEVERITIES}, 5 hardest"
    )


def shifted_splits(
    split: ImageSplit,
    severities: Sequence[int],
    occlusion_side: int,
    seed: int,
    progress: Progress = lambda share, name: None,
) -> dict[str, ImageSplit]:
    """All attacks without gradients of "On the Effect of Pruning", section 4.

    Args:
      split: the images as they are.
      severities: of the corruptions, 1 to 5.
      occlusion_side: of the square of zeros, in pixels.
      seed: decides what is random in the corruptions.
      progress: told as the work proceeds; the shares add up to 1.

    Returns:
      `occlusion` and `<corruption>_<severity>` → the images, changed, in the same order.
    """
    shifted = {OCCLUSION: _with_images(split, occlude(split.images, occlusion_side))}
    kinds = [(name, severity) for severity in severities for name in CORRUPTIONS]
    for name, severity in kinds:
        images = corrupt(split.images, name, severity, seed)
        shifted[f"{name}_{severity}"] = _with_images(split, images)
        progress(1 / len(kinds), f"{name} of severity {severity}")
    return shifted


def one_corruption_each(split: ImageSplit, severity: int, seed: int) -> ImageSplit:
    """Every image under one of the corruptions, each corruption as often as the others.

    A cheap stand-in for the mean over all corruptions, where many networks are compared.
    """
    images = np.empty_like(split.images)
    for number, name in enumerate(CORRUPTIONS):
        mine = slice(number, None, len(CORRUPTIONS))
        images[mine] = corrupt(split.images[mine], name, severity, seed)
    return _with_images(split, images)


def semantic_mean(accuracies: dict[str, float], severities: Sequence[int]) -> dict[str, float]:
    """`semantic_<severity>` → mean accuracy over all corruptions of that severity.

    Args:
      accuracies: by `<corruption>_<severity>`.
      severities: which means to take.
    """
    return {
        f"semantic_{severity}": float(
            np.mean([accuracies[f"{name}_{severity}"] for name in CORRUPTIONS])
        )
        for severity in severities
    }


def _with_images(split, images):
    return ImageSplit(images, split.labels)
