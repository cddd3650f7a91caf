"""Public checkpoints of ResNet-50 as pre-trained weights."""

import dataclasses
import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.models.conversion import from_application, from_pytorch
from tf_tickets.models.weights import Weights, head_paths, read_weights

IMAGENET = "imagenet"

_PYTORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".tar")
_SAFETENSORS_SUFFIX = ".safetensors"

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
        or a weight is missing, superfluous or of another shape; PyTorch or the network is missing.
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
    return Pretrained(source, _sha256(path), weights, head)


def _read_state_dict(path):
    """Name → array in PyTorch's layout, whatever else a checkpoint holds."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == _SAFETENSORS_SUFFIX:
        try:
            return safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise UserError(f"{path}: no safetensors file: {error}") from error
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise UserError(
            f"{path}: reading it takes PyTorch: pip install 'tf_tickets[pytorch]', or convert it "
            "to safetensors elsewhere"
        ) from error
    return _read_checkpoint(path, torch)


def _read_checkpoint(path, torch):
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Damaged files make it raise almost anything.
        raise UserError(
            f"{path}: damaged, or with Python objects besides tensors, which would be executed "
            "(PyTorch's weights_only=True refuses it); where you trust it, save its state dict "
            "alone and use that"
        ) from error
    if isinstance(contents, Mapping):
        contents = contents.get("model", contents.get("state_dict", contents))
    if not isinstance(contents, Mapping) or not all(
        isinstance(name, str) and torch.is_tensor(tensor) for name, tensor in contents.items()
    ):
        raise UserError(
            f"{path}: expected a state dict, or a checkpoint with one as state_dict or model"
        )
    return {name: tensor.detach().float().numpy() for name, tensor in contents.items()}


def _download_imagenet():
    """The path of the file in Keras' cache."""
    try:
        path = keras.utils.get_file(
            _IMAGENET_FILE, _IMAGENET_URL, cache_subdir="models", file_hash=_IMAGENET_MD5
        )
    except Exception as error:  # Keras raises nothing more precise.
        reason = " ".join(str(error).split())
        raise UserError(
            f"{IMAGENET}: the weights cannot be downloaded ({reason}); without a network, put "
            f"{_IMAGENET_FILE} into ~/.keras/models"
        ) from error
    return Path(path)


def _read_application(path):
    """Weight path → array of the application's 1000-class network."""
    return read_weights(keras.applications.ResNet50(weights=path))


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
