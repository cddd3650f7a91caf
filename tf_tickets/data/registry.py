"""The data sets by name, from the embedded samples, TensorFlow Datasets or folders of images."""

import hashlib
import importlib.resources

import numpy as np

from tf_tickets.data.image_folder import read_folder
from tf_tickets.data.specs import (
    SPECS,
    ImageSpec,
    find_class_range,
    require_data_set,
)
from tf_tickets.data.splits import validation_split, validation_split_of_classes
from tf_tickets.data.tfds_reader import read_tfds
from tf_tickets.data.vision import ImageData, ImageSplit
from tf_tickets.errors import UserError, one_line

SAMPLE_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_images(name, source, data_dir=None, seed=0, image_size=None, channels=None):
    """Loads a data set and sets some of its training examples aside for validation.

    Args:
        name: the data set, or some of its classes; see `require_data_set`. Of some classes,
            such as "cifar10_classes_5_9", the labels are numbered from 0.
        source: "embedded" for the sample that comes with the package (10,000 training and
            2,000 test images, equally many of each class; only EMBEDDED_DATA_SETS have one),
            "tfds" for the whole data set, "folder" for the user's own images, see
            `read_folder`.
        data_dir: TFDS's directory for "tfds", by default TFDS's own; a data set that is not
            prepared there is downloaded into it. The folder for "folder".
        seed: non-negative int that chooses the validation examples.
        image_size: height and width that images of different sizes are scaled to: those of
            "cub200" and of folders. Others keep their size, see `ImageData.resized`.
        channels: of folders, 1 for gray images, anything else for RGB. Others keep their own.

    Returns:
        ImageData. The test split is the source's; training and validation split its training
        examples as `validation_split` does: a sixth of MNIST's and Fashion-MNIST's go to
        validation, and a tenth of the others', which is 5,000 of CIFAR-10's. Those of a folder
        are split as `validation_split_of_classes` does.

    Raises:
        UserError: if an argument is none of these, or what was found is missing, damaged,
            half prepared or another data set, does not fit the memory, or could not be
            downloaded.
    """
    require_data_set(name, source=source)
    if source == "embedded" and data_dir is not None:
        raise UserError(
            f"--data_dir={data_dir} is for --data_source=tfds or folder, but "
            "--data_source=embedded was given; leave one of the two out"
        )
    classes = find_class_range(name)
    whole = classes.data_set if classes else name
    spec, train, test = _read(whole, source, data_dir, image_size, channels)
    class_names = spec.class_names
    if classes:
        classes.require_within(len(class_names))
        train, test = (_of_classes(split, classes) for split in (train, test))
        class_names = class_names[classes.first : classes.last + 1]
    try:
        if source == "folder":  # Those of others are known to hold enough of every class.
            _require_two_of_each(name, train.labels, class_names)
            parts = validation_split_of_classes(train.labels, seed, spec.validation_fraction)
        else:
            parts = validation_split(len(train), seed, spec.validation_fraction)
    except ValueError as error:
        raise UserError(f"--data_set={name}: too few training images ({error})") from None
    return ImageData(
        name=name,
        source=source,
        train=train.subset(parts[0]),
        validation=train.subset(parts[1]),
        test=test,
        class_names=class_names,
        augment=spec.augment,
    )


def _require_two_of_each(name, labels, class_names):
    """Raises a `UserError` unless every class has an example to train and one to validate on."""
    counts = np.bincount(labels, minlength=len(class_names))
    lonely = [class_names[label] for label in np.flatnonzero(counts < 2)]
    if lonely:
        more = f" and {len(lonely) - 1} classes more" if len(lonely) > 1 else ""
        raise UserError(
            f"--data_set={name}: too few training images of class {one_line(lonely[0])}{more}; "
            "expected at least 2 of each, one to train and one to validate on"
        )


def _read(name, source, data_dir, image_size, channels):
    """Returns (spec, train, test) of a whole data set."""
    if source == "embedded":
        return SPECS[name], *_read_embedded(name)
    if source == "tfds":
        return SPECS[name], *read_tfds(name, data_dir, image_size)
    train, test, class_names = read_folder(name, data_dir, image_size, channels)
    augment = SPECS[name].augment if name in SPECS else True
    return ImageSpec(name, class_names, {}, augment=augment), train, test


def _of_classes(split, classes):
    """The examples of these classes, which are numbered from 0."""
    kept = np.flatnonzero((split.labels >= classes.first) & (split.labels <= classes.last))
    part = split.subset(kept)
    return ImageSplit(part.images, part.labels - classes.first)


def sample_sha256(arrays):
    """Returns the SHA-256 of a sample's array bytes, as hex; `arrays` maps SAMPLE_KEYS."""
    return hashlib.sha256(b"".join(arrays[key].tobytes() for key in SAMPLE_KEYS)).hexdigest()


def _read_embedded(name):
    """Returns (train, test) of the sample that comes with the package."""
    path = importlib.resources.files("tf_tickets.data.embedded") / f"{name}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in SAMPLE_KEYS}
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; install tf_tickets again") from error
    except Exception as error:  # A damaged archive fails in any layer: zip, zlib, header, shape.
        reason = one_line(error)
        raise UserError(f"{path} is damaged ({reason}); install tf_tickets again") from error
    if sample_sha256(arrays) != SPECS[name].embedded_sha256:
        raise UserError(f"{path} is damaged (wrong SHA-256); install tf_tickets again")
    return tuple(
        ImageSplit(arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int64))
        for split in ("train", "test")
    )
