"""A small plan of a pre-training, tickets and a transfer, that tests carry out."""

import dataclasses

from tests.work.plans import FINDING
from tf_tickets.attacks.threat_model import pgd, with_margin_attack
from tf_tickets.image_work.data import ImageSource
from tf_tickets.training.schedules import Constant
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import (
    Attack,
    FoundTicket,
    Fresh,
    Inherited,
    Masks,
    Measurement,
    Network,
    RandomMasks,
    Recipe,
    Training,
)

PGD = pgd(0.1, 0.05, 2, random_start=True)
ATTACKED = Attack("pgd_2", PGD)
SOURCE, _ = ImageSource("fashion_mnist", "embedded", None, 0, 40, 10, 20).read(0)
TARGET, TARGET_IMAGES = ImageSource(
    "mnist_classes_0_4", "embedded", None, 0, 40, 10, 20, sizing="scaled"
).read(0)


def labels(data_set, method, level=0):
    """What the view and the results need."""
    return {
        "data_set": data_set,
        "model": "lenet_conv",
        "regime": "pgd",
        "method": method,
        "seed": 0,
        "level": level,
    }


PRETRAINED = Training(
    network=Network("lenet_conv", (28, 28, 1), 10, 0.2),
    data=SOURCE,
    recipe=Recipe(10, "sgd", "adversarial", weight_decay=5e-4),
    against="pgd",
    attack=PGD,
    iterations=4,
    evaluate_every=2,
    rates=Constant(0.03),
    start=Fresh(0),
    seed=0,
    stream=0,
    platform=FINDING.platform,
    masked="convolutions",
    measured=(ATTACKED,),
    labels=labels("fashion_mnist", "at_pretraining"),
)
FIRST = FoundTicket(Masks(PRETRAINED, 0.2, "magnitude"), 1, labels("fashion_mnist", "at_imp", 1))
RETRAINED = dataclasses.replace(
    PRETRAINED,
    start=Inherited(PRETRAINED),
    stream=1,
    evaluate_every=4,
    masks=FIRST,
    labels=FIRST.labels,
)
SECOND = FoundTicket(Masks(RETRAINED, 0.36, "magnitude"), 2, labels("fashion_mnist", "at_imp", 2))
AT_RANDOM = FoundTicket(
    RandomMasks(PRETRAINED, 0.36, 0), 2, labels("fashion_mnist", "at_random", 2)
)
TRANSFERRED = dataclasses.replace(
    PRETRAINED,
    network=Network("lenet_conv", (28, 28, 1), 5, 0.2),
    data=dataclasses.replace(TARGET, percent=50.0),
    start=Inherited(PRETRAINED, new_head=7),
    stream=2,
    masks=SECOND,
    selections=(Selection("validation/pgd_2/accuracy"), Selection("validation/natural/accuracy")),
    keeps=(0, 2, 4),
    labels=labels("mnist_classes_0_4", "at_imp_50", 2),
)
DENSE = dataclasses.replace(
    TRANSFERRED,
    data=TARGET,
    masks=None,
    stream=0,
    keeps=(),
    labels=labels("mnist_classes_0_4", "at_dense_100"),
)
UNSEEN = dataclasses.replace(
    DENSE, start=Fresh(3), labels=labels("mnist_classes_0_4", "scratch_dense_100")
)


def measured_both(training):
    """All of its selections on test data."""
    attacks = tuple(Attack(name, a) for name, a in with_margin_attack({"pgd_2": PGD}).items())
    return Measurement(training, attacks, examples=20, selections=(0, 1), labels=training.labels)


def attacked(training):
    """Under the examples of the unseen network."""
    attack = Attack("transfer_attack", PGD)
    return Measurement(
        training, transferred=((UNSEEN, attack),), examples=20, labels=training.labels
    )
