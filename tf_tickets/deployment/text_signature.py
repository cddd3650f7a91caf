"""SavedModels of text classifiers that take raw strings: keras-nlp's tokenizer in the graph."""

import functools
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_tickets.data.tokens import CLS, SEP, TOKENS_IN_TEXTS, word_piece_tokenizer
from tf_tickets.deployment.inference import Inference
from tf_tickets.deployment.saved_model import TOKENS, answer

_IN_TEXTS_PATTERN = "|".join(f"\\[{token[1:-1]}\\]" for token in TOKENS_IN_TEXTS)

_CODE_POINTS = range(sys.maxunicode + 1)
_PAGE = 256
# Added to the code point of a character that is dropped, which makes it negative.
_DROPPED = -len(_CODE_POINTS)


class TokenizingGraph:
    """`tf_tickets.data.tokens.Tokenizer` in the ops of TensorFlow and tensorflow_text.

    It finds the same tokens as the `Tokenizer` of the same arguments. What becomes of a character
    is a table in the graph, made by the Python that builds it. So neither the Unicode version of
    TensorFlow's ICU nor the server's language matters; `tf.strings.lower` depends on both, and
    ends a text at its first NUL. Bytes that are not UTF-8 are dropped.
    """

    def __init__(self, vocabulary: Sequence[str], lowercase: bool, length: int):
        """Prepares the tokenizer.

        Args:
          vocabulary: word pieces in the order of their ids, `[PAD]` first, with all of BERT's
            special tokens.
          lowercase: whether the vocabulary is one of lower-cased words without accents.
          length: number of tokens that an example is cut to, at least 5.

        Raises:
          UserError: keras-nlp is not installed, the vocabulary is not such a one, or length is
            below 5.
        """
        self._word_pieces = word_piece_tokenizer(vocabulary, length)
        self._cls, self._sep = vocabulary.index(CLS), vocabulary.index(SEP)
        self._lowercase = lowercase
        self._length = length

    def __call__(self, parts: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Tokenizes a batch of examples of one text, or of two.

        Args:
          parts: the first text of each example and, of pairs, the second; string `[batch]`.

        Returns:
          `token_ids`, `segment_ids` (1 for the second text) and `padding_mask` (1 for tokens),
          int32 `[batch, longest]`, padded with 0 to the example of most tokens.
        """
        # All texts at once, because an op costs more than the texts of a small batch.
        # Some of them fail on none at all, so there is always one more, which is then taken away.
        batch = tf.shape(parts[0])[0]
        parts = [tf.concat([part, [""]], axis=0) for part in parts]
        pieces = self._word_pieces.tokenize(self._clean(tf.concat(parts, axis=0)))
        return {name: array[:batch] for name, array in self._pack(pieces, len(parts)).items()}

    def _clean(self, texts):
        """The texts that word pieces are looked for in; special tokens in them stay as they are."""
        import tensorflow_text

        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        # The split would end a text at a NUL; the other character is dropped as well.
        texts = tf.strings.regex_replace(texts, r"\x{0}", "\ufffd")
        parts = tensorflow_text.regex_split(texts, _IN_TEXTS_PATTERN, _IN_TEXTS_PATTERN)
        is_token = tf.strings.regex_full_match(parts.values, _IN_TEXTS_PATTERN)
        cleaned = tf.where(is_token, parts.values, self._plain(parts.values))
        return tf.strings.reduce_join(parts.with_values(cleaned), axis=1)

    def _plain(self, texts):
        import tensorflow_text

        if self._lowercase:
            texts = tf.strings.regex_replace(texts, _final_sigma_pattern(), r"\1ς\2")
            texts = tensorflow_text.normalize_utf8(texts, "NFD")
        points = tf.strings.unicode_decode(texts, "UTF-8")
        page_numbers, pages = _changes(self._lowercase)
        page, place = tf.gather(page_numbers, points.values // _PAGE), points.values % _PAGE
        change = tf.gather_nd(pages, tf.stack([page, place], axis=1))
        points = points.with_values(points.values + change)
        return tf.strings.unicode_encode(tf.ragged.boolean_mask(points, points >= 0), "UTF-8")

    def _pack(self, pieces, parts):
        """The inputs for texts that were tokenized to these, ragged `[parts * batch, tokens]`."""
        room = self._length - 1 - parts
        kept = _kept(tf.split(pieces.row_lengths(), parts), room)
        texts = tf.split(pieces.to_tensor(shape=[None, room]), parts)
        cls, sep = (tf.fill([tf.shape(texts[0])[0], 1], token) for token in (self._cls, self._sep))
        always = tf.ones_like(cls, tf.bool)
        # Everything side by side, of which only this is left:
        tokens = tf.concat([cls, *(each for text in texts for each in (text, sep))], axis=1)
        counted = (each for count in kept for each in (tf.sequence_mask(count, room), always))
        is_left = tf.concat([always, *counted], axis=1)
        padding_mask = tf.sequence_mask(tf.add_n(kept) + 1 + parts)
        places, shape = tf.where(padding_mask), tf.shape(padding_mask, tf.int64)
        is_first = tf.sequence_mask(kept[0] + 2, shape[1])
        return {
            "token_ids": tf.scatter_nd(places, tf.boolean_mask(tokens, is_left), shape),
            "segment_ids": tf.cast(padding_mask & ~is_first, tf.int32),
            "padding_mask": tf.cast(padding_mask, tf.int32),
        }


def save_text_model(
    folder: Path, inference: Inference, tokenizing: TokenizingGraph, parts: Sequence[str]
) -> None:
    """Writes a SavedModel that is loaded with TensorFlow and tensorflow_text's ops alone.

    It has the signatures, by the conventions of TensorFlow Serving, for one text or more at a time:

    - `serving_default`: one string tensor `[batch]` for each part → `logits` and
      `probabilities`, float32 `[batch, classes]`, and `classes`, int64 `[batch]`, the index of the
      highest logit. Texts longer than `tokenizing`'s length are cut to it, without a word.
    - `tokens`: what `inference` takes → `logits`.

    Args:
      folder: is written into as it is; the caller makes that atomic.
      inference: takes texts of any number of tokens, see `text_inference`.
      tokenizing: makes its inputs.
      parts: names of an example's texts, as in `TextData.parts`.
    """

    @tf.function(autograph=False)
    def classify(**texts):
        logits = inference.function(**tokenizing([texts[part] for part in parts]))["logits"]
        return answer(logits)

    # A plain module, because saving the Keras model would trace each of its layers as well.
    module = tf.Module()
    module.model_variables = inference.model.variables
    specs = {part: tf.TensorSpec([None], tf.string, part) for part in parts}
    signatures = {
        "serving_default": classify.get_concrete_function(**specs),
        TOKENS: inference.function,
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _kept(lengths, room):
    """How many tokens of each text stay when `room` tokens are left for them, int64 `[batch]`."""
    if len(lengths) == 1:
        return [tf.minimum(lengths[0], room)]
    first, second = lengths
    # Cut one by one, both end at half the room, or one below it is left whole.
    first = tf.minimum(first, tf.maximum(room - second, (room + 1) // 2))
    return [first, tf.minimum(second, room - first)]


@functools.cache
def _changes(lowercase):
    """What is added to each code point, as `pages[page_numbers[point // 256], point % 256]`."""
    changes = np.array([_change(chr(point), lowercase) for point in _CODE_POINTS], np.int32)
    # Most pages are left as they are, or dropped; what is on several is held once.
    pages, page_numbers = np.unique(changes.reshape(-1, _PAGE), axis=0, return_inverse=True)
    return page_numbers.astype(np.int32).ravel(), pages


def _change(character, lowercase):
    """What is added to the code point of a character, of text in NFD if it is lower-cased."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category[0] == "Z":
        return ord(" ") - ord(character)
    if category[0] == "C" or character == "\ufffd" or (lowercase and category == "Mn"):
        return _DROPPED
    return ord(character.lower()[0]) - ord(character) if lowercase else 0


@functools.cache
def _final_sigma_pattern():
    """The Σ that becomes ς, because it ends a word, between two groups of what is around it.

    There is a letter with case before it and none after it, but for characters in between that do
    not count, such as accents. All other Σ become σ.
    """
    characters = [chr(point) for point in _CODE_POINTS]
    ends = [(f"{c}Σ".lower()[-1], f"A{c}Σ".lower()[-1]) for c in characters]
    cased = _ranges(c for c, (alone, _) in zip(characters, ends, strict=True) if alone == "ς")
    ignored = _ranges(c for c, found in zip(characters, ends, strict=True) if found == ("σ", "ς"))
    return f"([{cased}][{ignored}]*)Σ([{ignored}]*(?:[^{cased}{ignored}]|\\z))"


def _ranges(characters):
    """Ascending characters as the ranges of a regular expression's class."""
    points = np.array([ord(character) for character in characters])
    runs = np.split(points, np.flatnonzero(np.diff(points) > 1) + 1)
    return "".join(f"\\x{{{run[0]:x}}}-\\x{{{run[-1]:x}}}" for run in runs)
