"""LeNet-300-100 on random images: the smallest thing that trains like the real one."""

import functools

import numpy as np
import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.attacks.threat_model import fgsm, pgd
from tf_tickets.data.vision import ImageData, ImageSplit
from tf_tickets.errors import StopRequested
from tf_tickets.training.trainer import Trainer, TrainingSettings

BATCH = 12
LEARNING_RATE = 1.2e-3
ATTACKS = {"fgsm": fgsm(0.3), "pgd": pgd(0.3, 0.05, 10)}


def make_data(count=48):
    random = np.random.default_rng(0)
    split = ImageSplit(
        random.integers(256, size=(count, 28, 28, 1), dtype=np.uint8),
        random.integers(10, size=count),
    )
    return ImageData("noise", "embedded", split, split, split, tuple("0123456789"))


@functools.cache
def mirrored():
    """Two logical CPUs. One for all tests: TensorFlow numbers the collective operations of
    each strategy anew, and confuses those of two strategies in one process."""
    return runtime.make_strategy("mirrored")


def make_trainer(regime, strategy=None, batch_size=BATCH, **changes):
    settings = {"learning_rate": LEARNING_RATE, "label_smoothing": 0.0} | changes
    return Trainer(
        TrainingSettings("lenet_300_100", batch_size, threat_models=ATTACKS, **settings),
        regime,
        make_data(),
        strategy or tf.distribute.OneDeviceStrategy("CPU:0"),
        seed=4,
    )


def make_order(steps, batch_size=BATCH):
    return np.random.default_rng(1).integers(48, size=(steps, batch_size)).astype(np.int32)


def run(trainer, order, first_iteration=0):
    rates = tf.fill([len(order)], LEARNING_RATE)
    return trainer.train_steps(tf.constant(order), tf.constant(first_iteration), rates).numpy()


def stop_at_call(number):
    """Raises `StopRequested` when asked for the number-th time."""
    calls = []

    def stop_if_requested():
        calls.append(None)
        if len(calls) == number:
            raise StopRequested(15)

    return stop_if_requested
