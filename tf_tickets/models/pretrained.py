"""Public checkpoints of ResNet-50 as pre-trained weights."""

import dataclasses
import importlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
import tf_keras as keras

from tf_tickets.errors import UserError, one_line
from tf_tickets.models.conversion import from_application, from_pytorch
from tf_tickets.models.pickles import require_bounded_state
from tf_tickets.models.weights import Weights, head_paths, read_weights
from tf_tickets.runs.files import file_sha256, require_bounded_archive, require_file, unpack

IMAGENET = "imagenet"

_PYTORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".tar")
_SAFETENSORS_SUFFIX = ".safetensors"
# Where checkpoints have the state dict.
_STATE_DICTS = ("model", "state_dict", "model_state_dict", "net")
# What checkpoints often hold beside it, and what becomes of it here: nothing.
_LEFT_OUT = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
)
_PICKLE_SUFFIX = ".pkl"
# A number, a version, the machine it was written on, what was saved, and the names of its numbers.
_OLDER_PICKLES = 5
# Tensors may share their memory, as the two copies of a network in `AttackerModel` do; but a file
# of a few bytes can claim to hold any number of them.
_MOST_SHARED = 8

# The file that keras.applications.ResNet50(weights="imagenet") reads.
_IMAGENET_FILE = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
_IMAGENET_URL = (
    f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{_IMAGENET_FILE}"
)
_IMAGENET_MD5 = "2cb95161c43110f7111970584f804107"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights that somebody else trained, under the names of our model.

    Attributes:
      source: the file, or `imagenet`.
      sha256: hash of the file.
      body: all weights but the head's: path → float32 array. See `with_body`.
      head: the weights of the last dense layer: path → float32 array.
    """

    source: str
    sha256: str
    body: Weights
    head: Weights

    @property
    def num_classes(self) -> int:
        """Classes of the task that the weights were trained for."""
        return min(self.head.values(), key=np.ndim).size


def pretrained_model(source: str) -> str:
    """The name of the model that public weights belong to.

    Args:
      source: `imagenet`, for those of `keras.applications.ResNet50`; or a PyTorch checkpoint
        (`.pt`, `.pth`, `.ckpt`, `.tar`) or a `.safetensors` file of torchvision's ResNet-50.

    Raises:
      UserError: it is none of these.
    """
    if source == IMAGENET:
        return "resnet_50_v1"
    if Path(source).suffix in (*_PYTORCH_SUFFIXES, _SAFETENSORS_SUFFIX):
        return "resnet_50_v1_5"
    suffixes = ", ".join((*_PYTORCH_SUFFIXES, _SAFETENSORS_SUFFIX))
    raise UserError(f"{source}: expected {IMAGENET} or a file that ends with one of {suffixes}")


def load_pretrained(source: str, model: keras.Model) -> Pretrained:
    """Reads public weights of ResNet-50 without executing what the file holds.

    PyTorch's checkpoints need PyTorch; safetensors files and `imagenet` do not. `imagenet`
    is downloaded unless Keras has the file in its cache. See `from_pytorch` for the layouts.

    Args:
      source: see `pretrained_model`.
      model: what they are for, of any number of classes and any initial weights; it is not
        changed.

    Returns:
      The weights under the names of `model`. The head has as many classes as it was trained for.

    Raises:
      UserError: `model` is another one, or takes other than RGB images; the file cannot be read,
        or a weight is missing, superfluous, of another shape or not finite; PyTorch or the network
        is missing.
    """
    name = pretrained_model(source)
    if model.name != name:
        raise UserError(f"{source}: holds weights of {name}, not of {model.name}")
    if model.input_shape[-1] != 3:
        raise UserError(
            f"{source}: holds weights for RGB images, got images of {model.input_shape[-1]} "
            "channel(s)"
        )
    if source == IMAGENET:
        path = _download_imagenet()
        weights = from_application(source, _read_application(path), model)
    else:
        path = Path(source)
        weights = from_pytorch(source, _read_state_dict(path), model)
    weights = {key: np.ascontiguousarray(array, np.float32) for key, array in weights.items()}
    head = {key: weights.pop(key) for key in head_paths(model)}
    return Pretrained(source, file_sha256(path), weights, head)


def _read_state_dict(path):
    """Name → array in PyTorch's layout, whatever else a checkpoint holds."""
    require_file(path)
    if path.suffix == _SAFETENSORS_SUFFIX:
        try:
            return safetensors.numpy.load_file(path)
        except Exception as error:  # Of types that NumPy lacks it raises almost anything.
            raise UserError(f"{path}: no safetensors file: {one_line(error)}") from error
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise UserError(
            f"{path}: reading it takes PyTorch: pip install 'tf_tickets[pytorch]', or convert it "
            "to safetensors elsewhere"
        ) from error
    return _arrays(path, _find_state_dict(path, _read_checkpoint(path, torch), torch), torch)


