"""Image data of a plan: read once to know them, and again where they are used."""

import dataclasses
import hashlib

import numpy as np

from tf_tickets.data.registry import load_images
from tf_tickets.data.specs import require_data_set
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import UserError, require
from tf_tickets.work.nodes import Data
from tf_tickets.work.places import Places


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """Where a run's images come from, and how many of them it takes.

    Attributes:
      data_set: its name, see `require_data_set`.
      data_source: `embedded`, `tfds` or `folder`.
      data_dir: where prepared TFDS data lie, None for TFDS's own choice; or the folder.
      image_size: images are padded to this height and width, or scaled if they are of different
        sizes; 0 leaves them as they are.
      train_examples, validation_examples, test_examples: how many are used; 0 for all.
      sizing: whether images are `padded`, or `scaled` as they are used, see `ImageData.resized`.
      augmentation: how training images are changed: `crop_and_flip`, those of data sets whose
        images may be; or as `ImageData.augmented_as_published`.
    """

    data_set: str
    data_source: str
    data_dir: str | None
    image_size: int
    train_examples: int
    validation_examples: int
    test_examples: int
    sizing: str = dataclasses.field(default="padded", kw_only=True)
    augmentation: str = dataclasses.field(default="crop_and_flip", kw_only=True)

    def __post_init__(self):
        require_data_set(self.data_set, source=self.data_source)
        for flag in ("image_size", "train_examples", "validation_examples", "test_examples"):
            require(getattr(self, flag) >= 0, flag, getattr(self, flag), "at least 0")

    def read(self, seed: int) -> tuple[Data, ImageData]:
        """The data of a seed: what a plan knows them by, and they themselves.

        Raises:
          UserError: as `load`.
        """
        whole = self.whole(seed)
        data = self.part(whole, seed)
        described = Data(
            name=self.data_set,
            source=self.data_source,
            sha256=content_sha256(whole),
            seed=seed,
            image_size=self.image_size,
            train=len(data.train),
            validation=len(data.validation),
            test=len(whole.test),
            sizing=self.sizing,
            augmentation=self.augmentation,
        )
        return described, data

    def load(self, seed: int) -> ImageData:
        """The data of a seed.

        Raises:
          UserError: they are not there, damaged, larger than `image_size`, or fewer than asked for.
        """
        return self.part(self.whole(seed), seed)

    def whole(self, seed: int) -> ImageData:
        """All of the data, split as the seed decides."""
        return load_images(
            self.data_set, self.data_source, self.data_dir, seed, self.image_size or None
        )

    def part(self, whole: ImageData, seed: int) -> ImageData:
        """What a run takes of them, in the size and with the changes that networks see."""
        if self.image_size and self.sizing == "scaled":
            whole = whole.resized(self.image_size)
        elif self.image_size:
            largest = max(whole.image_shape[:2])
            expected = f"0 or at least {largest}, the size of the images"
            require(self.image_size >= largest, "image_size", self.image_size, expected)
            whole = whole.padded(self.image_size)
        if self.augmentation == "published":
            whole = whole.augmented_as_published()
        return whole.limited(
            seed,
            self.train_examples or None,
            self.validation_examples or None,
            self.test_examples or None,
        )


def read_again(data: Data, places: Places) -> ImageData:
    """The data that a plan knows, with all of their test examples, and all to train on.

    Raises:
      UserError: they are no longer what they were.
    """
    source = ImageSource(
        data.name,
        data.source,
        places.of(data.name),
        data.image_size,
        data.train,
        data.validation,
        0,
        sizing=data.sizing,
        augmentation=data.augmentation,
    )
    whole = source.whole(data.seed)
    if content_sha256(whole) != data.sha256:
        raise UserError(
            f"--data_set={data.name}: its content is not what it was when the run began; start "
            "the run again, which takes it for other data"
        )
    return source.part(whole, data.seed)


def content_sha256(data: ImageData) -> str:
    """Of all images and labels."""
    digest = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype.str} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
