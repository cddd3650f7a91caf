"""Workers that are actors of a Ray cluster; the store is on a file system that all see."""

import contextlib
import signal
import socket
import threading
import traceback
from collections.abc import Iterable, Iterator

from tf_tickets.errors import StopRequested, UserError, one_line, require_extra
from tf_tickets.work.nodes import Node
from tf_tickets.work.performing import description, passes
from tf_tickets.work.side_by_side import Ended, Progress, Setup, WorkerDied

LOCAL = "local"
"""The address of a cluster that is started here and ends with the program."""


@contextlib.contextmanager
def cluster(address: str) -> Iterator[None]:
    """The body runs beside a Ray cluster.

    Args:
      address: `LOCAL`, or the cluster's, such as "10.0.0.1:6379".

    Raises:
      UserError: Ray is not installed, or there is no cluster.
    """
    require_extra("cluster", "ray")
    import ray

    if address != LOCAL:
        _require_listener(address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        place = {} if address == LOCAL else {"address": address}
        ray.init(**place, log_to_driver=False, include_dashboard=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise _no_cluster(address, error) from None
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray's would end the program without saving.
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address):
    """Asks before Ray does, which asks for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address, error):
    expected = (
        f"{LOCAL}, or the address that `ray start` printed for its head, such as 10.0.0.1:6379"
    )
    reason = f"no cluster there ({one_line(error, 80)})"
    return UserError(f"--ray_address={one_line(address, 60)}: {reason}; expected {expected}")


def room(threads: int) -> int:
    """How many trainings of so many threads the cluster has CPUs, and GPUs if any, for."""
    import ray

    resources = ray.cluster_resources()
    by_cpus = int(resources.get("CPU", 1)) // threads
    return max(1, min(by_cpus, int(resources.get("GPU", by_cpus)) or by_cpus))


class RayWorkers:
    """Starts actors, each with the CPUs of its threads, and a GPU where the cluster has some.

    Args:
      setup: what they must know; paths must lead to the same places on all machines.
    """

    can_be_replaced = False

    def __init__(self, setup: Setup):
        import ray

        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        self._setup = setup
        self._actors = ray.remote(
            num_cpus=setup.threads, num_gpus=gpus, max_restarts=0, max_concurrency=2
        )(_Actor)

    def start(self) -> "RayWorker":
        return RayWorker(self._actors.remote(self._setup))

    def with_news(self, workers: Iterable["RayWorker"], seconds: float) -> list["RayWorker"]:
        import ray

        by_answer = {worker.answer: worker for worker in workers}
        ready, _ = ray.wait(list(by_answer), timeout=seconds)
        return [by_answer[answer] for answer in ready]


class RayWorker:
    """An actor, as the first process sees it. It says nothing on the way.

    Attributes:
      answer: to the work that it was given last.
    """

    def __init__(self, actor):
        self._actor, self._node = actor, None
        self._ended: Ended | None = None
        self._pending = []
        self.answer = None

    def give(self, node: Node) -> None:
        self._node, self._ended = node, None
        self.answer = self._actor.perform.remote(node)

    def hear(self) -> Progress | Ended:
        import ray

        if self._ended:
            return self._ended
        try:
            self._ended = ray.get(self.answer)
        except ray.exceptions.RayError:
            raise WorkerDied from None
        return Progress(passes(self._node), description(self._node))

    def stop(self) -> None:
        self._pending = [self._actor.stop.remote()]

    def join(self) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError):
            ray.get([*self._pending, self.answer])
        ray.kill(self._actor)


class _Actor:
    """Lives in a process of the cluster."""

    def __init__(self, setup):
        self._stop = threading.Event()
        self._work = setup.work(lambda *_: None, self._stop_if_requested)

    def perform(self, node):
        try:
            self._work.perform(node)
        except StopRequested:
            return Ended()  # Nobody listens any more.
        except (UserError, OSError) as error:
            return Ended(error)
        except Exception:
            return Ended(RuntimeError(f"a worker failed\n{traceback.format_exc()}"))
        return Ended()

    def stop(self):
        self._stop.set()

    def _stop_if_requested(self):
        if self._stop.is_set():
            raise StopRequested(15)
