"""Keras models in files, `.keras` and `.h5`, of Keras 2 and 3, of which no code is run.

Keras itself imports and calls what a file names. Here the file's layers are looked up among
Keras' own, the model is built of these, and only numbers are read from the file.
"""

import contextlib
import io
import json
import math
import zipfile
from pathlib import Path

import h5py
import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError, one_line
from tf_tickets.models.keras_3 import as_keras_2
from tf_tickets.models.keras_configuration import checked
from tf_tickets.runs.files import parse_json, require_bounded_archive, require_file, unpack

SUFFIXES = (".keras", ".h5", ".hdf5")
_CONFIGURATION, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MOST_JSON = 64 * 2**20
# HDF5 may compress, and may claim arrays that were never written.
_UNPACKED_RATIO = 20
_SMALL_CHUNK = 2**20


def read_keras_model(path: Path, trust: bool = False) -> keras.Model:
    """Reads a functional or sequential model of Keras 2, or one of Keras 3 as Keras 2 has it.

    Args:
      path: a `.keras` file, or a `.h5` file with the whole model.
      trust: whether to load what only Keras itself can, which may run code that the file holds;
        nothing else for a file of Keras 3, which Keras 2 cannot load.

    Returns:
      The model, not compiled.

    Raises:
      UserError: nothing is there, it is damaged or not what its name says; it has layers that are
        not Keras' own or that Keras 2 does not have; its layers need more numbers than it holds.

    Example:
      >>> model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3)])
      >>> model.save("/tmp/example.keras")
      >>> read_keras_model(Path("/tmp/example.keras")).count_params()
      9
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a Keras model's file, {', '.join(SUFFIXES)}")
    require_file(path)
    if trust and not _is_of_keras_3(path):
        return _read_as_keras_does(path)
    try:
        configuration, version, numbers = _parts(path)
        if version.startswith("3"):
            configuration = as_keras_2(configuration)
        configuration = checked(configuration)
        with _at_most(numbers):
            model = _build(configuration)
        model.load_weights(path)
        return model
    except UserError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except (Exception, RecursionError) as error:  # Every layer's settings have errors of their own.
        raise UserError(f"{path}: cannot be loaded as a Keras model ({_reason(error)})") from None


def _is_of_keras_3(path):
    """Whether Keras 2 itself can only fail on it; what is damaged it may judge for itself."""
    try:
        return _parts(path)[1].startswith("3")
    except (Exception, RecursionError):
        return False


def _read_as_keras_does(path):
    try:
        return keras.models.load_model(path, compile=False, safe_mode=False)
    except Exception as error:  # Every layer's settings have errors of their own.
        raise UserError(f"{path}: cannot be loaded as a Keras model ({_reason(error)})") from None


def _reason(error):
    return f"{type(error).__name__}: {one_line(error)}"


def _parts(path):
    """The configuration, the version of Keras that wrote it, and how many numbers there are."""
    if path.suffix != ".keras":
        if not h5py.is_hdf5(path):
            raise UserError("no HDF5 file, whatever its name says")
        return _parts_of_hdf5(path)
    if not zipfile.is_zipfile(path):
        raise UserError("no .keras file, which is a zip archive, whatever its name says")
    require_bounded_archive(path)
    with zipfile.ZipFile(path) as archive:
        missing = {_CONFIGURATION, _METADATA, _WEIGHTS} - set(archive.namelist())
        if missing:
            raise UserError(f"damaged: without {', '.join(sorted(missing))}")
        configuration = _json(archive, _CONFIGURATION)
        metadata = _json(archive, _METADATA)
        weights = unpack(archive, archive.getinfo(_WEIGHTS))
    version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    with h5py.File(io.BytesIO(weights), "r") as file:
        return configuration, str(version), _count(file, len(weights))


def _json(archive, name):
    entry = archive.getinfo(name)
    if entry.file_size > _MOST_JSON:
        raise UserError(f"damaged: {name} is too large")
    return parse_json(unpack(archive, entry).decode(), name)


def _parts_of_hdf5(path):
    with h5py.File(path, "r") as file:
        _require_plain_attributes(file)
        if "model_config" not in file.attrs:
            raise UserError(
                "holds weights alone; expected a whole model, as model.save('model.keras') writes"
            )
        text = file.attrs["model_config"]
        text = text.decode() if isinstance(text, bytes) else text
        version = file.attrs.get("keras_version", "")
        version = version.decode() if isinstance(version, bytes) else str(version)
        return parse_json(text, "its configuration"), version, _count(file, path.stat().st_size)


def _require_plain_attributes(group):
    """Refuses attributes that claim more text than a file of their size can hold."""
    for name in group.attrs:
        shape = group.attrs.get_id(name).shape
        if name in ("model_config", "keras_version", "backend", "training_config") and shape:
            raise UserError(f"damaged: {one_line(name, 40)} is no single text")
        if shape and group.attrs.get_id(name).dtype.kind == "O":
            raise UserError(f"damaged: {one_line(name, 40)} is a list of texts of any length")


def _count(file, size):
    """How many numbers an HDF5 file holds, of which none lies in another file."""
    numbers, stored = 0, 0

    def visit(name, link):
        nonlocal numbers, stored
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise UserError(f"damaged: {one_line(name, 60)} points elsewhere")
        found = file[name]
        if isinstance(found, h5py.Dataset):
            if found.external or found.is_virtual:
                raise UserError(f"damaged: {one_line(name, 60)} lies in another file")
            if found.dtype.kind not in "fiu":
                raise UserError(f"damaged: {one_line(name, 60)} holds no numbers")
            if found.chunks and math.prod(found.chunks) > max(found.size, _SMALL_CHUNK):
                raise UserError(f"damaged: {one_line(name, 60)} is stored in parts too large")
            numbers += found.size or 0
            stored += found.nbytes

    file.visititems_links(visit)
    if stored > _UNPACKED_RATIO * size:
        raise UserError(f"damaged: claims {stored:.3g} bytes of weights, in a file of {size}")
    return numbers


@contextlib.contextmanager
def _at_most(numbers):
    """Refuses layers that are larger than their weights in the file, before memory is taken."""
    made = 0

    def create(make, **arguments):
        nonlocal made
        if arguments.get("shape") is not None:
            made += tf.TensorShape(arguments["shape"]).num_elements() or 0
        if made > numbers:
            raise UserError(f"damaged: its layers have more than the {numbers} weights it holds")
        return make(**arguments)

    with tf.variable_creator_scope(create):
        yield


def _build(configuration):
    # A copy, since Keras changes what it is given.
    return keras.saving.deserialize_keras_object(json.loads(json.dumps(configuration)))
