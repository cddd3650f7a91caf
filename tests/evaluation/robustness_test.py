"""Counting under attack, against brute force."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from tests import trained
from tf_tickets.attacks.carlini_wagner import L2Settings
from tf_tickets.attacks.gradient import build_attack, uniform_noise
from tf_tickets.attacks.threat_model import carlini_wagner, fgsm, pgd
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import UserError
from tf_tickets.evaluation.robustness import RobustnessEvaluator, wilson_interval

WEAK = pgd(0.06, 0.03, 2, random_start=True)


@pytest.fixture(scope="module")
def victim():
    model = trained.lenet()
    return trained.victim_of(lambda images: model(images, training=False))


@pytest.fixture(scope="module")
def split():
    return trained.images_of_test(250)


@pytest.mark.parametrize("correct,images", [(0, 10), (7, 10), (10, 10), (812, 1000)])
def test_wilson_interval_by_hand(correct, images):
    z, p = 1.959963984540054, correct / images
    center = (p + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * math.sqrt(p * (1 - p) / images + z**2 / (4 * images**2))
    expected = (center - half, center + half)
    assert wilson_interval(correct, images) == pytest.approx(expected, abs=1e-9)


def brute_force(victim, split, restarts, batch_size, seed=0):
    """Every image, every restart, one after another, and then the worst."""
    attack = build_attack(WEAK, victim.logits_fn)
    correct = []
    for start in range(0, len(split), batch_size):
        images, labels = trained.unit_interval(split.subset(slice(start, start + batch_size)))
        answers = [np.argmax(victim.logits_fn(images), axis=1)]
        for restart in range(restarts):
            noise = tf.stack(
                [
                    uniform_noise(
                        image,
                        tf.random.experimental.stateless_fold_in([seed, restart], start + place),
                    )
                    for place, image in enumerate(images)
                ]
            )
            adversarial = attack(images, labels, noise)
            assert np.abs(adversarial - images).max() <= WEAK.eps + 1e-6
            assert np.min(adversarial) >= 0 and np.max(adversarial) <= 1
            answers.append(np.argmax(victim.logits_fn(adversarial), axis=1))
        correct.append(np.all(np.array(answers) == labels.numpy(), axis=0))
    return int(np.sum(np.concatenate(correct)))


@pytest.mark.parametrize("chunks", [1, 3])
def test_restarts_are_the_worst_of_brute_force(victim, split, chunks):
    judge = RobustnessEvaluator(victim, split, 100, chunks=chunks)
    counts = [judge.under("pgd", WEAK, restarts).correct for restarts in (1, 2, 6)]
    expected = [brute_force(victim, split, restarts, 100) for restarts in (1, 2, 6)]
    assert counts == pytest.approx(expected, abs=1)  # Slices may round differently.
    assert 0 < counts[2] < counts[0] < judge.natural().correct < len(split)


def test_more_restarts_never_raise_the_accuracy(victim, split):
    judge = RobustnessEvaluator(victim, split, 250, seed=3)
    counts = [judge.under("pgd", WEAK, restarts).correct for restarts in range(1, 6)]
    assert counts == sorted(counts, reverse=True)


def test_a_smaller_last_batch_needs_no_new_graph(split):
    traced = []
    model = trained.lenet()

    def logits_fn(images):
        traced.append(images.shape[0])
        return model(images, training=False)

    judge = RobustnessEvaluator(trained.victim_of(logits_fn), split, 100)
    judge.under("pgd", WEAK, 2)
    # Of unknown batch size: the natural answer, the attack, and the answer to it.
    assert traced == [None] * 3


def test_outcomes_say_what_was_done(victim, split):
    reports = []
    judge = RobustnessEvaluator(
        victim, split, 100, progress=lambda passes, description: reports.append(passes)
    )
    outcome = judge.limited(150).under("cw_linf", carlini_wagner(0.06, 0.015, 3), 2)
    assert sum(reports) == 150 * 3 * 2
    found = outcome.to_json()
    assert found["settings"] == {
        "eps": 0.06,
        "step_size": 0.015,
        "steps": 3,
        "restarts": 2,
        "random_start": True,
        "loss": "margin",
    }
    assert found["images"] == 150 and found["accuracy"] == found["correct"] / 150
    assert found["interval_95"] == list(outcome.interval)


def test_transfer_is_judged_on_the_victim(victim, split):
    other = trained.lenet(seed=1)
    source = trained.victim_of(lambda images: other(images, training=False))
    threat_model = dataclasses.replace(pgd(0.1, 0.025, 10), random_start=False)
    outcome = RobustnessEvaluator(victim, split, 250).under("t", threat_model, source=source)
    images, labels = trained.unit_interval(split)
    adversarial = build_attack(threat_model, source.logits_fn)(images, labels)
    answers = [np.argmax(victim.logits_fn(x), axis=1) for x in (images, adversarial)]
    expected = int(np.sum(np.all(np.array(answers) == labels.numpy(), axis=0)))
    assert abs(outcome.correct - expected) <= 1
    assert (
        outcome.correct > RobustnessEvaluator(victim, split, 250).under("w", threat_model).correct
    )


def test_images_lost_in_every_restart_leave_empty_slices():
    """Convolutions meet batches without images when nobody is left to attack."""
    kernel = tf.random.stateless_normal([3, 3, 1, 2], [0, 0])

    def logits_fn(images):
        return tf.reduce_mean(tf.nn.conv2d(images, kernel, 1, "SAME"), axis=(1, 2))

    split = ImageSplit(
        np.random.default_rng(0).integers(256, size=(5, 8, 8, 1), dtype=np.uint8),
        np.array([0, 1, 0, 1, 1]),
    )
    victim = trained.victim_of(logits_fn, (8, 8, 1), 2)
    judge = RobustnessEvaluator(victim, split, 3, chunks=2)
    assert 0 < judge.natural().correct < 5
    assert judge.under("pgd", pgd(1.0, 0.25, 3, True), 3).correct == 0


def test_carlini_wagner_l2_reports_distances(victim):
    outcome = RobustnessEvaluator(victim, trained.images_of_test(30), 100).under_carlini_wagner_l2(
        L2Settings(iterations=100, binary_search_steps=5, learning_rate=0.05)
    )
    assert outcome.measured["success_rate"] > 0.9
    assert 0.1 < outcome.measured["median_l2_distance"] < 4
    natural = RobustnessEvaluator(victim, trained.images_of_test(30), 100).natural()
    lost = round(outcome.measured["success_rate"] * natural.correct)
    assert outcome.correct == natural.correct - lost


def test_refuses_what_makes_no_sense(victim, split):
    judge = RobustnessEvaluator(victim, split, 100)
    for call, message in (
        (lambda: judge.under("fgsm", fgsm(0.1), 2), "--restarts=2: expected 1 for fgsm"),
        (lambda: judge.under("pgd", WEAK, 0), "--restarts=0: expected at least 1"),
        (lambda: judge.limited(0), "--examples=0: expected at least 1"),
        (lambda: RobustnessEvaluator(victim, split, 0), "--batch_size=0"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert str(error.value).startswith(message)


def test_the_batch_size_decides_nothing(victim, split):
    counts = {
        RobustnessEvaluator(victim, split, size).under("pgd", WEAK, 2).correct
        for size in (250, 100, 37)
    }
    # Matrix products of other shapes round differently, which may turn one image around.
    assert max(counts) - min(counts) <= 1


def test_logits_that_are_no_numbers_are_wrong_and_counted(split):
    """Images with a bright pixel in a corner region get NaN, which argmax takes for class 0."""
    model = trained.lenet()

    def broken(images):
        lost = tf.reduce_max(images[:, :, :9], axis=(1, 2, 3)) > 0.5
        logits = model(images, training=False)
        return tf.where(lost[:, tf.newaxis], np.nan, logits)

    images, labels = trained.unit_interval(split)
    lost = np.max(images.numpy()[:, :, :9], axis=(1, 2, 3)) > 0.5
    answers = np.argmax(model(images, training=False), axis=1)
    right = answers == labels.numpy()
    assert np.sum(lost & right & (answers == 0)) > 0 and np.sum(right & ~lost) > 0

    judge = RobustnessEvaluator(trained.victim_of(broken), split, 100)
    natural = judge.natural()
    assert natural.measured == {"not_finite": np.sum(lost)}
    assert abs(natural.correct - np.sum(right & ~lost)) <= 1
    # Too little to change an answer: what is lost stays lost under an attack, and nothing else.
    for attack in (fgsm(1e-6), pgd(1e-6, 1e-6, 2, random_start=True)):
        assert abs(judge.under("", attack).correct - natural.correct) <= 1
    l2 = judge.limited(50).under_carlini_wagner_l2(L2Settings(1, 1, 1e-9))
    assert abs(l2.correct - np.sum((right & ~lost)[:50])) <= 1
    whole = RobustnessEvaluator(trained.victim_of(model), split, 100).natural()
    assert whole.measured == {}
