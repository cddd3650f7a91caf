"""What a run of "Double-Win Lottery Tickets" reads: data sets and public weights."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence

from experiments.double_win_tickets.plan import Images, Public
from experiments.double_win_tickets.settings import DoubleWinSettings
from tf_tickets.data.specs import require_data_set
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import UserError, require
from tf_tickets.image_work.data import ImageSource
from tf_tickets.image_work.imported import read_public
from tf_tickets.models.pretrained import pretrained_model
from tf_tickets.models.registry import require_image_shape
from tf_tickets.work.nodes import Network, Platform


def pairs(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """name → value of a flag such as name=value,name=value.

    Raises:
      UserError: a name is there twice.
    """
    named = dict(text.partition("=")[::2] for text in texts)
    require(len(named) == len(texts), flag, ",".join(texts), "different names")
    return named


@dataclasses.dataclass(frozen=True)
class DataSets:
    """The data sets of a run, as its configuration describes them.

    Attributes:
      config: flag → value.
      data_dir: where those are that are no folders of their own.
    """

    config: Mapping
    data_dir: str | None

    @functools.cached_property
    def folders(self) -> dict[str, str]:
        """Name → folder, of those that are image folders."""
        return pairs("folders", self.config["folders"])

    def require_known(self) -> None:
        """Raises a `UserError` about names that no source has, and folders that are none's."""
        config, named = self.config, [self.config["source"], *self.config["targets"]]
        for name in named:
            flag = "source" if name == config["source"] else "targets"
            source = "folder" if name in self.folders else config["data_source"]
            require_data_set(name, flag, source)
        for name in self.folders:
            require(name in named, "folders", name, "names that --source and --targets have")

    def source_of(self, name: str) -> ImageSource:
        """Where a data set comes from."""
        config, folder = self.config, self.folders.get(name)
        return ImageSource(
            name,
            "folder" if folder else config["data_source"],
            folder or self.data_dir,
            config["image_size"],
            config["source_examples" if name == config["source"] else "train_examples"],
            config["validation_examples"],
            config["test_examples"],
            sizing="scaled",
            augmentation=config["augmentation"],
        )

    def read_source(self, settings: DoubleWinSettings) -> Images:
        """What networks are pre-trained and pruned on.

        Raises:
          UserError: it cannot be read, or does not fill the batches.
        """
        source, _ = self._read(settings.source, settings.source_seed)
        most = source.data.trained_on
        expected = f"at most {most}, the training images of {settings.source}"
        for flag in ("pretraining_batch_size", "retraining_batch_size"):
            require(self.config[flag] <= most, flag, self.config[flag], expected)
        return source

    def read_targets(
        self, settings: DoubleWinSettings, source: Images
    ) -> dict[tuple[str, int], Images]:
        """(target, seed) → its images in a trial.

        Raises:
          UserError: they cannot be read; networks for the source's cannot take them; or a part of
            them does not fill the batches.
        """
        found = {}
        for seed in settings.seeds:
            for target in settings.targets:
                found[target, seed], images = self._read(target, seed)
                if seed == settings.source_seed:
                    require_transferable(source, found[target, seed])
                    self._require_parts(images, settings.percents, seed)
        return found

    def _read(self, name, seed):
        """What the plan knows a data set of a trial by, and its images."""
        with self._errors_about(name):
            described, images = self.source_of(name).read(seed)
        require_image_shape(self.config["model"], images.image_shape, "model")
        return Images(described, images.image_shape, images.num_classes), images

    def _require_parts(self, images: ImageData, percents, seed):
        most = min(len(images.with_train_fraction(percent, seed).train) for percent in percents)
        expected = f"at most {most}, the smallest part of the training images of {images.name}"
        for flag in ("standard_batch_size", "batch_size"):
            require(self.config[flag] <= most, flag, self.config[flag], expected)

    @contextlib.contextmanager
    def _errors_about(self, name):
        """Names in errors about a data set the flags that it is given by."""
        try:
            yield
        except UserError as error:
            text, folder = str(error), self.folders.get(name)
            if name == self.config["source"]:
                text = text.replace("--train_examples=", "--source_examples=")
            if folder:
                for flag, value in {"data_dir": folder, "data_set": name}.items():
                    start = f"--{flag}={value}: "
                    if text.startswith(start):
                        text = f"--folders={name}={folder}: {text.removeprefix(start)}"
            raise UserError(text) from None


def require_transferable(source: Images, target: Images) -> None:
    """Raises a `UserError` unless a network for one can take images of the other."""
    ours, theirs = source.image_shape[2], target.image_shape[2]
    if ours != theirs:
        raise UserError(
            f"--targets={target.data.name}: expected images of {ours} channel(s), as --source="
            f"{source.data.name} has; they have {theirs}"
        )


def require_models(pretrained: Mapping[str, str]) -> dict[str, str]:
    """Pre-training → the network that its public weights are of.

    Raises:
      UserError: a file cannot hold weights.
    """
    found = {}
    for pretraining, path in pretrained.items():
        with _errors_about_weights(pretraining):
            found[pretraining] = pretrained_model(path)
    return found


def read_weights(
    settings: DoubleWinSettings, source: Images, platform: Platform
) -> dict[str, Public]:
    """Pre-training → the public weights that stand for it.

    Raises:
      UserError: they cannot be read.
    """
    found = {}
    for pretraining, model in require_models(settings.pretrained).items():
        network = Network(model, source.image_shape, source.classes, settings.width_multiplier)
        known = (network, source.data, settings.source_seed, platform, "convolutions")
        with _errors_about_weights(pretraining):
            found[pretraining] = Public(*read_public(settings.pretrained[pretraining], *known))
    return found


@contextlib.contextmanager
def _errors_about_weights(pretraining):
    try:
        yield
    except UserError as error:
        raise UserError(f"--pretrained={pretraining}={error}") from None
