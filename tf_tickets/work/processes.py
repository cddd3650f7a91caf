"""Workers that are processes of this machine."""

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable

from tf_tickets import runtime
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.work.nodes import Node
from tf_tickets.work.side_by_side import Ended, Progress, Setup, WorkerDied


class Processes:
    """Starts processes.

    Args:
      setup: what they must know.
      live: `work`, or what calls it. A process imports its module first of all.
    """

    can_be_replaced = True

    def __init__(self, setup: Setup, live: Callable | None = None):
        self._setup, self._live = setup, live or work

    def start(self) -> "Process":
        return Process(self._setup, self._live)

    def with_news(self, workers: Iterable["Process"], seconds: float) -> list["Process"]:
        by_connection = {worker.connection: worker for worker in workers}
        ready = multiprocessing.connection.wait(by_connection, timeout=seconds)
        return [by_connection[connection] for connection in ready]


class Process:
    """A process, as the first one sees it.

    Args:
      setup, live: see `Processes`.

    Attributes:
      connection: to it.
    """

    def __init__(self, setup: Setup, live: Callable):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=live, args=(theirs, setup), daemon=True)
        with runtime.without_interrupts():
            self._process.start()
        theirs.close()

    def give(self, node: Node) -> None:
        with contextlib.suppress(BrokenPipeError):  # Its end is noticed in listening to it.
            self.connection.send(node)

    def hear(self) -> Progress | Ended:
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            raise WorkerDied from None

    def stop(self) -> None:
        self._process.terminate()
        self.connection.close()  # Which one that waits for work takes for a sign.

    def join(self) -> None:
        self._process.join()
        self.connection.close()


def work(connection: multiprocessing.connection.Connection, setup: Setup) -> None:
    """A process's life: takes work, tells of its progress, and says when it has ended."""
    _end_with_the_first_process()
    with runtime.stoppable() as stop_if_requested:
        worker = setup.work(functools.partial(_tell, connection), stop_if_requested)
        with contextlib.suppress(EOFError, ConnectionError, StopRequested):
            while True:
                node = connection.recv()
                connection.send(_ended(worker, node))


def _tell(connection, passes, text):
    with contextlib.suppress(ConnectionError):  # Whoever listened stops us by other means.
        connection.send(Progress(passes, text))


def _ended(worker, node):
    try:
        worker.perform(node)
    except (UserError, OSError) as error:
        return Ended(error)
    except StopRequested:
        raise
    except Exception:
        return Ended(RuntimeError(f"a worker failed\n{traceback.format_exc()}"))
    return Ended()


def _end_with_the_first_process():
    """Saves and ends, as after SIGTERM, when the process that gives the work is no more."""
    first = multiprocessing.parent_process()

    def watch():
        first.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
