"""A pruned network beside the whole one: files, accuracy, cost, size and speed."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import tf_keras as keras

from tf_tickets.data.vision import ImageData
from tf_tickets.deployment.footprint import Latency, Size, compare_saved_models, size_of
from tf_tickets.deployment.saved_model import export_saved_model
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.structured.cost import flops, parameters

LATENCY_BATCHES = (1, 64)
_CHECK_IMAGES = 16


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a network can do and what it takes.

    Attributes:
      accuracy: on test images, in [0, 1]; None without data.
      parameters: its weights, BatchNorm's statistics included.
      flops: of inference on one image.
      size: of its SavedModel.
      latencies: of its SavedModel, one for each of `LATENCY_BATCHES`.
    """

    accuracy: float | None
    parameters: int
    flops: int
    size: Size
    latencies: tuple[Latency, ...]


def export_and_compare(
    whole: keras.Model,
    pruned: keras.Model,
    folder: Path,
    data: ImageData | None,
    chunks: int,
    batch_size: int,
) -> tuple[Measurement, Measurement]:
    """Writes the pruned network, and measures both.

    Args:
      whole: the network before.
      pruned: the network after.
      folder: where `pruned.keras` and the SavedModel `saved_model` go.
      data: in the networks' image size, for the accuracy on all its test images; or None.
      chunks: slices of a batch that may be measured side by side.
      batch_size: images at a time, for the accuracy.

    Returns:
      What was measured before and after.

    Raises:
      UserError: a SavedModel disagrees with its network, see `export_saved_model`.
    """
    with tempfile.TemporaryDirectory() as aside:
        folders = {"whole": Path(aside, "saved_model"), "pruned": folder / "saved_model"}
        images = _check_images(whole, data)
        export_saved_model(whole, None, folders["whole"], images)
        export_saved_model(pruned, None, folders["pruned"], images)
        pruned.save(folder / "pruned.keras", save_format="keras")
        timed = [compare_saved_models(folders, size) for size in LATENCY_BATCHES]
        return tuple(
            Measurement(
                accuracy_on_test(model, data, chunks, batch_size) if data else None,
                parameters(model),
                flops(model),
                size_of(folders[name]),
                tuple(latencies[name] for latencies in timed),
            )
            for name, model in (("whole", whole), ("pruned", pruned))
        )


def accuracy_on_test(model: keras.Model, data: ImageData, chunks: int, batch_size: int) -> float:
    """The share of the test images that a network classifies as they are labelled."""
    return Evaluator(model, {}, chunks, batch_size).evaluate(data.test)["natural/accuracy"]


def _check_images(model, data):
    """What the SavedModels must agree with their networks on."""
    if data:
        return data.validation.images[:_CHECK_IMAGES] / np.float32(255)
    shape = (_CHECK_IMAGES, *model.input_shape[1:])
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)
