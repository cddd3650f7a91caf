"""Data sets that are folders of image files, one folder for each class."""

import collections
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_tickets.data.decoding import decode_squares, require_room
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import UserError, one_line

# The folder of the test images; VisDA-17 and ImageNet publish labels of `validation` only.
_TEST_FOLDERS = ("test", "validation", "val")
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Larger files are no photographs.
_MOST_BYTES = 2**30
# Kinds of other files that are named; the rest is counted.
_SHOWN = 4


def read_folder(
    name: str, data_dir: str | Path | None, image_size: int | None, channels: int | None = None
) -> tuple[ImageSplit, ImageSplit, tuple[str, ...]]:
    """Reads DIR/train/<class>/<image> and DIR/test/<class>/<image>.

    Images are the files of the kinds that `decode_squares` reads, by their names' ends, in the
    order of their paths; those in a class's sub-folders belong to it, as in Keras and
    torchvision. `validation` or `val` take the place of a `test` that is not there. Names that
    start with a dot are left out, and so are other files, which one line on standard error
    counts.

    Args:
      name: what the data set is called.
      data_dir: DIR.
      image_size: height and width that images are scaled to, see `decode_squares`.
      channels: 1 for gray images; anything else for RGB ones.

    Returns:
      `(train, test, class_names)`: the images, labelled by the position of their folder among
      `class_names`, the sorted names of the folders.

    Raises:
      UserError: there are no such folders, they differ between train and test, are fewer than
        two or empty, an image is damaged, or all do not fit the memory.
    """
    parts = _parts(data_dir)
    others = collections.Counter()
    train, test = (_files(part, others) for part in parts)
    if list(train) != list(test):
        differing = one_line(", ".join(sorted(set(train) ^ set(test))))
        raise UserError(
            f"--data_dir={data_dir}: the folders in {parts[0].name} and {parts[1].name} must be "
            f"the same classes, but {differing} is not in both"
        )
    if len(train) < 2:
        raise UserError(f"--data_dir={data_dir}: expected two classes or more in {parts[0]}")
    counts = [sum(map(len, files.values())) for files in (train, test)]
    channels = 1 if channels == 1 else 3
    require_room(name, *counts, image_size, channels)
    if others:
        _say(f"{name}: {_in_words(others)}")
    splits = [_read(list(files.values()), image_size, name, channels) for files in (train, test)]
    return *splits, tuple(train)


def _parts(data_dir):
    """The folders of the training and of the test images."""
    if data_dir is None:
        raise UserError("--data_source=folder: needs --data_dir, the folder that holds train")
    root = Path(data_dir).expanduser()
    test = next((root / part for part in _TEST_FOLDERS if (root / part).is_dir()), None)
    if not (root / "train").is_dir() or test is None:
        raise UserError(
            f"--data_dir={data_dir}: expected folders train and test (or validation, or val) in "
            "it, each with a folder of images for every class"
        )
    return root / "train", test


def _files(part: Path, others: collections.Counter) -> dict[str, list[Path]]:
    """Class → its image files, all sorted; counts what else is there."""
    classes = {}
    for folder in sorted(part.iterdir()):
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        classes[folder.name] = []
        for path in sorted(folder.rglob("*")):
            is_hidden = any(name.startswith(".") for name in path.relative_to(folder).parts)
            is_folder = path.is_dir() and not path.is_symlink()  # Links may lead in circles.
            if is_hidden or is_folder:
                continue
            if path.suffix.lower() in _SUFFIXES and path.is_file():
                classes[folder.name].append(path)
            else:
                others[path.suffix.lower() or "without a suffix"] += 1
        if not classes[folder.name]:
            raise UserError(f"--data_dir: {folder} holds no {', '.join(_SUFFIXES)} file")
    return classes


def _in_words(others):
    kinds = [f"{count} {one_line(kind, 20)}" for kind, count in others.most_common(_SHOWN)]
    more = f" and {len(others) - _SHOWN} kinds more" if len(others) > _SHOWN else ""
    return f"{others.total()} files left out, as no images: {', '.join(kinds)}{more}"


@functools.cache
def _say(line):
    """Says a line on standard error, once a process: data are read for every seed."""
    print(line, file=sys.stderr)


def _read(classes: Sequence[Sequence[Path]], size: int, name: str, channels: int) -> ImageSplit:
    paths = [path for files in classes for path in files]
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes])
    encoded = ((str(path), _content(path)) for path in paths)
    images = decode_squares(encoded, len(paths), size, f"reads {name}", channels)
    return ImageSplit(images, labels)


def _content(path):
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path}: expected an image of at most {_MOST_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read as an image ({error.strerror})") from None
