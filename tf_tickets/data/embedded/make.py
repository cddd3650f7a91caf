"""Cuts the embedded samples out of MNIST and Fashion-MNIST, as TFDS prepares them.

    python -m tf_tickets.data.embedded.make --data_dir=DIR

DIR is a TFDS directory; what it lacks is downloaded into it. Each sample has 1,000 training
and 200 test images of each class, drawn with seed 0 and kept in TFDS's file order. The
command writes <name>.npz beside this file and prints each SHA-256, which `specs.py` pins.
Running it again gives the same arrays, byte for byte.
"""

import argparse
import pathlib

import numpy as np

from tf_tickets.data import registry
from tf_tickets.data.specs import EMBEDDED_DATA_SETS

SEED = 0
TRAIN_PER_CLASS = 1_000
TEST_PER_CLASS = 200


def stratified_indices(labels, per_class, seed=SEED):
    """Draws equally many examples of every class, without replacement.

    Args:
        labels: int array of shape [n].
        per_class: number of examples to draw of each class.
        seed: non-negative int.

    Returns:
        Sorted int array of shape [classes * per_class].
    """
    # NumPy promises RandomState's numbers for good; default_rng's may change with a release.
    generator = np.random.RandomState(seed)
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[:per_class]
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(drawn))


def cut_sample(train, test):
    """Returns the sample of two ImageSplits as a dict of uint8 arrays by SAMPLE_KEYS."""
    train = train.subset(stratified_indices(train.labels, TRAIN_PER_CLASS))
    test = test.subset(stratified_indices(test.labels, TEST_PER_CLASS))
    return {
        "train_images": train.images,
        "train_labels": train.labels.astype(np.uint8),
        "test_images": test.images,
        "test_labels": test.labels.astype(np.uint8),
    }


def main():
    """Writes every sample beside this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="TFDS directory to read from")
    data_dir = parser.parse_args().data_dir
    for name in EMBEDDED_DATA_SETS:
        arrays = cut_sample(*registry.read_tfds(name, data_dir))
        np.savez_compressed(pathlib.Path(__file__).with_name(f"{name}.npz"), **arrays)
        print(name, registry.sample_sha256(arrays))


if __name__ == "__main__":
    main()
