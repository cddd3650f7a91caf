"""Saved networks give the numbers of the network in memory, and wrong ones a clear word."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests import trained
from tf_tickets.errors import UserError
from tf_tickets.evaluation.victims import fitting_data, load_victim
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights
from tf_tickets.runs.files import save_arrays


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The same network in every form."""
    folder, model = tmp_path_factory.mktemp("saved"), trained.lenet()
    keras_file = folder / "lenet.keras"
    model.save(keras_file)
    return {
        "saved_model": trained.save_model(model, folder / "lenet"),
        "ticket": trained.save_run(model, folder / "run"),
        "keras": keras_file,
    }


def logits_and_gradient(logits_fn, images, labels):
    @tf.function
    def compute(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = logits_fn(images)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return logits, tape.gradient(loss, images)

    return compute(images)


@pytest.mark.parametrize("form", ["saved_model", "ticket", "keras"])
def test_logits_and_gradients_are_the_networks(saved, form):
    victim, model = load_victim(saved[form]), trained.lenet()
    assert victim.image_shape == trained.SHAPE and victim.num_classes == 10
    images, labels = trained.unit_interval(trained.images_of_test(30))
    expected = logits_and_gradient(lambda x: model(x, training=False), images, labels)
    found = logits_and_gradient(victim.logits_fn, images, labels)
    for theirs, ours in zip(expected, found):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(found[1]).max() > 1e-3


def test_a_convolutional_network_with_batch_norm(tmp_path):
    model = build_model("wide_resnet_10_1", (8, 8, 3), 5, seed=0)
    victim = load_victim(trained.save_model(model, tmp_path / "resnet"))
    images = tf.random.stateless_uniform([6, 8, 8, 3], [0, 0])
    labels = tf.constant([0, 1, 2, 3, 4, 0])
    expected = logits_and_gradient(lambda x: model(x, training=False), images, labels)
    for theirs, ours in zip(expected, logits_and_gradient(victim.logits_fn, images, labels)):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_what_a_ticket_says_of_itself(saved):
    victim = load_victim(saved["ticket"])
    assert (victim.data_set, victim.data_source) == ("mnist", "embedded")
    assert victim.name == "mnist-natural-original-seed_0-level_03"
    assert len(victim.sha256) == 2 and all(len(value) == 64 for value in victim.sha256.values())
    assert load_victim(saved["saved_model"]).data_set is None


def refusal(path):
    with pytest.raises(UserError) as error:
        load_victim(path)
    message = str(error.value)
    assert message.startswith(f"--model={path}: ") and "\n" not in message
    return message


def test_refuses_weights_outside_the_masks(tmp_path):
    path = trained.save_run(trained.lenet(), tmp_path)
    weights = read_weights(trained.lenet())
    weights["hidden_1/kernel"] = np.ones_like(weights["hidden_1/kernel"])
    save_arrays(tmp_path / "checkpoints" / trained.CELL, weights)
    assert "weights of hidden_1/kernel outside its mask are not zero" in refusal(path)


def test_refuses_a_ticket_without_its_run(tmp_path):
    path = trained.save_run(trained.lenet(), tmp_path)
    lone = tmp_path / "level_03.npz"
    shutil.copyfile(path, lone)
    assert "in the folder `tickets` of its run" in refusal(lone)
    (tmp_path / "checkpoints" / trained.CELL).unlink()
    assert "its trained weights are missing; expected them in" in refusal(path)


def test_refuses_weights_of_another_network(tmp_path):
    path = trained.save_run(trained.lenet(), tmp_path)
    save_arrays(tmp_path / "checkpoints" / trained.CELL, {"other": np.zeros(3)})
    assert "the weights in" in refusal(path) and "missing" in refusal(path)
    path = trained.save_run(trained.lenet(), tmp_path, model_config={"num_classes": 10})
    assert "cannot be built from its provenance" in refusal(path)


@pytest.mark.parametrize("name", ["network.h5", "network.keras", "folder/", "tickets/t.npz"])
def test_refuses_what_is_none_of_these(tmp_path, name):
    path = tmp_path / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not a network")
    refusal(path)
    assert "no such file or folder" in refusal(tmp_path / "nothing")


def test_refuses_probabilities(tmp_path):
    layers = [keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential([keras.layers.Input((4, 4, 1)), *layers])
    model.save(tmp_path / "softmax.keras")
    assert "returns probabilities; expected logits" in refusal(tmp_path / "softmax.keras")


def test_refuses_a_network_without_numbers(tmp_path):
    model = keras.Sequential([keras.layers.Input((4, 4, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(3, kernel_initializer=keras.initializers.Constant(np.nan)))
    model.save(tmp_path / "nan.keras")
    assert "returns values that are not finite" in refusal(tmp_path / "nan.keras")


def test_refuses_a_batch_of_fixed_size(tmp_path):
    spec = tf.TensorSpec([4, 4, 4, 1], tf.float32, name="images")
    save_function(lambda images: tf.reshape(images, [4, 16]), tmp_path / "fixed", spec)
    message = refusal(tmp_path / "fixed")
    assert "expected batches of any size, it takes 4 images at a time" in message


def save_function(function, folder, spec):
    module = tf.Module()
    module.serve = tf.function(function, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


@pytest.mark.parametrize(
    "function,shape,dtype,message",
    [
        (lambda x: tf.floor(x)[:, :, 0, 0], [None, 4, 4, 1], tf.float32, "no gradient leads"),
        (lambda x: x[:, :, 0, 0], [None, None, 4, 1], tf.float32, "expected one input, float32"),
        (lambda x: tf.cast(x[:, :, 0, 0], tf.float32), [None, 4, 4, 1], tf.uint8, "one input"),
        (lambda x: x, [None, 4, 4, 1], tf.float32, "expected an output of shape"),
        (
            lambda x: {"a": x[:, :, 0, 0], "b": x[:, :, 0, 0]},
            [None, 4, 4, 1],
            tf.float32,
            "expected an output `logits`, or one output only; serving_default has a, b",
        ),
    ],
)
def test_refuses_other_signatures(tmp_path, function, shape, dtype, message):
    folder = save_function(function, tmp_path / "saved", tf.TensorSpec(shape, dtype))
    assert message in refusal(folder)


def test_a_single_output_of_any_name_counts_as_logits(tmp_path):
    spec = tf.TensorSpec([None, 4, 4, 1], tf.float32)
    folder = save_function(lambda x: {"scores": 2 * x[:, :, 0, 0]}, tmp_path / "saved", spec)
    images = tf.random.stateless_uniform([3, 4, 4, 1], [0, 0])
    np.testing.assert_allclose(load_victim(folder).logits_fn(images), 2 * images[:, :, 0, 0])


def test_data_are_padded_or_refused():
    data = trained.mnist().limited(0, 10, 10, 10)

    def of_shape(*shape, num_classes=10):
        return fitting_data(trained.victim_of(None, shape, num_classes), data)

    assert of_shape(28, 28, 1) is data
    assert of_shape(32, 32, 1).image_shape == (32, 32, 1)
    for shape in ((20, 20, 1), (28, 28, 3), (32, 40, 1)):
        with pytest.raises(UserError, match="takes images of shape"):
            of_shape(*shape)
    with pytest.raises(UserError, match="tells 100 classes apart, but mnist has 10"):
        of_shape(28, 28, 1, num_classes=100)


def test_data_are_resized_if_the_victims_were():
    data = trained.mnist().limited(0, 10, 10, 10)
    victim = dataclasses.replace(trained.victim_of(None, (32, 32, 1)), resized=True)
    assert fitting_data(victim, data).test.resized_to == 32
    for size in (28, 20):
        small = dataclasses.replace(victim, image_shape=(size, size, 1))
        assert fitting_data(small, data).image_shape == (size, size, 1)


@pytest.mark.parametrize(
    "origin, known",
    [
        ("mnist (embedded)", ("mnist", "embedded", False)),
        ("mnist_classes_0_4 (tfds, resized)", ("mnist_classes_0_4", "tfds", True)),
        ("of unknown origin", (None, None, False)),
    ],
)
def test_a_ticket_tells_its_data(tmp_path, origin, known):
    victim = load_victim(trained.save_run(trained.lenet(), tmp_path, data_set=origin))
    assert (victim.data_set, victim.data_source, victim.resized) == known
