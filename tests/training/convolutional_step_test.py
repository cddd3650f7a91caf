"""Steps of convolutional networks: scheduled SGD, weight decay, augmentation, attack modes."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import mirrored
from tf_tickets.attacks.gradient import build_attack, uniform_noise
from tf_tickets.attacks.threat_model import fgsm, pgd
from tf_tickets.data.augmentation import random_crop_and_flip
from tf_tickets.data.vision import ImageData, ImageSplit, to_unit_interval
from tf_tickets.training.objectives import adversarial, cross_entropy, mixed
from tf_tickets.training.trainer import Trainer, TrainingSettings

BATCH = 8
ATTACKS = {"fgsm": fgsm(8 / 255), "pgd": pgd(8 / 255, 2 / 255, 3, random_start=True)}


def make_data(augment=False):
    random = np.random.default_rng(0)
    split = ImageSplit(
        random.integers(256, size=(40, 16, 16, 3), dtype=np.uint8), random.integers(10, size=40)
    )
    names = tuple("0123456789")
    return ImageData("noise", "embedded", split, split, split, names, augment=augment)


def make_trainer(regime, model="wide_resnet_10_1", strategy=None, data=None, **changes):
    settings = TrainingSettings(
        model,
        BATCH,
        0.1,
        0.0,
        ATTACKS,
        **{"objective": "adversarial", "optimizer": "sgd", "width_multiplier": 0.25} | changes,
    )
    strategy = strategy or tf.distribute.OneDeviceStrategy("CPU:0")
    return Trainer(settings, regime, data or make_data(), strategy, seed=4)


def run(trainer, order, rates, first=0):
    order = tf.constant(np.asarray(order, np.int32))
    return trainer.train_steps(order, tf.constant(first), tf.constant(rates, tf.float32)).numpy()


def order(steps):
    return np.random.default_rng(1).integers(40, size=(steps, BATCH))


def test_scheduled_sgd_with_momentum_and_decay_equals_a_numpy_step():
    """v ← μ v − η (∇J + λ θ), θ ← θ + v, on softmax regression's gradient by hand."""
    trainer = make_trainer(
        "natural", "lenet_300_100", weight_decay=0.01, momentum=0.8, width_multiplier=1.0
    )
    data, batches, rates = make_data(), order(3), [0.1, 0.02, 0.05]
    weights = {path: w.astype(np.float64) for path, w in trainer.weights().items()}
    velocity = {path: np.zeros_like(w) for path, w in weights.items()}
    for indices, rate in zip(batches, rates):
        x = data.train.images[indices].reshape(BATCH, -1) / 255
        w1, w2, w3 = weights.values()
        h1 = np.maximum(x @ w1, 0)
        h2 = np.maximum(h1 @ w2, 0)
        exponentials = np.exp(h2 @ w3)
        d3 = exponentials / exponentials.sum(1, keepdims=True)
        d3[np.arange(BATCH), data.train.labels[indices]] -= 1
        d3 /= BATCH
        d2 = (d3 @ w3.T) * (h2 > 0)
        d1 = (d2 @ w2.T) * (h1 > 0)
        for path, gradient in zip(weights, (x.T @ d1, h1.T @ d2, h2.T @ d3)):
            velocity[path] = 0.8 * velocity[path] - rate * (gradient + 0.01 * weights[path])
            weights[path] = weights[path] + velocity[path]
    run(trainer, batches, rates)
    for path, weight in trainer.weights().items():
        np.testing.assert_allclose(weight, weights[path], atol=2e-5)


def test_objectives_put_their_examples_together():
    images, labels, noise = tf.zeros([2, 3]), tf.constant([0, 1]), tf.ones([2, 3])
    attack = lambda x, y, noise: x + noise  # noqa: E731
    np.testing.assert_array_equal(adversarial(attack)(images, labels, noise)[0], np.ones((2, 3)))
    np.testing.assert_array_equal(adversarial(attack)(images, labels, noise)[1], [0, 1])
    both, both_labels = mixed(attack)(images, labels, noise)
    np.testing.assert_array_equal(both, [[0] * 3] * 2 + [[1] * 3] * 2)
    np.testing.assert_array_equal(both_labels, [0, 1, 0, 1])


