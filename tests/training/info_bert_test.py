"""InfoBERT's bounds by hand, and its passes against a loop written out."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tf_tickets.attacks.embedding import EmbeddingAttack, free_lb
from tf_tickets.errors import UserError
from tf_tickets.training.info_bert import (
    Critic,
    Regularizers,
    anchored_features,
    info_bert,
    info_nce,
    information_bottleneck,
)

LENGTHS, LONGEST, DIM = [7, 10, 1, 5], 10, 4
TOKEN_MASK = (np.arange(LONGEST) < np.array(LENGTHS)[:, None]).astype(np.float32)
RANDOM = np.random.default_rng(0)
FEATURES, GRADIENTS, NOISE = RANDOM.normal(size=[3, 4, LONGEST, DIM]).astype(np.float32)
GLOBAL = RANDOM.normal(size=[4, DIM]).astype(np.float32)


def make_critic(seed=0):
    critic = Critic(seed, units=6)
    critic(FEATURES.transpose(1, 0, 2), GLOBAL)
    return critic


def test_the_bottleneck_compares_all_pairs_of_tokens():
    tokens = np.concatenate([row[:n] for row, n in zip(FEATURES, LENGTHS)])
    pairs = [np.sum((one - other) ** 2) / 2 for one in tokens for other in tokens]
    found = information_bottleneck(tf.constant(FEATURES), tf.constant(TOKEN_MASK))
    np.testing.assert_allclose(found, np.mean(pairs), rtol=1e-5)


def ranked(row, lowest=0.5, highest=0.9):
    """Tokens of a sentence between the two parts of the ascending order, by plain sorting."""
    length = LENGTHS[row]
    norms = np.linalg.norm(GRADIENTS[row, :length], axis=1)
    ascending = sorted(range(length), key=norms.__getitem__)
    return ascending[math.ceil(length * lowest) : math.ceil(length * highest)]


def test_anchored_features_are_those_between_two_parts_of_the_order():
    found, present = anchored_features(FEATURES, GRADIENTS, TOKEN_MASK, 0.5, 0.9)
    assert [len(ranked(row)) for row in range(4)] == [3, 4, 0, 2]
    assert found.shape == [4, 4, DIM]
    for row in range(4):
        expected = FEATURES[row, ranked(row)]
        np.testing.assert_array_equal(present[:, row], np.arange(4) < len(expected))
        np.testing.assert_array_equal(found[: len(expected), row], expected)


def test_as_many_are_anchored_as_in_double_precision():
    lengths = np.arange(1, 61)
    mask = (np.arange(60) < lengths[:, None]).astype(np.float32)
    norms = tf.ones([60, 60, 1])
    for lowest, highest in [(0.5, 0.9), (0.3, 0.6), (0.0, 1.0), (0.2, 0.2)]:
        _, present = anchored_features(norms, norms, mask, lowest, highest)
        expected = [math.ceil(n * highest) - math.ceil(n * lowest) for n in lengths]
        np.testing.assert_array_equal(np.sum(present, axis=0), expected)


def numpy_score(critic, local_feature, global_feature):
    """softplus(w · relu([A B] [t; z] + b) + c), of the two features one below the other."""
    local_kernel, global_kernel, bias, score, offset = (v.numpy() for v in critic.variables)
    both = np.concatenate([local_feature, global_feature])
    hidden = np.maximum(both @ np.concatenate([local_kernel, global_kernel]) + bias, 0)
    return np.log1p(np.exp(hidden @ score[:, 0] + offset[0]))


def numpy_info_nce(critic, slots):
    """`slots` holds, for each, sentence → local feature."""
    terms = []
    for slot in slots:
        for row in slot:
            scores = {other: numpy_score(critic, slot[other], GLOBAL[row]) for other in slot}
            terms.append(scores[row] - np.log(np.mean(np.exp(list(scores.values())))))
    return np.mean(terms)


def test_info_nce_compares_a_feature_with_those_of_other_sentences():
    critic = make_critic()
    anchored = {row: FEATURES[row, ranked(row)] for row in range(4)}
    slots = [
        {row: features[slot] for row, features in anchored.items() if slot < len(features)}
        for slot in range(4)
    ]
    found = info_nce(critic, *anchored_features(FEATURES, GRADIENTS, TOKEN_MASK, 0.5, 0.9), GLOBAL)
    np.testing.assert_allclose(found, numpy_info_nce(critic, slots), rtol=1e-4)
    assert abs(found) > 1e-3


def test_info_nce_of_one_sentence_or_of_no_feature_is_zero():
    critic, alone = make_critic(), np.float32([[1, 0, 0, 0]])
    one_slot = tf.constant(FEATURES[:, :1].transpose(1, 0, 2))
    for present in (alone, 0 * alone):
        with tf.GradientTape() as tape:
            tape.watch(one_slot)
            bound = info_nce(critic, one_slot, tf.constant(present), GLOBAL)
        np.testing.assert_allclose(bound, 0, atol=1e-6)
        assert np.all(np.isfinite(tape.gradient(bound, one_slot)))
    no_slot = tf.zeros([0, 4, DIM])
    assert info_nce(critic, no_slot, tf.zeros([0, 4]), GLOBAL) == 0


def test_the_critic_learns_which_features_belong_together():
    """Eight sentences that features tell apart: the bound climbs towards log 8 = 2.08."""
    both, present = tf.eye(8), tf.ones([1, 8])
    critic = Critic(seed=0, units=32)
    optimizer = tf.compat.v1.train.AdamOptimizer(0.05)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = -info_nce(critic, both[tf.newaxis], present, both)
        variables = critic.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return -loss

    bounds = [step() for _ in range(60)]
    assert bounds[0] < 0.5
    assert 1.5 < bounds[-1] <= math.log(8)


class Encoder:
    """Something between word embeddings and features, with dropout."""

    def __init__(self):
        random = np.random.default_rng(5)
        self.table = tf.Variable(random.normal(size=[9, DIM]), dtype=tf.float32)
        self.kernel = tf.Variable(random.normal(size=[DIM, DIM]), dtype=tf.float32)
        self.token_ids = random.integers(0, 9, [4, LONGEST])
        self.generator = tf.random.Generator.from_seed(6)
        self.variables = [self.table, self.kernel]

    def embed(self):
        return tf.gather(self.table, self.token_ids)

    def outputs(self, embeddings):
        kept = tf.cast(self.generator.uniform(tf.shape(embeddings)) < 0.8, tf.float32)
        local_features = tf.tanh(embeddings) * kept
        hidden = tf.tanh(local_features @ self.kernel) * TOKEN_MASK[:, :, None]
        global_features = tf.reduce_sum(hidden, axis=1)
        return tf.reduce_sum(global_features**2, axis=1), local_features, global_features


ATTACK = EmbeddingAttack(step_size=0.5, init_magnitude=0.4, steps=3)


def written_out(encoder, critic, regularizers):
    """Two tapes a pass, as the authors: first the attacker's gradient, then everything's."""
    delta = ATTACK.start(NOISE, TOKEN_MASK)
    variables = encoder.variables + critic.trainable_variables
    total, sums = 0.0, [0.0 for _ in variables]
    for _ in range(ATTACK.steps):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(delta)
            losses, local_features, global_features = encoder.outputs(encoder.embed() + delta)
            bottleneck = information_bottleneck(local_features, TOKEN_MASK)
            climbed = tf.reduce_mean(losses) + regularizers.beta * bottleneck
        ascent = tape.gradient(climbed, delta)
        with tape:
            anchored = anchored_features(
                local_features, ascent, TOKEN_MASK, regularizers.lowest, regularizers.highest
            )
            bound = info_nce(critic, *anchored, global_features)
            loss = (climbed - regularizers.alpha * bound) / ATTACK.steps
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        sums = [sum_ + tf.convert_to_tensor(g) for sum_, g in zip(sums, gradients)]
        total += loss
        delta = ATTACK.step(delta, ascent, TOKEN_MASK)
    return total, sums


def run(encoder, critic, regularizers):
    variables = encoder.variables + critic.trainable_variables
    mask, noise = tf.constant(TOKEN_MASK), tf.constant(NOISE)

    @tf.function
    def compiled():
        return info_bert(
            encoder.outputs, variables, encoder.embed, mask, noise, ATTACK, regularizers, critic
        )

    return compiled()


def test_passes_equal_those_written_out():
    encoder, critic, regularizers = Encoder(), make_critic(), Regularizers(alpha=0.7, beta=0.4)
    loss, gradients = written_out(encoder, critic, regularizers)
    encoder.generator.reset_from_seed(6)
    found_loss, found = run(encoder, critic, regularizers)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-5)
    assert len(found) == len(gradients) == 7
    for gradient, expected in zip(found, gradients):
        assert np.any(expected != 0)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_without_its_regularizers_it_is_free_lb():
    encoder = Encoder()
    loss, gradients = free_lb(
        lambda x: encoder.outputs(x)[0],
        encoder.variables,
        encoder.embed,
        TOKEN_MASK,
        NOISE,
        ATTACK,
    )
    encoder.generator.reset_from_seed(6)
    found_loss, found = run(encoder, make_critic(), Regularizers(alpha=0.0, beta=0.0))
    np.testing.assert_allclose(found_loss, loss, rtol=1e-5)
    for gradient, expected in zip(found, gradients):
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_replicas_share_the_weights():
    assert Regularizers(0.4, 0.2).shared_by(2) == Regularizers(0.2, 0.1)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"alpha": -1.0}, "--info_alpha=-1.0"),
        ({"beta": math.inf}, "--info_beta=inf"),
        ({"lowest": 1.2}, "--info_lowest=1.2"),
        ({"highest": 0.4}, "--info_highest=0.4"),
    ],
)
def test_values_out_of_range_are_named(changes, flag):
    with pytest.raises(UserError, match=flag):
        Regularizers(**changes)
