"""Exports as somebody has them who only has TensorFlow."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorflow.core.protobuf import saved_model_pb2

from tf_tickets.deployment import saved_model
from tf_tickets.deployment.saved_model import Export, RawImages, export_saved_model
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Provenance, Ticket
from tf_tickets.models.lenet import lenet_300_100
from tf_tickets.models.weights import weight_path

PROVENANCE = Provenance("original", "tiny", {}, "none", 0, 0, "", "", {})

# It must not import anything of this project.
LOADER = """
import sys
import numpy as np
import tensorflow as tf

folder, images_path, outputs_path = sys.argv[1:]
images = np.load(images_path)
serve = tf.saved_model.load(folder).signatures["float_images"]
outputs = {}
for batch in (1, 3, len(images)):
    for name, value in serve(images=tf.constant(images[:batch])).items():
        outputs[f"{name}_{batch}"] = value.numpy()
for name, _ in tf.train.list_variables(folder + "/variables/variables"):
    outputs["variable:" + name] = tf.train.load_variable(folder + "/variables/variables", name)
for module in ("tf_tickets", "tf_keras", "tensorflow_model_optimization"):
    assert module not in sys.modules, module
np.savez(outputs_path, **outputs)
"""


class Case(NamedTuple):
    """A model, its ticket, and what its export gave in a process of its own."""

    model: keras.Model
    ticket: Ticket
    images: np.ndarray
    export: Export
    loaded: dict[str, np.ndarray]


def masked(model, seed=0, density=0.2):
    """Zeroes a random part of every kernel and returns the ticket of the rest."""
    generator = np.random.default_rng(seed)
    masks = {}
    for variable in model.weights:
        if "kernel" in variable.name:
            mask = generator.random(variable.shape) < density
            masks[weight_path(variable)] = mask
            variable.assign(variable * mask)
    return Ticket(masks, PROVENANCE)


def convolutional_model():
    """With BatchNorm, whose statistics are not those of a fresh layer."""
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 2)),
            keras.layers.Conv2D(5, 3, use_bias=False, name="convolution"),
            keras.layers.BatchNormalization(name="normalization"),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(4, bias_initializer="ones", name="logits"),
        ]
    )
    normalization = model.get_layer("normalization")
    normalization.moving_mean.assign([0.1, -0.2, 0.3, 0.0, 0.5])
    normalization.moving_variance.assign([0.5, 2.0, 1.0, 0.1, 0.3])
    return model


MODELS = {"lenet": lenet_300_100, "convolutional": convolutional_model}


def images_for(model, count=7):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(9).random(shape, np.float32)


@pytest.fixture(scope="module", params=list(MODELS))
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    keras.utils.set_random_seed(0)  # Weights of other tests' making may leave no unit alive.
    model = MODELS[request.param]()
    ticket = masked(model)
    images = images_for(model)
    export = export_saved_model(model, ticket, folder / "export", images)

    np.save(folder / "images.npy", images)
    hidden = ("PYTHONPATH", "TF_USE_LEGACY_KERAS", "TF_ENABLE_ONEDNN_OPTS")
    subprocess.run(
        [sys.executable, "-c", LOADER, "export", "images.npy", "outputs.npz"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        check=True,
        timeout=120,
    )
    with np.load(folder / "outputs.npz") as archive:
        loaded = {name: archive[name] for name in archive.files}
    return Case(model, ticket, images, export, loaded)


def softmax(logits):
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_tensorflow_alone_gets_the_model_s_logits_for_any_batch(case, batch):
    expected = case.model(case.images[:batch], training=False).numpy()
    np.testing.assert_allclose(case.loaded[f"logits_{batch}"], expected, rtol=0, atol=1e-5)
    # Batch statistics would give others, and so would no images at all.
    assert np.ptp(expected, axis=1).min() > 0.01


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_probabilities_are_the_softmax_of_the_logits(case, batch):
    expected = softmax(case.loaded[f"logits_{batch}"])
    np.testing.assert_allclose(case.loaded[f"probabilities_{batch}"], expected, atol=1e-6)


def test_the_signature_says_what_goes_in_and_out(case):
    signatures = tf.saved_model.load(str(case.export.path)).signatures
    assert set(signatures) == {"serving_default", "float_images"}
    classes = case.model.output_shape[1]
    for signature, dtype in (("serving_default", tf.uint8), ("float_images", tf.float32)):
        _, inputs = signatures[signature].structured_input_signature
        shape = (None, *case.images.shape[1:])
        assert inputs == {"images": tf.TensorSpec(shape, dtype, name="images")}
        outputs = signatures[signature].structured_outputs
        assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in outputs.items()} == {
            "logits": ([None, classes], tf.float32),
            "probabilities": ([None, classes], tf.float32),
            "classes": ([None], tf.int64),
        }


def test_every_zero_is_there_and_counted(case):
    removed = sum(int(np.sum(~mask)) for mask in case.ticket.masks.values())
    assert case.export.prunable == sum(mask.size for mask in case.ticket.masks.values())
    assert case.export.zeros == removed > 0.7 * case.export.prunable
    stored = {
        array.shape: array
        for name, array in case.loaded.items()
        if name.startswith("variable:") and array.dtype == np.float32
    }
    for variable in case.model.weights:
        mask = case.ticket.masks.get(weight_path(variable))
        if mask is not None:
            np.testing.assert_array_equal(stored[mask.shape] != 0, mask)
            np.testing.assert_array_equal(stored[mask.shape], variable.numpy())


def test_nothing_of_the_pruning_is_left_in_it(case):
    variables = [name for name in case.loaded if name.startswith("variable:")]
    floats = [name for name in variables if case.loaded[name].dtype == np.float32]
    assert len(floats) == len(case.model.weights)
    reloaded = tf.saved_model.load(str(case.export.path))
    serve = reloaded.signatures["float_images"]
    content = (case.export.path / "saved_model.pb").read_bytes()
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    names = (
        variables
        + [variable.name for variable in reloaded.weights]
        + [variable.name for variable in serve.variables]
        + [node.name for function in graph.graph_def.library.function for node in function.node_def]
    )
    assert any("logits" in name for name in names)
    for word in ("mask", "threshold", "prun"):
        assert not [name for name in names if word in name.lower()]


def test_the_stated_difference_is_the_measured_one(case):
    served = tf.saved_model.load(str(case.export.path)).signatures["float_images"]
    logits = served(images=tf.constant(case.images))["logits"].numpy()
    expected = case.model(case.images, training=False).numpy()
    assert case.export.max_logits_difference == pytest.approx(
        np.max(np.abs(logits - expected)), abs=1e-6
    )
    assert 0 <= case.export.max_logits_difference < 1e-5


@pytest.fixture
def small():
    model = keras.Sequential(
        [keras.layers.Input((6,)), keras.layers.Dense(4, use_bias=False, name="logits")]
    )
    return model, masked(model, density=0.5)


def all_paths(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_zero_inside_the_mask_is_counted_too(tmp_path, small):
    model, ticket = small
    mask = ticket.masks["logits/kernel"]
    kernel = model.weights[0].numpy()
    kernel[tuple(np.argwhere(mask)[0])] = 0
    model.weights[0].assign(kernel)
    export = export_saved_model(model, ticket, tmp_path / "export", images_for(model))
    assert (export.zeros, export.prunable) == (np.sum(~mask) + 1, 24)


def test_a_weight_outside_the_mask_is_refused(tmp_path, small):
    model, ticket = small
    kernel = model.weights[0].numpy()
    kernel[tuple(np.argwhere(~ticket.masks["logits/kernel"])[-1])] = 1e-30
    model.weights[0].assign(kernel)
    with pytest.raises(ValueError, match="logits/kernel has weights outside"):
        export_saved_model(model, ticket, tmp_path / "export", images_for(model))
    assert all_paths(tmp_path) == set()


@pytest.mark.parametrize("exists", [False, True])
def test_an_export_that_disagrees_is_removed(tmp_path, monkeypatch, small, exists):
    directory = tmp_path / "exports" / "level_03"
    directory.parent.mkdir()
    if exists:
        directory.mkdir()
        (directory / "earlier").write_text("export")
    before = all_paths(tmp_path)
    monkeypatch.setattr(saved_model, "LOGITS_TOLERANCE", -1)
    with pytest.raises(UserError, match="logits differ") as caught:
        export_saved_model(*small, directory, images_for(small[0]))
    assert str(directory) in str(caught.value) and "\n" not in str(caught.value)
    assert all_paths(tmp_path) == before


def test_logits_that_are_not_numbers_are_refused(tmp_path, small):
    model, ticket = small
    kernel = model.weights[0].numpy()
    kernel[tuple(np.argwhere(ticket.masks["logits/kernel"])[0])] = np.nan
    model.weights[0].assign(kernel)
    with pytest.raises(UserError, match="differ from the model's by nan"):
        export_saved_model(model, ticket, tmp_path / "export", images_for(model))
    assert all_paths(tmp_path) == set()


def test_an_earlier_export_is_replaced(tmp_path, small):
    model, ticket = small
    images = images_for(model)
    directory = tmp_path / "export"
    export_saved_model(model, ticket, directory, images)
    (directory / "stale").write_text("")
    model.weights[0].assign(-2 * model.weights[0])
    export = export_saved_model(model, ticket, directory, images)
    assert export.path == directory and not (directory / "stale").exists()
    assert [path.name for path in Path(tmp_path).iterdir()] == ["export"]
    served = tf.saved_model.load(str(directory)).signatures["float_images"]
    np.testing.assert_allclose(
        served(images=tf.constant(images))["logits"], images @ model.weights[0].numpy(), atol=1e-6
    )


def raw_images(shape, count=3):
    return np.random.default_rng(4).integers(0, 256, (count, *shape)).astype(np.uint8)


def served_logits(folder, images):
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return signature(images=tf.constant(images))


def test_raw_images_are_padded_as_the_data_were(tmp_path):
    model = convolutional_model()
    raw = raw_images((5, 6, 2))
    saved_model.write_saved_model(model, tmp_path / "padded", RawImages((5, 6, 2)))
    expected = np.zeros((3, 8, 8, 2), np.float32)
    expected[:, 1:6, 1:7] = raw / 255  # The odd row of zeros is at the bottom.
    outputs = served_logits(tmp_path / "padded", raw)
    logits = model(expected, training=False)
    np.testing.assert_allclose(outputs["logits"], logits, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(outputs["classes"], np.argmax(logits, axis=1))
    assert not (tmp_path / "padded" / saved_model.TICKET_FILE).exists()


def test_raw_images_are_resized_as_the_data_were(tmp_path):
    model = convolutional_model()
    raw = raw_images((16, 16, 2))
    saved_model.write_saved_model(model, tmp_path / "half", RawImages((16, 16, 2), True))
    # Half the size between pixel centres: means of two by two.
    expected = raw.reshape(3, 8, 2, 8, 2, 2).mean(axis=(2, 4)).astype(np.float32) / 255
    logits = model(expected, training=False)
    outputs = served_logits(tmp_path / "half", raw)
    np.testing.assert_allclose(outputs["logits"], logits, rtol=0, atol=1e-5)


def test_the_provenance_goes_with_the_model(case):
    description = json.loads((case.export.path / "assets.extra" / "ticket.json").read_text())
    assert description["provenance"] == dataclasses.asdict(case.ticket.provenance)
