"""Text classification data prepared by TensorFlow Datasets."""

import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_tickets.data.text import TextSplit
from tf_tickets.errors import UserError

_IN_FILE_ORDER = {
    "shuffle_files": False,
    "read_config": tfds.ReadConfig(interleave_cycle_length=1),
}


def read_text_splits(tfds_name, data_dir, splits, features, num_classes):
    """Reads splits of a data set that TFDS has prepared, in file order.

    Args:
        tfds_name: TFDS's name, such as "glue/sst2".
        data_dir: TFDS's directory; None or "" for TFDS's own.
        splits: names of the splits to read.
        features: for each text of an example the features that it is made of; several are joined
            by a space.
        num_classes: what the labels must be below.

    Returns:
        List of TextSplits.

    Raises:
        UserError: if it is not prepared there, or damaged, or has examples without a label, as
            the official test sets of GLUE.
    """
    builder = _open_builder(tfds_name, data_dir)
    return [_read_split(builder, tfds_name, name, features, num_classes) for name in splits]


def _open_builder(name, data_dir):
    root = os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR)
    try:
        builder = tfds.builder(name, data_dir=root)
        prepared = builder.is_prepared()
    except Exception as error:  # Of a damaged dataset_info.json; they share no base.
        raise _damaged(os.path.join(root, name), error) from error
    if not prepared:
        raise UserError(
            f"--data_dir={root} does not hold {name} {builder.version}; prepare it with a network "
            f"by tensorflow_datasets.load('{name}', data_dir='{root}')"
        )
    return builder


def _read_split(builder, tfds_name, name, features, num_classes):
    try:
        # One batch of everything, without a Python step per example.
        examples = builder.as_dataset(split=name, batch_size=-1, **_IN_FILE_ORDER)
    except (tf.errors.OpError, ValueError) as error:
        raise _damaged(builder.data_dir, f"{name} split: {error}") from error
    labels = examples["label"].numpy().astype(np.int32)
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise UserError(
            f"--data_dir: the {name} split of {tfds_name} in {builder.data_dir} has labels "
            f"{labels.min()} to {labels.max()}, expected 0 to {num_classes - 1} (-1 is no label)"
        )
    columns = [_joined(examples, names) for names in features]
    return TextSplit(tuple(zip(*columns, strict=True)), labels)


def _joined(examples, names):
    columns = ([text.decode() for text in examples[name].numpy()] for name in names)
    return [" ".join(texts) for texts in zip(*columns, strict=True)]


def _damaged(folder, error):
    reason = " ".join((getattr(error, "message", None) or str(error)).split())
    return UserError(
        f"--data_dir: {folder} is damaged or half prepared ({reason}); delete it and prepare it "
        "anew, or name another --data_dir"
    )
