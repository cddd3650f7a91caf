"""Saved networks give the numbers of the network in memory, and wrong ones a clear word."""

import dataclasses
import importlib.util
import shutil
import subprocess
import sys

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
    for shape in ((20, 20, 1), (28, 28, 3)):
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


def saved_network(path, *layers, shape=(4, 4, 1)):
    """A file of a Keras network of these layers, which ends in a flat output of three."""
    model = keras.Sequential([keras.layers.Input(shape), keras.layers.Flatten(), *layers])
    model.save(path)
    return path


@pytest.mark.parametrize("bias", [-3.0, 0.0, 3.0])
def test_refuses_what_a_sigmoid_returns(tmp_path, bias):
    dense = keras.layers.Dense(3, "sigmoid", bias_initializer=keras.initializers.Constant(bias))
    message = refusal(saved_network(tmp_path / "sigmoid.keras", dense))
    assert "returns values in [0, 1] only, as a sigmoid does; expected logits" in message


def test_logits_that_happen_to_lie_in_the_unit_interval_are_taken(tmp_path):
    """A mean of pixels of images in [0, 1] is in [0, 1], and no sigmoid."""
    kernel = np.zeros((16, 3))
    kernel[[0, 5, 9], [0, 1, 2]] = 1
    dense = keras.layers.Dense(3, kernel_initializer=keras.initializers.Constant(kernel))
    victim = load_victim(saved_network(tmp_path / "pixels.keras", dense))
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype(np.float32)
    expected = images.reshape(5, 16)[:, [0, 5, 9]]
    np.testing.assert_allclose(victim.logits_fn(tf.constant(images)), expected, atol=1e-6)


@pytest.mark.parametrize("trust", [False, True])
def test_refuses_what_answers_at_random(tmp_path, trust):
    inputs = keras.Input((4, 4, 1))
    noisy = keras.layers.GaussianNoise(0.3)(inputs, training=True)
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(noisy))
    keras.Model(inputs, logits).save(tmp_path / "random.keras")
    with pytest.raises(UserError, match="answers the same images differently each time") as error:
        load_victim(tmp_path / "random.keras", trust=trust)
    assert len(str(error.value)) - len(str(tmp_path)) <= 280


def test_noise_of_training_alone_is_no_randomness(tmp_path):
    layers = (keras.layers.GaussianNoise(0.3), keras.layers.Dropout(0.5), keras.layers.Dense(3))
    load_victim(saved_network(tmp_path / "still.keras", *layers))


def test_the_range_that_a_network_takes(tmp_path):
    """Rescaled by the network or given in the range: the same function of images in [0, 1]."""
    kernel = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    dense = keras.layers.Dense(3, kernel_initializer=keras.initializers.Constant(kernel))
    layers = (keras.layers.Rescaling(1 / 127.5, -1.0), dense)
    path = saved_network(tmp_path / "takes_255.keras", *layers)
    victim = load_victim(path, input_range=(0, 255))
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 1)).astype(np.float32)
    expected = (2.0 * images.reshape(5, 16).astype(np.float64) - 1) @ kernel
    np.testing.assert_allclose(victim.logits_fn(tf.constant(images)), expected, atol=1e-5)
    _, gradient = logits_and_gradient(victim.logits_fn, tf.constant(images), tf.zeros(5, tf.int64))
    shares = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    by_hand = 2 * (shares - np.eye(3)[0]) @ kernel.T
    np.testing.assert_allclose(np.reshape(gradient, (5, 16)), by_hand, atol=1e-5)


def test_logits_of_half_precision_are_float32(tmp_path):
    inputs = keras.Input((4, 4, 1))
    dense = keras.layers.Dense(3, dtype="mixed_float16")
    keras.Model(inputs, dense(keras.layers.Flatten()(inputs))).save(tmp_path / "half.keras")
    logits = load_victim(tmp_path / "half.keras").logits_fn(tf.ones([2, 4, 4, 1]))
    assert logits.dtype == tf.float32
    kernel = dense.kernel.numpy().astype(np.float64)
    np.testing.assert_allclose(logits, np.tile(kernel.sum(axis=0), (2, 1)), atol=0.02)


