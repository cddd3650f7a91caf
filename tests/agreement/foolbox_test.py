"""Robust accuracies beside Foolbox's, of the same SavedModel on the same images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests import trained
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import carlini_wagner, pgd
from tf_tickets.evaluation.robustness import RobustnessEvaluator
from tf_tickets.evaluation.victims import load_victim

foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed (extra `benchmark`)")
ep = pytest.importorskip("eagerpy", reason="eagerpy is not installed (extra `benchmark`)")

EPS, STEP_SIZE, STEPS = 16 / 255, 4 / 255, 20
HALF_A_POINT = 0.005


class LinfMargin(foolbox.attacks.LinfProjectedGradientDescentAttack):
    """Foolbox's PGD on max_{i≠y} z_i − z_y."""

    def get_loss_fn(self, model, labels):
        def loss(inputs):
            logits = model(inputs)
            is_label = ep.onehot_like(logits, labels)
            wrong = ep.where(is_label > 0, ep.full_like(logits, -1e9), logits).max(axis=-1)
            return (wrong - (logits * is_label).sum(axis=-1)).sum()

        return loss


ATTACKS = {
    "pgd": (pgd(EPS, STEP_SIZE, STEPS, True), foolbox.attacks.LinfPGD),
    "cw": (carlini_wagner(EPS, STEP_SIZE, STEPS), LinfMargin),
}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return trained.save_model(trained.lenet(), tmp_path_factory.mktemp("saved") / "lenet")


def their_examples(path, attack, images, labels):
    loaded = tf.saved_model.load(str(path))
    model = foolbox.TensorFlowModel(
        lambda x: loaded.signatures["float_images"](images=x)["logits"], bounds=(0, 1)
    )
    criterion = foolbox.criteria.Misclassification(labels)
    adversarial = attack.run(model, images, criterion, epsilon=EPS)
    accuracy = np.mean(np.argmax(model(adversarial), axis=1) == labels.numpy())
    return adversarial.numpy(), float(accuracy)


@pytest.mark.parametrize("name", ATTACKS)
def test_accuracies_agree_from_random_starts(saved_model, name):
    threat_model, kind = ATTACKS[name]
    split = trained.images_of_test(1000)
    ours = RobustnessEvaluator(load_victim(saved_model), split, 500).under(name, threat_model)
    tf.random.set_seed(0)
    _, theirs = their_examples(
        saved_model,
        kind(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=True),
        *trained.unit_interval(split),
    )
    assert 0.1 < theirs < 0.9
    assert ours.accuracy == pytest.approx(theirs, abs=HALF_A_POINT)


@pytest.mark.parametrize("name", ATTACKS)
def test_examples_agree_from_the_images_themselves(saved_model, name):
    threat_model, kind = ATTACKS[name]
    threat_model = dataclasses.replace(threat_model, random_start=False)
    images, labels = trained.unit_interval(trained.images_of_test(200))
    ours = build_attack(threat_model, load_victim(saved_model).logits_fn)(images, labels)
    theirs, _ = their_examples(
        saved_model,
        kind(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=False),
        images,
        labels,
    )
    # A gradient of almost zero may round to either sign, so a few pixels may differ.
    assert np.mean(np.abs(ours - theirs) > 1e-5) < 2e-3
