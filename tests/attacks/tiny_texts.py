"""A victim whose answers are counted by hand, and small resources to attack it with."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.text_resources import TextResources

NLTK_DATA = pathlib.Path(__file__).parents[2].parent / "shared" / "text_attack" / "nltk_data"

GOOD = ("good", "great", "lovely", "fine", "bright")
BAD = ("bad", "dull", "awful", "poor", "bleak")
NEUTRAL = ("the", "film", "movie", "plot", "actor", "story", "scene", "is", "was", "and", "a", "it")
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *NEUTRAL, "##s", "##ly")
LENGTH = 32

# Fails are those that are called bad without a bad word: nothing is left to attack.
TEXTS = (
    "The film is good.",
    "A great film and a lovely story",
    "the plot was bad",
    "a dull, awful movie",
    "It was a bright scene and the actor is fine",
    "The story is poor and the scene bleak",
    "good plot",
    "the movie",
    "A fine movie, but the plots was badly dull",
    "Great actor! Lovely scene; the story is fine, the film bright and it was a great movie",
    "the lovely film is not awful",
    "a bleak and poor plot",
)
LABELS = (1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 0)


def opinion_model() -> keras.Model:
    """Counts good words minus bad ones; below one half it calls a text bad, class 0."""
    inputs = {
        name: keras.Input([None], dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    opinions = [(word in GOOD) - (word in BAD) for word in VOCABULARY]
    embedding = keras.layers.Embedding(len(VOCABULARY), 1, name="opinions")
    mask = tf.cast(inputs["padding_mask"], tf.float32)
    # Words that count a little differently, so that no two texts are equally sure by chance.
    unequal = np.array(opinions, np.float32) * (1 + np.arange(len(VOCABULARY)) / 100)
    total = tf.reduce_sum(embedding(inputs["token_ids"])[..., 0] * mask, axis=1, keepdims=True)
    logits = keras.layers.Concatenate()([0.5 - total, total - 0.5])
    model = keras.Model(inputs, logits)
    embedding.set_weights([unequal[:, np.newaxis]])
    return model


class BagOfWords(tf.Module):
    """A sentence encoder with the call of the Universal Sentence Encoder's SavedModel."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts):
        words = tf.strings.split(tf.strings.lower(texts))
        buckets = tf.strings.to_hash_bucket_fast(words, 16).to_tensor(-1)
        return {"outputs": tf.reduce_sum(tf.one_hot(buckets, 16), axis=1) + 0.25}


def write_resources(folder: pathlib.Path) -> TextResources:
    """All resources but NLTK's data, which tests take from NLTK_DATA where it is."""
    tf.saved_model.save(BagOfWords(), str(folder / "encoder"))
    write_word_vectors(folder / "words.npz")
    write_masked_lm(folder / "masked_lm")
    return TextResources(
        sentence_encoder=str(folder / "encoder"),
        word_vectors=str(folder / "words.npz"),
        masked_lm=str(folder / "masked_lm"),
        nltk_data=str(NLTK_DATA) if NLTK_DATA.is_dir() else "",
    )


def write_word_vectors(path: pathlib.Path) -> None:
    """Opinions near opinions, whichever they are; neutral words near neutral ones."""
    words = [*GOOD, *BAD, *NEUTRAL]
    vectors = np.random.default_rng(0).integers(-40, 40, (len(words), 8)).astype(np.int8)
    vectors[:10, 0], vectors[10:, 1] = 100, 100
    similarity = vectors.astype(float) @ vectors.T.astype(float)
    np.fill_diagonal(similarity, -np.inf)
    neighbours = np.argsort(-similarity, axis=1)[:, :6].astype(np.int32)
    np.savez(path, words="\n".join(words), vectors=vectors, neighbours=neighbours)


def write_masked_lm(folder: pathlib.Path) -> None:
    """A masked language model of random weights."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
    import torch

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=512,
        initializer_range=1.0,
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n")
    tokenizer = transformers.BertTokenizerFast(vocab_file=str(vocabulary), do_lower_case=True)
    tokenizer.save_pretrained(folder)


def write_neighbours(path: pathlib.Path) -> None:
    path.write_text(json.dumps({"good": ["fine", "bad"], "fine": ["good"], "dull": []}))
