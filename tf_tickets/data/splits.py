"""Validation examples, set aside from the training examples."""

import numpy as np


def validation_split(num_examples, seed, fraction=1 / 6):
    """Sets a random part of the training examples aside for validation.

    Args:
        num_examples: number of training examples in all.
        seed: non-negative int; the same seed gives the same split.
        fraction: part to set aside. The default turns the 60,000 examples of MNIST into
            50,000 and 10,000.

    Returns:
        (train_indices, validation_indices): sorted int64 arrays that together hold each of
        0 .. num_examples - 1 once; the second has round(num_examples * fraction) entries.

    Raises:
        ValueError: if either part would be empty.
    """
    validation_size = round(num_examples * fraction)
    if not 0 < validation_size < num_examples:
        raise ValueError(
            f"a validation fraction of {fraction} leaves one part of {num_examples} examples empty"
        )
    order = np.random.default_rng(seed).permutation(num_examples)
    return np.sort(order[validation_size:]), np.sort(order[:validation_size])
