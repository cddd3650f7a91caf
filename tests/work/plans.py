"""Small plans that tests carry out."""

import dataclasses

from tf_tickets.attacks.threat_model import fgsm, pgd
from tf_tickets.image_work.data import ImageSource
from tf_tickets.training.schedules import StepDecay
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import (
    Attack,
    Fresh,
    Masks,
    Measurement,
    Network,
    Platform,
    Recipe,
    Training,
)

EPS = 0.1
SOURCE = ImageSource("mnist", "embedded", None, 0, 60, 20, 30)
DATA, IMAGES = SOURCE.read(0)
EVALUATION = Attack("pgd_5", pgd(EPS, EPS / 4, 5, True))


def labels(method, against, level=0):
    """What the view and the results need of a training."""
    return {
        "data_set": "mnist",
        "model": "lenet_300_100",
        "regime": against,
        "method": method,
        "seed": 0,
        "level": level,
    }


FINDING = Training(
    network=Network("lenet_300_100", (28, 28, 1), 10, 0.1),
    data=DATA,
    recipe=Recipe(20, "sgd", "adversarial"),
    against="fgsm",
    attack=fgsm(EPS),
    iterations=6,
    evaluate_every=3,
    rates=StepDecay(0.05, 2, 3),
    start=Fresh(0),
    seed=0,
    stream=0,
    platform=Platform(1, 1, (("tensorflow", "2.21.0"),)),
    measured=(EVALUATION,),
    labels=labels("finding_fgsm_0.05", "fgsm"),
)
DENSE = dataclasses.replace(
    FINDING,
    against="pgd",
    attack=pgd(EPS, EPS / 4, 3, True),
    iterations=9,
    rates=StepDecay(0.1, 3, 3, warmup_epochs=1, warmup_start=0.05),
    selections=(Selection("validation/pgd_5/accuracy"),),
    labels=labels("dense_100", "pgd"),
)
RETRAINED = dataclasses.replace(
    DENSE,
    masks=Masks(FINDING, 0.8, "magnitude"),
    stream=1,
    labels=labels("fgsm_ticket_100", "pgd", 1),
)
RANDOM = dataclasses.replace(RETRAINED, start=Fresh(7), labels=labels("fgsm_random_100", "pgd", 1))
TRAININGS = (FINDING, DENSE, RETRAINED, RANDOM)


def measured(training):
    """Its network on test data."""
    return Measurement(training, (EVALUATION,), examples=30, labels=training.labels)
