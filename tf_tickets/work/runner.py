"""Carries out a plan: what is missing, in an order in which nothing comes before what it needs."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tf_tickets.work.nodes import Node, in_order
from tf_tickets.work.store import Store

# How often work that another process holds is asked for again.
_SECONDS_BETWEEN_LOOKS = 0.5


class Executor(Protocol):
    """Does work, one piece or several at a time."""

    def has_room(self) -> bool:
        """Whether another piece can be begun."""

    def begin(self, node: Node) -> None:
        """Takes on work, whose needs are finished."""

    def next(self) -> Node:
        """Waits for a piece that was begun to end; it is finished unless others are at it."""


class Here:
    """Does work in this process, one piece at a time."""

    def __init__(self, perform: Callable[[Node], None]):
        self._perform = perform
        self._node = None

    def has_room(self) -> bool:
        return self._node is None

    def begin(self, node: Node) -> None:
        self._node = node

    def next(self) -> Node:
        node, self._node = self._node, None
        self._perform(node)
        return node


def missing(wanted: Iterable[Node], store: Store) -> list[Node]:
    """What has to be done for the wanted work, in order; its values are read from finished work."""
    return [node for node in in_order(wanted) if not store.is_finished(node)]


def carry_out(
    nodes: Sequence[Node],
    store: Store,
    executor: Executor,
    on_finished: Callable[[Node], None] = lambda node: None,
    stop_if_requested: Callable[[], None] = lambda: None,
) -> None:
    """Does the work.

    Args:
      nodes: `missing` work.
      store: where it is kept.
      executor: does it.
      on_finished: told of each piece, whoever did it.
      stop_if_requested: raises `StopRequested` to stop.

    Raises:
      StopRequested: as `stop_if_requested` or the executor raises it; what is finished is kept,
        and the state of what is not.
      UserError: as the executor raises it.
    """
    waiting = {node.identity: node for node in nodes}
    begun: set[str] = set()
    held: dict[str, float] = {}  # By others; when to look again.
    while waiting:
        stop_if_requested()
        for node in _ready(waiting, begun, held, store):
            if not executor.has_room():
                break
            executor.begin(node)
            begun.add(node.identity)
        if not begun:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            continue
        node = executor.next()
        begun.remove(node.identity)
        if store.is_finished(node):
            del waiting[node.identity]
            on_finished(node)
        else:
            held[node.identity] = time.monotonic() + _SECONDS_BETWEEN_LOOKS


def _ready(waiting, begun, held, store):
    now = time.monotonic()
    return [
        node
        for identity, node in waiting.items()
        if identity not in begun
        and held.get(identity, 0) <= now
        and all(store.is_finished(need) for need in node.needs)
    ]
