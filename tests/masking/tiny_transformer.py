"""A tiny BERT, and the dense layers in its encoders."""

from typing import NamedTuple

import numpy as np
import pytest
import tf_keras as keras

from tf_tickets.models.bert_backbone import backbone_class

VOCABULARY, HIDDEN, HEADS, INTERMEDIATE = 50, 16, 2, 32


class Slot(NamedTuple):
    """Where a dense layer hangs."""

    owner: keras.layers.Layer
    attribute: str

    @property
    def layer(self):
        return getattr(self.owner, self.attribute)

    def put(self, layer):
        setattr(self.owner, self.attribute, layer)


def tiny_backbone():
    """Two encoders, without dropout, so that nothing else is random."""
    pytest.importorskip("keras_nlp", reason="needs the extra `text`")
    backbone = backbone_class()(
        vocabulary_size=VOCABULARY,
        num_layers=2,
        num_heads=HEADS,
        hidden_dim=HIDDEN,
        intermediate_dim=INTERMEDIATE,
        max_sequence_length=12,
        dropout=0.0,
    )
    generator = np.random.default_rng(0)
    for weight in backbone.weights:  # Biases, too, are something.
        weight.assign(weight + generator.normal(size=weight.shape, scale=0.2))
    return backbone


def slots(backbone):
    """Those of the six kernels of each encoder."""
    found = []
    for block in backbone.transformer_layers:
        attention = block._self_attention_layer
        for name in ("query", "key", "value", "output"):
            found.append(Slot(attention, f"_{name}_dense"))
        found.append(Slot(block, "_feedforward_intermediate_dense"))
        found.append(Slot(block, "_feedforward_output_dense"))
    return found


def tokens(count=3, length=7):
    """Inputs of a backbone."""
    generator = np.random.default_rng(1)
    return {
        "token_ids": generator.integers(1, VOCABULARY, (count, length)).astype(np.int32),
        "segment_ids": np.zeros((count, length), np.int32),
        "padding_mask": np.ones((count, length), np.int32),
    }
