"""SavedModels of robust BERT tickets."""

from pathlib import Path

import numpy as np

from tf_tickets.data.tokens import TokenSplit, tokenize_split
from tf_tickets.deployment.saved_model import LOGITS_TOLERANCE, Export
from tf_tickets.errors import UserError
from tf_tickets.evaluation.text_victim import load_victim, save_victim
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.runs.files import load_arrays
from tf_tickets.search.bert_tickets import BertTickets
from tf_tickets.search.robust_bert import Network

_CHECK_TEXTS = 32


def export_robust_texts(tickets: BertTickets) -> dict[str, Export]:
    """Exports the retrained robust ticket of every data set's first trial.

    The SavedModel takes `token_ids`, `segment_ids` and `padding_mask`, int32 `[batch, length]`
    of any sizes, and returns `logits`; `victim.json` beside it holds the vocabulary and how texts
    become tokens.

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
    classifier = tickets.classifier(network, weights)
    place = run.path / "exports" / Path(network.data_set, "robust", f"level_{level:02d}")
    bench = tickets.bench(network.data_set, network.seed)
    save_victim(
        place,
        classifier.model,
        tickets.encoder.vocabulary,
        tickets.encoder.lowercase,
        bench.tokenizer.length,
    )
    texts = bench.data.validation.texts[:_CHECK_TEXTS]
    expected = _logits(classifier, tokenize_split(bench.tokenizer, bench.data.validation))
    difference = float(np.max(np.abs(load_victim(place)(texts) - expected)))
    if not difference <= LOGITS_TOLERANCE:
        raise UserError(f"{place}: the exported logits differ from the model's by {difference:.2g}")
    zeros = sum(int(np.count_nonzero(weights[path] == 0)) for path in ticket.masks)
    return Export(place, zeros, sum(mask.size for mask in ticket.masks.values()), difference)


def _logits(classifier: BertClassifier, tokens: TokenSplit) -> np.ndarray:
    token_ids = tokens.token_ids[:_CHECK_TEXTS]
    inputs = {
        "token_ids": token_ids,
        "segment_ids": tokens.segment_ids[:_CHECK_TEXTS],
        "padding_mask": (token_ids != 0).astype(np.int32),
    }
    return classifier.model(inputs, training=False).numpy()
