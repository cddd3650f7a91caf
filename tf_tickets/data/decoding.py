"""Compressed images of any size, decoded into one array of squares."""

import io
import itertools
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from tf_tickets.errors import UserError, require
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runtime import available_cores

_CHANNELS = 3
# Images that are held in memory before they are decoded.
_AT_A_TIME = 256
# Images that take long enough to decode for a progress bar.
_MANY = 2_000


def require_room(name: str, num_train: int, num_test: int, size: int | None) -> None:
    """Checks, before anything is decoded, that the images fit the machine's memory as squares.

    The training images count twice: when validation examples are set aside, and again while a
    network trains, there are two arrays of them.

    Args:
      name: the data set's.
      num_train, num_test: how many images.
      size: height and width of the squares.

    Raises:
      UserError: no size, or one that is too large.
    """
    expected = f"at least 1, the height and width that the images of {name} are scaled to"
    require(size is not None and size >= 1, "image_size", size or 0, expected)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    bytes_per_pixel = _CHANNELS * (2 * num_train + num_test)
    needed = bytes_per_pixel * size**2
    require(
        needed <= memory,
        "image_size",
        size,
        f"at most {math.isqrt(memory // bytes_per_pixel)}, as the images of {name} need "
        f"{needed / 1e9:.1f} GB and this machine's memory has {memory / 1e9:.1f} GB",
    )


def decode_squares(
    encoded: Iterable[tuple[str, bytes]], count: int, size: int, description: str
) -> np.ndarray:
    """Decodes images and scales each to a square, whatever its proportions.

    Bilinear interpolation, with antialiasing where an image gets smaller.

    Args:
      encoded: `count` pairs of where an image is from, for errors, and its JPEG or PNG file.
      count: number of images.
      size: height and width of the squares.
      description: what is read, for the progress bar.

    Returns:
      uint8 RGB `[count, size, size, 3]`.

    Raises:
      UserError: an image cannot be decoded.
    """
    images = np.empty((count, size, size, _CHANNELS), np.uint8)

    def decode(numbered):
        index, (place, content) = numbered
        try:
            images[index] = _square(content, size)
        except Exception as error:  # Every format has errors of its own.
            reason = type(error).__name__
            raise UserError(f"{place} cannot be read as an image ({reason})") from None

    numbered = enumerate(encoded)
    with (
        ThreadPoolExecutor(available_cores()) as threads,
        ProgressBar(count, visible=count >= _MANY) as bar,
    ):
        while batch := list(itertools.islice(numbered, _AT_A_TIME)):
            list(threads.map(decode, batch))
            bar.advance(len(batch), description)
    return images


def _square(content, size):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
