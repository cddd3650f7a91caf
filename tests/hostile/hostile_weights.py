"""Keras files whose archive or weights were made to read files or fill the memory."""

import copy
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import tf_keras as keras

from tests.hostile.hostile_models import (
    CANARY,
    attempts_with_damage,
    entries_of,
    sound_model,
    try_to_load,
    write_keras,
)
from tf_tickets.models.keras_files import read_keras_model

layers = keras.layers
_LARGE = 4_000  # Units of a layer: 64 MB of float32, in a few KB of a file.


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """See tests/hostile: every hostile file, as a name and a function that tries it."""
    scratch.mkdir(parents=True, exist_ok=True)
    for part in (_weights, _archives, _hdf5, _outputs):
        for name, path in part(scratch):
            yield name, lambda path=path: try_to_load(read_keras_model, path, scratch / CANARY)
    for suffix, count in (("keras", 70), ("h5", 200)):
        path = scratch / f"damaged.{suffix}"
        sound_model().save(path)
        yield from attempts_with_damage(read_keras_model, path, path, count)


def _weights(scratch):
    """Files whose weights are not in them, or are too many."""
    entries = entries_of(sound_model())

    def external_link(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/other.h5", "/weights")

    def soft_link(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense")

    def external_data(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"].create_dataset(
            "0", (8, 3), "f4", external=[("/etc/passwd", 0, 96)]
        )

    def virtual_data(file):
        del file["layers/dense/vars/0"]
        layout = h5py.VirtualLayout((8, 3), "f4")
        layout[:] = h5py.VirtualSource("/etc/other.h5", "weights", (8, 3))
        file["layers/dense/vars"].create_virtual_dataset("0", layout)

    def never_written(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"].create_dataset("0", (10**6, 10**6), "f4", chunks=(100, 100))

    def emptied(file):
        del file["layers"]

    def other_shape(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"]["0"] = [[1.0, 2.0]] * 30

    def in_large_parts(file):
        del file["layers/dense/vars/0"]
        parts = {"chunks": (2**14, 2**14), "maxshape": (None, None)}
        file["layers/dense/vars"].create_dataset("0", (8, 3), "f4", **parts)

    def small_numbers_packed(file):
        zeros = np.zeros((_LARGE * 5, _LARGE), np.int8)
        file.create_dataset("more", data=zeros, compression="gzip", compression_opts=9)

    def of_text(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"]["0"] = ["x"]

    def a_list_of_texts(file):
        file["layers"].attrs["names"] = ["x" * 1_000] * 60

    changes = (
        *(external_link, soft_link, external_data, virtual_data),
        *(never_written, emptied, other_shape, in_large_parts, small_numbers_packed),
        *(of_text, a_list_of_texts),
    )
    for change in changes:
        content = io.BytesIO(entries["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            change(file)
        path = scratch / f"weights_{change.__name__}.keras"
        yield (
            f"weights: {change.__name__.replace('_', ' ')}",
            write_keras(path, entries | {"model.weights.h5": content.getvalue()}),
        )


def _archives(scratch):
    """Archives that are none, or are too large."""
    entries = entries_of(sound_model())
    write_keras(scratch / "sound.keras", entries)
    zeros = b" " * (300 * 2**20)
    yield (
        "a bomb in config.json",
        write_keras(scratch / "bomb.keras", entries | {"config.json": zeros}),
    )
    yield (
        "a bomb in the weights",
        write_keras(scratch / "bomb_2.keras", entries | {"model.weights.h5": zeros}),
    )
    content = (scratch / "sound.keras").read_bytes()
    place = content.index(b"PK\x01\x02") + 24
    for size in (1, 2**30, 2**32 - 2):
        path = scratch / f"says_{size}.keras"
        path.write_bytes(content[:place] + size.to_bytes(4, "little") + content[place + 4 :])
        yield f"an entry that says it has {size} bytes", path
    deep = b"[" * 100_000
    yield "JSON nested deeply", write_keras(scratch / "deep.keras", entries | {"config.json": deep})
    for name in entries:
        others = {other: content for other, content in entries.items() if other != name}
        yield f"without {name}", write_keras(scratch / f"without_{name}.keras", others)
    for name, content in {
        "an empty file": b"",
        "a page of the web": b"<html><body>404</body></html>",
        "half an archive": (scratch / "without_metadata.json.keras").read_bytes()[:500],
        "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system",
    }.items():
        path = scratch / f"{name.replace(' ', '_')}.keras"
        path.write_bytes(content)
        yield name, path


def _hdf5(scratch):
    """Whole models in the older format."""
    model = sound_model()
    model.save(scratch / "sound.h5")

    def changed(name, configuration):
        path = scratch / f"{name}.h5"
        path.write_bytes((scratch / "sound.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = configuration
        return path

    with h5py.File(scratch / "sound.h5") as file:
        sound = json.loads(file.attrs["model_config"])
    evil = copy.deepcopy(sound)
    evil["config"]["layers"][1]["class_name"] = "Lambda"
    yield "HDF5: a Lambda in place of a convolution", changed("lambda_2", json.dumps(evil))
    evil["config"]["layers"][1] |= {"class_name": "system", "module": "os"}
    yield "HDF5: os.system", changed("system", json.dumps(evil))
    yield "HDF5: no JSON", changed("no_json", "{")
    model.save_weights(scratch / "alone.h5")
    yield "HDF5: weights alone", scratch / "alone.h5"
    (scratch / "zip.h5").write_bytes((scratch / "without_config.json.keras").read_bytes())
    yield "an archive called .h5", scratch / "zip.h5"
    endless = changed("endless", json.dumps(sound))
    content = endless.read_bytes()
    heap = content.index(b"GCOL\x01")
    rest = content.index(json.dumps(sound).encode()[-30:], heap)
    place = rest + 30 + -(rest + 30 - heap) % 8
    endless.write_bytes(content[:place] + bytes(16) + content[place + 16 :])
    yield "HDF5: a text that never ends", endless
    with h5py.File(changed("listed", json.dumps(sound)), "r+") as file:
        del file.attrs["model_config"]
        file.attrs["model_config"] = [json.dumps(sound)] * 3
    yield "HDF5: three configurations", scratch / "listed.h5"
    with h5py.File(changed("texts", json.dumps(sound)), "r+") as file:
        file.attrs["texts"] = ["x"] * 1_000
    yield "HDF5: a list of texts", scratch / "texts.h5"


def _outputs(scratch):
    """Layers of few weights whose outputs take all memory, or a list of all that they repeat."""
    for name, shape, layer, change in (
        ("strides", (4, 4, 1), layers.Conv2DTranspose(1, 1), {"strides": [10**5, 10**5]}),
        ("vector", (4, 1), layers.UpSampling1D(1), {"size": 10**8}),
        ("volume", (2, 2, 2, 1), layers.UpSampling3D(1), {"size": [10**4] * 3}),
    ):
        model = keras.Sequential([layers.Input(shape), layer, layers.Flatten()])
        entries = entries_of(model)
        configuration = json.loads(entries["config.json"])
        configuration["config"]["layers"][1]["config"].update(change)
        content = {"config.json": json.dumps(configuration).encode()}
        yield f"large outputs: {name}", write_keras(scratch / f"{name}.keras", entries | content)
