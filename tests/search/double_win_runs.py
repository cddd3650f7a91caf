"""A run of "Double-Win Lottery Tickets" that is small enough for tests."""

import dataclasses

import tensorflow as tf

from tf_tickets.attacks.threat_model import fast, pgd
from tf_tickets.data.image_place import ImagePlace
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.double_win import DoubleWinSettings, Phase
from tf_tickets.search.source_tickets import SourceTickets
from tf_tickets.search.ticket_transfers import TicketTransfers
from tf_tickets.training.trainer import TrainingSettings

ATTACKS = {"fast": fast(0.1), "pgd": pgd(0.1, 0.05, 2, random_start=True)}


def phase(epochs=1, decay="constant", batch_size=16, **changes):
    values = {"model": "wide_resnet_10_1", "width_multiplier": 0.25} | changes
    training = TrainingSettings(
        batch_size=batch_size,
        learning_rate=0.02,
        label_smoothing=0.0,
        weight_decay=5e-4,
        threat_models=ATTACKS,
        objective="adversarial",
        optimizer="sgd",
        **values,
    )
    return Phase(epochs, decay, training)


def to_mnist(each):
    """The same phase in both regimes."""
    return {"mnist": {"natural": each, "pgd": each}}


SETTINGS = DoubleWinSettings(
    source="fashion_mnist",
    targets=("mnist",),
    place=ImagePlace("embedded", None, {}, 0),
    source_examples=32,
    train_examples=40,
    validation_examples=10,
    test_examples=20,
    seeds=(0,),
    pretrained={},
    tickets=("at_imp_st", "at_omp"),
    levels=(0, 3),
    percents=(100.0, 50.0),
    trajectory_levels=(3,),
    pretraining=phase(),
    retraining=phase(),
    transferring=to_mnist(phase(2, "step")),
    evaluation_attacks={"pgd_20": pgd(0.1, 0.05, 2, random_start=True)},
)


def open_run(folder, stop=lambda: None, **changes):
    """The stages of a run in `folder`: the source's, the targets'."""
    settings = dataclasses.replace(SETTINGS, **changes)
    run = RunDirectory(folder, {}, {})
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    source = SourceTickets(settings, run, strategy, stop)
    return source, TicketTransfers(source)
