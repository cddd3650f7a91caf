"""Trains each network twice from the same start; what it prints must never change.

    python -m tests.training.repeatability NETWORK ...

Prints a line of JSON for each: its name, and a hash of all weights after each training.
"""

import hashlib
import json
import sys

import tf_tickets

# isort: split
import numpy as np
import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.data.vision import ImageData, ImageSplit
from tf_tickets.training.trainer import Trainer, TrainingSettings

BATCH, STEPS, EXAMPLES = 16, 4, 64
# The widths at which all strided shortcuts and stems are narrow; this network has one only.
WIDTHS = {"resnet_50": 1.0}
NARROW = 0.25


def noise() -> ImageData:
    random = np.random.default_rng(0)
    images = random.integers(256, size=(EXAMPLES, 32, 32, 3), dtype=np.uint8)
    split = ImageSplit(images, random.integers(10, size=EXAMPLES))
    return ImageData("noise", "embedded", split, split, split, tuple("0123456789"))


def digests(network: str, times: int = 2) -> list[str]:
    """Hashes of all weights after each of several equal trainings in this process."""
    strategy, width = runtime.make_strategy("one_device"), WIDTHS.get(network, NARROW)
    settings = TrainingSettings(
        network, BATCH, 0.05, 0.0, {}, optimizer="sgd", weight_decay=1e-4, width_multiplier=width
    )
    trainer = Trainer(settings, "natural", noise(), strategy, seed=3)
    start, masks = trainer.weights(), trainer.masks.read()
    order = np.random.default_rng(1).integers(EXAMPLES, size=(STEPS, BATCH), dtype=np.int32)
    return [_digest_after(trainer, start, masks, order) for _ in range(times)]


def _digest_after(trainer, start, masks, order):
    trainer.reset(start, masks)
    trainer.train_steps(tf.constant(order), tf.constant(0), tf.fill([STEPS], 0.05))
    digest = hashlib.sha256()
    for path, weights in sorted(trainer.weights().items()):
        digest.update(path.encode() + weights.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    assert tf_tickets  # Chooses Keras 2 before TensorFlow is imported.
    runtime.make_strategy("one_device", split_operations=True)
    for name in sys.argv[1:]:
        print(json.dumps([name, digests(name)]), flush=True)
