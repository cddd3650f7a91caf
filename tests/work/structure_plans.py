"""A small plan of networks that are cut, as `plans` has those that are masked."""

import dataclasses

from tests.work.plans import labels
from tf_tickets.attacks.threat_model import fgsm
from tf_tickets.image_work.data import ImageSource
from tf_tickets.image_work.structure_nodes import (
    Corruptions,
    MixedCorruptions,
    Occlusion,
    Shifted,
    SingleElements,
    Size,
)
from tf_tickets.structured import selection
from tf_tickets.training.schedules import StepDecay
from tf_tickets.work.nodes import (
    Attack,
    Cut,
    Fresh,
    Inherited,
    Network,
    Platform,
    Recipe,
    Training,
)

MODEL = "lenet_conv"
DATA, IMAGES = ImageSource("mnist", "embedded", None, 0, 40, 20, 0).read(0)
FGSM = Attack("fgsm", fgsm(0.05))
CHOICE = selection.Cut("l1", 0.3, 0, "global")


def named(method, level=0, regime="natural"):
    """What the view and the results need of a training."""
    return labels(method, regime, level) | {"model": MODEL}


WHOLE = Training(
    network=Network(MODEL, (28, 28, 1), 10, 0.25),
    data=DATA,
    recipe=Recipe(20, "sgd", "mixed"),
    against="natural",
    attack=None,
    iterations=4,
    evaluate_every=2,
    rates=StepDecay(0.1, 2, 2),
    start=Fresh(0),
    seed=0,
    stream=0,
    platform=Platform(1, 1, (("tensorflow", "2.21.0"),)),
    masked="nothing",
    labels=named("unpruned"),
)
PRUNED = dataclasses.replace(
    WHOLE,
    network=Cut(WHOLE, CHOICE, 20, 0),
    iterations=2,
    rates=StepDecay(0.01, 1, 2),
    start=Inherited(WHOLE),
    stream=1,
    labels=named("l1_filters", 1),
)
TWICE = dataclasses.replace(
    PRUNED,
    network=Cut(PRUNED, CHOICE, 20, 0),
    start=Inherited(PRUNED),
    stream=2,
    labels=named("l1_filters", 2),
)
SCRATCH = dataclasses.replace(PRUNED, start=Fresh(7), labels=named("l1_filters_scratch_1x", 1))
TICKET = dataclasses.replace(
    PRUNED, start=Inherited(WHOLE, 2), labels=named("l1_filters_winning_ticket", 1)
)
MIXED = dataclasses.replace(WHOLE, against="mixup", labels=named("unpruned", regime="mixup"))
CUT_TRAININGS = (PRUNED, TWICE, SCRATCH, TICKET)
ELEMENTS = SingleElements(
    WHOLE,
    "conv_1",
    (FGSM,),
    (Occlusion(10), MixedCorruptions(5)),
    test_examples=30,
    examples=20,
    elements=5,
    labels=WHOLE.labels,
)


def meets(training):
    """Its size, and its accuracy on some changed images."""
    shifts = (Occlusion(10), Corruptions(5))
    return (
        Size(training, training.labels),
        *(Shifted(training, shift, 25, training.labels) for shift in shifts),
    )
