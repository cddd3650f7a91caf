"""Saved networks of all kinds, as something to attack."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tf_tickets.data.vision import ImageData
from tf_tickets.errors import UserError, one_line
from tf_tickets.masking.ticket import Ticket, refuse_disagreement
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.graph_bounds import MOST_NUMBERS, require_bounded_shapes
from tf_tickets.models.keras_files import SUFFIXES, read_keras_model
from tf_tickets.models.registry import build_model
from tf_tickets.models.saved_models import load_saved_model
from tf_tickets.models.weights import write_weights
from tf_tickets.runs.files import file_sha256, load_arrays

# Signatures of a SavedModel that may take float images: ours, and the one that all have.
_FLOAT_SIGNATURE, _SIGNATURE = "float_images", "serving_default"
_KINDS = (
    "a SavedModel's folder, a ticket RUN/tickets/.../level_NN.npz, or a Keras model's .keras or "
    ".h5 file"
)
# Of a data set and its source, as a ticket's provenance names them; see `ImageData.origin`.
_DATA_SET = re.compile(r"(\w+) \((\w+)(, resized)?\)")
# How far a row of probabilities may sum from 1.
_SUM_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class Victim:
    """A network in inference mode, of which only inputs and outputs are known.

    Attributes:
      name: what it is called, for reports.
      path: the file or folder it was loaded from.
      sha256: path → hash of every file that it was loaded from.
      logits_fn: float32 images `[batch, *image_shape]` in [0, 1] → logits
        `[batch, num_classes]`, differentiable, as `build_attack` takes it.
      image_shape: (height, width, channels).
      num_classes: size of the logits.
      data_set: what it was trained on, where that is known.
      data_source: where that came from, where that is known.
      resized: whether its images were scaled to their size, and not padded.
    """

    name: str
    path: str
    sha256: dict[str, str]
    logits_fn: Callable[[tf.Tensor], tf.Tensor]
    image_shape: tuple[int, int, int]
    num_classes: int
    data_set: str | None = None
    data_source: str | None = None
    resized: bool = False


def load_victim(
    path: str | Path,
    flag: str | None = "model",
    trust: bool = False,
    input_range: tuple[float, float] = (0.0, 1.0),
) -> Victim:
    """Loads a network to attack, that need not be trusted.

    Args:
      path: the folder of a SavedModel whose signature `float_images`, or else
        `serving_default`, takes one float32 batch of images in [0, 1] and returns `logits`, or
        logits alone; a ticket file in the folder `tickets` of a run, whose trained weights lie
        at the same place in `checkpoints`; or a Keras model that returns logits, as
        `read_keras_model` takes it.
      flag: the flag that errors name; None if none gave the path.
      trust: whether the file may run code of its own.
      input_range: what the network takes for the images' 0 and 1. The victim takes [0, 1].

    Raises:
      UserError: nothing like that is there, it is damaged or could run code, its weights and
        masks disagree, it returns probabilities, answers the same images differently, or no
        gradient reaches the images.
    """
    path = Path(path)
    with _errors_about(flag, path):
        victim = _in_range(_load(path, trust), input_range)
        _require_logits(victim)
        _require_gradient(victim)
    return victim


def load_keras_model(
    path: str | Path, flag: str | None = "model", trust: bool = False
) -> tuple[keras.Model, Victim]:
    """Loads a Keras model to do more with than to attack it.

    Args:
      path: a file as `read_keras_model` takes it.
      flag: the flag that errors name; None if none gave the path.
      trust: whether the file may run code of its own.

    Returns:
      The model, not compiled, and what is known of it. Both have the same weights.

    Raises:
      UserError: nothing like that is there, it is damaged, has layers that Keras does not
        know, takes or returns anything else than `load_victim` says, or returns probabilities.
    """
    path = Path(path)
    with _errors_about(flag, path):
        if not path.exists():
            raise UserError("no such file or folder")
        if path.is_dir():
            raise UserError(
                "is a folder, such as a SavedModel or what Keras 3's export() writes, whose layers "
                "are not known any more; give the .keras file that model.save() writes"
            )
        if path.suffix not in SUFFIXES:
            raise UserError("expected a Keras model's .keras or .h5 file")
        model = read_keras_model(path, trust)
        victim = _keras_victim(model, path)
        _require_logits(victim)
    return model, victim


def load_trained_ticket(
    path: str | Path, flag: str | None = "ticket"
) -> tuple[Ticket, keras.Model, Victim]:
    """Loads a ticket and its trained network, to do more with than to attack it.

    Args:
      path: a ticket file, see `load_victim`.
      flag: the flag that errors name; None if none gave the path.

    Returns:
      The ticket, the model with the trained weights, and what is known of it. The victim's
      logits follow the model's weights.

    Raises:
      UserError: nothing like that is there, it is damaged, or its weights and masks disagree.
    """
    path = Path(path)
    with _errors_about(flag, path):
        if path.suffix != ".npz" or not path.is_file():
            raise UserError("expected a ticket's file, RUN/tickets/.../level_NN.npz")
        return _read_ticket(path)


def trained_weights_path(path: Path) -> Path:
    """Where the trained weights of a ticket lie in its run.

    Raises:
      UserError: the ticket lies in no run, or they are missing.
    """
    parts = list(path.absolute().parts)
    if "tickets" not in parts[:-1]:
        raise UserError("expected a ticket in the folder `tickets` of its run, RUN/tickets/...")
    last = len(parts) - 1 - parts[::-1].index("tickets")
    weights_path = Path(*parts[:last], "checkpoints", *parts[last + 1 :])
    if not weights_path.is_file():
        raise UserError(f"its trained weights are missing; expected them in {weights_path}")
    return weights_path


def square_shape(victim: Victim, flag: str = "model") -> tuple[int, int]:
    """The height of the victim's images, which is their width, and their channels.

    Raises:
      UserError: they are not square, as those of all data sets are.
    """
    height, width, channels = victim.image_shape
    if height != width:
        raise UserError(
            f"--{flag}={victim.path}: takes images of shape {victim.image_shape}; expected square "
            "ones, as those of all data sets are"
        )
    return height, channels


def fitting_data(victim: Victim, data: ImageData, flag: str = "model") -> ImageData:
    """The data in the victim's image size: as they are, resized, or padded with zeros.

    Resized if the victim's ticket says that its own were, padded otherwise.

    Raises:
      UserError: it takes images that are not square, other channels or classes, or the images
        are larger and would be padded.
    """
    size, channels = square_shape(victim, flag)
    large_enough = victim.resized or size >= max(data.image_shape[:2])
    fits = channels == data.image_shape[2] and large_enough
    if not fits and victim.image_shape != data.image_shape:
        raise UserError(
            f"--{flag}={victim.path}: takes images of shape {victim.image_shape}, but "
            f"{data.name} has {data.image_shape}; give the --data_set that it was made for"
        )
    if victim.num_classes != data.num_classes:
        raise UserError(
            f"--{flag}={victim.path}: tells {victim.num_classes} classes apart, but {data.name} "
            f"has {data.num_classes}; give the --data_set that it was made for"
        )
    if victim.image_shape == data.image_shape:
        return data
    return data.resized(size) if victim.resized else data.padded(size)


@contextlib.contextmanager
def _errors_about(flag, path):
    try:
        yield
    except UserError as error:
        place = f"--{flag}={path}" if flag else str(path)
        reason = str(error).removeprefix(f"{path}: ")
        raise type(error)(f"{place}: {reason}") from None


def _load(path, trust):
    if not path.exists():
        raise UserError("no such file or folder")
    if path.is_dir():
        return _load_saved_model(path, trust)
    if path.suffix in SUFFIXES:
        return _keras_victim(read_keras_model(path, trust), path)
    if path.suffix != ".npz":
        raise UserError(f"expected {_KINDS}")
    return _read_ticket(path)[-1]


def _load_saved_model(path, trust):
    if not (path / "saved_model.pb").is_file():
        raise UserError(f"no saved_model.pb in it; expected {_KINDS}")
    loaded = load_saved_model(path, trust)  # Its variables live as long as it does.
    serve = _signature(loaded)
    image_shape = _image_shape(list(serve.structured_input_signature[1].values()))
    files = sorted(file for file in path.rglob("*") if file.is_file())
    logits_fn, num_classes = _frozen(serve)
    return Victim(path.name, str(path), _sha256(files), logits_fn, image_shape, num_classes)


def _signature(loaded):
    """The function that takes images: a file may have anything in place of signatures."""
    signatures = getattr(loaded, "signatures", {})
    signatures = signatures if isinstance(signatures, Mapping) else {}
    name = _FLOAT_SIGNATURE if _FLOAT_SIGNATURE in signatures else _SIGNATURE
    if not hasattr(signatures.get(name), "structured_outputs"):
        found = one_line(", ".join(signatures) or "none")
        raise UserError(f"expected a signature {_SIGNATURE}, found {found}")
    return signatures[name]


def _frozen(serve):
    """The signature's logits as a function of the images, and their number.

    Its variables become constants: a gradient then is computed for the images alone.
    """
    outputs = sorted(serve.structured_outputs)
    if "logits" not in outputs and len(outputs) != 1:
        found = one_line(", ".join(outputs) or "none")
        raise UserError(
            f"expected an output `logits`, or one output only; {_SIGNATURE} has {found}"
        )
    name = "logits" if "logits" in outputs else outputs[0]
    shape = serve.structured_outputs[name].shape
    if shape.rank != 2 or shape[1] is None:
        raise UserError(
            f"expected an output of shape [batch, classes], {one_line(name, 60)} has {shape}"
        )
    try:
        frozen, index = convert_variables_to_constants_v2(serve), outputs.index(name)
    except Exception as error:  # Every op has errors of its own.
        raise UserError(f"its graph cannot be prepared ({_reason(error)})") from None
    require_bounded_shapes(frozen.graph)
    axes = next(iter(serve.structured_input_signature[1].values())).shape.rank

    def logits_fn(images):
        return tf.cast(frozen(_without_channels(images, axes))[index], tf.float32)

    return logits_fn, shape[1]


def _keras_victim(model, path):
    if len(model.inputs or ()) != 1 or len(model.outputs) != 1:
        raise UserError("expected a model with one input and one output")
    image_shape, axes = _image_shape(model.inputs), model.inputs[0].shape.rank
    shape = model.outputs[0].shape
    if shape.rank != 2 or shape[1] is None:
        raise UserError(f"expected an output of shape [batch, classes], it has {shape}")

    def logits_fn(images):
        return tf.cast(model(_without_channels(images, axes), training=False), tf.float32)

    return Victim(path.stem, str(path), _sha256([path]), logits_fn, image_shape, shape[1])


def _image_shape(specs):
    expected = "expected one input, float32 [batch, height, width, channels]"
    if len(specs) != 1:
        raise UserError(f"{expected}; has {len(specs)} inputs")
    shape = specs[0].shape
    if shape.rank in (3, 4) and shape[0] is not None:
        raise UserError(f"expected batches of any size, it takes {shape[0]} images at a time")
    has_axes = shape.rank in (3, 4) and None not in shape[1:]
    if specs[0].dtype != tf.float32 or not has_axes:
        raise UserError(f"{expected}; has {specs[0].dtype.name} {one_line(shape)}")
    if math.prod(shape[1:]) > MOST_NUMBERS:
        raise UserError(f"expected images of at most {MOST_NUMBERS:.3g} numbers, has {shape}")
    return (*shape[1:], 1)[:3]


def _without_channels(images, axes):
    """Gray images as a network takes them that knows no axis of channels."""
    return tf.squeeze(images, axis=-1) if axes == 3 else images


def _in_range(victim, input_range):
    """The victim of images in [0, 1] whose network takes another range."""
    low, high = input_range
    if (low, high) == (0, 1):
        return victim
    own, scale = victim.logits_fn, high - low
    return dataclasses.replace(victim, logits_fn=lambda images: own(images * scale + low))


def _read_ticket(path):
    weights_path = trained_weights_path(path)
    ticket = Ticket.load(path)
    weights = load_arrays(weights_path)
    refuse_disagreement(ticket, weights, weights_path)
    config = dict(ticket.provenance.model_config)
    try:
        image_shape = tuple(config["image_shape"])
        model = build_model(
            ticket.provenance.model, seed=0, **config | {"image_shape": image_shape}
        )
        write_weights(model, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"cannot be built from its provenance ({_reason(error)})") from None
    known = _DATA_SET.fullmatch(ticket.provenance.data_set)
    victim = Victim(
        "-".join(weights_path.parts[-5:]).removesuffix(".npz"),
        str(path),
        _sha256([path, weights_path]),
        FoldedNetwork(model),
        image_shape,
        model.output_shape[-1],
        data_set=known[1] if known else None,
        data_source=known[2] if known else None,
        resized=bool(known and known[3]),
    )
    return ticket, model, victim


def _require_logits(victim):
    """Refuses what does not return numbers, and probabilities, whose logits are not known."""
    try:
        logits, again = (victim.logits_fn(_noise(victim)).numpy() for _ in range(2))
    except Exception as error:  # Every op has errors of its own.
        raise UserError(f"its logits cannot be computed ({_reason(error)})") from None
    if not np.all(np.isfinite(logits)):
        raise UserError("returns values that are not finite")
    if not np.allclose(logits, again, rtol=1e-3, atol=1e-3 * np.std(logits) + 1e-6):
        raise UserError(
            "answers the same images differently each time; its accuracy under attack would mean "
            "nothing. Save it without what is random, such as noise or dropout with training=True"
        )
    if victim.num_classes < 2:
        raise UserError("returns one value; expected the logits of two classes or more")
    if np.all(logits >= 0) and np.allclose(np.sum(logits, axis=1), 1, atol=_SUM_TOLERANCE):
        raise UserError("returns probabilities; expected logits, from before the softmax")
    if _lies_in_unit_interval(logits):
        # Far from any image logits leave the interval, and what a sigmoid returns does not.
        far = victim.logits_fn(100 * _noise(victim) - 50).numpy()
        if _lies_in_unit_interval(far) and np.ptp(logits) > 0:
            raise UserError(
                "returns values in [0, 1] only, as a sigmoid does; expected logits, from before it"
            )


def _lies_in_unit_interval(values):
    return np.all((values >= 0) & (values <= 1))


def _require_gradient(victim):
    """Refuses what gradient attacks cannot work on."""
    images = _noise(victim)
    try:
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = victim.logits_fn(images)
        gradient = tape.gradient(logits, images)
    except Exception as error:  # Every op has errors of its own.
        raise UserError(f"its gradient cannot be computed ({_reason(error)})") from None
    if gradient is None:
        raise UserError("no gradient leads from its logits to its images, so it cannot be attacked")


def _noise(victim):
    """A few images: of noise, black, and white."""
    images = np.random.default_rng(0).uniform(size=(4, *victim.image_shape))
    images[2], images[3] = 0, 1
    return tf.constant(images, tf.float32)


def _sha256(files):
    return {str(file): file_sha256(file) for file in files}


def _reason(error):
    return f"{type(error).__name__}: {one_line(error)}"
