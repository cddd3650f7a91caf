"""Networks whose layers are masked: what they learn, and how they are saved and served."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.masking.tiny_transformer import slots, tiny_backbone, tokens
from tf_tickets.masking.hard_concrete import HardConcreteMask, mean_expected_l0, wrap_layers
from tf_tickets.models.lenet import lenet_conv
from tf_tickets.models.resnet import cifar_resnet
from tf_tickets.models.weights import weight_path


def test_masks_find_the_weights_that_a_problem_needs():
    dense = keras.layers.Dense(1, kernel_initializer="ones", name="sum")
    model = wrap_layers(keras.Sequential([keras.layers.Input((6,)), dense]))
    mask = model.get_layer("sum")
    inputs = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    targets = inputs[:, :3].sum(axis=1, keepdims=True)
    optimizer = keras.optimizers.legacy.Adam(0.1)

    @tf.function
    def train(steps):
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(inputs, training=True) - targets) ** 2)
                loss += 0.05 * mean_expected_l0([mask])
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

    train(tf.constant(150))
    np.testing.assert_array_equal(mask.gate(), [[1], [1], [1], [0], [0], [0]])
    np.testing.assert_array_equal(mask.kernel, np.ones((6, 1)))
    np.testing.assert_allclose(model(inputs), targets, atol=1e-5)


NETWORKS = {
    "lenet_conv": lambda: lenet_conv((16, 16, 1), 3, 0, 0.25),
    "resnet_8": lambda: cifar_resnet((8, 8, 3), 4, 0, 0.25, depth=8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_images_are_wrapped_saved_and_reloaded(name, tmp_path):
    model = NETWORKS[name]()
    kernels = {weight_path(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}
    masked = wrap_layers(model, "neuron" if name == "resnet_8" else "weight")
    masks = [layer for layer in masked.layers if isinstance(layer, HardConcreteMask)]
    assert {weight_path(mask.kernel) for mask in masks} == kernels
    images = np.random.default_rng(0).random((4, *model.input_shape[1:])).astype(np.float32)

    for mask in masks:  # Wide open gates leave the network as it was.
        mask.log_alpha.assign(tf.fill(mask.log_alpha.shape, 9.0))
    np.testing.assert_allclose(masked(images), model(images), atol=1e-5)
    for mask in masks:
        mask.log_alpha.assign(np.random.default_rng(1).normal(size=mask.log_alpha.shape))
    assert np.abs(masked(images) - model(images)).max() > 1e-3

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(masked(images, training=True) ** 2)
    gradients = tape.gradient(loss, [mask.log_alpha for mask in masks])
    assert all(np.any(gradient) for gradient in gradients)

    masked.save(tmp_path / "masked.keras")
    reloaded = keras.models.load_model(tmp_path / "masked.keras")
    np.testing.assert_allclose(reloaded(images), masked(images), atol=1e-5)
    assert [w.name for w in reloaded.weights] == [w.name for w in masked.weights]
    assert [w.name for w in reloaded.trainable_weights] == [
        w.name for w in masked.trainable_weights
    ]


SERVER = """
import sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load("export")
assert "tf_tickets" not in sys.modules
np.save("outputs.npy", model.serve(tf.constant(np.load("images.npy"))))
"""


def test_an_export_serves_the_gates_without_this_project(tmp_path):
    masked = wrap_layers(NETWORKS["lenet_conv"]())
    for layer in masked.layers:
        if isinstance(layer, HardConcreteMask):
            layer.log_alpha.assign(np.random.default_rng(1).normal(size=layer.log_alpha.shape))
    images = np.random.default_rng(0).random((4, 16, 16, 1)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    masked.export(str(tmp_path / "export"))
    hidden = ("PYTHONPATH", "TF_USE_LEGACY_KERAS", "TF_ENABLE_ONEDNN_OPTS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", SERVER]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), masked(images), atol=1e-5)


def record_calls(monkeypatch, method):
    """The paths of the masks that a method of `HardConcreteMask` is called on, from now on."""
    paths, original = [], getattr(HardConcreteMask, method)

    def recorded(mask):
        paths.append(weight_path(mask.log_alpha))
        return original(mask)

    monkeypatch.setattr(HardConcreteMask, method, recorded)
    return paths


def test_every_mask_in_an_encoder_sees_training(monkeypatch):
    # keras-nlp does not pass `training` on to these layers; Keras' call context does.
    backbone, inputs = tiny_backbone(), tokens()
    for slot in slots(backbone):
        slot.put(HardConcreteMask(slot.layer))
    rebuilt = keras.Model(backbone.input, backbone(backbone.input))
    in_graph = tf.function(lambda training: rebuilt(inputs, training=training))
    sampled, gated = (record_calls(monkeypatch, method) for method in ("sample", "gate"))
    for call in (
        lambda training: backbone(inputs, training=training),
        lambda training: rebuilt(inputs, training=training),
        in_graph,
    ):
        for training, used, unused in ((True, sampled, gated), (False, gated, sampled)):
            sampled.clear(), gated.clear()
            hidden = call(training)["sequence_output"]
            assert len(set(used)) == len(used) == 12 and not unused
            changed = np.abs(call(training)["sequence_output"] - hidden).max()
            assert changed > 1e-3 if training else changed == 0


@pytest.mark.parametrize("granularity", ["weight", "head"])
def test_encoders_use_the_gates_and_give_gradients_to_log_alpha_alone(granularity):
    backbone, inputs = tiny_backbone(), tokens()
    masks = []
    for slot in slots(backbone):
        attention = "attention" in slot.owner.name
        masks.append(HardConcreteMask(slot.layer, granularity if attention else "weight"))
        slot.put(masks[-1])
    for mask in masks:
        mask.log_alpha.assign(np.random.default_rng(1).normal(size=mask.log_alpha.shape))
    assert len({weight_path(mask.log_alpha) for mask in masks}) == len(masks) == 12
    gated = backbone(inputs)["sequence_output"].numpy()

    with tf.GradientTape() as tape:
        loss = backbone(inputs, training=True)["sequence_output"][0, 0, 0]
    gradients = tape.gradient(loss, [mask.log_alpha for mask in masks])
    assert all(np.any(gradient) for gradient in gradients)

    kernels = {weight_path(mask.kernel) for mask in masks}
    trainable = {weight_path(weight) for weight in backbone.trainable_weights}
    assert kernels.isdisjoint(trainable)
    for slot, mask in zip(slots(backbone), masks):
        mask.kernel.assign(mask.kernel * mask.gate())
        slot.put(mask.layer)
    np.testing.assert_allclose(backbone(inputs)["sequence_output"], gated, atol=1e-5)


def test_masked_encoders_are_saved_restored_and_exported(tmp_path):
    def masked_bert(seed):
        backbone = tiny_backbone()
        for slot in slots(backbone):
            slot.put(HardConcreteMask(slot.layer))
            shape = slot.layer.log_alpha.shape
            slot.layer.log_alpha.assign(np.random.default_rng(seed).normal(size=shape))
        return keras.Model(backbone.input, backbone(backbone.input)["pooled_output"])

    model, other, inputs = masked_bert(0), masked_bert(1), tokens()
    assert np.abs(other(inputs) - model(inputs)).max() > 1e-3
    model.save_weights(tmp_path / "masked.weights.h5")
    other.load_weights(tmp_path / "masked.weights.h5")
    np.testing.assert_array_equal(other(inputs), model(inputs))
    model.export(str(tmp_path / "export"))
    served = tf.saved_model.load(str(tmp_path / "export"))
    outputs = served.serve([tf.constant(inputs[tensor.name]) for tensor in model.inputs])
    np.testing.assert_allclose(outputs, model(inputs), atol=1e-5)