@pytest.mark.parametrize("form", ["keras", "saved_model"])
def test_images_without_an_axis_of_channels(tmp_path, form):
    kernel = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    if form == "keras":
        dense = keras.layers.Dense(3, kernel_initializer=keras.initializers.Constant(kernel))
        path = saved_network(tmp_path / "gray.keras", dense, shape=(4, 5))
    else:
        spec = tf.TensorSpec([None, 4, 5], tf.float32)
        path = tmp_path / "gray"
        save_function(lambda x: tf.reshape(x, [-1, 20]) @ kernel, path, spec)
    victim = load_victim(path)
    assert victim.image_shape == (4, 5, 1)
    images = np.random.default_rng(0).uniform(size=(6, 4, 5, 1)).astype(np.float32)
    expected = images.reshape(6, 20).astype(np.float64) @ kernel
    np.testing.assert_allclose(victim.logits_fn(tf.constant(images)), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "int32", "float64"])
def test_refuses_images_of_another_type(tmp_path, dtype):
    inputs = keras.Input((4, 4, 1), dtype=dtype)
    floats = keras.layers.Rescaling(1.0)(inputs)
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(floats))
    keras.Model(inputs, logits).save(tmp_path / "typed.keras")
    message = refusal(tmp_path / "typed.keras")
    assert f"expected one input, float32 [batch, height, width, channels]; has {dtype}" in message


def test_models_pruned_by_tf_mot_are_told_to_be_stripped(tmp_path):
    """As TF-MOT's `prune_low_magnitude` wraps layers."""

    @keras.saving.register_keras_serializable("TFMOT")
    class PruneLowMagnitude(keras.layers.Wrapper):
        def call(self, inputs):
            return self.layer(inputs)

    path = saved_network(tmp_path / "pruned.keras", PruneLowMagnitude(keras.layers.Dense(3)))
    message = refusal(path)
    assert "strip_pruning(model)" in message and len(message) - len(str(path)) <= 250


def test_refuses_images_that_are_not_square():
    data = trained.mnist().limited(0, 10, 10, 10)
    for shape in ((28, 32, 1), (32, 28, 1), (28, 32, 3)):
        for resized in (False, True):
            victim = dataclasses.replace(trained.victim_of(None, shape), resized=resized)
            with pytest.raises(UserError, match=r"takes images of shape .*; expected square ones"):
                fitting_data(victim, data)


_SAVE_TEXT_MODEL = """
import sys
import tensorflow as tf
import tensorflow_text

module = tf.Module()
module.words = tensorflow_text.FastWordpieceTokenizer(["[UNK]", "a"], token_out_type=tf.int32)
strings = tf.TensorSpec([None], tf.string)
module.serve = tf.function(lambda x: module.words.tokenize(x).to_tensor(0), [strings])
tf.saved_model.save(module, sys.argv[1], signatures=module.serve)
"""


@pytest.mark.parametrize("trust", [False, True])
def test_refuses_a_network_for_texts(tmp_path, trust):
    """Made and loaded in processes of their own: the operations stay once they are there."""
    if importlib.util.find_spec("tensorflow_text") is None:
        pytest.skip("needs the extra `text`")
    folder = tmp_path / "texts"
    subprocess.run([sys.executable, "-c", _SAVE_TEXT_MODEL, folder], check=True, timeout=300)
    call = f"victims.load_victim({str(folder)!r}, trust={trust})"
    code = f"from tf_tickets.evaluation import victims; {call}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    line = ran.stderr.splitlines()[-1]
    assert f"UserError: --model={folder}: its graph has the operation FastWordpiece" in line
    assert "networks for texts" in line and len(line) - len(str(folder)) <= 250
