"""A trained network as the one graph that all artifacts are made of."""

import dataclasses
from collections.abc import Callable, Mapping

import tensorflow as tf
import tf_keras as keras

_TOKENS = ("token_ids", "segment_ids", "padding_mask")


@dataclasses.dataclass(frozen=True, eq=False)
class Inference:
    """A network in inference mode as a function of named tensors.

    Attributes:
      model: holds the weights.
      inputs: name → what the function takes, the batch size open.
      function: a `tf.function` of `inputs` as keywords → `logits` float32 `[batch, classes]` in
        a dict.
    """

    model: keras.Model
    inputs: Mapping[str, tf.TensorSpec]
    function: Callable[..., dict[str, tf.Tensor]]


def image_inference(model: keras.Model) -> Inference:
    """Of a model from `images`, float32 `[batch, height, width, channels]` in [0, 1], to logits."""
    spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name="images")

    @tf.function(input_signature=[spec])
    def infer(images):
        return {"logits": model(images, training=False)}

    return Inference(model, {"images": spec}, infer)


def text_inference(model: keras.Model, length: int | None = None) -> Inference:
    """Of a classifier of texts.

    Args:
      model: dict of int32 `token_ids`, `segment_ids` and `padding_mask` (1 at tokens, 0 at
        padding), each `[batch, length]` → logits.
      length: of all texts, in tokens; None leaves it open.
    """
    specs = [tf.TensorSpec([None, length], tf.int32, name) for name in _TOKENS]

    @tf.function(input_signature=specs)
    def infer(token_ids, segment_ids, padding_mask):
        values = (token_ids, segment_ids, padding_mask)
        logits = model(dict(zip(_TOKENS, values, strict=True)), training=False)
        return {"logits": tf.cast(logits, tf.float32)}

    return Inference(model, dict(zip(_TOKENS, specs, strict=True)), infer)