class _LeftOut:
    """Takes the place of objects that a checkpoint holds beside tensors; keeps nothing of them."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass


def _read_checkpoint(path, torch):
    try:
        file = _archive_anew(path) if zipfile.is_zipfile(path) else _older_checkpoint(path)
        inert = [(_LeftOut, name) for name in _LEFT_OUT]
        with warnings.catch_warnings(), torch.serialization.safe_globals(inert):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # Damaged files make it raise almost anything.
        raise UserError(
            f"{path}: damaged, or with Python objects besides tensors, which are never executed "
            "here; where you trust it, save its state dict alone and use that"
        ) from error


def _archive_anew(path):
    """A checkpoint's archive with what was looked through, and so no other reading of the file."""
    require_bounded_archive(path)
    anew = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(anew, "w") as copy:
        for entry in archive.infolist():
            content = unpack(archive, entry)
            if entry.filename.lower().endswith(_PICKLE_SUFFIX):  # PyTorch knows no case here.
                require_bounded_state(io.BytesIO(content))
            copy.writestr(entry.filename, content)
    anew.seek(0)
    return anew


def _older_checkpoint(path):
    """A checkpoint that is no archive: pickles, and behind them numbers."""
    file = io.BytesIO(path.read_bytes())
    for _ in range(_OLDER_PICKLES):
        require_bounded_state(file)
    file.seek(0)
    return file


def _find_state_dict(path, contents, torch):
    if isinstance(contents, Mapping):
        found = [contents[name] for name in _STATE_DICTS if isinstance(contents.get(name), Mapping)]
        contents = found[0] if found else contents
    if not isinstance(contents, Mapping) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in contents.items()
    ):
        raise UserError(
            f"{path}: expected a state dict, or a checkpoint with one as "
            f"{', '.join(_STATE_DICTS[:-1])} or {_STATE_DICTS[-1]}"
        )
    return contents


def _arrays(path, tensors, torch):
    """Name → float32 array of each tensor."""
    for name, tensor in tensors.items():
        if (
            tensor.layout != torch.strided
            or tensor.device.type != "cpu"
            or tensor.is_complex()
            or tensor.is_quantized
        ):
            kind = one_line(f"{tensor.dtype}, {tensor.layout}, {tensor.device}")
            raise UserError(f"{path}: {one_line(name)} is no ordinary tensor of numbers ({kind})")
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > _MOST_SHARED * path.stat().st_size:
        raise UserError(f"{path}: damaged (its tensors have {total} bytes, more than the file)")
    return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}


def _download_imagenet():
    """The path of the file in Keras' cache."""
    try:
        path = keras.utils.get_file(
            _IMAGENET_FILE, _IMAGENET_URL, cache_subdir="models", file_hash=_IMAGENET_MD5
        )
    except Exception as error:  # Keras raises nothing more precise.
        raise UserError(
            f"{IMAGENET}: the weights cannot be downloaded ({one_line(error)}); without a network, "
            f"put {_IMAGENET_FILE} into ~/.keras/models"
        ) from error
    return Path(path)


def _read_application(path):
    """Weight path → array of the application's 1000-class network."""
    return read_weights(keras.applications.ResNet50(weights=path))
