"""The kinds of files that a network can be deployed as, and which optimizations each can have."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from tf_tickets.deployment import onnx, tflite
from tf_tickets.deployment.image_source import ImageSource
from tf_tickets.deployment.optimizations import require_combination
from tf_tickets.deployment.saved_model import TICKET_FILE, SavedModelArtifact
from tf_tickets.deployment.text_source import TextSource
from tf_tickets.errors import require, require_choices
from tf_tickets.runs.files import atomic_write_json

# Format → the sets of optimizations of its file; each goes with `compact`, which comes before.
FORMATS = {"saved_model": ((),), "tflite": tflite.COMBINATIONS, "onnx": onnx.COMBINATIONS}
OPTIMIZATIONS = ("none", "compact", "sparse", "float16", "int8")
# TensorFlow Serving takes the numbered folders below its model_base_path for versions.
_NAMES = {"saved_model": "1", "tflite": "model.tflite", "onnx": "model.onnx"}
_CALIBRATION_EXAMPLES = 200

Source = ImageSource | TextSource


class Artifact(Protocol):
    """A written network, loaded for use."""

    def logits(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Named inputs of any batch size → logits, float32 `[batch, classes]`."""

    def weights(self) -> list[np.ndarray]:
        """All weights of two or more axes, with their zeros."""


class Deployed(NamedTuple):
    """An artifact where it lies.

    Attributes:
      form: of `FORMATS`.
      optimizations: what it was made with.
      path: the file, or a SavedModel's folder.
      artifact: loaded for use.
    """

    form: str
    optimizations: tuple[str, ...]
    path: Path
    artifact: Artifact


def require_possible(form: str, optimizations: Collection[str]) -> tuple[str, ...]:
    """Checks what is asked for before any work.

    Args:
      form: of `FORMATS`.
      optimizations: of `OPTIMIZATIONS`.

    Returns:
      The optimizations without "none", each once.

    Raises:
      UserError: the format cannot have them, they exclude each other, or a package is missing.
    """
    require_choices("optimize", optimizations, OPTIMIZATIONS)
    wanted = tuple(name for name in OPTIMIZATIONS if name in optimizations and name != "none")
    text = ",".join(optimizations)
    require("none" not in optimizations or not wanted, "optimize", text, "none with nothing else")
    in_file = [name for name in wanted if name != "compact"]
    require_combination(in_file, FORMATS[form], f"{form}, with or without compact,")
    if form == "onnx":
        onnx.require_onnx()
    return wanted


def artifact_path(folder: Path, form: str) -> Path:
    """Where a folder of an export holds the artifact itself."""
    return folder / _NAMES[form]


def write_artifact(
    source: Source,
    form: str,
    optimizations: tuple[str, ...],
    folder: Path,
    description: Mapping | None = None,
) -> Deployed:
    """Writes a network into a folder, and loads what was written.

    Args:
      source: the network; compacted already where that is asked for.
      form: of `FORMATS`.
      optimizations: from `require_possible`; "compact" means nothing here.
      folder: is there; see `artifact_path`.
      description: what goes with the network, as JSON values: a SavedModel holds it as
        `TICKET_FILE`, beside other artifacts lies `ticket.json`, and ONNX has it as metadata too.

    Raises:
      UserError: it cannot be converted so.
    """
    path = artifact_path(folder, form)
    wanted = [name for name in optimizations if name != "compact"]
    examples = source.calibration(_CALIBRATION_EXAMPLES) if "int8" in wanted else None
    if form == "saved_model":
        source.write_saved_model(path)
    elif form == "tflite":
        tflite.write_tflite(source.inference(), path, wanted, examples)
    else:
        metadata = {"ticket": json.dumps(description)} if description else {}
        onnx.write_onnx(source.inference(), path, wanted, examples, metadata)
    if description:
        place = path / TICKET_FILE if form == "saved_model" else folder / TICKET_FILE.name
        atomic_write_json(place, description)
    return Deployed(form, optimizations, path, load_artifact(source, path, form))


def load_artifact(source: Source, path: Path, form: str) -> Artifact:
    """Loads an artifact of a source for use, on one thread where the format lets choose."""
    if form == "saved_model":
        return SavedModelArtifact(path, source.signature)
    return tflite.TFLiteArtifact(path) if form == "tflite" else onnx.OnnxArtifact(path)
