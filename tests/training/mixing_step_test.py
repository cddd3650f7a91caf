"""Training on erased and mixed images: the loss by hand, on one device and on several."""

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import mirrored
from tests.training.convolutional_step_test import make_data, make_trainer, order, run
from tf_tickets.data.augmentation import MIXING, random_crop_and_flip
from tf_tickets.data.vision import to_unit_interval
from tf_tickets.training.objectives import cross_entropy

SEED = 4  # Of `make_trainer`.


def test_the_loss_of_a_mixed_target_is_the_mixture_of_the_losses():
    logits = tf.constant(np.random.default_rng(0).normal(size=(5, 3)), tf.float32)
    one, other = tf.constant([0, 1, 2, 1, 0]), tf.constant([2, 2, 1, 1, 0])
    for smoothing in (0.0, 0.1):
        targets = 0.3 * tf.one_hot(one, 3) + 0.7 * tf.one_hot(other, 3)
        of_one, of_other = (cross_entropy(y, logits, smoothing) for y in (one, other))
        np.testing.assert_allclose(
            cross_entropy(targets, logits, smoothing), 0.3 * of_one + 0.7 * of_other, rtol=1e-5
        )


@pytest.mark.parametrize("regime", MIXING)
def test_a_step_learns_from_mixed_images_after_crops_and_flips(regime):
    data, batch = make_data(augment=True), order(1)
    for iteration in (0, 3):
        trainer = make_trainer(regime, "lenet_300_100", data=data)
        pixels = tf.constant(data.train.images[batch[0]])
        pixels = random_crop_and_flip(pixels, tf.constant([-1 - SEED, iteration]))
        targets = tf.one_hot(data.train.labels[batch[0]], 10)
        seed = tf.constant([SEED, -1 - iteration])
        images, targets = MIXING[regime](to_unit_interval(pixels), targets, seed)
        expected = tf.reduce_mean(cross_entropy(targets, trainer.model(images)))
        unmixed = trainer.model(to_unit_interval(pixels))
        plain = tf.reduce_mean(cross_entropy(data.train.labels[batch[0]], unmixed))
        found = run(trainer, batch, [0.1], iteration)
        np.testing.assert_allclose(found, [expected], rtol=1e-4)
        assert abs(found[0] - plain) > 1e-3


@pytest.mark.parametrize("regime", MIXING)
def test_two_mirrored_devices_mix_the_whole_batch_as_one_does(regime):
    one = make_trainer(regime, "lenet_300_100")
    two = make_trainer(regime, "lenet_300_100", strategy=mirrored())
    batches, rates = order(3), [0.1, 0.1, 0.01]
    np.testing.assert_allclose(run(one, batches, rates), run(two, batches, rates), rtol=1e-4)
