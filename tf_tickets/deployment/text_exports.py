"""SavedModels of robust BERT tickets."""

import dataclasses
from pathlib import Path

import numpy as np

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
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.files import atomic_path, atomic_write_json, load_arrays
from tf_tickets.search.bert_tickets import BertTickets
from tf_tickets.search.robust_bert import Network

_CHECK_TEXTS = 32


def export_robust_texts(tickets: BertTickets) -> dict[str, Export]:
    """Exports the retrained robust ticket of every data set's first trial.

    The SavedModel takes raw strings, see `save_text_model`.

    Args:
      tickets: a run's trainings; data sets whose ticket is not trained yet are left out.

    Returns:
      `<data set>, robust, level <level>` → its export, in `exports/` of the run directory.

    Raises:
      UserError: a file is damaged, or an export does not agree with its network.
    """
    settings, exports = tickets.settings, {}
    for data_set in settings.data_sets:
        network = settings.network(data_set, settings.seeds[0], "robust")
        if tickets.run.is_finished(tickets.cell(network), network.level):
            exports[f"{data_set}, robust, level {network.level}"] = _export(tickets, network)
    return exports


def _export(tickets: BertTickets, network: Network) -> Export:
    run, cell, level = tickets.run, tickets.cell(network), network.level
    ticket = Ticket.load(run.ticket_path(cell, level))
    weights = load_arrays(run.trained_weights_path(cell, level))
    model = tickets.classifier(network, weights).model
    bench, encoder = tickets.bench(network.data_set, network.seed), tickets.encoder
    graph = TokenizingGraph(encoder.vocabulary, encoder.lowercase, bench.tokenizer.length)
    place = run.path / "exports" / Path(network.data_set, "robust", f"level_{level:02d}")
    with atomic_path(place) as folder:
        save_text_model(folder, text_inference(model), graph, bench.data.parts)
        provenance = dataclasses.asdict(ticket.provenance)
        names = {"class_names": list(bench.data.class_names)}
        atomic_write_json(folder / TICKET_FILE, names | {"provenance": provenance})
        inputs = _check_inputs(bench)
        exported = SavedModelArtifact(folder, TOKENS).logits(inputs)
        difference = float(np.max(np.abs(exported - model(inputs, training=False))))
        if not difference <= LOGITS_TOLERANCE:
            raise UserError(
                f"{place}: the exported logits differ from the model's by {difference:.2g}, "
                f"expected at most {LOGITS_TOLERANCE}; the export was removed"
            )
    zeros = sum(int(np.count_nonzero(weights[path] == 0)) for path in ticket.masks)
    return Export(place, zeros, sum(mask.size for mask in ticket.masks.values()), difference)


def _check_inputs(bench):
    """A few texts as the model takes them."""
    token_ids, segment_ids = bench.tokenizer(bench.data.validation.texts[:_CHECK_TEXTS])
    mask = (token_ids != 0).astype(np.int32)
    return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask}
