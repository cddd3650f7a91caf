"""Accuracy and loss over a split of texts, against one example at a time."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.data.tokens import TokenSplit
from tf_tickets.evaluation.text_accuracy import TextEvaluator


def counting_model():
    """Logits from how many tokens of each kind there are; padding must not count."""
    inputs = {
        name: keras.Input([None], dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    real = tf.cast(inputs["padding_mask"], tf.float32)
    odd = tf.reduce_sum(real * tf.cast(inputs["token_ids"] % 2, tf.float32), axis=1)
    second = tf.reduce_sum(tf.cast(inputs["segment_ids"], tf.float32), axis=1)
    logits = tf.stack([odd, second, 0.3 * tf.reduce_sum(real, axis=1)], axis=1)
    return keras.Model(inputs, logits)


def make_split(count=23, length=8):
    random = np.random.default_rng(0)
    real = np.arange(length) < random.integers(1, length + 1, count)[:, np.newaxis]
    token_ids = (random.integers(1, 9, (count, length)) * real).astype(np.int32)
    segment_ids = (random.integers(0, 2, (count, length)) * real).astype(np.int32)
    return TokenSplit(token_ids, segment_ids, random.integers(0, 3, count).astype(np.int32))


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_accuracy_and_loss_are_the_means_over_the_examples(batch_size):
    split, correct, losses = make_split(), [], []
    for tokens, segments, label in zip(split.token_ids, split.segment_ids, split.labels):
        real = tokens != 0
        logits = np.array([(tokens % 2)[real].sum(), segments.sum(), 0.3 * real.sum()])
        correct.append(np.argmax(logits) == label)
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
    measured = TextEvaluator(counting_model(), batch_size).evaluate(split)
    assert measured["natural/accuracy"] == pytest.approx(np.mean(correct))
    assert measured["natural/loss"] == pytest.approx(np.mean(losses), rel=1e-5)
