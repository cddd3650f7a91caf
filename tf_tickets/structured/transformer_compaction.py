"""BERT without the attention heads and feed-forward units that zeros in its weights have killed."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.compat.silent_imports import import_keras_nlp
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.structured.compaction import Compaction

layers = keras.layers

# Attributes of keras-nlp's layers: what makes heads or units, the last of which decides what they
# hold, and what reads them.
_HEADS = ("_query_dense", "_key_dense", "_value_dense"), "_output_dense"
_UNITS = ("_feedforward_intermediate_dense",), "_feedforward_output_dense"


def compact_bert(classifier: BertClassifier) -> Compaction:
    """Removes the heads and units that are the same for all texts, or are not read.

    A head goes if each of its numbers has a value kernel or an output kernel of zeros. With a
    value kernel of zeros it is its value's bias for every token, since attention's weights sum to
    one with any padding; the output's bias takes that over. A feed-forward unit goes if its
    intermediate kernel or its output kernel is all zero. At least one of each encoder stays.

    Args:
      classifier: with plain layers. It stays as it is.

    Returns:
      A model that takes and gives what `classifier.model` does, and `<encoder>/heads` and
      `<encoder>/units` → how many went. `tf.saved_model.save` can save the model, but Keras
      cannot build it again from its configuration, which knows of no such encoders.

    Raises:
      ValueError: layers of the classifier are wrapped.
    """
    keras_nlp = import_keras_nlp()

    for name, layer in classifier.masked_layers.items():
        if type(layer) not in (layers.Dense, layers.EinsumDense):
            raise ValueError(f"{name}: a {type(layer).__name__}, expected a plain dense layer")
    model = keras.models.clone_model(classifier.model)
    model.set_weights(classifier.model.get_weights())
    removed = {}
    for encoder in model.get_layer("features").layers:
        if isinstance(encoder, keras_nlp.layers.TransformerEncoder):
            attention = encoder._self_attention_layer
            scope = f"{encoder.name}/{attention.name}"
            removed[f"{encoder.name}/heads"] = _remove_dead(attention, *_HEADS, scope)
            removed[f"{encoder.name}/units"] = _remove_dead(encoder, *_UNITS, encoder.name)
    return Compaction(model, {name: count for name, count in removed.items() if count})


def _remove_dead(owner: keras.layers.Layer, makers: Sequence[str], reader: str, scope: str) -> int:
    """Puts smaller layers in the place of those that make and read heads or units.

    Args:
      owner: has the layers.
      makers: its attributes that hold those with kernels [hidden, heads or units, ...].
      reader: that of the one with a kernel [heads or units, ..., hidden].
      scope: what the names of the weights start with.

    Returns:
      How many heads or units went.
    """
    holder, output = getattr(owner, makers[-1]), getattr(owner, reader)
    kernel, bias = holder.get_weights()
    output_kernel, output_bias = output.get_weights()
    constant, unread = ~np.any(kernel, axis=0), ~np.any(output_kernel, axis=-1)
    kept = ~(constant | unread).reshape(len(bias), -1).all(axis=-1)
    kept[0] |= not kept.any()

    numbers = np.where(constant, holder.activation(bias), 0)[~kept]
    output_bias += np.tensordot(numbers, output_kernel[~kept], axes=numbers.ndim)
    for slot in makers:
        layer = getattr(owner, slot)
        kernel, bias = layer.get_weights()
        setattr(owner, slot, _resized(layer, kernel[:, kept], bias[kept], scope))
    setattr(owner, reader, _resized(output, output_kernel[kept], output_bias, scope))
    return int(np.count_nonzero(~kept))


def _resized(layer, kernel, bias, scope):
    """A dense layer like another, but of the size of its weights."""
    config = layer.get_config()
    if type(layer) is layers.Dense:
        config["units"] = len(bias)
    else:
        config["output_shape"] = (None, *bias.shape)
    resized = type(layer).from_config(config)
    with tf.name_scope(f"{scope}/{layer.name}"):
        resized.build((None, None, *kernel.shape[: kernel.ndim - bias.ndim]))
    resized.set_weights([kernel, bias])
    return resized
