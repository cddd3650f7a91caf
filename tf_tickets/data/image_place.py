"""Where the images of several data sets come from, some of them from folders of one's own."""

import dataclasses
from collections.abc import Mapping

from tf_tickets.data.registry import load_images
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import UserError


@dataclasses.dataclass(frozen=True)
class ImagePlace:
    """Where images come from, and how networks see them.

    Attributes:
      data_source: `embedded` or `tfds`.
      data_dir: where prepared TFDS data lie; None for TFDS's own choice.
      folders: data set → image folder, of those that come from one.
      image_size: images are scaled to this height and width; 0 leaves them as they are.
      augmentation: how training images are changed, see `ImageData`; `crop_and_flip` changes
        those of data sets whose images may be.
    """

    data_source: str
    data_dir: str | None
    folders: Mapping[str, str]
    image_size: int
    augmentation: str = "crop_and_flip"

    def source_of(self, name: str) -> str:
        """What kind of place a data set is in."""
        return "folder" if name in self.folders else self.data_source

    def load(self, name: str, seed: int) -> ImageData:
        """All images of a data set; `seed` chooses the validation images.

        Raises:
          UserError: they are not there, or damaged.
        """
        data = self._read(name, seed)
        return data.augmented_as_published() if self.augmentation == "published" else data

    def _read(self, name, seed):
        size = self.image_size or None
        if name in self.folders:
            try:
                return load_images(name, "folder", self.folders[name], seed, image_size=size)
            except UserError as error:
                own = (f"--data_dir={self.folders[name]}: ", f"--data_set={name}: ")
                reason = str(error).removeprefix(own[0]).removeprefix(own[1])
                raise UserError(f"--folders={name}={self.folders[name]}: {reason}") from None
        data = load_images(name, self.data_source, self.data_dir, seed, image_size=size)
        return data.resized(size) if size else data
