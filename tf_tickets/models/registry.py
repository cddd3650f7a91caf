"""Models by name."""

import functools
import re
from collections.abc import Callable

import tf_keras as keras

from tf_tickets.errors import UserError, require
from tf_tickets.models.bottleneck_resnet import bottleneck_resnet
from tf_tickets.models.lenet import lenet_300_100, lenet_conv
from tf_tickets.models.mobilenet_v2 import mobilenet_v2
from tf_tickets.models.resnet import cifar_resnet, resnet_18
from tf_tickets.models.resnet_50 import resnet_50
from tf_tickets.models.vgg import vgg_16
from tf_tickets.models.wide_resnet import require_depth, wide_resnet

MODELS: dict[str, Callable[..., keras.Model]] = {
    "lenet_300_100": lenet_300_100,
    "lenet_conv": lenet_conv,
    "vgg_16": vgg_16,
    "resnet_18": resnet_18,
    "resnet_20": functools.partial(cifar_resnet, depth=20),
    "resnet_32": functools.partial(cifar_resnet, depth=32),
    "resnet_44": functools.partial(cifar_resnet, depth=44),
    "resnet_56": functools.partial(cifar_resnet, depth=56),
    "mobilenet_v2": mobilenet_v2,
    "resnet_50": resnet_50,
    "resnet_50_v1": functools.partial(bottleneck_resnet, name="resnet_50_v1", strided_conv=1),
    "resnet_50_v1_5": functools.partial(bottleneck_resnet, name="resnet_50_v1_5", strided_conv=2),
}

# Height and width below which a network's pooling leaves nothing, or which Keras asks for.
_SMALLEST_IMAGE = {"lenet_conv": 16, "vgg_16": 32, "resnet_50": 32}

_WIDE_RESNET = re.compile(r"wide_resnet_([1-9]\d{0,3})_([1-9]\d{0,3})")


def require_model(name: str, flag: str = "models") -> None:
    """Checks the name of a model: one of `MODELS`, or `wide_resnet_<depth>_<width>`.

    Args:
      name: the model's.
      flag: the flag that errors name.

    Raises:
      UserError: no model of that name, or a Wide ResNet of an impossible depth.
    """
    _find_builder(name, flag)


def wide_resnet_size(name: str) -> tuple[int, int] | None:
    """Depth and width of a Wide ResNet, (34, 10) of `wide_resnet_34_10`; None of other models."""
    match = _WIDE_RESNET.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def is_convolutional(name: str) -> bool:
    """Whether a model has convolutions.

    Raises:
      UserError: as `require_model`.
    """
    require_model(name)
    return name != "lenet_300_100"


def require_image_shape(name: str, image_shape: tuple[int, int, int], flag: str = "models") -> None:
    """Checks that a model can take images of that height, width and number of channels.

    Raises:
      UserError: they are too small.
    """
    height, width, _ = image_shape
    smallest = _SMALLEST_IMAGE.get(name, 1)
    if min(height, width) < smallest:
        raise UserError(
            f"--{flag}={name}: expected images of at least {smallest}x{smallest} pixels, got "
            f"{height}x{width}; pad them to {smallest}x{smallest} or choose another model"
        )


def build_model(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
) -> keras.Model:
    """Builds a model with initial weights decided by `seed`.

    Args:
      name: see `require_model`.
      image_shape: height, width and channels of the images, `[0, 1]` floats.
      num_classes: size of the output.
      seed: non-negative int.
      width_multiplier: scales the numbers of channels and of hidden units; 1 for `resnet_50`.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.

    Raises:
      UserError: no model of that name, one that cannot take such images, or a
        `width_multiplier` that is not positive or that the model does not have.
    """
    build = _find_builder(name)
    require_image_shape(name, image_shape)
    require(width_multiplier > 0, "width_multiplier", width_multiplier, "more than 0")
    return build(
        image_shape=image_shape,
        num_classes=num_classes,
        seed=seed,
        width_multiplier=width_multiplier,
    )


def _find_builder(name, flag="models"):
    if name in MODELS:
        return MODELS[name]
    size = wide_resnet_size(name)
    if not size:
        names = ", ".join([*MODELS, "wide_resnet_<depth>_<width>"])
        raise UserError(f"--{flag}={name}: unknown; choose from {names}")
    depth, widen_factor = size
    require_depth(depth, widen_factor, flag)
    return functools.partial(wide_resnet, depth=depth, widen_factor=widen_factor)
