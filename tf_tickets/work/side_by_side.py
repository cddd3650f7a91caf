"""Work done side by side, by workers of any kind."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.errors import UserError
from tf_tickets.models.weights import Weights
from tf_tickets.work.nodes import Node, Training, subject
from tf_tickets.work.performing import Work
from tf_tickets.work.places import Places
from tf_tickets.work.store import Store

# Workers that die over one piece of work before it is given up.
_MOST_DEATHS = 3
# How often a request to stop is looked for.
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclasses.dataclass(frozen=True)
class Setup:
    """What somebody who works must know. Each kind of work has its own.

    Attributes:
      kind: what does the work.
      start_of: gives the weights that a training from fresh ones begins with.
      alone: kinds of nodes that have processes of their own, and so are done in the first process.
      store: the store's folder.
      places: where the data are.
      threads: that it divides operations among.
      events: identity of a training → where its TensorBoard events go.
      seconds_unsaved: how long a training may go on without being saved.
    """

    kind: ClassVar[type[Work]]
    start_of: ClassVar[Callable[[Training, Store], Weights]]
    alone: ClassVar[tuple[type[Node], ...]] = ()

    store: str
    places: Places
    threads: int
    events: Mapping[str, str]
    seconds_unsaved: float = 600.0

    def work(
        self,
        advance: Callable[[float, str], None],
        stop_if_requested: Callable[[], None],
        strategy: tf.distribute.Strategy | None = None,
    ) -> Work:
        """What does the work, in this process.

        Args:
          advance, stop_if_requested: see `Work`.
          strategy: the devices; None in a worker's process, which must not have any other.
        """
        strategy = strategy or runtime.make_strategy("one_device", threads=self.threads)
        return self.kind(
            Store(Path(self.store), runtime.is_chief(strategy)),
            self.places,
            strategy,
            advance,
            events_path=lambda training: Path(self.events[training.identity]),
            stop_if_requested=stop_if_requested,
            seconds_unsaved=self.seconds_unsaved,
            **self.more(),
        )

    def more(self) -> dict:
        """What this kind of work must know beside that, by its name there."""
        return {}


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a worker says on the way: passes of an image through a network, and of what."""

    passes: float
    text: str


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a worker says when its work has ended, well or with an error."""

    error: Exception | None = None


class WorkerDied(Exception):
    """A worker is no more."""


class Worker(Protocol):
    """A process somewhere."""

    def give(self, node: Node) -> None:
        """Hands it work."""

    def hear(self) -> Progress | Ended:
        """What it has said. Raises `WorkerDied`."""

    def stop(self) -> None:
        """Asks it to save its state and end."""

    def join(self) -> None:
        """Waits until it has ended."""


class Workers(Protocol):
    """Workers of one kind.

    Attributes:
      can_be_replaced: whether there is room for another one where one has died; on a cluster its
        machine may be gone.
    """

    can_be_replaced: bool

    def start(self) -> Worker:
        """A new one."""

    def with_news(self, workers: Iterable[Worker], seconds: float) -> list[Worker]:
        """Waits for so long, at most, until some have said something; those."""


class SideBySide:
    """Does as many pieces of work at once as there are workers.

    A worker that is killed is replaced, and its work goes on from where it was last saved.
    Leaving the context ends the workers, which save their state first.

    Args:
      count: how many workers.
      kind: what they are.
      advance: told (passes of an image through a network, description) on the way.
      stop_if_requested: raises `StopRequested` to stop.
    """

    def __init__(
        self,
        count: int,
        kind: Workers,
        advance: Callable[[float, str], None],
        stop_if_requested: Callable[[], None],
    ):
        self._count, self._kind = count, kind
        self._advance, self._stop_if_requested = advance, stop_if_requested
        self._busy: dict[Worker, Node] = {}
        self._idle: dict[Worker, tuple] = {}  # With what its last work was like.
        self._deaths: dict[str, int] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        workers = [*self._busy, *self._idle]
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.join()

    def has_room(self) -> bool:
        return len(self._busy) < self._count

    def begin(self, node: Node) -> None:
        # One that has done the like has compiled it already.
        alike = [worker for worker, kind in self._idle.items() if kind == _kind(node)]
        if alike:
            worker = alike[0]
        elif len(self._busy) + len(self._idle) < self._count:
            worker = self._kind.start()
        else:
            worker = next(iter(self._idle))
        self._idle.pop(worker, None)
        self._busy[worker] = node
        worker.give(node)

    def next(self) -> Node:
        while True:
            for worker in self._kind.with_news(self._busy, _SECONDS_BETWEEN_LOOKS):
                node = self._hear(worker)
                if node:
                    return node
            self._stop_if_requested()

    def _hear(self, worker):
        """Takes what a worker says; returns its work if that has ended."""
        try:
            said = worker.hear()
        except WorkerDied:
            return self._bury(worker)
        if isinstance(said, Progress):
            self._advance(said.passes, said.text)
            return None
        node = self._busy.pop(worker)
        self._idle[worker] = _kind(node)
        if said.error:
            raise said.error
        return node

    def _bury(self, worker):
        node = self._busy.pop(worker)
        worker.join()
        deaths = self._deaths[node.identity] = self._deaths.get(node.identity, 0) + 1
        if deaths == _MOST_DEATHS:
            raise UserError(
                f"{deaths} processes were killed over one piece of work, often for lack of memory; "
                f"what was finished is kept. Give fewer --workers than {self._count}"
            )
        if not self._kind.can_be_replaced:
            self._count = max(1, self._count - 1)
        return node


def _kind(node):
    """What work shares that compiles alike."""
    of = subject(node)
    return of.network, getattr(of, "against", None), of.seed
