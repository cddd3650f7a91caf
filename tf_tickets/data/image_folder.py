"""Data sets that are folders of image files, one folder for each class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_tickets.data.decoding import decode_squares, require_room
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import UserError

# The folder of the test images; VisDA-17 and ImageNet publish labels of `validation` only.
_TEST_FOLDERS = ("test", "validation", "val")
_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_folder(
    name: str, data_dir: str | Path | None, image_size: int | None
) -> tuple[ImageSplit, ImageSplit, tuple[str, ...]]:
    """Reads DIR/train/<class>/<image> and DIR/test/<class>/<image>.

    Images are .jpg, .jpeg and .png files, in the order of their names; `validation` or `val`
    take the place of a `test` that is not there. Names that start with a dot are left out.

    Args:
      name: what the data set is called.
      data_dir: DIR.
      image_size: height and width that images are scaled to, see `decode_squares`.

    Returns:
      `(train, test, class_names)`: RGB images, labelled by the position of their folder among
      `class_names`, the sorted names of the folders.

    Raises:
      UserError: there are no such folders, they differ between train and test, are fewer than
        two or empty, an image is damaged, or all do not fit the memory.
    """
    parts = _parts(data_dir)
    train, test = (_files(part) for part in parts)
    if list(train) != list(test):
        differing = ", ".join(sorted(set(train) ^ set(test)))
        raise UserError(
            f"--data_dir={data_dir}: the folders in {parts[0].name} and {parts[1].name} must be "
            f"the same classes, but {differing} is not in both"
        )
    if len(train) < 2:
        raise UserError(f"--data_dir={data_dir}: expected two classes or more in {parts[0]}")
    counts = [sum(map(len, files.values())) for files in (train, test)]
    require_room(name, *counts, image_size)
    splits = [_read(list(files.values()), image_size, name) for files in (train, test)]
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


def _files(part: Path) -> dict[str, list[Path]]:
    """Class → its image files, all sorted."""
    classes = {}
    for folder in _visible(part):
        if not folder.is_dir():
            continue
        classes[folder.name] = [
            path for path in _visible(folder) if path.suffix.lower() in _SUFFIXES
        ]
        if not classes[folder.name]:
            raise UserError(f"--data_dir: {folder} holds no {', '.join(_SUFFIXES)} file")
    return classes


def _visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _read(classes: Sequence[Sequence[Path]], size: int, name: str) -> ImageSplit:
    paths = [path for files in classes for path in files]
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes])
    encoded = ((str(path), path.read_bytes()) for path in paths)
    return ImageSplit(decode_squares(encoded, len(paths), size, f"reads {name}"), labels)
