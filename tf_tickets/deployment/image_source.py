"""A finished network of images with what its artifacts are made of and judged by."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tf_keras as keras

from tf_tickets.data.registry import load_images
from tf_tickets.data.vision import ImageData, ImageSplit, resize, to_unit_interval
from tf_tickets.deployment.finished_networks import (
    FinishedNetwork,
    examples_to_judge_on,
    refuse_other_level,
    require_data_dir,
)
from tf_tickets.deployment.inference import Inference, image_inference
from tf_tickets.deployment.saved_model import FLOAT_IMAGES, RawImages, write_saved_model
from tf_tickets.errors import UserError
from tf_tickets.evaluation.victims import (
    Victim,
    fitting_data,
    load_keras_model,
    load_trained_ticket,
    square_shape,
)
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.registry import build_model
from tf_tickets.structured.compaction import compact


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSource:
    """A trained network of images.

    Attributes:
      network: where it lies.
      model: images in [0, 1] → logits, the masked weights exactly zero.
      ticket: its masks; None where structures were removed instead.
      victim: the same network, to attack; it is never compacted.
      data: images in the size that the model takes.
      raw: images as they come, before they have that size.
      removed: layer → outputs that compaction took away.
    """

    network: FinishedNetwork
    model: keras.Model
    ticket: Ticket | None
    victim: Victim
    data: ImageData
    raw: RawImages
    removed: Mapping[str, int] = dataclasses.field(default_factory=dict)

    # The signature of its SavedModels that takes what `inputs_of` returns.
    signature = FLOAT_IMAGES

    @property
    def test(self) -> ImageSplit:
        """The examples that artifacts are judged on."""
        return self.data.test

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.data.class_names

    def compacted(self) -> "ImageSource":
        """The same without what its zeros have killed, see `compact`."""
        compaction = compact(self.model)
        return dataclasses.replace(self, model=compaction.model, removed=compaction.removed)

    def dense(self) -> "ImageSource":
        """The same architecture with all of its weights, which are not trained."""
        return dataclasses.replace(self, model=self._dense_model(), removed={})

    def inference(self) -> Inference:
        """The network in inference mode."""
        return image_inference(self.model)

    def write_saved_model(self, folder: Path) -> None:
        """See `tf_tickets.deployment.saved_model.write_saved_model`."""
        write_saved_model(self.model, folder, self.raw)

    def inputs_of(self, split: ImageSplit) -> dict[str, np.ndarray]:
        """A split as what the network takes: `images`, float32 in [0, 1]."""
        return {"images": resize(to_unit_interval(split.images), split.image_shape).numpy()}

    def calibration(self, count: int) -> dict[str, np.ndarray]:
        """Training images that show what values to expect, as `inputs_of` returns them."""
        return self.inputs_of(self.data.train.subset(slice(0, count)))

    def _dense_model(self):
        image_shape, classes = self.victim.image_shape, self.victim.num_classes
        if self.ticket:
            known = dict(self.ticket.provenance.model_config)
            return build_model(
                self.ticket.provenance.model, seed=0, **known | {"image_shape": image_shape}
            )
        width = self.network.config.get("width_multiplier", 1.0)
        return build_model(self.network.cell.model, image_shape, classes, 0, width)


def load_image_source(
    network: FinishedNetwork, data_dir: str | None, test_examples: int | None
) -> ImageSource:
    """Loads a network and its images.

    Args:
      network: of a driver of image networks.
      data_dir: where the run's data lie, if they are not embedded.
      test_examples: how many images it is judged on, as many of each class; 0 for all, None for
        1,000 or all of fewer.

    Raises:
      UserError: files are missing or damaged, or the data cannot be used.
    """
    config = network.config
    if network.has_masks:
        ticket, model, victim = load_trained_ticket(network.path, None)
        name, source = victim.data_set, victim.data_source
    else:
        model, victim = load_keras_model(network.path, None)
        ticket, name, source = None, network.cell.data_set, config.get("data_source")
    if not name or not source:
        raise UserError(f"{network.path}: does not say what data it was trained on")
    refuse_other_level(network, ticket)
    require_data_dir(source, data_dir)
    size, channels = square_shape(victim, "run_dir")
    loaded = load_images(name, source, data_dir, network.cell.seed, size, channels)
    data = fitting_data(victim, loaded, "run_dir")
    count = examples_to_judge_on(test_examples, len(data.test))
    raw = RawImages(loaded.train.images.shape[1:], resized=bool(data.train.resized_to))
    return ImageSource(network, model, ticket, victim, data.limited(0, test=count), raw)
