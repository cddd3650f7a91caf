"""Validation examples, set aside from the training examples, and parts of a split."""

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


def validation_split_of_classes(labels, seed, fraction=1 / 6):
    """The same, with examples of every class in both parts.

    It is `validation_split` wherever that has them. Else each class gives the same part of its
    examples, as nearly as whole numbers allow, at least one and not all. The second part is
    larger or smaller than asked for only if that needs it: both have an example of every class.

    Args:
        labels: int array of shape [n], class indices.
        seed: non-negative int; the same seed gives the same split.
        fraction: part to set aside.

    Returns:
        (train_indices, validation_indices), as of `validation_split`.

    Raises:
        ValueError: if either part would be empty, or a class has one example only.
    """
    parts = validation_split(len(labels), seed, fraction)
    classes, sizes = np.unique(labels, return_counts=True)
    if all(len(np.unique(labels[part])) == len(classes) for part in parts):
        return parts
    if sizes.min() < 2:
        raise ValueError(f"class {classes[sizes.argmin()]} has one example only")
    order, turns, class_sizes = _turns(labels, seed)
    shares = np.where(turns == 0, 0, (turns + 0.5) / class_sizes)
    shares[turns == class_sizes - 1] = np.inf  # The last one of a class stays.
    chosen = order[np.argsort(shares, kind="stable")]
    validation_size = min(max(len(parts[1]), len(classes)), len(labels) - len(classes))
    return np.sort(chosen[validation_size:]), np.sort(chosen[:validation_size])


def stratified_subset(labels, count, seed):
    """Chooses examples with as equal numbers of each class as there are.

    A class with too few examples gives all of them. With the same seed, the choice of fewer
    examples is a part of the choice of more.

    Args:
        labels: int array of shape [n], class indices.
        count: number of examples to choose, 0 to n.
        seed: non-negative int.

    Returns:
        Sorted int64 array of shape [count], indices into `labels`.

    Raises:
        ValueError: if count is outside 0 to n.
    """
    if not 0 <= count <= len(labels):
        raise ValueError(f"count is {count}, must be 0 to {len(labels)} (examples)")
    order, turns, _ = _turns(labels, seed)
    # Every class gives its first example, then its second, ...
    return np.sort(order[np.argsort(turns, kind="stable")[:count]])


def stratified_fraction(labels, percent, seed):
    """Chooses a part of the examples in which the classes have the shares they have in all.

    Of a class with m examples it holds the whole number nearest to percent/100 · m, up to one
    more or less, as the total is exact: the whole number nearest to percent/100 · n. Every
    class has at least one example, if the total allows it. With the same seed, a smaller part
    is in every larger one.

    Args:
        labels: int array of shape [n], class indices.
        percent: part to choose, 0 to 100.
        seed: non-negative int.

    Returns:
        Sorted int64 array, indices into `labels`.

    Raises:
        ValueError: if percent is outside 0 to 100.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}, must be 0 to 100")
    order, turns, class_sizes = _turns(labels, seed)
    # The part of its class that is chosen when half of the example is; but first come first.
    parts = np.where(turns == 0, 0, (turns + 0.5) / class_sizes)
    count = round(len(labels) * percent / 100)
    return np.sort(order[np.argsort(parts, kind="stable")[:count]])


def _turns(labels, seed):
    """A random order of the examples, and for each its turn within its class and that's size."""
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels[order]
    turns, class_sizes = np.empty(len(labels), np.int64), np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(shuffled == label)
        turns[members], class_sizes[members] = np.arange(len(members)), len(members)
    return order, turns, class_sizes
