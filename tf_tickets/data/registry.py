"""The data sets by name, read from the embedded samples or from TensorFlow Datasets."""

import dataclasses
import hashlib
import importlib.resources
import os

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format

from tf_tickets.data.splits import validation_split
from tf_tickets.data.vision import ImageData, ImageSplit
from tf_tickets.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """What a data set must hold to be the one of that name."""

    name: str  # Its name in TFDS too.
    class_names: tuple[str, ...]
    train_size: int  # In TFDS, before validation examples are set aside.
    test_size: int
    embedded_sha256: str | None = None  # `sample_sha256` of embedded/<name>.npz; None: no sample.
    validation_fraction: float = 1 / 6  # Of the training examples.
    augment: bool = False  # Whether a shifted or mirrored image is as good an example.


_SPECS = {
    spec.name: spec
    for spec in (
        ImageSpec(
            name="mnist",
            class_names=tuple("0123456789"),
            train_size=60_000,
            test_size=10_000,
            embedded_sha256="3da8e484d630ff29516205eac3c7c94172c4bf372b8620162a00e00cc0a37ffe",
        ),
        ImageSpec(
            name="fashion_mnist",
            class_names=(
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
            train_size=60_000,
            test_size=10_000,
            embedded_sha256="04ff91506667143c56509316e358ecb83f198c23560f253f73525e0db9597f76",
        ),
        ImageSpec(
            name="cifar10",
            class_names=(
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ),
            train_size=50_000,
            test_size=10_000,
            validation_fraction=1 / 10,
            augment=True,
        ),
    )
}

DATA_SETS = tuple(_SPECS)
EMBEDDED_DATA_SETS = tuple(name for name in DATA_SETS if _SPECS[name].embedded_sha256)
SOURCES = ("embedded", "tfds")
SAMPLE_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def load_images(name, source, data_dir=None, seed=0):
    """Loads a data set and sets some of its training examples aside for validation.

    Args:
        name: one of DATA_SETS.
        source: "embedded" for the sample that comes with the package (10,000 training and
            2,000 test images, equally many of each class; only EMBEDDED_DATA_SETS have one),
            "tfds" for the whole data set.
        data_dir: TFDS's directory, only for "tfds"; by default TFDS's own. A data set that
            is not prepared there is downloaded into it.
        seed: non-negative int that chooses the validation examples.

    Returns:
        ImageData. The test split is the source's; training and validation split its training
        examples as `validation_split` does: a sixth of MNIST's and Fashion-MNIST's go to
        validation, and a tenth of CIFAR-10's, which is 5,000.

    Raises:
        UserError: if an argument is none of these, or what was found is missing, damaged,
            half prepared or another data set, or it could not be downloaded.
    """
    if name not in _SPECS:
        raise UserError(f"--data_set={name} is not known; use one of {', '.join(DATA_SETS)}")
    if source not in SOURCES:
        raise UserError(f"--data_source={source} is not known; use one of {', '.join(SOURCES)}")
    spec = _SPECS[name]
    if source == "embedded" and spec.embedded_sha256 is None:
        raise UserError(
            f"--data_source=embedded: {name} has no embedded sample; use --data_source=tfds"
        )
    if source == "embedded" and data_dir is not None:
        raise UserError(
            f"--data_dir={data_dir} is for --data_source=tfds, but --data_source=embedded was "
            "given; leave one of the two out"
        )
    train, test = _read_embedded(name) if source == "embedded" else read_tfds(name, data_dir)
    train_indices, validation_indices = validation_split(len(train), seed, spec.validation_fraction)
    return ImageData(
        name=name,
        source=source,
        train=train.subset(train_indices),
        validation=train.subset(validation_indices),
        test=test,
        class_names=spec.class_names,
        augment=spec.augment,
    )


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
        reason = _one_line(error)
        raise UserError(f"{path} is damaged ({reason}); install tf_tickets again") from error
    if sample_sha256(arrays) != _SPECS[name].embedded_sha256:
        raise UserError(f"{path} is damaged (wrong SHA-256); install tf_tickets again")
    return tuple(
        ImageSplit(arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int64))
        for split in ("train", "test")
    )


