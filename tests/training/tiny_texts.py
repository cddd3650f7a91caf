"""Tiny text trainings: an encoder of two layers, and examples of a few random words."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models.tiny_bert import VOCABULARY, write_folder
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.data.tokens import TokenSplit
from tf_tickets.models.bert_encoder import load_encoder

ATTACK = EmbeddingAttack(step_size=0.03, init_magnitude=0.05, steps=3)
BATCH, LENGTH = 4, 9


def tiny_encoder(folder):
    """Skips where keras-nlp is missing."""
    pytest.importorskip("keras_nlp", reason="needs the extra `text`")
    return load_encoder(bert_dir=str(write_folder(folder / "encoder")))


def tiny_tokens(count=16, seed=3):
    """Of different lengths; the first word decides the label."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(4, LENGTH + 1, count)
    real = np.arange(LENGTH) < lengths[:, np.newaxis]
    token_ids = (generator.integers(5, len(VOCABULARY), (count, LENGTH)) * real).astype(np.int32)
    return TokenSplit(token_ids, np.zeros_like(token_ids), (token_ids[:, 1] % 2).astype(np.int32))


def inputs_of(tokens, rows=slice(None)):
    """What a classifier takes."""
    token_ids = tokens.token_ids[rows]
    return {
        "token_ids": token_ids,
        "segment_ids": tokens.segment_ids[rows],
        "padding_mask": (token_ids != 0).astype(np.int32),
    }


def run(trainer, order, learning_rate=0.01, first=0):
    """Trains on rows of indices, and returns the losses."""
    rates = tf.fill([len(order)], np.float32(learning_rate))
    return trainer.train_steps(tf.constant(order), tf.constant(first), rates).numpy()


def make_order(steps, count=16, seed=5):
    """Rows of indices."""
    return np.random.default_rng(seed).integers(0, count, (steps, BATCH)).astype(np.int32)
