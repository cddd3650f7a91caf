"""Data sets read through TensorFlow Datasets."""

import functools
import os

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format

from tf_tickets.data.decoding import decode_squares, require_room
from tf_tickets.data.specs import SPECS
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import UserError, one_line

_IN_FILE_ORDER = {
    "shuffle_files": False,
    "read_config": tfds.ReadConfig(interleave_cycle_length=1),
}


def read_tfds(name, data_dir=None, image_size=None):
    """Reads all of a data set through TFDS, in file order, downloading it where needed.

    Args:
        name: one of DATA_SETS.
        data_dir: TFDS's directory; by default TFDS's own.
        image_size: height and width that images are scaled to where a data set has images of
            different sizes, see `decode_squares`; others are left as they are.

    Returns:
        (train, test): two ImageSplits.

    Raises:
        UserError: as `load_images`.
    """
    spec = SPECS[name]
    if not spec.one_size:
        require_room(name, spec.split_sizes["train"], spec.split_sizes["test"], image_size)
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
        if not tf.io.gfile.isdir(data_dir):
            raise UserError(
                f"--data_dir={data_dir} is not a directory; name one that holds {name}, or make "
                "an empty one to download into"
            )
    builder = _open_builder(spec.tfds_name or name, data_dir)
    if not tf.io.gfile.exists(builder.data_dir):
        _download(builder)
    if not builder.is_prepared():
        raise _half_prepared(builder.data_dir, "dataset_info.json is missing")
    _check_info(builder, spec.split_sizes)
    read = _read_split if spec.one_size else functools.partial(_read_squares, size=image_size)
    train, test = read(builder, "train"), read(builder, "test")
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
            f"({_first_line(error)}); copy it there from a machine with a network, where "
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
    try:
        examples = builder.as_dataset(split=split, batch_size=-1, **_IN_FILE_ORDER)
    except tf.errors.OpError as error:
        raise _half_prepared(builder.data_dir, f"{split} split: {_first_line(error)}") from error
    return ImageSplit(examples["image"].numpy(), examples["label"].numpy())


def _read_squares(builder, split, size):
    count = builder.info.splits[split].num_examples
    labels = np.empty(count, np.int64)
    decoders = tfds.decode.PartialDecoding(
        {"image": True, "label": True}, {"image": tfds.decode.SkipDecoding()}
    )

    def encoded():
        examples = builder.as_dataset(split=split, decoders=decoders, **_IN_FILE_ORDER)
        for index, example in enumerate(tfds.as_numpy(examples)):
            labels[index] = example["label"]
            place = f"--data_dir: image {index} of the {split} split in {builder.data_dir}"
            yield place, example["image"]

    try:
        images = decode_squares(encoded(), count, size, f"reads {builder.name}")
    except tf.errors.OpError as error:
        raise _half_prepared(builder.data_dir, f"{split} split: {_first_line(error)}") from error
    return ImageSplit(images, labels)


def _half_prepared(folder, reason):
    return UserError(
        f"--data_dir: {folder} is damaged or half prepared ({_first_line(reason)}); delete it, or "
        "name another --data_dir, to have it prepared anew"
    )


def _wrong_content(builder, found):
    return UserError(
        f"--data_dir: {builder.data_dir} is not the {builder.name} that is needed ({found}); "
        "delete it, or name another --data_dir"
    )


def _first_line(reason):
    """The first line of what TFDS says; the others repeat it with advice for programmers."""
    text = getattr(reason, "message", None) or str(reason)
    return one_line((text.splitlines() or [type(reason).__name__])[0], 200)
