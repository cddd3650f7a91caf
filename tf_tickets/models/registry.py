"""Models by name."""

from collections.abc import Callable

import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.models.lenet import lenet_300_100

MODELS: dict[str, Callable[..., keras.Model]] = {"lenet_300_100": lenet_300_100}


def build_model(
    name: str, image_shape: tuple[int, int, int], num_classes: int, seed: int
) -> keras.Model:
    """Builds a model with initial weights decided by `seed`.

    Raises:
      UserError: no model of that name.
    """
    if name not in MODELS:
        raise UserError(f"--model={name}: unknown; choose from {', '.join(MODELS)}")
    return MODELS[name](image_shape=image_shape, num_classes=num_classes, seed=seed)
