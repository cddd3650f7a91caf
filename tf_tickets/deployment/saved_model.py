"""SavedModels with the masks folded in: plain weights, many of them exactly zero.

They follow TensorFlow Serving's conventions: tag `serve`, named signatures with named inputs and
outputs, an open batch size, and what goes with the model in `assets.extra/`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.data.vision import resize, to_unit_interval
from tf_tickets.deployment.inference import image_inference
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.weights import weight_path
from tf_tickets.runs.files import atomic_path, atomic_write_json

# Where a SavedModel holds what TensorFlow itself does not read, and what we put there.
TICKET_FILE = Path("assets.extra", "ticket.json")
# The signatures that take what networks of images and of texts themselves take.
FLOAT_IMAGES, TOKENS = "float_images", "tokens"
# The exported graph runs the same kernels, but may be optimized differently.
LOGITS_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class RawImages:
    """Images as they come from a camera or a file, before they are made the network's.

    Attributes:
      shape: (height, width, channels) of one image.
      resized: whether they are scaled to the network's size, see `tf_tickets.data.vision.resize`;
        otherwise zeros are put around them, as `ImageData.padded` does.
    """

    shape: tuple[int, int, int]
    resized: bool = False

    def prepare(self, images: tf.Tensor, image_shape: tuple[int, int, int]) -> tf.Tensor:
        """Makes a network's input of raw images.

        Args:
          images: uint8 `[batch, *shape]`.
          image_shape: (height, width, channels) that the network takes.

        Returns:
          float32 `[batch, *image_shape]` in [0, 1].
        """
        floats = to_unit_interval(images)
        if self.resized:
            return resize(floats, image_shape)
        margins = [large - small for large, small in zip(image_shape, self.shape, strict=True)]
        return tf.pad(
            floats, [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins)]
        )


@dataclasses.dataclass(frozen=True)
class Export:
    """An export that was reloaded and found to agree with its model.

    Attributes:
      path: the SavedModel's folder.
      zeros: exact zeros among the prunable weights of the reloaded model.
      prunable: number of prunable weights; 0 without masks.
      max_logits_difference: largest absolute difference between the logits of the
        model and of the reloaded export, on the images that it was checked on.
    """

    path: Path
    zeros: int
    prunable: int
    max_logits_difference: float


def export_saved_model(
    model: keras.Model,
    ticket: Ticket | None,
    directory: Path,
    check_images: np.ndarray,
    raw: RawImages | None = None,
) -> Export:
    """Writes `model` as a SavedModel that needs nothing of tf_tickets, and checks it.

    See `write_saved_model` for its signatures.

    Args:
      model: holds the trained weights.
      ticket: the masks they were trained under; None without masks.
      directory: where the SavedModel goes; what it holds is replaced.
      check_images: float32 images on which the export must give the model's logits.
      raw: see `write_saved_model`.

    Raises:
      ValueError: a weight outside the masks is not zero.
      UserError: the reloaded export disagrees; nothing is left in `directory`.
    """
    masks = ticket.masks if ticket else {}
    _refuse_unmasked(model, masks)
    with atomic_path(directory) as temporary:
        write_saved_model(model, temporary, raw)
        if ticket:
            provenance = dataclasses.asdict(ticket.provenance)
            atomic_write_json(temporary / TICKET_FILE, {"provenance": provenance})
        reloaded = tf.saved_model.load(str(temporary))
        logits = reloaded.signatures[FLOAT_IMAGES](images=tf.constant(check_images))["logits"]
        difference = float(np.max(np.abs(logits.numpy() - model(check_images, training=False))))
        if not difference <= LOGITS_TOLERANCE:
            raise UserError(
                f"{directory}: the exported logits differ from the model's by {difference:.2g}, "
                f"expected at most {LOGITS_TOLERANCE}; the export was removed"
            )
        zeros = sum(
            int(np.count_nonzero(variable.numpy() == 0))
            for variable in reloaded.weights
            if weight_path(variable) in masks
        )
    prunable = sum(mask.size for mask in masks.values())
    return Export(directory, zeros, prunable, difference)


def write_saved_model(model: keras.Model, folder: Path, raw: RawImages | None) -> None:
    """Writes a SavedModel of two signatures, both for batches of any size.

    `serving_default` takes `images`, uint8 `[batch, *raw.shape]`, and returns `logits` and
    `probabilities`, float32 `[batch, classes]`, and `classes`, int64 `[batch]`, the index of the
    highest logit. `float_images` returns the same of float32 images in [0, 1], in the shape that
    the model takes.

    Args:
      model: images in [0, 1] → logits.
      folder: where the files go.
      raw: what images are before they are the model's; None for uint8 of its own shape.
    """
    image_shape = tuple(model.input_shape[1:])
    raw = raw or RawImages(image_shape)
    infer = image_inference(model).function

    @tf.function(input_signature=[tf.TensorSpec([None, *image_shape], tf.float32, name="images")])
    def serve_floats(images):
        return answer(infer(images=images)["logits"])

    @tf.function(input_signature=[tf.TensorSpec([None, *raw.shape], tf.uint8, name="images")])
    def serve(images):
        return answer(infer(images=raw.prepare(images, image_shape))["logits"])

    # A plain module, because saving the Keras model would trace each of its layers as well.
    module = tf.Module()
    module.weights = model.weights
    signatures = {"serving_default": serve, FLOAT_IMAGES: serve_floats}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def answer(logits: tf.Tensor) -> dict[str, tf.Tensor]:
    """What signatures return of logits, float32 `[batch, classes]`."""
    return {
        "logits": logits,
        "probabilities": tf.nn.softmax(logits),
        "classes": tf.argmax(logits, axis=-1),
    }


class SavedModelArtifact:
    """A SavedModel, loaded for use.

    Args:
      path: its folder.
      signature: one that returns `logits` of what the network itself takes.
    """

    def __init__(self, path: Path, signature: str = FLOAT_IMAGES):
        # Held, because a signature alone does not keep its variables alive.
        self._loaded = tf.saved_model.load(str(path))
        self._infer = self._loaded.signatures[signature]

    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """The logits of named inputs, float32 `[batch, classes]`."""
        return self._infer(**{name: tf.constant(value) for name, value in inputs.items()})[
            "logits"
        ].numpy()

    def weights(self) -> list[np.ndarray]:
        """All weights of two or more axes."""
        return [weight.numpy() for weight in self._infer.variables if weight.shape.rank >= 2]


def _refuse_unmasked(model, masks):
    for variable in model.weights:
        mask = masks.get(weight_path(variable))
        if mask is not None and np.any(variable.numpy()[~mask]):
            raise ValueError(f"{weight_path(variable)} has weights outside the ticket's mask")
