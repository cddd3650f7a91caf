"""Text trainings: losses and gradients against a step written out, masks, and resumption."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import mirrored
from tests.training.tiny_texts import (
    ATTACK,
    BATCH,
    inputs_of,
    make_order,
    run,
    tiny_encoder,
    tiny_tokens,
)
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.errors import UserError
from tf_tickets.masking.hard_concrete import HardConcrete
from tf_tickets.models.weights import read_weights, weight_path
from tf_tickets.training.checkpoints import LevelCheckpoint, Progress
from tf_tickets.training.schedules import Constant

pytest.importorskip("keras_nlp", reason="needs the extra `text`")

from tf_tickets.training.text_step import TextTask  # noqa: E402
from tf_tickets.training.text_trainer import MaskTrainer, TextTrainer  # noqa: E402


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoders")).first_layers(1)


def task(encoder, strategy, **changes):
    values = {
        "encoder": encoder,
        "classes": 2,
        "tokens": tiny_tokens(),
        "attack": ATTACK,
        "batch_size": BATCH,
        "dropout": 0.0,
        "clip_value": 1.0,
        "strategy": strategy or tf.distribute.get_strategy(),
        "seed": 0,
    }
    return TextTask(**values | changes)


@functools.cache  # Tracing a step takes long; `start` makes a used trainer as good as new.
def text_trainer(encoder, regime="natural", strategy=None, **changes):
    return TextTrainer(task(encoder, strategy, **changes), regime, weight_decay=0.01)


@functools.cache
def mask_trainer(encoder, regime="natural", granularity="weight", **changes):
    return MaskTrainer(task(encoder, None, **changes), regime, 1e-6, granularity)


def dense_masks(trainer):
    return {path: np.ones(shape, bool) for path, shape in trainer.masks.shapes.items()}


def start(trainer, masks=None):
    trainer.reset(trainer.initial_weights, masks or dense_masks(trainer), 0)
    return trainer


def start_masks(trainer, penalty=0.0):
    weights = read_weights(trainer.model)
    trainer.reset({p: a for p, a in weights.items() if "log_alpha" not in p}, 0, Constant(penalty))
    return trainer


def test_natural_losses_are_the_cross_entropy_of_the_batch(encoder):
    trainer, order = start(text_trainer(encoder)), make_order(1)
    tokens = tiny_tokens()
    logits = trainer.model(inputs_of(tokens, order[0])).numpy().astype(np.float64)
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = -np.log(probabilities[np.arange(BATCH), tokens.labels[order[0]]]).mean()
    np.testing.assert_allclose(run(trainer, order)[0], expected, rtol=1e-5)


def test_a_natural_step_is_adamw_on_the_clipped_gradient(encoder):
    trainer, order = start(text_trainer(encoder, clip_value=1e-3)), make_order(1)
    tokens, before = tiny_tokens(), trainer.weights()
    variables = {weight_path(variable): variable for variable in trainer.model.trainable_variables}
    with tf.GradientTape() as tape:
        logits = trainer.model(inputs_of(tokens, order[0]))
        labels = tokens.labels[order[0]]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = dict(zip(variables, tape.gradient(loss, list(variables.values()))))
    run(trainer, order, learning_rate=0.1)
    for path in ("transformer_layer_0/feedforward_output_dense/kernel", "logits/bias"):
        gradient = np.clip(tf.convert_to_tensor(gradients[path]).numpy(), -1e-3, 1e-3)
        # The first step of Adam has the gradient's sign and the length of the learning rate.
        adam = 0.1 * gradient / (np.abs(gradient) + 1e-8)
        decay = 0.0 if path.endswith("bias") else 0.1 * 0.01
        expected = before[path] * (1 - decay) - adam
        after = trainer.weights()[path]
        # A gradient near Adam's ε decides the step's length by its last bits.
        sure = np.abs(gradient) > 1e-6
        assert sure.mean() > 0.9
        np.testing.assert_allclose(after[sure], expected[sure], atol=2e-4)
        assert np.all(np.abs(after - before[path] * (1 - decay)) <= 0.1 + 1e-6)


@pytest.mark.parametrize("regime", ["natural", "free_lb", "pgd", "info_bert"])
def test_masked_weights_are_zero_after_every_step(encoder, regime):
    trainer = text_trainer(encoder, regime, dropout=0.2)
    random = np.random.default_rng(0)
    masks = {path: random.random(shape) < 0.5 for path, shape in trainer.masks.shapes.items()}
    start(trainer, masks)
    for step, rows in enumerate(make_order(3)):
        run(trainer, rows[np.newaxis], first=step)
        for path, mask in masks.items():
            weights = trainer.weights()[path]
            assert not weights[~mask].any()
            assert weights[mask].all()


def test_attacks_raise_the_loss_and_more_steps_raise_it_further(encoder):
    order = make_order(1)
    losses = [run(start(text_trainer(encoder)), order)[0]]
    for steps in (1, 8):
        attack = EmbeddingAttack(step_size=0.5, init_magnitude=0.01, steps=steps)
        losses.append(run(start(text_trainer(encoder, "pgd", attack=attack)), order)[0])
    assert losses[0] < losses[1] < losses[2]


def test_info_bert_trains_its_critic_and_starts_over_with_it(encoder):
    trainer, order = start(text_trainer(encoder, "info_bert")), make_order(4)
    first = run(trainer, order)
    np.testing.assert_allclose(run(start(trainer), order), first, rtol=1e-5)


@pytest.mark.parametrize("regime", ["natural", "free_lb"])
def test_two_devices_take_the_step_of_one(encoder, regime):
    def trained(strategy):
        attack = EmbeddingAttack(step_size=0.03, init_magnitude=0.0, steps=3)
        trainer = text_trainer(encoder, regime, strategy, attack=attack)
        losses = run(start(trainer), make_order(3), learning_rate=1e-3)
        return losses, trainer.weights()

    one, two = trained(None), trained(mirrored())
    np.testing.assert_allclose(one[0], two[0], rtol=1e-4)
    for path, array in one[1].items():
        np.testing.assert_allclose(array, two[1][path], atol=2e-4, err_msg=path)


def test_a_batch_that_does_not_divide_is_refused(encoder):
    with pytest.raises(UserError, match="--batch_size=3: expected a multiple of the 2 replicas"):
        text_trainer(encoder, strategy=mirrored(), batch_size=3)


# Masks


def test_only_log_alpha_is_trained(encoder):
    trainer = start_masks(mask_trainer(encoder, "free_lb", dropout=0.2), penalty=0.5)
    before = read_weights(trainer.model)
    run(trainer, make_order(2), learning_rate=0.1)
    after = read_weights(trainer.model)
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {path for path in before if path.endswith("log_alpha")}
    assert len(changed) == len(trainer.mask_layers) == 7


def test_a_large_penalty_alone_lowers_every_log_alpha(encoder):
    trainer = start_masks(mask_trainer(encoder), penalty=1e6)
    before = trainer.measure()["expected_l0"]
    run(trainer, make_order(3), learning_rate=0.1)
    assert all((array < np.log(5)).all() for array in trainer.weights().values())
    assert trainer.measure()["expected_l0"] < before


@pytest.mark.parametrize("devices", [1, 2])
def test_a_norm_that_is_cut_leaves_the_penalty_whole(encoder, devices):
    """With the loss' gradient all but cut away, log α follow λ∇R, whose form is known."""
    strategy = mirrored() if devices == 2 else None
    trainer = MaskTrainer(
        task(encoder, strategy, clip_value=1e-12), "natural", 0.0, "weight", clips_norm=True
    )
    penalty, count = 0.01, sum(mask.size for mask in trainer.mask_layers)
    run(start_masks(trainer, penalty), make_order(1), learning_rate=0.1)
    # R is the mean of σ(ln 5 − 2/3 · ln(0.1 / 1.1)).
    share = 1 / (1 + np.exp(-(np.log(5) - 2 / 3 * np.log(0.1 / 1.1))))
    gradient = penalty * share * (1 - share) / count
    expected = np.log(5) - 0.1 * gradient / (gradient + 1e-8)
    for path, array in trainer.weights().items():
        np.testing.assert_allclose(array, expected, atol=1e-4, err_msg=path)
    # Where each value of the sum is cut, the loss still decides its sign.
    other = MaskTrainer(task(encoder, None, clip_value=1e-12), "natural", 0.0, "weight")
    run(start_masks(other, penalty), make_order(1), learning_rate=0.1)
    assert any((array > np.log(5)).any() for array in other.weights().values())


