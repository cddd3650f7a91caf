"""The training step against a NumPy step, under masks, and on several devices."""

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import ATTACKS, make_data, make_order, make_trainer, mirrored, run
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Provenance, Ticket
from tf_tickets.training.objectives import cross_entropy


def numpy_forward(kernels, images):
    hidden_1 = np.maximum(images @ kernels[0], 0)
    hidden_2 = np.maximum(hidden_1 @ kernels[1], 0)
    return hidden_1, hidden_2, hidden_2 @ kernels[2]


def numpy_loss_and_gradients(kernels, images, labels):
    """Mean cross-entropy of a ReLU network and its gradients, back-propagated by hand."""
    hidden_1, hidden_2, logits = numpy_forward(kernels, images)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    targets = np.eye(10)[labels]
    loss = -np.mean(np.log(np.sum(probabilities * targets, axis=1)))
    d_logits = (probabilities - targets) / len(labels)
    d_hidden_2 = (d_logits @ kernels[2].T) * (hidden_2 > 0)
    d_hidden_1 = (d_hidden_2 @ kernels[1].T) * (hidden_1 > 0)
    return loss, [images.T @ d_hidden_1, hidden_1.T @ d_hidden_2, hidden_2.T @ d_logits]


def numpy_adam(kernels, order, data):
    """Kingma and Ba's Adam with Keras' constants."""
    kernels = [kernel.astype(np.float64) for kernel in kernels]
    first, second = ([np.zeros_like(kernel) for kernel in kernels] for _ in range(2))
    losses = []
    for step, indices in enumerate(order, start=1):
        images = data.train.images[indices].reshape(len(indices), -1) / 255
        loss, gradients = numpy_loss_and_gradients(kernels, images, data.train.labels[indices])
        losses.append(loss)
        for k, gradient in enumerate(gradients):
            first[k] = 0.9 * first[k] + 0.1 * gradient
            second[k] = 0.999 * second[k] + 0.001 * gradient**2
            rate = 1.2e-3 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            kernels[k] -= rate * first[k] / (np.sqrt(second[k]) + 1e-7)
    return losses, kernels


def test_natural_steps_equal_a_numpy_network_under_adam():
    trainer, order = make_trainer("natural"), make_order(3)
    expected_losses, expected = numpy_adam(list(trainer.weights().values()), order, make_data())
    np.testing.assert_allclose(run(trainer, order), expected_losses, rtol=1e-5)
    for found, kernel in zip(trainer.weights().values(), expected):
        np.testing.assert_allclose(found, kernel, atol=2e-5)


@pytest.mark.parametrize("regime", ["fgsm", "pgd"])
def test_adversarial_loss_is_half_natural_and_half_adversarial(regime):
    trainer, order = make_trainer(regime), make_order(1)
    data = make_data()
    images = tf.constant(data.train.images[order[0]] / np.float32(255))
    labels = tf.constant(data.train.labels[order[0]])
    attack = build_attack(ATTACKS[regime], trainer.logits)
    natural = tf.reduce_mean(cross_entropy(labels, trainer.logits(images)))
    attacked = tf.reduce_mean(cross_entropy(labels, trainer.logits(attack(images, labels))))
    assert attacked > natural
    np.testing.assert_allclose(run(trainer, order), [(natural + attacked) / 2], rtol=1e-5)


def test_label_smoothing_by_hand():
    logits = np.array([[1.0, 2.0, 0.5]], np.float32)
    log_probabilities = logits - np.log(np.sum(np.exp(logits)))
    expected = -log_probabilities @ [0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3]
    np.testing.assert_allclose(cross_entropy(tf.constant([1]), logits, 0.1), expected, rtol=1e-6)


def test_masked_weights_are_zero_after_every_step_whatever_their_momentum():
    trainer, order = make_trainer("fgsm"), make_order(8)
    run(trainer, order[:3])  # Gives every weight momentum.
    random = np.random.default_rng(2)
    masks = {path: random.random(shape) < 0.5 for path, shape in trainer.masks.shapes.items()}
    trainer.masks.assign(masks)
    for step in range(3, 8):
        before = trainer.weights()
        run(trainer, order[step : step + 1], step)
        for path, weight in trainer.weights().items():
            assert not np.any(weight[~masks[path]])
            assert np.any(weight[masks[path]] != before[path][masks[path]])


def test_many_steps_in_one_call_equal_one_step_per_call():
    order = make_order(5)
    together, apart = make_trainer("pgd"), make_trainer("pgd")
    losses = run(together, order)
    steps = [run(apart, order[step : step + 1], step)[0] for step in range(5)]
    np.testing.assert_array_equal(losses, steps)
    for path, weight in together.weights().items():
        np.testing.assert_array_equal(weight, apart.weights()[path])


def test_reset_forgets_everything():
    trainer, order = make_trainer("fgsm"), make_order(4)
    start = trainer.weights()
    dense = {path: np.ones(shape, bool) for path, shape in trainer.masks.shapes.items()}
    first = run(trainer, order)
    trainer.reset(start, dense)
    np.testing.assert_array_equal(run(trainer, order), first)


@pytest.mark.parametrize("regime", ["natural", "pgd"])
def test_two_mirrored_devices_train_as_one_does(regime):
    strategy = mirrored()
    assert strategy.num_replicas_in_sync == 2
    one, two, order = make_trainer(regime), make_trainer(regime, strategy), make_order(5)
    masks = {
        path: np.random.default_rng(3).random(shape) < 0.3
        for path, shape in one.masks.shapes.items()
    }
    for trainer in (one, two):
        trainer.reset(one.weights(), masks)
    np.testing.assert_allclose(run(one, order), run(two, order), rtol=1e-4)
    for path, weight in one.weights().items():
        np.testing.assert_allclose(weight, two.weights()[path], atol=2e-4)
    for variable, path in zip(two.model.trainable_variables, masks):
        first, second = (replica.numpy() for replica in variable.values)
        np.testing.assert_array_equal(first, second)
        assert not np.any(first[~masks[path]])


def test_mirrored_masks_are_pruned_as_single_ones_are():
    one, two = make_trainer("natural"), make_trainer("natural", mirrored())
    two.reset(one.weights(), two.masks.read())
    provenance = Provenance("", "", {}, "", 0, 0, "", "", {})
    dense = Ticket(one.masks.read(), provenance)
    keep = {path: mask.size // 3 for path, mask in dense.masks.items()}
    single, double = (trainer.masks.prune_by_magnitude(dense, keep) for trainer in (one, two))
    for path, mask in single.items():
        assert mask.sum() == keep[path]
        np.testing.assert_array_equal(mask, double[path])


def test_refuses_a_batch_that_does_not_divide_among_the_replicas():
    with pytest.raises(UserError, match="--batch_size=13: expected a multiple of the 2 replicas"):
        make_trainer("natural", mirrored(), batch_size=13)
