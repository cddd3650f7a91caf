"""Accuracy and loss of a text classifier over a whole split."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.data.tokens import TokenSplit
from tf_tickets.evaluation.answers import judged


class TextEvaluator:
    """Measures a classifier of token ids in inference mode.

    Args:
      model: `token_ids`, `segment_ids` and `padding_mask` → logits, as `BertClassifier.model`.
      batch_size: examples at a time, which are of similar length.
    """

    def __init__(self, model: keras.Model, batch_size: int = 256):
        self._model = model
        self._batch_size = batch_size
        integers = tf.TensorSpec([None, None], tf.int32)
        self._measure = tf.function(
            self._measure_batch,
            input_signature=[integers, integers, tf.TensorSpec([None], tf.int32)],
        )

    def evaluate(self, split: TokenSplit) -> dict[str, float]:
        """Measures all of `split`.

        Returns:
          `natural/accuracy` in [0, 1] and `natural/loss`, mean cross-entropy in nats.
        """
        totals = np.zeros(2)
        shortest_first = np.argsort(split.lengths, kind="stable")
        for start in range(0, len(split), self._batch_size):
            batch = shortest_first[start : start + self._batch_size]
            length = split.lengths[batch].max()
            totals += self._measure(
                split.token_ids[batch, :length],
                split.segment_ids[batch, :length],
                split.labels[batch],
            ).numpy()
        accuracy, loss = totals / len(split)
        return {"natural/accuracy": float(accuracy), "natural/loss": float(loss)}

    def _measure_batch(self, token_ids, segment_ids, labels):
        inputs = {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": tf.cast(token_ids != 0, tf.int32),
        }
        logits = self._model(inputs, training=False)
        correct, _ = judged(logits, labels)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.stack([tf.reduce_sum(tf.cast(correct, tf.float32)), tf.reduce_sum(losses)])