def test_adversarial_training_meets_only_the_attacked_examples():
    """The loss of the first step is that of examples attacked in inference mode, by hand."""
    trainer, data, batch = make_trainer("pgd"), make_data(), order(1)
    images = to_unit_interval(data.train.images[batch[0]])
    labels = tf.constant(data.train.labels[batch[0]])
    attack = build_attack(ATTACKS["pgd"], lambda x: trainer.model(x, training=False))
    attacked = attack(images, labels, uniform_noise(images, (4, 0)))
    expected = tf.reduce_mean(cross_entropy(labels, trainer.model(attacked, training=True)))
    trainer.reset(make_trainer("pgd").weights(), trainer.masks.read())
    np.testing.assert_allclose(run(trainer, batch, [0.1]), [expected], rtol=2e-3)


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_statistics_move_once_a_step_or_with_every_attack_step(mode):
    """Moving averages are m ← 0.9 m + 0.1 s: from 0, the number of updates shows in them."""
    trainer = make_trainer("pgd", attack_mode=mode)
    variance = next(v for v in trainer.model.variables if "moving_variance" in v.name)
    variance.assign(tf.fill(variance.shape, 1e6))  # Far above what is measured, so it decays.
    run(trainer, order(1), [0.1])
    updates = {"inference": 1, "training": 1 + ATTACKS["pgd"].steps}[mode]
    np.testing.assert_allclose(variance, 1e6 * 0.9**updates, rtol=1e-3)


def test_augmentation_is_drawn_for_each_iteration():
    trainer, data, batch = make_trainer("natural", data=make_data(True)), make_data(), order(1)
    for iteration in (0, 5):
        start = trainer.weights()
        seed = tf.constant([-1 - 4, iteration])
        images = random_crop_and_flip(tf.constant(data.train.images[batch[0]]), seed)
        logits = trainer.model(to_unit_interval(images), training=True)
        expected = tf.reduce_mean(cross_entropy(data.train.labels[batch[0]], logits))
        trainer.reset(start, trainer.masks.read())
        found = run(trainer, batch, [0.1], iteration)
        np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_validation_images_are_never_augmented():
    data = make_data(True)
    assert data.augment and dataclasses.replace(data, augment=False).validation is data.validation


@pytest.mark.parametrize("regime", ["natural", "pgd"])
def test_two_mirrored_devices_draw_what_one_does(regime):
    data = make_data(True)
    changes = {"model": "lenet_300_100", "weight_decay": 0.01, "data": data}
    one, two = make_trainer(regime, **changes), make_trainer(regime, strategy=mirrored(), **changes)
    batches, rates = order(4), [0.1, 0.1, 0.01, 0.01]
    np.testing.assert_allclose(run(one, batches, rates), run(two, batches, rates), rtol=1e-4)
    for path, weight in one.weights().items():
        np.testing.assert_allclose(weight, two.weights()[path], atol=2e-4)


# The signs of PGD's gradients soon turn differences of rounding into others.
@pytest.mark.parametrize(("regime", "steps"), [("natural", 12), ("pgd", 4)])
def test_two_mirrored_devices_normalize_as_one_does(regime, steps):
    """The loss curves of one device and of two, through BatchNorm's batch statistics."""
    one, two = make_trainer(regime), make_trainer(regime, strategy=mirrored())
    batches, rates = order(steps), [0.02] * steps
    curve = run(one, batches, rates)
    np.testing.assert_allclose(run(two, batches, rates), curve, rtol=2e-3)
    assert np.ptp(curve) > 0.1  # There was something to get wrong.
    for path, weight in one.weights().items():
        if "moving" in path:
            np.testing.assert_allclose(two.weights()[path], weight, rtol=0.02, atol=2e-3)


def test_mirrored_batch_norms_train_and_stay_equal():
    trainer = make_trainer("pgd", strategy=mirrored())
    masks = {
        path: np.random.default_rng(3).random(s) < 0.3 for path, s in trainer.masks.shapes.items()
    }
    trainer.reset(trainer.weights(), masks)
    assert np.isfinite(run(trainer, order(3), [0.1] * 3)).all()
    for variable in trainer.model.trainable_variables:
        first, second = (replica.numpy() for replica in variable.values)
        np.testing.assert_array_equal(first, second)
    for path, mask in masks.items():
        assert not np.any(trainer.weights()[path][~mask])


def test_masked_filters_and_their_norms_stay_zero_through_training():
    trainer = make_trainer("pgd", weight_decay=1e-4)
    run(trainer, order(2), [0.1] * 2)  # Gives every weight momentum.
    masks = {path: np.ones(shape, bool) for path, shape in trainer.masks.shapes.items()}
    path = next(path for path in masks if path.endswith("conv_1/kernel"))
    masks[path][..., 0] = False
    trainer.masks.assign(masks)
    dead = [p for p, w in trainer.weights().items() if w.ndim == 1 and w[0] == 0 and "gamma" in p]
    assert dead
    for step in range(2, 5):
        run(trainer, order(step + 1)[step:], [0.1], step)
        weights = trainer.weights()
        assert not np.any(weights[path][..., 0])
        assert all(weights[name][0] == 0 for name in dead)
