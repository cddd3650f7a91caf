"""Image classification data, held in memory as uint8 arrays."""

import dataclasses

import numpy as np
import tensorflow as tf

from tf_tickets.data.splits import stratified_fraction, stratified_subset
from tf_tickets.errors import UserError, require

# How training images are changed, of data sets whose images may be.
AUGMENTATIONS = ("crop_and_flip", "published")

# Every trial reports on the same test examples, whatever its seed.
_TEST_SUBSET_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSplit:
    """Images and their labels, in a fixed order.

    Attributes:
        images: uint8 array of shape [n, height, width, channels], values 0 to 255.
        labels: int64 array of shape [n], class indices.
        resized_to: height and width that networks see the images in, see `resize`; None for
            their own.
        cropped: whether networks see only their middle, see `resize`.

    Raises:
        ValueError: if a shape or dtype is another one, or the lengths differ.
    """

    images: np.ndarray
    labels: np.ndarray
    resized_to: int | None = None
    cropped: bool = False

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(
                "images must be uint8 of shape [n, height, width, channels], "
                f"got {self.images.dtype} of shape {list(self.images.shape)}"
            )
        if self.labels.ndim != 1 or self.labels.dtype != np.int64:
            raise ValueError(
                "labels must be int64 of shape [n], "
                f"got {self.labels.dtype} of shape {list(self.labels.shape)}"
            )
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")

    def __len__(self):
        return len(self.labels)

    @property
    def image_shape(self):
        """(height, width, channels) of one image, as networks see it."""
        height, width, channels = self.images.shape[1:]
        return (self.resized_to or height, self.resized_to or width, channels)

    def subset(self, indices):
        """Returns the ImageSplit of the examples at `indices` (int array [m]), in that order."""
        images, labels = self.images[indices], self.labels[indices]
        return dataclasses.replace(self, images=images, labels=labels)

    def seen(self, images):
        """Images of the split, uint8 `[batch, height, width, channels]`, as networks see them."""
        return resize(to_unit_interval(images), self.image_shape, self.cropped)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """A data set: training, validation and test examples of the same classes.

    Attributes:
        name: the data set's name, such as "mnist".
        source: where it was read from, "embedded", "tfds" or "folder".
        train: examples to train on; disjoint from `validation`.
        validation: examples for every choice made along the way.
        test: examples for the numbers that are reported.
        class_names: one name for each class index.
        augment: whether training may shift and mirror the images.
        augmentation: how it does so: `crop_and_flip` as `augmentation.random_crop_and_flip`,
            `published` as `augmentation.random_resized_crop_and_flip`.

    Raises:
        ValueError: if the splits' image shapes differ, or a label has no class name.
    """

    name: str
    source: str
    train: ImageSplit
    validation: ImageSplit
    test: ImageSplit
    class_names: tuple[str, ...]
    augment: bool = False
    augmentation: str = "crop_and_flip"

    def __post_init__(self):
        for split in (self.train, self.validation, self.test):
            if split.image_shape != self.image_shape:
                raise ValueError(f"image shapes {self.image_shape} and {split.image_shape}")
            if len(split) and not 0 <= split.labels.min() <= split.labels.max() < self.num_classes:
                raise ValueError(f"labels outside 0 to {self.num_classes - 1}")

    @property
    def image_shape(self):
        """(height, width, channels) of one image, as networks see it."""
        return self.train.image_shape

    @property
    def num_classes(self):
        """How many classes the labels tell apart."""
        return len(self.class_names)

    @property
    def origin(self):
        """What a ticket's provenance says of the data: "mnist (embedded)".

        Of images that are resized: "cifar10 (tfds, resized)".
        """
        resized = ", resized" if self.train.resized_to else ""
        return f"{self.name} ({self.source}{resized})"

    def padded(self, size):
        """Returns the ImageData with zeros around each image, to `size` x `size` pixels.

        Equally many on opposite sides; of an odd number, the bottom and right get one more.

        Raises:
            ValueError: if the images are larger, or are resized.
        """
        height, width, _ = self.image_shape
        if (height, width) == (size, size):
            return self
        if self.train.resized_to:
            raise ValueError(f"images resized to {height}x{width} pixels cannot be padded")
        if max(height, width) > size:
            raise ValueError(f"images of {height}x{width} pixels do not fit in {size}x{size}")
        margins = [(0, 0), *((n // 2, n - n // 2) for n in (size - height, size - width)), (0, 0)]
        return self._map_splits(
            lambda name, split: ImageSplit(np.pad(split.images, margins), split.labels)
        )

    def resized(self, size):
        """Returns the ImageData whose images networks see in `size` x `size` pixels.

        Memory holds them as they are: each is scaled when it is used, after augmentation, see
        `resize`. Data-Efficient Double-Win Lottery Tickets transfers so from 224x224 pixels to
        CIFAR.

        Raises:
            UserError: if size is below 1.
        """
        require(size >= 1, "image_size", size, "at least 1")
        if self.image_shape[:2] == (size, size):
            return self
        return self._map_splits(lambda name, split: dataclasses.replace(split, resized_to=size))

    def augmented_as_published(self):
        """Returns the ImageData as the code of "Double-Win Lottery Tickets" sees images.

        Training images, digits too, are parts of any size, scaled and mirrored; of the others
        networks see the middle.
        """
        return dataclasses.replace(
            self,
            validation=dataclasses.replace(self.validation, cropped=True),
            test=dataclasses.replace(self.test, cropped=True),
            augment=True,
            augmentation="published",
        )

    def with_train_fraction(self, percent, seed, flag="percents"):
        """Returns the ImageData with a part of the training examples, and all others.

        Each class keeps the same part of its examples, see `stratified_fraction`.

        Args:
            percent: part to keep, above 0 to 100.
            seed: non-negative int; with the same one, a smaller part is in every larger one.
            flag: the flag that errors name.

        Raises:
            UserError: if percent is not such a number, or a class would have no example.
        """
        require(0 < percent <= 100, flag, percent, "percents, above 0 to 100")
        if percent == 100:
            return self
        train = self.train.subset(stratified_fraction(self.train.labels, percent, seed))
        if len(np.unique(train.labels)) < self.num_classes:
            raise UserError(
                f"--{flag}={percent:g}: {percent:g}% of the {len(self.train)} training examples of "
                f"{self.name} are {len(train)}, too few for one of each of its {self.num_classes} "
                "classes; give a larger part"
            )
        return dataclasses.replace(self, train=train)

    def limited(self, seed, train=None, validation=None, test=None):
        """Returns the ImageData with fewer examples, of each class as equally many as there are.

        Args:
            seed: non-negative int that chooses the training and validation examples. The test
                examples do not depend on it, so that all trials report on the same ones.
            train: number of training examples to keep, at least 1; None for all.
            validation: number of validation examples to keep, likewise.
            test: number of test examples to keep, likewise.

        Returns:
            ImageData. The examples kept are in their order, and those of a smaller number are
            among those of a larger one.

        Raises:
            UserError: if more examples are asked for than there are, or less than 1.
        """
        counts = {"train": train, "validation": validation, "test": test}

        def limit(name, split):
            count = counts[name]
            if count is None:
                return split
            expected = f"1 to {len(split)}, the {name} examples of {self.name} ({self.source})"
            require(1 <= count <= len(split), f"{name}_examples", count, expected)
            split_seed = _TEST_SUBSET_SEED if name == "test" else seed
            return split.subset(stratified_subset(split.labels, count, split_seed))

        return self._map_splits(limit)

    def _map_splits(self, change):
        splits = {name: getattr(self, name) for name in ("train", "validation", "test")}
        return dataclasses.replace(
            self, **{name: change(name, split) for name, split in splits.items()}
        )


def to_unit_interval(images):
    """Scales images to [0, 1], the range in which the attacks' eps are given.

    Args:
        images: uint8 tensor or array of any shape, values 0 to 255.

    Returns:
        float32 tensor of the same shape, images / 255.
    """
    return tf.cast(images, tf.float32) / 255.0


def resize(images, image_shape, cropped=False):
    """Scales images to the size in which a network sees them.

    Bilinear interpolation between pixels whose centres lie at half coordinates, without
    antialiasing.

    Args:
        images: float32 tensor of shape [batch, height, width, channels].
        image_shape: (height, width, channels) of one image of the result.
        cropped: whether the result is only the middle of the images scaled to 256/224 of that
            size, as usual for ImageNet.

    Returns:
        float32 tensor of shape [batch, *image_shape]; `images` itself if it has that size.
    """
    size = tuple(image_shape[:2])
    if cropped:
        height, width = size
        larger = tuple(round(256 / 224 * side) for side in size)
        top, left = ((whole - side) // 2 for whole, side in zip(larger, size))
        scaled = tf.image.resize(images, larger)
        return scaled[:, top : top + height, left : left + width]
    return images if tuple(images.shape[1:3]) == size else tf.image.resize(images, size)
