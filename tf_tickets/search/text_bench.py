"""One trial's texts, with the compiled trainings on them."""

import dataclasses
import functools

import tensorflow as tf

from tf_tickets.data.text import TextData
from tf_tickets.data.text_registry import load_texts
from tf_tickets.data.tokens import Tokenizer, TokenSplit, tokenize_split
from tf_tickets.errors import require
from tf_tickets.models.bert_encoder import BertEncoder
from tf_tickets.search.robust_bert import FineTuning, MaskLearning
from tf_tickets.training.selection import KeptWeights
from tf_tickets.training.text_step import TextTask
from tf_tickets.training.text_trainer import MaskTrainer, TextTrainer

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
        return load_texts(data_set, self.data_source, self.data_dir, seed).limited(
            seed,
            self.train_examples or None,
            self.validation_examples or None,
            self.test_examples or None,
        )

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


class TextBench:
    """A trial's data and networks; each kind of training is compiled once.

    Args:
      encoder: the pre-trained encoder.
      place: where the texts come from.
      data_set: which they are.
      seed: the trial's.
      fine_tuning: how weights are trained.
      mask_learning: how masks are learned.
      strategy: where it runs.

    Attributes:
      data: the texts.
      tokenizer: makes the network's inputs of texts.
      tokens: `train`, `validation` and `test` as tokens.

    Raises:
      UserError: the texts cannot be used.
    """

    def __init__(
        self,
        encoder: BertEncoder,
        place: TextPlace,
        data_set: str,
        seed: int,
        fine_tuning: FineTuning,
        mask_learning: MaskLearning,
        strategy: tf.distribute.Strategy,
    ):
        self._encoder = encoder
        self._seed = seed
        self._fine_tuning = fine_tuning
        self._mask_learning = mask_learning
        self._strategy = strategy
        self._trainers, self._kept_weights, self._mask_trainers = {}, {}, {}
        self.data = place.load(data_set, seed)
        self.tokenizer = place.tokenizer(encoder, data_set)
        size, count = fine_tuning.batch_size, len(self.data.train)
        require(size <= count, "batch_size", size, f"at most {count}, one epoch")

    @functools.cached_property
    def tokens(self) -> dict[str, TokenSplit]:
        """Split → its examples as tokens."""
        splits = ("train", "validation", "test")
        return {name: tokenize_split(self.tokenizer, getattr(self.data, name)) for name in splits}

    def trainer(self, regime: str) -> TextTrainer:
        """Trains weights."""
        if regime not in self._trainers:
            decay = self._fine_tuning.weight_decay
            self._trainers[regime] = TextTrainer(self._task, regime, decay)
        return self._trainers[regime]

    def kept_weights(self, regime: str) -> KeptWeights:
        """Where the selection of the trainer of that regime keeps weights."""
        if regime not in self._kept_weights:
            with self._strategy.scope():
                self._kept_weights[regime] = KeptWeights(self.trainer(regime).model)
        return self._kept_weights[regime]

    def mask_trainer(self, regime: str) -> MaskTrainer:
        """Trains masks."""
        if regime not in self._mask_trainers:
            learning = self._mask_learning
            self._mask_trainers[regime] = MaskTrainer(
                self._task,
                regime,
                learning.weight_decay,
                learning.granularity,
                clips_norm=learning.clip == "norm",
            )
        return self._mask_trainers[regime]

    @functools.cached_property
    def _task(self):
        return TextTask(
            encoder=self._encoder,
            classes=self.data.num_classes,
            tokens=self.tokens["train"],
            attack=self._mask_learning.attack,
            batch_size=self._fine_tuning.batch_size,
            dropout=self._fine_tuning.dropout,
            clip_value=self._fine_tuning.clip_value,
            strategy=self._strategy,
            seed=self._seed,
        )
