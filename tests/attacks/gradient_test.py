"""FGSM and PGD against a NumPy computation, CleverHans' own attacks, and their definition."""

import numpy as np
import pytest
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

from tf_tickets.attacks.gradient import build_attack, uniform_noise
from tf_tickets.attacks.threat_model import ThreatModel, fgsm, pgd
from tf_tickets.errors import UserError
from tf_tickets.models.lenet import lenet_300_100

FEATURES, CLASSES, BATCH = 12, 4, 7


@pytest.fixture
def linear():
    """A linear classifier, examples and labels; images include points at both range ends."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    images = random.uniform(size=(BATCH, FEATURES)).astype(np.float32)
    images[0], images[1] = 0.0, 1.0
    return weights, images, random.integers(CLASSES, size=BATCH)


def numpy_gradient(weights, images, labels):
    """∂/∂x of the cross-entropy of softmax(x W): (p − onehot(y)) Wᵀ."""
    logits = images.astype(np.float64) @ weights
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return (probabilities - np.eye(CLASSES)[labels]) @ weights.T


def numpy_pgd(weights, images, labels, eps, step_size, steps):
    adversarial = images.astype(np.float64)
    for _ in range(steps):
        adversarial = adversarial + step_size * np.sign(
            numpy_gradient(weights, adversarial, labels)
        )
        adversarial = np.clip(adversarial, images - eps, images + eps)
        adversarial = np.clip(adversarial, 0, 1)
    return adversarial


@pytest.mark.parametrize("eps,step_size,steps", [(0.3, 0.3, 1), (0.3, 0.05, 10), (0.1, 0.07, 3)])
def test_equals_a_numpy_computation_on_a_linear_model(linear, eps, step_size, steps):
    weights, images, labels = linear
    attack = build_attack(ThreatModel(eps, step_size, steps), lambda x: x @ weights)
    np.testing.assert_allclose(
        attack(tf.constant(images), labels),
        numpy_pgd(weights, images, labels, eps, step_size, steps),
        atol=1e-6,
    )


def test_predicted_labels_raise_the_loss_of_the_prediction(linear):
    weights, images, labels = linear
    predictions = np.argmax(images @ weights, axis=1)
    assert np.any(predictions != labels)
    attack = build_attack(fgsm(0.2, labels="predicted"), lambda x: x @ weights)
    np.testing.assert_allclose(
        attack(tf.constant(images), labels),
        numpy_pgd(weights, images, predictions, 0.2, 0.2, 1),
        atol=1e-6,
    )


@pytest.fixture
def network():
    model = lenet_300_100(seed=3)
    random = np.random.default_rng(1)
    images = random.uniform(size=(10, 28, 28, 1)).astype(np.float32)
    return model, tf.constant(images), tf.constant(random.integers(10, size=10))


def test_equals_cleverhans_pgd_to_the_last_bit(network):
    model, images, labels = network
    attack = tf.function(build_attack(pgd(0.3, 0.05, 10), model))
    expected = projected_gradient_descent(
        model, images, 0.3, 0.05, 10, np.inf, clip_min=0.0, clip_max=1.0, y=labels, rand_init=False
    )
    np.testing.assert_array_equal(attack(images, labels), expected)


def test_fgsm_equals_cleverhans_fgsm(network):
    model, images, labels = network
    expected = fast_gradient_method(
        model, images, 0.3, np.inf, clip_min=0.0, clip_max=1.0, y=labels
    )
    np.testing.assert_allclose(build_attack(fgsm(0.3), model)(images, labels), expected, atol=1e-7)


@pytest.mark.parametrize("random_start", [False, True])
def test_stays_in_the_ball_and_in_the_range(network, random_start):
    model, images, labels = network
    attack = build_attack(pgd(0.1, 0.04, 7, random_start), model)
    adversarial = attack(images, labels, uniform_noise(images, (5, 6))).numpy()
    assert np.abs(adversarial - images).max() <= 0.1 + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    assert np.abs(adversarial - images).max() > 0.09


def test_random_start_depends_on_the_seed_alone(network):
    model, images, labels = network
    attack = build_attack(ThreatModel(0.1, 0.0, 1, random_start=True), model)
    seeds = [(1, 2), (1, 2), (1, 3)]
    first, again, other = (
        attack(images, labels, uniform_noise(images, seed)).numpy() for seed in seeds
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.05
    # Steps of length zero leave the start itself: uniform over the ball, away from 0 and 1.
    inside = (images.numpy() > 0.1) & (images.numpy() < 0.9)
    noise = (first - images.numpy())[inside]
    assert abs(noise.mean()) < 0.005 and abs(noise.std() - 0.2 / np.sqrt(12)) < 0.003


def test_slices_attacked_side_by_side_make_no_difference(network):
    model, images, labels = network
    whole = build_attack(pgd(0.3, 0.05, 5), model)(images, labels)
    sliced = tf.function(build_attack(pgd(0.3, 0.05, 5), model, chunks=3))(images, labels)
    assert sliced.shape == images.shape
    # A gradient of almost zero may round to either sign, so a few pixels may differ.
    assert np.mean(np.abs(whole - sliced) > 1e-6) < 1e-3


def test_more_steps_and_a_larger_ball_are_stronger(network):
    model, images, labels = network

    def loss(threat_model):
        adversarial = build_attack(threat_model, model)(images, labels)
        return float(
            tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(adversarial))
            )
        )

    by_steps = [loss(pgd(0.1, 0.01, steps)) for steps in (1, 5, 20)]
    by_eps = [loss(pgd(eps, eps / 4, 10)) for eps in (0.01, 0.05, 0.3)]
    assert by_steps == sorted(by_steps) and by_steps[0] < by_steps[-1]
    assert by_eps == sorted(by_eps) and by_eps[0] < by_eps[-1]


def test_the_graph_does_not_grow_with_the_steps(network):
    model, images, labels = network

    def nodes(steps):
        attack = tf.function(build_attack(pgd(0.3, 0.05, steps), model))
        return len(attack.get_concrete_function(images, labels).graph.as_graph_def().node)

    assert nodes(50) == nodes(2)


@pytest.mark.parametrize(
    "fields,message",
    [
        (dict(eps=-0.1, step_size=0, steps=1), "--eps=-0.1: expected"),
        (dict(eps=float("nan"), step_size=0, steps=1), "--eps=nan: expected"),
        (dict(eps=0.1, step_size=0.3, steps=1), "--step_size=0.3: expected in [0, 0.2]"),
        (dict(eps=0.1, step_size=0.1, steps=0), "--attack_steps=0: expected at least 1"),
        (dict(eps=0.1, step_size=0.1, steps=1, labels="none"), "--attack_labels=none"),
        (dict(eps=0.1, step_size=0.1, steps=1, clip_min=1.0), "--clip_min=1.0"),
    ],
)
def test_refuses_values_out_of_range(fields, message):
    with pytest.raises(UserError) as error:
        ThreatModel(**fields)
    assert str(error.value).startswith(message)
