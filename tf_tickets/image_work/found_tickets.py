"""Tickets that are kept by themselves."""

import dataclasses

from tf_tickets.image_work.tickets import choose, prunable
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.work.nodes import FoundTicket, Imported, RandomMasks
from tf_tickets.work.store import Record, Store


def find_ticket(found: FoundTicket, store: Store) -> None:
    """Chooses the masks, and stores them with where they come from.

    Raises:
      UserError: what they come from is damaged.
    """
    of = found.masks.of
    masks, parent_sha256 = choose(found.masks, store, prunable(of.network, of.masked))
    known = store.ticket(of).provenance
    provenance = dataclasses.replace(
        known,
        algorithm=origin_of(found),
        level=found.level,
        # Retraining begins with the weights that the first round was of.
        initial_weights_sha256=arrays_sha256(store.weights(of))
        if _is_dense(of)
        else known.initial_weights_sha256,
        parent_sha256=parent_sha256,
    )
    ticket = Ticket(masks, provenance)
    store.finish(found, Record((), (0,), ticket.sparsity), ticket)


def _is_dense(of) -> bool:
    """Whether nothing was pruned of a network."""
    return isinstance(of, Imported) or of.masks is None


def origin_of(found: FoundTicket) -> str:
    """Where its masks come from, for people."""
    masks, of = found.masks, found.masks.of
    network = "imported weights" if isinstance(of, Imported) else f"{of.against} training"
    if isinstance(masks, RandomMasks):
        return f"random in the network of {network}"
    return f"{masks.score} after {network}"
