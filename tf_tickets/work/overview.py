"""What a run is going to do, said before it does it."""

from collections.abc import Iterable

from tf_tickets.work.nodes import Cut, FoundTicket, Imported, Node, Training, in_order, subject
from tf_tickets.work.performing import passes, passes_of_steps
from tf_tickets.work.store import Store

_NOUNS = {
    Training: "trainings",
    FoundTicket: "tickets",
    Imported: "networks of others",
    Cut: "cuts",
}


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
        by_noun.setdefault(_noun(node), []).append(node)
    lines = []
    for noun, of_kind in by_noun.items():
        there = sum(store.is_finished(node) for node in of_kind)
        lines.append(f"{len(of_kind)} {noun}: {there} are there, {len(of_kind) - there} to be done")
    lines.append(f"expected time: {_expected(nodes, store, workers)}")
    return "\n".join([*lines, f"work is kept in {store.root}"])


def _noun(node):
    for kind, noun in _NOUNS.items():
        if isinstance(node, kind):
            return noun
    return "measurements"


def _expected(nodes, store, workers):
    missing = [node for node in nodes if passes(node) and not store.is_finished(node)]
    foreseen = [node for node in missing if node.foreseeable]
    parts = [_as_trainings(foreseen, nodes, store, workers)] if foreseen else []
    if len(missing) > len(foreseen):
        parts.append(f"that of {len(missing) - len(foreseen)} attacks is never known before")
    return ", and ".join(parts) or "none"


def _as_trainings(missing, nodes, store, workers):
    """The time of work that takes as long a pass as trainings of the same network."""
    rates = _seconds_per_pass(nodes, store)
    networks = {subject(node).whole_network.name for node in missing}
    if not networks <= set(rates):
        return "not known before the first training of each network has ended"
    seconds = sum(passes(node) * rates[subject(node).whole_network.name] for node in missing)
    minutes = seconds / min(workers, len(missing)) / 60
    return f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"


def _seconds_per_pass(nodes, store):
    """Network → what the steps of its finished trainings took, evaluations apart."""
    totals: dict[str, list[float]] = {}
    for node in nodes:
        if isinstance(node, Training) and store.is_finished(node):
            history = store.record(node).history
            total = totals.setdefault(node.whole_network.name, [0.0, 0.0])
            total[0] += max(value for _, metric, value in history if metric.endswith("/seconds"))
            total[1] += passes_of_steps(node)
    return {name: seconds / done for name, (seconds, done) in totals.items()}
