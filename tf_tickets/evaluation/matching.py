"""Which tickets do as well as the dense network."""

from collections.abc import Mapping


def sparsest_matching_level(validation_accuracy: Mapping[int, float]) -> int:
    """The last level at least as accurate on validation data as level 0, the dense network.

    Args:
      validation_accuracy: level → accuracy in [0, 1]; levels grow sparser.

    Returns:
      That level; 0 if no pruned one matches.
    """
    dense = validation_accuracy[0]
    return max(level for level, accuracy in validation_accuracy.items() if accuracy >= dense)
