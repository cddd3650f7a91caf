"""What a run is going to do, said before it does it."""

from collections.abc import Iterable

from tf_tickets.work.image_work import passes
from tf_tickets.work.nodes import FoundTicket, Imported, Node, Training, in_order, subject
from tf_tickets.work.store import Store

# All other work measures.
_NOUNS = {Training: "trainings", FoundTicket: "tickets", Imported: "networks of others"}


def overview(wanted: Iterable[Node], store: Store, workers: int) -> str:
    """A few lines: what is there, what is missing, and how long that will take.

    Args:
      wanted: what was asked for.
      store: what there is.
      workers: how much is done at once.
    """
    nodes = in_order(wanted)
    by_noun = {"trainings": [], "measurements": []}
    for node in nodes:
        by_noun.setdefault(_NOUNS.get(type(node), "measurements"), []).append(node)
    lines = []
    for noun, of_kind in by_noun.items():
        there = sum(store.is_finished(node) for node in of_kind)
        lines.append(f"{len(of_kind)} {noun}: {there} are there, {len(of_kind) - there} to be done")
    lines.append(f"expected time: {_expected(nodes, store, workers)}")
    return "\n".join([*lines, f"work is kept in {store.root}"])


def _expected(nodes, store, workers):
    missing = [node for node in nodes if passes(node) and not store.is_finished(node)]
    if not missing:
        return "none"
    rates = _seconds_per_pass([node for node in nodes if store.is_finished(node)], store)
    networks = {subject(node).network.name for node in missing}
    if not networks <= set(rates):
        return "not known before the first training of each network has ended"
    seconds = sum(passes(node) * rates[subject(node).network.name] for node in missing)
    minutes = seconds / min(workers, len(missing)) / 60
    return f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"


def _seconds_per_pass(finished, store):
    """Network → what trainings of it took."""
    totals: dict[str, list[float]] = {}
    for node in finished:
        if isinstance(node, Training):
            history = store.record(node).history
            total = totals.setdefault(node.network.name, [0.0, 0.0])
            total[0] += max(value for _, metric, value in history if metric.endswith("/seconds"))
            total[1] += passes(node)
    return {name: seconds / done for name, (seconds, done) in totals.items()}
