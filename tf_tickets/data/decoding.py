"""Compressed images of any size, decoded into one array of squares."""

import io
import itertools
import math
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from tf_tickets.errors import UserError, require
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runtime import available_cores

# Channels → Pillow's mode.
_MODES = {1: "L", 3: "RGB"}
# What is read, whatever a file is called; some of Pillow's other formats start programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Formats whose pixels of Pillow's 32-bit mode are 16-bit numbers.
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
# Values of TIFF's tags.
_UNSIGNED, _WHITE_IS_ZERO = 1, 0
# Images that are held in memory before they are decoded.
_AT_A_TIME = 256
# Images that take long enough to decode for a progress bar.
_MANY = 2_000


def require_room(
    name: str, num_train: int, num_test: int, size: int | None, channels: int = 3
) -> None:
    """Checks, before anything is decoded, that the images fit the machine's memory as squares.

    The training images count twice: when validation examples are set aside, and again while a
    network trains, there are two arrays of them.

    Args:
      name: the data set's.
      num_train, num_test: how many images.
      size: height and width of the squares.
      channels: 1 or 3, of each pixel.

    Raises:
      UserError: no size, or one that is too large.
    """
    expected = f"at least 1, the height and width that the images of {name} are scaled to"
    require(size is not None and size >= 1, "image_size", size or 0, expected)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    bytes_per_pixel = channels * (2 * num_train + num_test)
    needed = bytes_per_pixel * size**2
    require(
        needed <= memory,
        "image_size",
        size,
        f"at most {math.isqrt(memory // bytes_per_pixel)}, as the images of {name} need "
        f"{needed / 1e9:.1f} GB and this machine's memory has {memory / 1e9:.1f} GB",
    )


def decode_squares(
    encoded: Iterable[tuple[str, bytes]],
    count: int,
    size: int,
    description: str,
    channels: int = 3,
) -> np.ndarray:
    """Decodes images and scales each to a square, whatever its proportions.

    Bilinear interpolation, with antialiasing where an image gets smaller. A gray image of b > 8
    bits becomes one of 8: round(v · 255 / (2^b − 1)); of channels of 16 bits in a coloured one
    the upper 8 are taken. Of several frames the first is taken, and transparency is left out.

    Args:
      encoded: `count` pairs of where an image is from, for errors, and its file's content: a
        BMP, GIF, JPEG, PNG, PPM, TIFF or WebP.
      count: number of images.
      size: height and width of the squares.
      description: what is read, for the progress bar.
      channels: 3 for red, green and blue; 1 for gray, the luma of coloured images.

    Returns:
      uint8 `[count, size, size, channels]`.

    Raises:
      UserError: an image cannot be decoded, or its values have no known range.
    """
    images = np.empty((count, size, size, channels), np.uint8)

    def decode(numbered):
        index, (place, content) = numbered
        try:
            images[index] = _square(content, size, _MODES[channels]).reshape(images.shape[1:])
        except Exception as error:  # Every format has errors of its own.
            reason = error if isinstance(error, UserError) else type(error).__name__
            raise UserError(f"{place} cannot be read as an image ({reason})") from None

    numbered = enumerate(encoded)
    with (
        warnings.catch_warnings(action="ignore"),  # An image is read, or refused by name.
        ThreadPoolExecutor(available_cores()) as threads,
        ProgressBar(count, visible=count >= _MANY) as bar,
    ):
        while batch := list(itertools.islice(numbered, _AT_A_TIME)):
            list(threads.map(decode, batch))
            bar.advance(len(batch), description)
    return images


def _square(content, size, mode):
    with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        image = _eight_bits(image).convert(mode)
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _eight_bits(image):
    """The image with 8 bits a channel; Pillow itself would cut off what is above 255."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    signed_or_fractions = any(kind != _UNSIGNED for kind in tags.get(SAMPLEFORMAT, ()))
    wide = image.mode == "F" or image.mode == "I" and image.format not in _SIXTEEN_BIT_FORMATS
    if signed_or_fractions or wide:
        raise UserError("numbers of unknown range; save it with 8 or 16 unsigned bits a channel")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    bits, *_ = tags.get(BITSPERSAMPLE, (16,))
    values = np.round(np.asarray(image).astype(np.float64) * (255 / (2**bits - 1)))
    if tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:  # Which Pillow heeds up to 8 bits.
        values = 255 - values
    return Image.fromarray(values.astype(np.uint8))
