"""Accuracies against counting by hand, and the checks that expose masked gradients."""

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import make_data, make_trainer
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import fgsm, pgd
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.registry import load_images
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.evaluation.answers import judged
from tf_tickets.training.trainer import Trainer, TrainingSettings


def evaluate(trainer, threat_models, split, **arguments):
    attacks = {name: build_attack(tm, trainer.logits) for name, tm in threat_models.items()}
    arguments = {"chunks": 1, **arguments}
    return Evaluator(trainer.model, attacks, **arguments).evaluate(split)


@pytest.mark.parametrize("batch_size,chunks", [(48, 1), (20, 1), (20, 3)])
def test_equals_counting_by_hand(batch_size, chunks):
    trainer, split = make_trainer("natural"), make_data().test
    images = tf.constant(split.images / np.float32(255))
    attack = build_attack(pgd(0.3, 0.05, 10), trainer.logits)
    found = evaluate(
        trainer, {"pgd": pgd(0.3, 0.05, 10)}, split, batch_size=batch_size, chunks=chunks
    )
    for name, x in (("natural", images), ("pgd", attack(images, split.labels))):
        logits = trainer.logits(x).numpy().astype(np.float64)
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        correct = logits.argmax(axis=1) == split.labels
        loss = -log_probabilities[np.arange(48), split.labels]
        assert found[f"{name}/accuracy"] == pytest.approx(correct.mean(), abs=1.1 / 48)
        assert found[f"{name}/loss"] == pytest.approx(loss.mean(), rel=1e-3)


def test_answers_that_are_no_numbers_are_wrong():
    """Of NaN alone argmax makes class 0, which some images are of."""
    trainer, split = make_trainer("natural"), make_data().test
    assert 0 in split.labels
    trainer.model.get_layer("logits").kernel.assign(np.full([100, 10], np.nan))
    found = evaluate(trainer, {"fgsm": fgsm(0.1)}, split)
    assert found["natural/accuracy"] == found["fgsm/accuracy"] == 0
    assert np.isnan(found["natural/loss"])


@pytest.mark.parametrize(
    "logits, right, numbers",
    [
        ([0.0, 2.0, 1.0], True, True),
        ([2.0, 0.0, 1.0], False, True),
        ([np.nan, np.nan, np.nan], False, False),
        ([0.0, np.inf, 1.0], False, False),
        ([-np.inf, 0.0, -1.0], False, False),
        ([0.0, 2.0, np.nan], False, False),
    ],
)
@pytest.mark.parametrize("kind", [tf.int32, tf.int64])
def test_what_is_judged_right(logits, right, numbers, kind):
    found = judged(tf.constant([logits]), tf.constant([1], kind))
    assert [each.numpy().tolist() for each in found] == [[right], [numbers]]


@pytest.fixture(scope="module")
def robust():
    """A network trained against PGD for long enough to resist a little."""
    data = load_images("mnist", "embedded")
    attacks = {"pgd": pgd(0.1, 0.025, 7)}
    trainer = Trainer(
        TrainingSettings("lenet_300_100", 60, 1.2e-3, 0.0, attacks),
        "pgd",
        data,
        tf.distribute.OneDeviceStrategy("CPU:0"),
        seed=0,
    )
    order = BatchOrder(len(data.train), 60, 0).indices(0, 400)
    trainer.train_steps(order, 0, np.full(400, 1.2e-3, np.float32))
    return trainer, data.validation


def test_stronger_attacks_are_stronger(robust):
    trainer, split = robust
    attacks = {
        "fgsm": fgsm(0.1),
        "pgd-1": pgd(0.1, 0.02, 1),
        "pgd-5": pgd(0.1, 0.02, 5),
        "pgd-20": pgd(0.1, 0.02, 20),
        "pgd-20, twice the ball": pgd(0.2, 0.04, 20),
    }
    found = evaluate(trainer, attacks, split)
    accuracy = {name: found[f"{name}/accuracy"] for name in ("natural", *attacks)}
    assert accuracy["natural"] > 0.85 and accuracy["pgd-20"] > 0.5
    assert accuracy["natural"] > accuracy["pgd-1"] > accuracy["pgd-5"] >= accuracy["pgd-20"]
    assert accuracy["natural"] > accuracy["fgsm"] >= accuracy["pgd-20"]
    assert accuracy["pgd-20"] > accuracy["pgd-20, twice the ball"]


def test_a_ball_without_extent_changes_nothing_and_the_largest_leaves_nothing(robust):
    trainer, split = robust
    found = evaluate(trainer, {"none": pgd(0.0, 0.0, 3), "all": pgd(1.0, 0.1, 40)}, split)
    assert found["none/accuracy"] == found["natural/accuracy"]
    assert found["none/loss"] == found["natural/loss"]
    assert found["all/accuracy"] < 0.01
