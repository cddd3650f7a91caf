"""Images that are scaled where they are used, against images that were scaled before."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.bilinear import bilinear
from tests.noise import mirrored
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.data.augmentation import random_crop_and_flip, random_resized_crop_and_flip
from tf_tickets.data.vision import ImageData, ImageSplit
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.training import step
from tf_tickets.training.trainer import Trainer, TrainingSettings

SIDE, SIZE, BATCH = 10, 16, 4
PGD = pgd(0.1, 0.03, 3, random_start=True)
DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")


def make_data(augment=False):
    random = np.random.default_rng(0)
    images = random.integers(256, size=(24, SIDE, SIDE, 3), dtype=np.uint8)
    split = ImageSplit(images, np.arange(24) % 10)
    return ImageData("noise", "embedded", split, split, split, tuple("0123456789"), augment)


def scaled(images):
    """uint8 images of SIDE as networks see them."""
    return np.stack([bilinear(image / 255, SIZE) for image in images]).astype(np.float32)


def make_trainer(data, regime="natural", strategy=DEVICE):
    settings = TrainingSettings(
        "lenet_conv", BATCH, 0.1, 0.0, {"pgd": PGD}, objective="adversarial", optimizer="sgd"
    )
    return Trainer(settings, regime, data, strategy, seed=3)


def losses(trainer, steps=3):
    order = np.arange(steps * BATCH, dtype=np.int32).reshape(steps, BATCH)
    rates = tf.fill([steps], 0.1)
    return trainer.train_steps(tf.constant(order), tf.constant(0), rates).numpy()


def cross_entropy(logits, labels):
    log_probabilities = tf.nn.log_softmax(logits).numpy()
    return -log_probabilities[np.arange(len(labels)), labels]


def test_networks_are_built_for_the_larger_images():
    trainer = make_trainer(make_data().resized(SIZE))
    assert trainer.model.input_shape == (None, SIZE, SIZE, 3)


def test_the_first_loss_is_that_of_images_scaled_before():
    data = make_data()
    trainer = make_trainer(data.resized(SIZE))
    logits = trainer.logits(tf.constant(scaled(data.train.images[:BATCH])))
    expected = cross_entropy(logits, data.train.labels[:BATCH]).mean()
    np.testing.assert_allclose(losses(trainer, 1), [expected], rtol=1e-5)


def test_images_are_augmented_at_their_own_size():
    data = make_data(augment=True)
    trainer = make_trainer(data.resized(SIZE))
    images, seed = tf.constant(data.train.images[:BATCH]), step._seed(3, 0, stream=1)
    changed = random_crop_and_flip(images, seed).numpy()
    logits = trainer.logits(tf.constant(scaled(changed)))
    expected = cross_entropy(logits, data.train.labels[:BATCH]).mean()
    np.testing.assert_allclose(losses(trainer, 1), [expected], rtol=1e-5)


def test_images_augmented_as_published_are_scaled_once():
    data = make_data().augmented_as_published()
    trainer = make_trainer(data.resized(SIZE))
    images, seed = tf.constant(data.train.images[:BATCH]) / 255, step._seed(3, 0, stream=1)
    changed = random_resized_crop_and_flip(tf.cast(images, tf.float32), seed, (SIZE, SIZE))
    expected = cross_entropy(trainer.logits(changed), data.train.labels[:BATCH]).mean()
    np.testing.assert_allclose(losses(trainer, 1), [expected], rtol=1e-5)


def test_attacks_in_training_change_the_scaled_images():
    data = make_data()
    trainer = make_trainer(data.resized(SIZE), "pgd")
    inputs, labels = scaled(data.train.images[:BATCH]), data.train.labels[:BATCH]
    noise = tf.random.stateless_uniform(inputs.shape, step._seed(3, 0, stream=0), -1.0, 1.0)
    attacked = build_attack(PGD, trainer.logits)(tf.constant(inputs), tf.constant(labels), noise)
    expected = cross_entropy(trainer.logits(attacked), labels).mean()
    np.testing.assert_allclose(losses(trainer, 1), [expected], rtol=1e-4)


@pytest.mark.parametrize("published", [False, True])
def test_two_devices_train_on_resized_images_as_one_does(published):
    data = make_data(augment=True)
    data = (data.augmented_as_published() if published else data).resized(SIZE)
    one, two = (make_trainer(data, "pgd", strategy) for strategy in (DEVICE, mirrored()))
    two.reset(one.weights(), one.masks.read())
    np.testing.assert_allclose(losses(one), losses(two), rtol=1e-4)


def test_the_evaluator_sees_the_middle_of_images_augmented_as_published():
    data = make_data().augmented_as_published().resized(SIZE)
    trainer = make_trainer(data)
    # 16 · 256 / 224 is 18.3, hence 18; one pixel goes on each side.
    seen = [bilinear(image / 255, 18)[1:17, 1:17] for image in data.test.images]
    logits = trainer.logits(tf.constant(np.stack(seen).astype(np.float32)))
    found = Evaluator(trainer.model, {}, 1).evaluate(data.test)
    expected = cross_entropy(logits, data.test.labels).mean()
    assert found["natural/loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("chunks", [1, 2])
def test_the_evaluator_measures_and_attacks_the_scaled_images(chunks):
    data = make_data()
    trainer = make_trainer(data.resized(SIZE))
    attacks = {"pgd": build_attack(PGD, trainer.logits)}
    evaluator = Evaluator(trainer.model, attacks, chunks, batch_size=9)
    found = evaluator.evaluate(data.resized(SIZE).test)
    images, labels = scaled(data.test.images), data.test.labels
    for name in ("natural", "pgd"):
        parts = []
        for start in range(0, 24, 9):
            inputs, targets = images[start : start + 9], tf.constant(labels[start : start + 9])
            if name == "pgd":
                noise = tf.random.stateless_uniform(inputs.shape, [0, start], -1.0, 1.0)
                inputs = attacks["pgd"](tf.constant(inputs), targets, noise)
            parts.append(trainer.logits(tf.constant(inputs)))
        logits = np.concatenate(parts)
        assert found[f"{name}/accuracy"] == pytest.approx(np.mean(logits.argmax(1) == labels))
        expected = cross_entropy(logits, labels).mean()
        assert found[f"{name}/loss"] == pytest.approx(expected, rel=1e-4)


def test_the_evaluator_is_traced_once_for_each_size_of_images_in_memory():
    traces = []

    class Counting(Evaluator):
        def _measure_batch(self, *arguments):
            traces.append(None)
            return super()._measure_batch(*arguments)

    model = keras.Sequential(
        [keras.layers.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    evaluator, data = Counting(model, {}, 1, batch_size=7), make_data()
    for _ in range(2):  # Batches of 7 and of the 3 that are left.
        evaluator.evaluate(data.resized(SIZE).test)
        evaluator.evaluate(data.padded(SIZE).test)
    assert len(traces) == 2


def test_the_evaluator_refuses_images_that_the_network_does_not_take():
    trainer = make_trainer(make_data().resized(SIZE))
    evaluator = Evaluator(trainer.model, {}, 1)
    for split in (make_data().test, make_data().resized(SIZE + 1).test):
        with pytest.raises(ValueError, match="the model takes"):
            evaluator.evaluate(split)
