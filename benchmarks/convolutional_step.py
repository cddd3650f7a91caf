"""Training steps of narrow residual networks: ours beside plain PyTorch.

    python -m benchmarks.convolutional_step

Needs the extra `benchmark`. Natural and PGD-10 steps with SGD, momentum and weight decay at
batch 128 on 32×32 images; contestants in turn within one process, so that only ratios are
worth quoting. PyTorch has two threads and its channels-last layout, and computes no gradient
of the weights while it attacks.
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

from benchmarks import parse, torch_networks
from benchmarks.timing import time_in_turn
from tf_tickets import runtime
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.data.vision import ImageData, ImageSplit
from tf_tickets.training.trainer import Trainer, TrainingSettings

flags.DEFINE_integer("rounds", 7, "How often each contestant is timed; the median counts.", 1)
flags.DEFINE_integer("steps", 3, "Training steps per timing.", 1)

BATCH, EPS, STEP_SIZE, ATTACK_STEPS = 128, 8 / 255, 2 / 255, 10
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
ATTACKS = {"pgd": pgd(EPS, STEP_SIZE, ATTACK_STEPS, random_start=True)}
# Label → (our name, width multiplier, the same in PyTorch).
NETWORKS = {
    "ResNet-18, a quarter of the width": (
        "resnet_18",
        0.25,
        lambda: torch_networks.resnet_18(0.25),
    ),
    "WideResNet-10-1": ("wide_resnet_10_1", 1.0, lambda: torch_networks.wide_resnet(10, 1)),
    "WideResNet-16-2": ("wide_resnet_16_2", 1.0, lambda: torch_networks.wide_resnet(16, 2)),
}


def random_data(examples: int = 1024) -> ImageData:
    """Images of noise: what a step costs does not depend on them."""
    generator = np.random.default_rng(0)
    split = ImageSplit(
        generator.integers(256, size=(examples, 32, 32, 3), dtype=np.uint8),
        generator.integers(10, size=examples),
    )
    return ImageData("noise", "embedded", split, split, split, tuple("0123456789"))


def our_trainer(name: str, width: float, regime: str, data: ImageData, strategy) -> Trainer:
    """tf_tickets' step, masks applied."""
    settings = TrainingSettings(
        name,
        BATCH,
        LEARNING_RATE,
        0.0,
        ATTACKS,
        objective="adversarial",
        optimizer="sgd",
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        width_multiplier=width,
    )
    return Trainer(settings, regime, data, strategy, seed=0)


def ours(trainer: Trainer, order: np.ndarray) -> Callable[[int], None]:
    """So many steps in one call."""

    def run(steps):
        rates = tf.fill([steps], LEARNING_RATE)
        trainer.train_steps(tf.constant(order[:steps]), tf.constant(0), rates).numpy()

    return run


def pytorchs(model: torch.nn.Module, regime: str, data: ImageData, order: np.ndarray):
    """The same mathematics, the usual way."""
    model = torch_networks.channels_last(model)
    weights = list(model.parameters())
    optimizer = torch.optim.SGD(weights, LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
    masks = [(weight, torch.ones_like(weight)) for weight in weights if weight.ndim > 1]
    pixels = torch.tensor(data.train.images).permute(0, 3, 1, 2)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    labels, order = torch.tensor(data.train.labels), torch.tensor(order, dtype=torch.int64)

    def attack(images, targets):
        model.eval().requires_grad_(False)
        adversarial = images + torch.empty_like(images).uniform_(-EPS, EPS)
        for _ in range(ATTACK_STEPS):
            adversarial = adversarial.detach().requires_grad_(True)
            loss = functional.cross_entropy(model(adversarial), targets, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
            with torch.no_grad():
                adversarial = adversarial + STEP_SIZE * gradient.sign()
                adversarial = images + (adversarial - images).clamp(-EPS, EPS)
                adversarial = adversarial.clamp(0, 1)
        model.requires_grad_(True)
        return adversarial.detach()

    def step(indices):
        images, targets = pixels[indices].float() / 255, labels[indices]
        if regime == "pgd":
            images = attack(images, targets)
        model.train()
        optimizer.zero_grad()
        functional.cross_entropy(model(images), targets).backward()
        optimizer.step()
        with torch.no_grad():
            for weight, mask in masks:
                weight.mul_(mask)

    def run(steps):
        for index in range(steps):
            step(order[index])

    return run


def row(label: str, regime: str, data: ImageData, strategy) -> list[str]:
    """One line of the table."""
    name, width, build_peer = NETWORKS[label]
    order = np.random.default_rng(1).integers(len(data.train), size=(100, BATCH))
    order = order.astype(np.int32)
    trainer, peer = our_trainer(name, width, regime, data, strategy), build_peer()
    if trainer.model.count_params() - _statistics(trainer.model) != (
        torch_networks.count_parameters(peer)
    ):
        raise ValueError(f"{label}: the two networks differ")
    contestants = {"ours": ours(trainer, order), "torch": pytorchs(peer, regime, data, order)}
    medians = time_in_turn(contestants, flags.FLAGS.rounds, flags.FLAGS.steps)
    return [label, regime, f"{medians['torch'] / medians['ours']:.2f}×"]


def _statistics(model):
    return sum(weight.shape.num_elements() for weight in model.non_trainable_weights)


def main(_):
    """Prints the table."""
    strategy = runtime.make_strategy("one_device", split_operations=True)
    torch.set_num_threads(runtime.available_cores())
    data = random_data()
    table = [
        row(label, regime, data, strategy) for label in NETWORKS for regime in ("natural", "pgd")
    ]
    print(f"PyTorch {torch.__version__}, TensorFlow {tf.__version__}, NumPy {np.__version__}")
    print(tabulate(table, ["network", "step", "faster than PyTorch"], tablefmt="pipe"))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
