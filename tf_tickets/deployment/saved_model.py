"""SavedModels with the masks folded in: plain weights, many of them exactly zero."""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.weights import weight_path
from tf_tickets.runs.files import atomic_path

# The exported graph runs the same kernels, but may be optimized differently.
LOGITS_TOLERANCE = 1e-4


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
    model: keras.Model, ticket: Ticket | None, directory: Path, check_images: np.ndarray
) -> Export:
    """Writes `model` as a SavedModel that needs nothing of tf_tickets, and checks it.

    Its signature `serving_default` takes `images`, float32 `[batch, ...]` in
    [0, 1] of any batch size, and returns `logits` and `probabilities`
    `[batch, classes]`.

    Args:
      model: holds the trained weights.
      ticket: the masks they were trained under; None without masks.
      directory: where the SavedModel goes; what it holds is replaced.
      check_images: float32 images on which the export must give the model's logits.

    Raises:
      ValueError: a weight outside the masks is not zero.
      UserError: the reloaded export disagrees; nothing is left in `directory`.
    """
    masks = ticket.masks if ticket else {}
    _refuse_unmasked(model, masks)
    with atomic_path(directory) as temporary:
        module, serve = _servable(model)
        tf.saved_model.save(module, str(temporary), signatures=serve)
        reloaded = tf.saved_model.load(str(temporary))
        logits = reloaded.signatures["serving_default"](images=tf.constant(check_images))["logits"]
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


def _refuse_unmasked(model, masks):
    for variable in model.weights:
        mask = masks.get(weight_path(variable))
        if mask is not None and np.any(variable.numpy()[~mask]):
            raise ValueError(f"{weight_path(variable)} has weights outside the ticket's mask")


def _servable(model):
    """The module to save, and its serving function."""
    module = tf.Module()
    module.weights = model.weights
    images = tf.TensorSpec(model.input_shape, tf.float32, name="images")

    @tf.function(input_signature=[images])
    def serve(images):
        logits = model(images, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    module.serve = serve
    return module, serve
