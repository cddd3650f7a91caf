"""Test images changed by someone who knows nothing of the network."""

from collections.abc import Iterator, Sequence

import numpy as np

from tf_tickets.attacks.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tf_tickets.attacks.occlusion import occlude
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import require

OCCLUSION = "occlusion"


def semantic_name(severity: int) -> str:
    """What the mean over all corruptions of a severity is called."""
    return f"semantic_{severity}"


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


def occluded(split: ImageSplit, side: int) -> ImageSplit:
    """The images with a square of zeros in their middle, see `occlude`."""
    return _with_images(split, occlude(split.images, side))


def corrupted(split: ImageSplit, severity: int, seed: int) -> Iterator[tuple[str, ImageSplit]]:
    """The images under every corruption of "On the Effect of Pruning", section 4, in turn.

    Args:
      split: the images as they are.
      severity: of the corruptions, 1 to 5.
      seed: decides what is random in them.

    Yields:
      `<corruption>_<severity>` and the images, changed, in the same order.
    """
    for name in CORRUPTIONS:
        images = corrupt(split.images, name, severity, seed)
        yield f"{name}_{severity}", _with_images(split, images)


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
    """`semantic_name` → mean accuracy over all corruptions of that severity.

    Args:
      accuracies: by `<corruption>_<severity>`.
      severities: which means to take.
    """
    return {
        semantic_name(severity): float(
            np.mean([accuracies[f"{name}_{severity}"] for name in CORRUPTIONS])
        )
        for severity in severities
    }


def _with_images(split, images):
    return ImageSplit(images, split.labels)
