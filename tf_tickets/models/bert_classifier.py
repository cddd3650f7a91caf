"""BERT as a classifier of sentences or pairs, from keras-nlp's layers."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras
from tf_keras.src.backend import RandomGenerator

from tf_tickets.models.bert_encoder import BertEncoder

# The dense layers of a keras-nlp TransformerEncoder that tickets prune: where they hang.
_ATTENTION_LAYERS = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
_FEEDFORWARD_LAYERS = ("_feedforward_intermediate_dense", "_feedforward_output_dense")


class BertClassifier:
    """An encoder, its pooler and a new classifier on the pooled [CLS] token.

    Built in the scope of the distribution strategy that it trains under.

    Args:
      encoder: the pre-trained encoder.
      classes: size of the logits.
      dropout: rate of all dropout layers, in [0, 1).
      seed: decides the classifier's initial weights and what dropout drops first.

    Attributes:
      model: `token_ids`, `segment_ids` and `padding_mask` (1 at tokens, 0 at padding), all
        int32 `[batch, length]` → logits float32 `[batch, classes]`.
      features: the same from `word_embeddings`, float32 `[batch, length, hidden_dim]`, in place
        of `token_ids` → `logits`; `embedded`, what the embedding layer makes of the words, and
        `hidden`, the last hidden states, both of the embeddings' shape. It shares all layers.
      hidden_dim: size of a hidden state.
    """

    def __init__(self, encoder: BertEncoder, classes: int, dropout: float, seed: int):
        self._backbone = encoder.build_backbone(dropout)
        self.hidden_dim = encoder.config.hidden_dim
        initializer = keras.initializers.TruncatedNormal(
            stddev=encoder.config.initializer_range, seed=seed
        )
        self._head_dropout = keras.layers.Dropout(dropout, name="logits_dropout")
        self._head = keras.layers.Dense(classes, kernel_initializer=initializer, name="logits")
        self.features = self._build_features()
        self.model = self._build_model()
        _make_restorable(self.model, seed)
        self.reseed(seed)

    def word_embeddings(self, token_ids: tf.Tensor) -> tf.Tensor:
        """The words' own embeddings, before positions and segments are added to them.

        Args:
          token_ids: int32 `[batch, length]`.

        Returns:
          float32 `[batch, length, hidden_dim]`.
        """
        return self._backbone.token_embedding(token_ids)

    @property
    def masked_layers(self) -> dict[str, keras.layers.Layer]:
        """Name → layer of all that tickets prune: six of each encoder, and the pooler."""
        return {name: getattr(owner, slot) for name, owner, slot in self._slots()}

    def replace_layers(self, wrap: Callable[[keras.layers.Layer], keras.layers.Layer]) -> None:
        """Puts `wrap(layer)` in the place of every layer that tickets prune."""
        for _, owner, slot in list(self._slots()):
            setattr(owner, slot, wrap(getattr(owner, slot)))
        # The pooler is a layer of the graph itself, which must be built again around it.
        self.features = self._build_features()
        self.model = self._build_model()

    def reseed(self, seed: int) -> None:
        """Starts the randomness of dropout over, from the same place for the same seed."""
        for index, stream in enumerate(self.random_streams):
            stream.reset_from_key_counter(seed, [index, 0])

    @property
    def random_streams(self) -> list[tf.random.Generator]:
        """What dropout draws from, for a checkpoint to hold where it stands."""
        return [layer._random_generator._generator for layer in _dropout_layers(self.model)]

    def _slots(self):
        """(name, owner, attribute) of every layer that tickets prune, in the order of the data."""
        for block in self._backbone.transformer_layers:
            for owner, slots in (
                (block._self_attention_layer, _ATTENTION_LAYERS),
                (block, _FEEDFORWARD_LAYERS),
            ):
                for slot in slots:
                    yield f"{block.name}/{slot.strip('_').removesuffix('_dense')}", owner, slot
        yield "pooler", self._backbone, "pooled_dense"

    def _build_features(self):
        backbone = self._backbone
        words = keras.Input([None, self.hidden_dim], dtype="float32", name="word_embeddings")
        segments, padding = _int32_input("segment_ids"), _int32_input("padding_mask")
        # Embeddings
        x = backbone.embeddings_add(
            (words, backbone.position_embedding(words), backbone.segment_embedding(segments))
        )
        x = embedded = backbone.embeddings_dropout(backbone.embeddings_layer_norm(x))
        # Encoders
        for block in backbone.transformer_layers:
            x = block(x, padding_mask=padding)
        # Pooler and classifier
        pooled = backbone.pooled_dense(x[:, backbone.cls_token_index, :])
        logits = self._head(self._head_dropout(pooled))
        return keras.Model(
            {"word_embeddings": words, "segment_ids": segments, "padding_mask": padding},
            {"logits": logits, "embedded": embedded, "hidden": x},
            name="features",
        )

    def _build_model(self):
        tokens = _int32_input("token_ids")
        segments, padding = _int32_input("segment_ids"), _int32_input("padding_mask")
        outputs = self.features(
            {
                "word_embeddings": self._backbone.token_embedding(tokens),
                "segment_ids": segments,
                "padding_mask": padding,
            }
        )
        return keras.Model(
            {"token_ids": tokens, "segment_ids": segments, "padding_mask": padding},
            outputs["logits"],
            name="bert_classifier",
        )


def _int32_input(name):
    return keras.Input([None], dtype="int32", name=name)


def _dropout_layers(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]


def _make_restorable(model, seed):
    """Dropout that draws from generators, since where Keras' own stands cannot be restored."""
    for layer in _dropout_layers(model):
        layer._random_generator = RandomGenerator(seed, rng_type="stateful")
        layer._random_generator._maybe_init()