def read_tfds(name, data_dir=None):
    """Reads all of a data set through TFDS, in file order, downloading it where needed.

    Args:
        name: one of DATA_SETS.
        data_dir: TFDS's directory; by default TFDS's own.

    Returns:
        (train, test): two ImageSplits.

    Raises:
        UserError: as `load_images`.
    """
    spec = _SPECS[name]
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
        if not tf.io.gfile.isdir(data_dir):
            raise UserError(
                f"--data_dir={data_dir} is not a directory; name one that holds {name}, or make "
                "an empty one to download into"
            )
    builder = _open_builder(name, data_dir)
    if not tf.io.gfile.exists(builder.data_dir):
        _download(builder)
    if not builder.is_prepared():
        raise _half_prepared(builder.data_dir, "dataset_info.json is missing")
    _check_info(builder, {"train": spec.train_size, "test": spec.test_size})
    train, test = _read_split(builder, "train"), _read_split(builder, "test")
    for split in (train, test):
        _check_labels(builder, split.labels, len(spec.class_names))
    return train, test


def _open_builder(name, data_dir):
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (json_format.Error, tf.errors.OpError, AssertionError, OSError, ValueError) as error:
        # All from reading dataset_info.json; AssertionError when it is another version's.
        folder = os.path.join(data_dir or tfds.core.constants.DATA_DIR, name)
        raise _half_prepared(folder, error) from error


def _download(builder):
    # TFDS retries an unreachable server for minutes, so whether there is one is asked first.
    try:
        for url in list(builder.url_infos or ())[:1]:
            requests.get(url, stream=True, timeout=20).close()
        builder.download_and_prepare()
    except Exception as error:  # TFDS's, its network's and storage's errors share no base.
        folder = builder.data_dir_root
        raise UserError(
            f"--data_dir={folder} does not hold {builder.name}, and downloading it failed "
            f"({_one_line(error)}); copy it there from a machine with a network, where "
            f"tensorflow_datasets.load('{builder.name}', data_dir=...) prepares it"
        ) from error


def _check_info(builder, expected_sizes):
    """Refuses what says of itself that it is another data set, or only a part of it."""
    if builder.info.name != builder.name:
        raise _wrong_content(builder, f"it is {builder.info.name}")
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    if sizes != expected_sizes:
        raise _wrong_content(builder, f"examples {sizes}, not {expected_sizes}")


def _check_labels(builder, labels, num_classes):
    """Refuses labels of other classes, which TFDS reads without a word."""
    if not 0 <= labels.min() <= labels.max() < num_classes:
        found = f"labels {labels.min()} to {labels.max()}, not 0 to {num_classes - 1}"
        raise _wrong_content(builder, found)


def _read_split(builder, split):
    # One batch of everything: decoded in parallel, without a Python step per example.
    read_config = tfds.ReadConfig(interleave_cycle_length=1)
    try:
        examples = builder.as_dataset(
            split=split, batch_size=-1, shuffle_files=False, read_config=read_config
        )
    except tf.errors.OpError as error:
        raise _half_prepared(builder.data_dir, f"{split} split: {_one_line(error)}") from error
    return ImageSplit(examples["image"].numpy(), examples["label"].numpy())


def _half_prepared(folder, reason):
    return UserError(
        f"--data_dir: {folder} is damaged or half prepared ({_one_line(reason)}); delete it, or "
        "name another --data_dir, to have it prepared anew"
    )


def _wrong_content(builder, found):
    return UserError(
        f"--data_dir: {builder.data_dir} is not the {builder.name} that is needed ({found}); "
        "delete it, or name another --data_dir"
    )


def _one_line(reason):
    """The first line of an error, without the graph node that TensorFlow puts around it."""
    text = getattr(reason, "message", None) or str(reason)
    lines = text.split("}} ")[-1].split(" [Op:")[0].splitlines()
    return lines[0] if lines else type(reason).__name__
