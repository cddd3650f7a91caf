"""Keras models in files, `.keras` and `.h5`, of Keras 2 and 3, of which no code is run.

Keras itself imports and calls what a file names. Here the file's layers are looked up among
Keras' own, the model is built of these, and only numbers are read from the file.
"""

import contextlib
import functools
import io
import json
import math
import zipfile
from pathlib import Path

import h5py
import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError, one_line
from tf_tickets.models.graph_bounds import require_bounded_shapes
from tf_tickets.models.hdf5_heaps import require_ending_heaps
from tf_tickets.models.keras_3 import as_keras_2
from tf_tickets.models.keras_configuration import checked
from tf_tickets.runs.files import (
    most_unpacked,
    parse_json,
    require_bounded_archive,
    require_file,
    unpack,
)

SUFFIXES = (".keras", ".h5", ".hdf5")
_CONFIGURATION, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MOST_JSON = 64 * 2**20
# What a stored number becomes in a network at least: a float32.
_BYTES_OF_A_NUMBER = 4
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
        with _empty_weights(numbers):
            model = _build(configuration)
        _require_bounded_outputs(model)
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
    require_ending_heaps(weights)
    with h5py.File(io.BytesIO(weights), "r") as file:
        return configuration, str(version), _count(file, path)


def _json(archive, name):
    entry = archive.getinfo(name)
    if entry.file_size > _MOST_JSON:
        raise UserError(f"damaged: {name} is too large")
    return parse_json(unpack(archive, entry).decode(), name)


def _parts_of_hdf5(path):
    require_ending_heaps(path.read_bytes())
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise UserError(
                "holds weights alone; expected a whole model, as model.save('model.keras') writes"
            )
        _require_plain_attributes(file)
        text = file.attrs["model_config"]
        text = text.decode() if isinstance(text, bytes) else text
        version = file.attrs.get("keras_version", "")
        version = version.decode() if isinstance(version, bytes) else str(version)
        return parse_json(text, "its configuration"), version, _count(file, path)


def _require_plain_attributes(group, most_texts=0):
    """Refuses attributes that claim more text than a file of their size can hold."""
    for name in group.attrs:
        attribute = group.attrs.get_id(name)
        shape = attribute.shape
        if name in ("model_config", "keras_version", "backend", "training_config") and shape:
            raise UserError(f"damaged: {one_line(name, 40)} is no single text")
        if shape and attribute.dtype.kind == "O" and math.prod(shape) > most_texts:
            raise UserError(f"damaged: {one_line(name, 40)} is a list of texts of any length")


def _count(file, path):
    """How many numbers an HDF5 file holds, of which none lies in another file.

    HDF5 may compress them, and may claim arrays that were never written.
    """
    numbers, unpacked, links = 0, 0, []
    file.visititems_links(lambda *named: links.append(named))
    for name, link in links:
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise UserError(f"damaged: {one_line(name, 60)} points elsewhere")
        found = file[name]
        # Keras lists layers and weights by their names.
        _require_plain_attributes(found, most_texts=len(links))
        if isinstance(found, h5py.Dataset):
            _require_plain_numbers(found, one_line(name, 60))
            numbers += found.size
            unpacked += found.size * max(_BYTES_OF_A_NUMBER, found.dtype.itemsize)
    if unpacked > most_unpacked(path):
        size = path.stat().st_size
        raise UserError(f"damaged: claims {unpacked:.3g} bytes of weights, in a file of {size}")
    return numbers


def _require_plain_numbers(found, name):
    if found.external or found.is_virtual:
        raise UserError(f"damaged: {name} lies in another file")
    if found.dtype.kind not in "fiu" or found.size is None:
        raise UserError(f"damaged: {name} holds no numbers")
    if found.chunks and math.prod(found.chunks) > max(found.size, _SMALL_CHUNK):
        raise UserError(f"damaged: {name} is stored in parts too large")


@contextlib.contextmanager
def _empty_weights(numbers):
    """Leaves initializers out, as weights follow, and refuses more weights than a file holds.

    An initializer may take for ever: an orthogonal one takes the cube of a layer's width.
    """
    made = 0

    def create(make, **arguments):
        nonlocal made
        shape = arguments.get("shape")
        if shape is not None:
            made += tf.TensorShape(shape).num_elements() or 0
        if made > numbers:
            raise UserError(f"damaged: its layers have more than the {numbers} weights it holds")
        if shape is not None and callable(arguments.get("initial_value")):
            zeros = functools.partial(tf.zeros, shape, arguments["dtype"])
            arguments["initial_value"] = zeros
        return make(**arguments)

    with tf.variable_creator_scope(create):
        yield


def _require_bounded_outputs(model):
    """Refuses layers that would make too many numbers of one example, before it is called."""
    specs = [tensor.type_spec for tensor in model.inputs]
    examples = [
        tf.TensorSpec([1, *spec.shape[1:]], spec.dtype) if isinstance(spec, tf.TensorSpec) else spec
        for spec in specs
    ]
    call = tf.function(lambda *inputs: model(inputs[0] if len(inputs) == 1 else list(inputs)))
    require_bounded_shapes(call.get_concrete_function(*examples).graph)


def _build(configuration):
    # A copy, since Keras changes what it is given.
    return keras.saving.deserialize_keras_object(json.loads(json.dumps(configuration)))
