"""Shapes of masks, by hand."""

import pytest
import tensorflow as tf
import tf_keras as keras

from tests.masking.tiny_transformer import slots, tiny_backbone
from tf_tickets.errors import UserError
from tf_tickets.masking.granularity import GRANULARITIES, mask_shape


def built(layer, *input_shape):
    layer.build(tf.TensorShape([None, *input_shape]))
    return layer


@pytest.fixture(scope="module")
def attention():
    """Query, key, value and output of a `MultiHeadAttention` of 2 heads of size 8."""
    return [slot.layer for slot in slots(tiny_backbone())[:4]]


def test_dense():
    dense = built(keras.layers.Dense(3), 5)
    assert [mask_shape(dense, name) for name in ("weight", "neuron", "matrix")] == [
        (5, 3),
        (1, 3),
        (1, 1),
    ]


def test_a_neuron_of_a_convolution_is_a_filter():
    convolution = built(keras.layers.Conv2D(4, 3), 8, 8, 2)
    assert [mask_shape(convolution, name) for name in ("weight", "neuron", "matrix")] == [
        (3, 3, 2, 4),
        (1, 1, 1, 4),
        (1, 1, 1, 1),
    ]


def test_attention(attention):
    shapes = [[mask_shape(layer, name) for name in GRANULARITIES] for layer in attention]
    assert GRANULARITIES == ("weight", "neuron", "head", "matrix")
    # [hidden, heads, size]
    assert shapes[0] == shapes[1] == shapes[2] == [(16, 2, 8), (1, 2, 8), (1, 2, 1), (1, 1, 1)]
    # [heads, size, hidden]
    assert shapes[3] == [(2, 8, 16), (1, 1, 16), (2, 1, 1), (1, 1, 1)]


def test_masks_of_heads_turn_off_whole_heads(attention):
    query = attention[0]
    kernel = query.kernel * tf.constant([1.0, 0.0])[tf.newaxis, :, tf.newaxis]
    outputs = tf.einsum(query.equation, tf.random.normal((2, 5, 16)), kernel)  # [2, 5, heads, size]
    assert tf.reduce_all(outputs[:, :, 1] == 0) and not tf.reduce_any(outputs[:, :, 0] == 0)
    assert mask_shape(query, "head") == (1, 2, 1)


@pytest.mark.parametrize(
    "layer",
    [
        built(keras.layers.Dense(3, name="intermediate"), 5),
        built(keras.layers.EinsumDense("ab,bc->ac", 3, name="intermediate"), 5),
    ],
)
def test_heads_where_there_are_none(layer):
    expected = r"--granularity=head: intermediate is a (Einsum)?Dense layer without .*heads"
    with pytest.raises(UserError, match=expected):
        mask_shape(layer, "head")


def test_an_unknown_granularity():
    expected = "--granularity=row: expected one or more of weight, neuron, head, matrix"
    with pytest.raises(UserError, match=expected):
        mask_shape(built(keras.layers.Dense(3), 5), "row")
