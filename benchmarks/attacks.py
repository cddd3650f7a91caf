"""PGD-20 on SavedModels: ours beside Foolbox's, on the same files and images.

    python -m benchmarks.attacks

Needs the extra `benchmark`. Everything is measured in one process, the contestants in
turn, so that only ratios are worth quoting. TensorFlow's threads are chosen once a process:
--threads=side_by_side is how the drivers run, every operation in one thread and slices of
the batch on the cores; --threads=shared divides every operation among the cores, which is
TensorFlow's default and best for Foolbox.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import experiments  # noqa: F401  (silences TensorFlow's start)

# isort: split
import foolbox
import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import app, flags, logging
from tabulate import tabulate

from benchmarks import parse
from benchmarks.timing import time_in_turn
from tf_tickets import runtime
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.data.registry import load_images
from tf_tickets.deployment.saved_model import export_saved_model
from tf_tickets.evaluation.victims import load_victim
from tf_tickets.masking.ticket import Provenance, dense_ticket
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import weight_path

flags.DEFINE_integer("rounds", 7, "How often each contestant is timed; the median counts.", 1)
flags.DEFINE_integer("images", 100, "Images an attack.", 1)
flags.DEFINE_enum("threads", "side_by_side", ["side_by_side", "shared"], "See above.")

EPS, STEP_SIZE, STEPS = 8 / 255, 2 / 255, 20
# Network → (image size, epochs of training before it is attacked).
NETWORKS = {"lenet_300_100": (28, 2), "wide_resnet_10_1": (32, 1)}

# Images to adversarial images.
Contestant = Callable[[tf.Tensor, tf.Tensor], np.ndarray]


def trained_saved_model(name: str, size: int, epochs: int, folder: Path):
    """Trains a network a little, so that its accuracies mean something, and exports it."""
    keras.utils.set_random_seed(0)
    data = load_images("mnist", "embedded").padded(size)
    model = build_model(name, data.image_shape, data.num_classes, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.legacy.Adam(1e-3), loss)
    images = data.train.images / np.float32(255)
    model.fit(images, data.train.labels, batch_size=100, epochs=epochs, verbose=0)
    kernels = {weight_path(v): tuple(v.shape) for v in model.weights if "kernel" in v.name}
    ticket = dense_ticket(kernels, Provenance("none", name, {}, data.name, 0, 0, "", "", {}))
    export_saved_model(model, ticket, folder, images[:8])
    return data.test


def ours(folder: Path, chunks: int) -> Contestant:
    """tf_tickets' attack in one graph."""
    attack = tf.function(
        build_attack(pgd(EPS, STEP_SIZE, STEPS), load_victim(folder).logits_fn, chunks)
    )
    return lambda images, labels: attack(images, labels).numpy()


def foolboxs(folder: Path) -> Contestant:
    """Foolbox's attack."""
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["float_images"]
    model = foolbox.TensorFlowModel(lambda images: serve(images=images)["logits"], bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=False)

    def run(images, labels, _kept_alive=loaded):
        criterion = foolbox.criteria.Misclassification(labels)
        return attack.run(model, images, criterion, epsilon=EPS).numpy()

    return run


def repeated(attack: Contestant, images: tf.Tensor, labels: tf.Tensor) -> Callable[[int], None]:
    """Attacks so many times."""

    def run(times):
        for _ in range(times):
            attack(images, labels)

    return run


def row(name: str, folder: Path, chunks: int) -> list[str]:
    """One line of the table."""
    test = trained_saved_model(name, *NETWORKS[name], folder)
    count = flags.FLAGS.images
    images = tf.constant(test.images[:count] / np.float32(255))
    labels = tf.constant(test.labels[:count])
    logits_fn = load_victim(folder).logits_fn
    attacks = {"ours": ours(folder, chunks), "foolbox": foolboxs(folder)}

    def accuracy(examples):
        return np.mean(np.argmax(logits_fn(tf.constant(examples)), axis=1) == labels)

    medians = time_in_turn(
        {who: repeated(attack, images, labels) for who, attack in attacks.items()},
        flags.FLAGS.rounds,
        units=1,
    )
    return [
        name,
        f"{medians['foolbox'] / medians['ours']:.2f}×",
        f"{accuracy(images):.1%}",
        *(f"{accuracy(attack(images, labels)):.1%}" for attack in attacks.values()),
    ]


def main(_):
    """Prints the table."""
    logging.set_verbosity(logging.ERROR)
    if flags.FLAGS.threads == "shared":
        tf.config.threading.set_intra_op_parallelism_threads(runtime.available_cores())
        tf.config.threading.set_inter_op_parallelism_threads(runtime.available_cores())
        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    else:
        strategy = runtime.make_strategy("one_device")
    chunks = runtime.parallel_chunks(strategy)
    with tempfile.TemporaryDirectory() as folder:
        table = [row(name, Path(folder, name), chunks) for name in NETWORKS]
    headings = ["network", "faster than Foolbox", "natural", "PGD-20", "Foolbox's PGD-20"]
    print(f"Foolbox {foolbox.__version__}, TensorFlow {tf.__version__}, NumPy {np.__version__}")
    print(tabulate(table, headings, tablefmt="pipe"))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
