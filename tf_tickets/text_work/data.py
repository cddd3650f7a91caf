"""Texts and encoders of a plan: read once to know them, and again where they are used."""

import dataclasses
import functools
import hashlib

from tf_tickets.data.text import SPLIT_NAMES, TextData
from tf_tickets.data.text_registry import load_texts
from tf_tickets.data.tokens import Tokenizer
from tf_tickets.errors import UserError, require
from tf_tickets.models.bert_encoder import BertEncoder, load_encoder
from tf_tickets.text_work.nodes import (
    Encoder,
    EncoderPlace,
    TextNetwork,
    Texts,
)

# The paper's longest examples, in tokens; other data sets have twice as many.
SHORT_TEXTS = ("sst2", "mrpc", "movie_reviews")
SHORT_LENGTH = 128


@dataclasses.dataclass(frozen=True)
class TextPlace:
    """Where texts come from, and how much of them is used.

    Attributes:
      data_source: `embedded` or `tfds`.
      data_dir: where prepared TFDS data lie; None for TFDS's own choice.
      length: tokens that examples are cut to; 0 for the paper's.
      train_examples, validation_examples, test_examples: how many are used; 0 for all.
    """

    data_source: str
    data_dir: str | None
    length: int
    train_examples: int
    validation_examples: int
    test_examples: int

    def __post_init__(self):
        for flag in ("train_examples", "validation_examples", "test_examples"):
            require(getattr(self, flag) >= 0, flag, getattr(self, flag), "at least 0")

    def load(self, data_set: str, seed: int) -> TextData:
        """A trial's texts.

        Raises:
          UserError: they are not there, damaged, or fewer than asked for.
        """
        return self.part(self.whole(data_set, seed), seed)

    def whole(self, data_set: str, seed: int) -> TextData:
        """All of the texts, split as the seed decides."""
        return load_texts(data_set, self.data_source, self.data_dir, seed)

    def part(self, whole: TextData, seed: int) -> TextData:
        """What a run takes of them."""
        return whole.limited(
            seed,
            self.train_examples or None,
            self.validation_examples or None,
            self.test_examples or None,
        )

    def read(self, encoder: BertEncoder, data_set: str, seed: int) -> tuple[Texts, TextData]:
        """A trial's texts: what a plan knows them by, and they themselves.

        Raises:
          UserError: as `load`, and as `tokenizer`.
        """
        whole = self.whole(data_set, seed)
        data = self.part(whole, seed)
        described = Texts(
            name=data_set,
            source=self.data_source,
            sha256=content_sha256(whole),
            seed=seed,
            length=self.tokenizer(encoder, data_set).length,
            train=len(data.train),
            validation=len(data.validation),
            test=len(whole.test),
        )
        return described, data

    def tokenizer(self, encoder: BertEncoder, data_set: str) -> Tokenizer:
        """Makes an encoder's inputs of a data set's texts.

        Raises:
          UserError: the length is not one that the encoder takes.
        """
        longest = encoder.config.max_sequence_length
        paper = SHORT_LENGTH if data_set in SHORT_TEXTS else 2 * SHORT_LENGTH
        expected = f"0 or 5 to {longest} tokens, as {encoder.name} takes"
        require(not self.length or 5 <= self.length <= longest, "length", self.length, expected)
        return Tokenizer(encoder.vocabulary, encoder.lowercase, self.length or min(paper, longest))


def network_on(encoder: BertEncoder, place: EncoderPlace, classes: int) -> TextNetwork:
    """What a plan knows a classifier by.

    Args:
      encoder: what is below it.
      place: where that was read from.
      classes: how many it tells apart.
    """
    return TextNetwork(_described(encoder, place), classes)


def read_again(texts: Texts, data_dir: str | None) -> TextData:
    """The texts that a plan knows, with all of their test examples.

    Raises:
      UserError: they are no longer what they were.
    """
    place = TextPlace(texts.source, data_dir, texts.length, texts.train, texts.validation, 0)
    whole = place.whole(texts.name, texts.seed)
    if content_sha256(whole) != texts.sha256:
        raise UserError(
            f"--data_sets={texts.name}: its content is not what it was when the run began; start "
            "the run again, which takes it for other data"
        )
    return place.part(whole, texts.seed)


@functools.lru_cache(maxsize=1)  # Several hundred MB each.
def read_encoder_again(encoder: Encoder) -> BertEncoder:
    """The encoder that a plan knows.

    Raises:
      UserError: it is no longer what it was, or where it was.
    """
    place = encoder.place
    found = load_encoder(place.bert_preset, place.bert_dir, place.layers)
    if _described(found, place) != encoder:
        flag = "bert_dir" if place.bert_dir else "bert_preset"
        raise UserError(
            f"--{flag}={getattr(place, flag)}: not the encoder that it was when the run began; "
            "start the run again, which takes it for another one"
        )
    return found


def content_sha256(data: TextData) -> str:
    """Of all texts and labels."""
    digest = hashlib.sha256(repr((data.parts, data.class_names)).encode())
    for name in SPLIT_NAMES:
        split = getattr(data, name)
        digest.update(f"{name} {len(split)} ".encode())
        digest.update(split.labels.tobytes())
        for texts in split.texts:
            digest.update(repr(texts).encode())
    return digest.hexdigest()


def _described(encoder, place):
    return Encoder(
        name=encoder.name,
        config=encoder.config,
        sha256=encoder.sha256,
        vocabulary_sha256=hashlib.sha256("\n".join(encoder.vocabulary).encode()).hexdigest(),
        lowercase=encoder.lowercase,
        place=place,
    )
