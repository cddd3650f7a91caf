"""Training steps of LeNet-300-100: ours beside plain PyTorch, and beside their matrix products.

    python -m benchmarks.train_step

Needs the extra `benchmark`. Everything is measured in one process, the contestants in
turn, so that only ratios are worth quoting. PyTorch has the better of one and two threads.
"""

from collections.abc import Callable

import experiments  # noqa: F401  (silences TensorFlow's start)

# isort: split
import numpy as np
import tensorflow as tf
import torch
from absl import app, flags
from tabulate import tabulate
from torch.nn import functional

from benchmarks import parse
from benchmarks.timing import time_in_turn
from tf_tickets import runtime
from tf_tickets.attacks.threat_model import fgsm, pgd
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.registry import load_images
from tf_tickets.training.trainer import Trainer, TrainingSettings

flags.DEFINE_integer("rounds", 15, "How often each contestant is timed; the median counts.", 1)
flags.DEFINE_integer("steps", 60, "Training steps per timing.", 1)

BATCH, EPS, LEARNING_RATE = 60, 0.3, 1.2e-3
UNITS = (784, 300, 100, 10)
ATTACKS = {"fgsm": fgsm(EPS), "pgd": pgd(EPS, 0.05, 10)}
REGIMES = ("natural", *ATTACKS)
# Ties a product to the one before it; a factor of zero would let the graph drop both.
TINY = 1e-30

# Runs that many training steps.
Contestant = Callable[[int], None]


def ours(regime: str, data, strategy) -> Contestant:
    """tf_tickets' step, many to a call, masks applied."""
    settings = TrainingSettings("lenet_300_100", BATCH, LEARNING_RATE, 0.0, ATTACKS)
    trainer = Trainer(settings, regime, data, strategy, seed=0)
    order = BatchOrder(len(data.train), BATCH, 0)
    start = tf.constant(0)

    def run(steps):
        rates = tf.fill([steps], LEARNING_RATE)
        trainer.train_steps(tf.constant(order.indices(0, steps)), start, rates).numpy()

    return run


def pytorch(regime: str, data, fused: bool) -> Contestant:
    """The same mathematics, the usual way: natural or FGSM/PGD examples, Adam, masks applied."""
    layers = [
        torch.nn.Linear(inputs, outputs, bias=False) for inputs, outputs in zip(UNITS, UNITS[1:])
    ]
    relu = torch.nn.ReLU()
    model = torch.nn.Sequential(layers[0], relu, layers[1], relu, layers[2])
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=1e-7, fused=fused)
    masks = [torch.ones_like(weight) for weight in model.parameters()]
    all_images = torch.tensor(data.train.images.reshape(-1, UNITS[0]))
    all_labels = torch.tensor(data.train.labels)
    order = torch.tensor(BatchOrder(len(data.train), BATCH, 0).indices(0, 1000))

    def attack(images, labels, threat_model):
        adversarial = images
        for _ in range(threat_model.steps):
            adversarial = adversarial.detach().requires_grad_(True)
            loss = functional.cross_entropy(model(adversarial), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
            with torch.no_grad():
                adversarial = adversarial + threat_model.step_size * gradient.sign()
                adversarial = images + (adversarial - images).clamp(-EPS, EPS)
                adversarial = adversarial.clamp(0, 1)
        return adversarial.detach()

    def step(indices):
        images, labels = all_images[indices].float() / 255, all_labels[indices]
        if regime != "natural":
            adversarial = attack(images, labels, ATTACKS[regime])
            images, labels = torch.cat([images, adversarial]), torch.cat([labels, labels])
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        with torch.no_grad():
            for weight, mask in zip(model.parameters(), masks):
                weight.mul_(mask)

    def run(steps):
        for index in range(steps):
            step(order[index])

    return run


def matrix_products(regime: str, chunks: int) -> Contestant:
    """Only the matrix products of our step, on as many rows, side by side where ours are."""
    weights = [tf.random.normal(shape) for shape in zip(UNITS, UNITS[1:])]

    def forward(inputs):
        return [tf.matmul(x, w) for x, w in zip(inputs, weights)]

    def to_inputs(outputs, first_layer):
        pairs = list(zip(outputs, weights))[first_layer:]
        return [tf.matmul(d, w, transpose_b=True) for d, w in pairs]

    def to_weights(inputs, outputs):
        return [tf.matmul(x, d, transpose_a=True) for x, d in zip(inputs, outputs)]

    def attack(rows, steps):
        inputs = [tf.ones([rows, units]) for units in UNITS]

        def body(index, checksum):
            # Every product depends on the step before, as in the attack.
            moved = [x + checksum for x in inputs]
            products = forward(moved[:-1]) + to_inputs(moved[1:], first_layer=0)
            return index + 1, tf.add_n([product[0, 0] for product in products]) * TINY

        start = (0, 0.0)
        return tf.while_loop(lambda index, _: index < steps, body, start, parallel_iterations=1)[1]

    def step(checksum):
        rows = BATCH
        if regime != "natural":
            share = BATCH // chunks
            parts = [attack(share, ATTACKS[regime].steps) for _ in range(chunks)]
            checksum += tf.add_n(parts)
            rows = 2 * BATCH
        inputs = [tf.ones([rows, units]) + checksum for units in UNITS]
        products = forward(inputs[:-1]) + to_inputs(inputs[1:], first_layer=1)
        products += to_weights(inputs[:-1], inputs[1:])
        return tf.add_n([product[0, 0] for product in products]) * TINY

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def run(steps):
        checksum = tf.constant(0.0)
        for _ in tf.range(steps):
            checksum = step(checksum)
        return checksum

    return lambda steps: run(tf.constant(steps)).numpy()


def with_threads(contestant: Contestant, threads: int) -> Contestant:
    """A PyTorch contestant held to so many threads."""

    def run(steps):
        torch.set_num_threads(threads)
        contestant(steps)

    return run


def row(regime: str, data, strategy, rounds: int, steps: int) -> list[str]:
    """One line of the table."""
    chunks = runtime.parallel_chunks(strategy)
    contestants = {
        "ours": ours(regime, data, strategy),
        "products": matrix_products(regime, chunks),
    }
    for fused in (False, True):
        peer = pytorch(regime, data, fused)
        for threads in (1, 2):
            contestants[f"torch {fused} {threads}"] = with_threads(peer, threads)
    medians = time_in_turn(contestants, rounds, steps)
    plain, fused = (
        min(medians[f"torch {fused} {threads}"] for threads in (1, 2)) for fused in (False, True)
    )
    return [
        regime,
        f"{plain / medians['ours']:.2f}×",
        f"{fused / medians['ours']:.2f}×",
        f"{medians['products'] / medians['ours']:.0%}",
    ]


def main(_):
    """Prints the table."""
    strategy = runtime.make_strategy("one_device")
    data = load_images("mnist", "embedded")
    values = flags.FLAGS
    table = [row(regime, data, strategy, values.rounds, values.steps) for regime in REGIMES]
    headings = [
        "step",
        "faster than PyTorch",
        "than PyTorch with fused Adam",
        "share of the limit set by the products",
    ]
    print(f"PyTorch {torch.__version__}, TensorFlow {tf.__version__}, NumPy {np.__version__}")
    print(tabulate(table, headings, tablefmt="pipe"))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
