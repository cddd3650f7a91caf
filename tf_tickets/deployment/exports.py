"""Finished trainings as SavedModels."""

from pathlib import Path

import numpy as np

from tf_tickets.data.vision import ImageData, resize, to_unit_interval
from tf_tickets.deployment.saved_model import Export, RawImages, export_saved_model
from tf_tickets.image_work.cuts import network_of
from tf_tickets.work.nodes import Training
from tf_tickets.work.store import Store

_CHECK_IMAGES = 64


def export_training(store: Store, training: Training, data: ImageData, place: Path) -> Export:
    """Exports a finished training's network, which takes raw images.

    Args:
      store: where it is kept.
      training: any.
      data: what it was trained on; validation images are what the export is checked on.
      place: the folder to write.
    """
    model = network_of(training, store)
    raw = RawImages(data.train.images.shape[1:], resized=bool(data.train.resized_to))
    return export_saved_model(model, store.ticket(training), place, check_images(data), raw)


def final_accuracy(store: Store, training: Training) -> float:
    """The validation accuracy at a training's end, under what it was trained against, in [0, 1]."""
    record = store.record(training)
    attack = "natural" if training.against == "natural" else training.measured[0].name
    wanted = (record.ended, f"validation/{attack}/accuracy")
    return next(value for at, metric, value in record.history if (at, metric) == wanted)


def check_images(data: ImageData) -> np.ndarray:
    """A few validation images in [0, 1] as networks see them, to check an export on."""
    images = to_unit_interval(data.validation.images[:_CHECK_IMAGES])
    return resize(images, data.image_shape).numpy()
