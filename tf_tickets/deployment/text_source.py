"""A finished BERT ticket with what its artifacts are made of and judged by."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tf_keras as keras

from tf_tickets.data.text import TextData, TextSplit
from tf_tickets.data.tokens import Tokenizer
from tf_tickets.deployment.finished_networks import (
    FinishedNetwork,
    examples_to_judge_on,
    refuse_other_level,
    require_data_dir,
)
from tf_tickets.deployment.inference import Inference, text_inference
from tf_tickets.deployment.saved_model import TOKENS
from tf_tickets.deployment.text_signature import TokenizingGraph, save_text_model
from tf_tickets.errors import UserError
from tf_tickets.evaluation.text_outcomes import AttackedText, read_outcomes
from tf_tickets.evaluation.victims import trained_weights_path
from tf_tickets.masking.ticket import Ticket, refuse_disagreement
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.models.bert_encoder import BertEncoder, load_encoder
from tf_tickets.models.weights import write_weights
from tf_tickets.runs.files import load_arrays
from tf_tickets.structured.transformer_compaction import compact_bert
from tf_tickets.text_work.data import TextPlace


@dataclasses.dataclass(frozen=True, eq=False)
class TextSource:
    """A trained classifier of texts.

    Attributes:
      network: where it lies.
      classifier: holds the trained weights, the masked ones exactly zero.
      model: what is exported: the classifier's model, or a smaller one of the same logits.
      ticket: its masks.
      encoder: what it was before it was trained.
      tokenizer: makes the model's inputs of texts.
      data: the texts.
      removed: layer → heads and units that compaction took away.
    """

    network: FinishedNetwork
    classifier: BertClassifier
    model: keras.Model
    ticket: Ticket
    encoder: BertEncoder
    tokenizer: Tokenizer
    data: TextData
    removed: Mapping[str, int] = dataclasses.field(default_factory=dict)

    # The signature of its SavedModels that takes what `inputs_of` returns.
    signature = TOKENS

    @property
    def test(self) -> TextSplit:
        """The examples that artifacts are judged on."""
        return self.data.test

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.data.class_names

    def compacted(self) -> "TextSource":
        """The same without what its zeros have killed, see `compact_bert`."""
        compaction = compact_bert(self.classifier)
        return dataclasses.replace(self, model=compaction.model, removed=compaction.removed)

    def dense(self) -> "TextSource":
        """The network before it was trained, with all of its weights."""
        classifier = BertClassifier(self.encoder, self.data.num_classes, dropout=0.0, seed=0)
        return dataclasses.replace(self, classifier=classifier, model=classifier.model, removed={})

    def inference(self) -> Inference:
        """The network in inference mode."""
        return text_inference(self.model)

    def write_saved_model(self, folder: Path) -> None:
        """See `save_text_model`."""
        encoder = self.encoder
        graph = TokenizingGraph(encoder.vocabulary, encoder.lowercase, self.tokenizer.length)
        save_text_model(folder, self.inference(), graph, self.data.parts)

    def inputs_of(self, split: TextSplit) -> dict[str, np.ndarray]:
        """A split as what the network takes, int32 `[texts, longest]` each."""
        return self.inputs_of_texts(split.texts)

    def inputs_of_texts(self, texts: Sequence[tuple[str, ...]]) -> dict[str, np.ndarray]:
        """Texts as what the network takes, int32 `[texts, longest]` each."""
        token_ids, segment_ids = self.tokenizer(texts)
        longest = np.max(np.count_nonzero(token_ids, axis=1))
        token_ids, segment_ids = token_ids[:, :longest], segment_ids[:, :longest]
        return {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": (token_ids != 0).astype(np.int32),
        }

    def calibration(self, count: int) -> dict[str, np.ndarray]:
        """Training texts that show what values to expect, as `inputs_of` returns them."""
        return self.inputs_of_texts(self.data.train.texts[:count])

    def attacked_texts(self) -> dict[str, list[AttackedText]]:
        """What the run's attacks made of the network's test texts: attack → examples.

        Raises:
          UserError: a table of them is damaged.
        """
        place = self.network
        folder = place.run / "attacks" / place.cell.path / f"level_{place.level:02d}"
        tables = sorted(folder.glob("test_*.csv"))
        outcomes = {path.stem.removeprefix("test_"): read_outcomes(path) for path in tables}
        return {attack: rows for attack, rows in outcomes.items() if rows}


def load_text_source(
    network: FinishedNetwork, data_dir: str | None, test_examples: int | None
) -> TextSource:
    """Loads a BERT ticket and its texts.

    Args:
      network: of the driver of robust BERT tickets.
      data_dir: where the run's data lie, if they are not embedded.
      test_examples: how many texts it is judged on; 0 for all, None for 1,000 or all of fewer.

    Raises:
      UserError: files are missing or damaged, the encoder is another one, or the data cannot be
        used.
    """
    config = network.config
    ticket = Ticket.load(network.path)
    weights_path = trained_weights_path(network.path)
    weights = load_arrays(weights_path)
    refuse_disagreement(ticket, weights, weights_path)
    refuse_other_level(network, ticket)
    try:
        source, known = config["data_source"], ticket.provenance.model_config
        encoder = _encoder(network, config, known["encoder_sha256"])
        place = TextPlace(source, data_dir, known["length"], 0, 0, 0)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{network.path}: does not say what it is made of ({error!r})") from None
    require_data_dir(source, data_dir)
    data = place.load(network.cell.data_set, network.cell.seed)
    data = data.limited(0, test=examples_to_judge_on(test_examples, len(data.test)))
    classifier = BertClassifier(encoder, data.num_classes, dropout=0.0, seed=0)
    try:
        write_weights(classifier.model, weights)
    except ValueError:
        raise UserError(f"{weights_path}: not the weights of {encoder.name} as it is now") from None
    tokenizer = place.tokenizer(encoder, network.cell.data_set)
    return TextSource(network, classifier, classifier.model, ticket, encoder, tokenizer, data)


def _encoder(network, config, sha256) -> BertEncoder:
    """The run's encoder.

    Raises:
      UserError: it is not where the run found it, or is another one.
    """
    try:
        encoder = load_encoder(config["bert_preset"], config["bert_dir"], config["layers"])
    except UserError as error:
        raise UserError(f"{network.run / 'config.json'}: {error}") from None
    if encoder.sha256 != sha256:
        raise UserError(
            f"{network.path}: of another encoder than {encoder.name} (SHA-256 {sha256[:12]}…, "
            f"this one has {encoder.sha256[:12]}…)"
        )
    return encoder
