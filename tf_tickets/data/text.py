"""Text classification data, held in memory as strings."""

import dataclasses

import numpy as np

from tf_tickets.data.splits import stratified_fraction
from tf_tickets.errors import require

# Every trial reports on the same test examples, whatever its seed.
_TEST_SUBSET_SEED = 0

SPLIT_NAMES = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class TextSplit:
    """Texts and their labels, in a fixed order.

    Attributes:
        texts: the examples, each a tuple of its texts: one, or two of a pair.
        labels: int32 array of shape [n], class indices.

    Raises:
        ValueError: if the labels' shape or dtype is another one, or the lengths differ.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: np.ndarray

    def __post_init__(self):
        if self.labels.shape != (len(self.texts),) or self.labels.dtype != np.int32:
            raise ValueError(
                f"labels must be int32 of shape [{len(self.texts)}], one for each example, "
                f"got {self.labels.dtype} of shape {list(self.labels.shape)}"
            )

    def __len__(self):
        return len(self.texts)

    def subset(self, indices):
        """Returns the TextSplit of the examples at `indices` (int array [m]), in that order."""
        return TextSplit(tuple(self.texts[index] for index in indices), self.labels[indices])


@dataclasses.dataclass(frozen=True, eq=False)
class TextData:
    """A data set: training, validation and test examples of the same classes.

    Attributes:
        name: the data set's name, such as "sst2".
        parts: the names of an example's texts, such as ("premise", "hypothesis").
        class_names: one name for each class index.
        train: examples to train on; disjoint from `validation`.
        validation: examples for every choice made along the way.
        test: examples for the numbers that are reported.
        origin: what a ticket's provenance says of the data: "sst2 (tfds)".

    Raises:
        ValueError: if an example has other texts than `parts`, or a label has no class name.
    """

    name: str
    parts: tuple[str, ...]
    class_names: tuple[str, ...]
    train: TextSplit
    validation: TextSplit
    test: TextSplit
    origin: str

    def __post_init__(self):
        for split in (self.train, self.validation, self.test):
            if any(len(example) != len(self.parts) for example in split.texts):
                raise ValueError(f"examples that have not the texts {', '.join(self.parts)}")
            if len(split) and not 0 <= split.labels.min() <= split.labels.max() < self.num_classes:
                raise ValueError(f"labels outside 0 to {self.num_classes - 1}")

    @property
    def num_classes(self):
        """How many classes the labels tell apart."""
        return len(self.class_names)

    def limited(self, seed, train=None, validation=None, test=None):
        """Returns the TextData with fewer examples, in which the classes keep their shares.

        Args:
            seed: non-negative int that chooses the training and validation examples. The test
                examples do not depend on it, so that all trials report on the same ones.
            train: number of training examples to keep, at least 1; None for all.
            validation: number of validation examples to keep, likewise.
            test: number of test examples to keep, likewise.

        Returns:
            TextData. The examples kept are in their order, and those of a smaller number are
            among those of a larger one.

        Raises:
            UserError: if more examples are asked for than there are, or less than 1.
        """
        splits = {}
        for name, count in zip(SPLIT_NAMES, (train, validation, test), strict=True):
            split = splits[name] = getattr(self, name)
            if count is None:
                continue
            expected = f"1 to {len(split)}, the {name} examples of {self.origin}"
            require(1 <= count <= len(split), f"{name}_examples", count, expected)
            split_seed = _TEST_SUBSET_SEED if name == "test" else seed
            percent = 100 * count / len(split)
            splits[name] = split.subset(stratified_fraction(split.labels, percent, split_seed))
        return dataclasses.replace(self, **splits)