def test_the_measure_counts_the_gates(encoder):
    trainer = start_masks(mask_trainer(encoder))
    first, second, *others = trainer.mask_layers
    first.log_alpha.assign(tf.fill(first.log_alpha.shape, 9.0))
    second.log_alpha.assign(tf.fill(second.log_alpha.shape, -9.0))
    sizes = [mask.size for mask in trainer.mask_layers]
    measured = trainer.measure()
    assert measured["share_one"] == pytest.approx(sizes[0] / sum(sizes))
    assert measured["share_zero"] == pytest.approx(sizes[1] / sum(sizes))
    nonzero = [
        float(HardConcrete().probability_nonzero(tf.constant(value)))
        for value in (9.0, -9.0, np.log(5).astype(np.float32))
    ]
    expected = nonzero[0] * sizes[0] + nonzero[1] * sizes[1] + nonzero[2] * sum(sizes[2:])
    assert measured["expected_l0"] == pytest.approx(expected / sum(sizes), rel=1e-5)
    assert len(others) == 5


def test_masks_learn_what_a_task_needs(encoder):
    trainer = start_masks(mask_trainer(encoder))
    head = trainer.model.get_layer("features").get_layer("logits").kernel
    head.assign(50 * head)  # Frozen as it is, a new head says next to nothing.
    one_batch = np.tile(make_order(1), (60, 1))
    losses = run(trainer, one_batch, learning_rate=0.3)
    head.assign(head / 50)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_heads_and_neurons_share_masks(encoder):
    trainer = start_masks(mask_trainer(encoder, granularity="head"))
    shapes = {path: array.shape for path, array in trainer.weights().items()}
    attention = "transformer_layer_0/self_attention_layer"
    assert shapes[f"{attention}/query/kernel"] == (1, 2, 1)
    assert shapes[f"{attention}/attention_output/kernel"] == (2, 1, 1)
    assert shapes["transformer_layer_0/feedforward_intermediate_dense/kernel"] == (1, 24)


# Both


@pytest.mark.parametrize("make", ["weights", "info_bert", "masks"])
def test_a_training_goes_on_from_its_checkpoint_as_if_nothing_had_happened(encoder, make, tmp_path):
    def begin():
        """The same trainer, started over: only the checkpoint can bring it back."""
        if make == "masks":
            return start_masks(mask_trainer(encoder, "free_lb", dropout=0.2), penalty=0.5)
        regime = "natural" if make == "weights" else make
        return start(text_trainer(encoder, regime, dropout=0.2))

    def checkpoint_of(trainer):
        return LevelCheckpoint(
            tmp_path,
            trainer.model,
            trainer.optimizer,
            trainer.masks,
            other_state=trainer.other_state,
        )

    order = make_order(6)
    whole = begin()
    run(whole, order[:3])
    checkpoint_of(whole).save(Progress(iteration=3))
    expected, weights = run(whole, order[3:], first=3), whole.weights()
    resumed = begin()
    run(resumed, order[:1])
    checkpoint_of(resumed).restore()
    np.testing.assert_array_equal(run(resumed, order[3:], first=3), expected)
    for path, array in weights.items():
        np.testing.assert_array_equal(array, resumed.weights()[path], err_msg=path)
