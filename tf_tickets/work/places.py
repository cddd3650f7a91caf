"""Where data are."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the data sets of a run are, on this machine.

    Attributes:
      data_dir: where prepared TFDS data lie, None for TFDS's own choice; or the folder of images.
      folders: data set → image folder, of those that have one of their own.
    """

    data_dir: str | None = None
    folders: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def of(self, name: str) -> str | None:
        """A data set's."""
        return self.folders.get(name, self.data_dir)

    def absolute(self) -> "Places":
        """The same for processes in other folders."""
        folders = {name: str(Path(folder).absolute()) for name, folder in self.folders.items()}
        return Places(self.data_dir and str(Path(self.data_dir).absolute()), folders)
