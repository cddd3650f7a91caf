"""SavedModels of finished text classifiers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_tickets.data.tokens import Tokenizer
from tf_tickets.deployment.inference import text_inference
from tf_tickets.deployment.saved_model import (
    LOGITS_TOLERANCE,
    TICKET_FILE,
    TOKENS,
    Export,
    SavedModelArtifact,
)
from tf_tickets.deployment.text_signature import TokenizingGraph, save_text_model
from tf_tickets.errors import UserError
from tf_tickets.runs.files import atomic_path, atomic_write_json
from tf_tickets.text_work.data import read_again, read_encoder_again
from tf_tickets.text_work.nodes import TextTraining
from tf_tickets.text_work.work import network_of
from tf_tickets.work.store import Store

_CHECK_TEXTS = 32


def export_texts(
    trainings: Sequence[TextTraining], store: Store, data_dir: str | None, exports: Path
) -> dict[str, Export]:
    """Exports finished text classifiers.

    The SavedModels take raw strings, see `save_text_model`.

    Args:
      trainings: of which networks; those that are not trained yet are left out.
      store: where they are.
      data_dir: where prepared data lie.
      exports: folder that the SavedModels are written to.

    Returns:
      `<data set>, <method>, level <level>` → its export.

    Raises:
      UserError: a file is damaged, or an export does not agree with its network.
    """
    found = {}
    for training in trainings:
        if store.is_finished(training):
            labels = training.labels
            name = "{data_set}, {method}, level {level}".format(**labels)
            place = Path(labels["data_set"], labels["method"], f"level_{labels['level']:02d}")
            found[name] = _export(training, store, data_dir, exports / place)
    return found


def _export(training, store, data_dir, place) -> Export:
    ticket, weights = store.ticket(training), store.weights(training)
    model = network_of(training, weights).model
    data, length = read_again(training.data, data_dir), training.data.length
    encoder = read_encoder_again(training.network.encoder)
    graph = TokenizingGraph(encoder.vocabulary, encoder.lowercase, length)
    with atomic_path(place) as folder:
        save_text_model(folder, text_inference(model), graph, data.parts)
        provenance = dataclasses.asdict(ticket.provenance)
        names = {"class_names": list(data.class_names)}
        atomic_write_json(folder / TICKET_FILE, names | {"provenance": provenance})
        tokenizer = Tokenizer(encoder.vocabulary, encoder.lowercase, length)
        inputs = _check_inputs(tokenizer, data.validation.texts[:_CHECK_TEXTS])
        exported = SavedModelArtifact(folder, TOKENS).logits(inputs)
        difference = float(np.max(np.abs(exported - model(inputs, training=False))))
        if not difference <= LOGITS_TOLERANCE:
            raise UserError(
                f"{place}: the exported logits differ from the model's by {difference:.2g}, "
                f"expected at most {LOGITS_TOLERANCE}; the export was removed"
            )
    zeros = sum(int(np.count_nonzero(weights[path] == 0)) for path in ticket.masks)
    return Export(place, zeros, sum(mask.size for mask in ticket.masks.values()), difference)


def _check_inputs(tokenizer, texts):
    """A few texts as the model takes them."""
    token_ids, segment_ids = tokenizer(texts)
    mask = (token_ids != 0).astype(np.int32)
    return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask}
