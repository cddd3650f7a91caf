"""Work done side by side, in processes of this machine."""

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from tf_tickets.errors import StopRequested, UserError
from tf_tickets.work.nodes import Measurement, Node

# Processes that die over one piece of work before it is given up.
_MOST_DEATHS = 3


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a process must know to do work.

    Attributes:
      store: the store's folder.
      data_dir: where prepared data lie.
      threads: that it divides operations among.
      events: identity of a training → where its TensorBoard events go.
      seconds_unsaved: how long a training may go on without being saved.
    """

    store: str
    data_dir: str | None
    threads: int
    events: Mapping[str, str]
    seconds_unsaved: float = 600.0


class SideBySide:
    """Does as many pieces of work at once as there are processes.

    A process that is killed is replaced, and its work goes on from where it was last saved.
    Leaving the context ends the processes, which save their state first.

    Args:
      count: how many processes.
      setup: what they must know.
      advance: told (passes of an image through a network, description) on the way.
      stop_if_requested: raises `StopRequested` to stop.
    """

    def __init__(
        self,
        count: int,
        setup: Setup,
        advance: Callable[[float, str], None],
        stop_if_requested: Callable[[], None],
    ):
        self._count, self._setup = count, setup
        self._advance, self._stop_if_requested = advance, stop_if_requested
        self._workers: list[_Worker] = []
        self._deaths: dict[str, int] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.end()

    def has_room(self) -> bool:
        return len(self._idle()) > 0 or len(self._workers) < self._count

    def begin(self, node: Node) -> None:
        # A process that has done the like has compiled it already.
        idle = sorted(self._idle(), key=lambda worker: worker.last_kind != _kind(node))
        alike = idle and idle[0].last_kind == _kind(node)
        if not alike and len(self._workers) < self._count:
            self._workers.append(_Worker(self._setup))
            idle = self._workers[-1:]
        idle[0].give(node)

    def next(self) -> Node:
        while True:
            busy = {each.connection: each for each in self._workers if each.node}
            for connection in multiprocessing.connection.wait(busy, timeout=0.5):
                node = self._hear(busy[connection])
                if node:
                    return node
            self._stop_if_requested()

    def _idle(self):
        return [worker for worker in self._workers if worker.node is None]

    def _hear(self, worker):
        """Takes what a process says; returns its work if that has ended."""
        try:
            said = worker.connection.recv()
        except (EOFError, ConnectionError):
            return self._bury(worker)
        if isinstance(said, tuple):
            self._advance(*said)
            return None
        node, worker.node = worker.node, None
        if isinstance(said, Exception):
            raise said
        return node

    def _bury(self, worker):
        node = worker.node
        worker.end()
        self._workers.remove(worker)
        deaths = self._deaths[node.identity] = self._deaths.get(node.identity, 0) + 1
        if deaths == _MOST_DEATHS:
            raise UserError(
                f"{deaths} processes were killed over one piece of work, often for lack of memory; "
                f"what was finished is kept. Give fewer --workers than {self._count}"
            )
        return node


class _Worker:
    """A process, as the first one sees it.

    Attributes:
      connection: to it.
      node: its work; None for none.
      last_kind: what its last work was like.
    """

    def __init__(self, setup):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, setup), daemon=True)
        with _without_interrupts():
            self._process.start()
        theirs.close()
        self.node = self.last_kind = None

    def give(self, node):
        self.node, self.last_kind = node, _kind(node)
        with contextlib.suppress(BrokenPipeError):  # Its end is noticed in listening to it.
            self.connection.send(node)

    def stop(self):
        """Asks it to save its state and end: by a signal, or if it waits for work by silence."""
        self._process.terminate()
        self.connection.close()

    def end(self):
        self._process.join()
        self.connection.close()


@contextlib.contextmanager
def _without_interrupts():
    """Processes started in the body never see Ctrl-C, which reaches all of a terminal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kind(node):
    """What trainings share that compile alike."""
    training = node.of if isinstance(node, Measurement) else node
    return training.network, training.against, training.seed


def _work(connection, setup):
    """A process's life: takes work, tells of its progress, and says when it has ended."""
    # Imported here, so that the first process can be without TensorFlow's threads.
    from tf_tickets import runtime
    from tf_tickets.work.image_work import ImageWork
    from tf_tickets.work.store import Store

    _end_with_the_first_process()
    strategy = runtime.make_strategy("one_device", threads=setup.threads)
    with runtime.stoppable() as stop_if_requested:
        work = ImageWork(
            Store(Path(setup.store)),
            setup.data_dir,
            strategy,
            advance=functools.partial(_tell, connection),
            events_path=lambda training: Path(setup.events[training.identity]),
            stop_if_requested=stop_if_requested,
            seconds_unsaved=setup.seconds_unsaved,
        )
        with contextlib.suppress(EOFError, ConnectionError, StopRequested):
            while True:
                node = connection.recv()
                connection.send(_answer(work, node))


def _tell(connection, passes, text):
    with contextlib.suppress(ConnectionError):  # Whoever listened is told to stop by other means.
        connection.send((passes, text))


def _answer(work, node):
    try:
        work.perform(node)
    except UserError as error:
        return error
    except StopRequested:
        raise
    except Exception:
        return RuntimeError(f"a worker failed\n{traceback.format_exc()}")
    return None


def _end_with_the_first_process():
    """Saves and ends, as after SIGTERM, when the process that gives the work is no more."""
    first = multiprocessing.parent_process()

    def watch():
        first.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
