"""Texts as BERT's token ids, through keras-nlp."""

import dataclasses
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_tickets.compat.silent_imports import import_keras_nlp
from tf_tickets.data.text import TextSplit
from tf_tickets.errors import UserError, require, require_extra

PAD, CLS, SEP = "[PAD]", "[CLS]", "[SEP]"
# Written in a text, these stay one token. [PAD] does not, as attention would leave it out.
TOKENS_IN_TEXTS = ("[UNK]", "[MASK]", CLS, SEP)
_IN_TEXTS_PATTERN = re.compile("(" + "|".join(re.escape(token) for token in TOKENS_IN_TEXTS) + ")")

# So many texts are tokenized at a time; millions of words would not fit the memory at once.
_CHUNK = 4_096


@dataclasses.dataclass(frozen=True, eq=False)
class TokenSplit:
    """Tokenized examples and their labels, in a fixed order.

    Attributes:
        token_ids: int32 array of shape [n, length], 0 for padding.
        segment_ids: int32 array of the same shape, 0 for the first text and padding, 1 for the
            second text.
        labels: int32 array of shape [n], class indices.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    @property
    def lengths(self):
        """How many tokens of each example are not padding, int32 [n]."""
        return np.count_nonzero(self.token_ids, axis=1).astype(np.int32)


def require_vocabulary(source: str, vocabulary: Sequence[str]) -> None:
    """Raises a `UserError` about `source` unless BERT's special tokens are there, `[PAD]` first."""
    if missing := [token for token in (PAD, *TOKENS_IN_TEXTS) if token not in vocabulary]:
        raise UserError(f"{source}: without {', '.join(missing)}, which BERT's vocabularies hold")
    if vocabulary[0] != PAD:
        raise UserError(f"{source}: the first entry is {vocabulary[0]}, expected {PAD}")


def word_piece_tokenizer(vocabulary: Sequence[str], length: int):
    """Builds keras-nlp's `WordPieceTokenizer` that leaves `TOKENS_IN_TEXTS` whole.

    Args:
        vocabulary: see `Tokenizer`.
        length: see `Tokenizer`; only checked.

    Raises:
        UserError: if keras-nlp is not installed, the vocabulary is not one of BERT's, or length is
            below 5.
    """
    require(length >= 5, "length", length, "at least 5 tokens")
    require_vocabulary("the vocabulary", vocabulary)
    require_extra("text", "keras_nlp", "tensorflow_text")
    keras_nlp = import_keras_nlp()

    # Its subclass for BERT does not know [UNK] in texts.
    return keras_nlp.tokenizers.WordPieceTokenizer(
        vocabulary, special_tokens=list(TOKENS_IN_TEXTS), special_tokens_in_strings=True
    )


class Tokenizer:
    """Makes BERT's inputs of texts, as transformers' tokenizers do.

    A text is cleaned of control characters, and lower-cased and freed of accents where BERT was
    trained so; keras-nlp's `WordPieceTokenizer` splits it into words and these into pieces.
    `[UNK]`, `[MASK]`, `[CLS]` and `[SEP]` in a text are those tokens, not words in brackets.

    One difference to transformers is left: a word of more than 100 bytes is unknown, there one of
    more than 100 characters, which are the same in ASCII.
    """

    def __init__(self, vocabulary: Sequence[str], lowercase: bool, length: int):
        """Prepares the tokenizer.

        Args:
            vocabulary: word pieces in the order of their ids, `[PAD]` first, with all of BERT's
                special tokens.
            lowercase: whether the vocabulary is one of lower-cased words without accents.
            length: number of tokens that each example is cut or padded to, at least 5.

        Raises:
            UserError: if keras-nlp is not installed, the vocabulary is not such a one, or length
                is below 5.
        """
        self._word_pieces = word_piece_tokenizer(vocabulary, length)
        self._cls, self._sep = vocabulary.index(CLS), vocabulary.index(SEP)
        self._lowercase = lowercase
        self.length = length
        # One graph for all calls: its steps one by one take thirty times as long for a sentence.
        self._tokenize = tf.function(
            self._ragged_parts, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def __call__(self, texts: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenizes examples of one text, `[CLS] a [SEP]`, or of two, `[CLS] a [SEP] b [SEP]`.

        Of a pair that is too long, the longer text loses its last token until it fits (the second
        when they are equal), as in BERT's own code.

        Args:
            texts: examples, each a tuple of one or two strings.

        Returns:
            (token_ids, segment_ids): int32 arrays of shape [n, length].
        """
        token_ids = np.zeros((len(texts), self.length), np.int32)
        segment_ids = np.zeros_like(token_ids)
        for start in range(0, len(texts), _CHUNK):
            examples = texts[start : start + _CHUNK]
            pieces = iter(self._pieces([text for example in examples for text in example]))
            for row, example in enumerate(examples, start):
                self._pack([next(pieces) for _ in example], token_ids[row], segment_ids[row])
        return token_ids, segment_ids

    def _pieces(self, texts):
        """The token ids of each text, an int32 array."""
        cleaned = [_clean(text, self._lowercase) for text in texts]
        values, ends = (part.numpy() for part in self._tokenize(tf.constant(cleaned, tf.string)))
        return np.split(values, ends[:-1])

    def _ragged_parts(self, texts):
        tokens = self._word_pieces.tokenize(texts)
        return tokens.values, tokens.row_splits[1:]

    def _pack(self, pieces, token_ids, segment_ids):
        """Fills the rows of one example."""
        kept = _kept(tuple(map(len, pieces)), self.length - 1 - len(pieces))
        token_ids[0], end = self._cls, 1
        for segment, (ids, count) in enumerate(zip(pieces, kept, strict=True)):
            start, end = end, end + count + 1
            token_ids[start : end - 1], token_ids[end - 1] = ids[:count], self._sep
            segment_ids[start:end] = segment


def tokenize_split(tokenizer: Tokenizer, split: TextSplit) -> TokenSplit:
    """Tokenizes all examples of a split."""
    return TokenSplit(*tokenizer(split.texts), split.labels)


def _kept(lengths, room):
    """How many tokens of each text stay when `room` tokens are left for them."""
    if len(lengths) == 1:
        return (min(lengths[0], room),)
    first, second = lengths
    # Cut one by one, both end at half the room, or one below it is left whole.
    first = min(first, max(room - second, (room + 1) // 2))
    return first, min(second, room - first)


def _clean(text, lowercase):
    """The text that word pieces are looked for in; special tokens in it stay as they are."""
    parts = _IN_TEXTS_PATTERN.split(text)  # Every other one is a special token.
    parts[::2] = [_plain(part, lowercase) for part in parts[::2]]
    return "".join(parts)


def _plain(text, lowercase):
    text = text.lower() if lowercase else text
    if text.isascii() and text.isprintable():
        return text
    if lowercase:
        text = unicodedata.normalize("NFD", text)
    return "".join(_cleaned_character(character, lowercase) for character in text)


def _cleaned_character(character, lowercase):
    category = unicodedata.category(character)
    if character in "\t\n\r" or category[0] == "Z":
        return " "
    is_accent = lowercase and category == "Mn"
    return "" if category[0] == "C" or character == "\ufffd" or is_accent else character
