"""Processes that attack texts side by side, and stay for the next attack."""

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.connection
import traceback
from collections.abc import Iterable, Iterator

import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.attacks.text_recipes import TextRecipe
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.errors import UserError, require
from tf_tickets.evaluation.text_attacker import TextAttacker
from tf_tickets.evaluation.text_outcomes import AttackedText
from tf_tickets.evaluation.text_victim import load_victim


@dataclasses.dataclass(frozen=True)
class TextAttackJob:
    """An attack on a victim, as a worker gets to know it.

    Attributes:
      victim_folder: see `load_victim`.
      victim_sha256: what the folder holds; another victim may take its place later.
      parts: the names of the texts' parts.
      recipe, resources: see `build_text_attack`.
    """

    victim_folder: str
    victim_sha256: str
    parts: tuple[str, ...]
    recipe: TextRecipe
    resources: TextResources


@dataclasses.dataclass(frozen=True)
class Example:
    """A text to attack: its position in the split, its parts, its class."""

    index: int
    texts: tuple[str, ...]
    label: int


class TextAttackWorkers:
    """Attacks examples in processes, which are started when they are first needed.

    Starting one takes half a minute, so keep this for all attacks of a run. Leaving the context
    stops the processes.

    Args:
      processes: how many; with 1 the calling process does the work.
    """

    def __init__(self, processes: int):
        require(processes >= 1, "processes", processes, "at least 1")
        self._processes = processes
        self._workers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def attack(self, job: TextAttackJob, examples: Iterable[Example]) -> Iterator[AttackedText]:
        """Yields what came of the examples, as they finish.

        Leaving the iteration early stops the processes.

        Raises:
          UserError: a resource is missing, or a worker was killed.
          RuntimeError: a worker failed.
        """
        examples = list(examples)
        if self._processes == 1 or not examples:
            for example in examples:
                yield _attack(job, example)
            return
        self._start(min(self._processes, len(examples)))
        try:
            yield from self._attack_in_workers(job, examples)
        except BaseException:
            # Those still at work would answer the next job with this one's examples.
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the processes; the next attack starts new ones."""
        for process in self._workers.values():
            process.terminate()
        for connection, process in self._workers.items():
            process.join()
            connection.close()
        self._workers = {}

    def _start(self, count):
        """Starts processes until there are `count`."""
        context = multiprocessing.get_context("spawn")
        while len(self._workers) < count:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs,), daemon=True)
            with runtime.without_interrupts():
                process.start()
            theirs.close()
            self._workers[ours] = process

    def _attack_in_workers(self, job, examples):
        waiting = list(reversed(examples))
        busy = set()
        for connection in list(self._workers)[: len(waiting)]:
            self._send(connection, (job, waiting.pop()))
            busy.add(connection)
        while busy:
            for connection in multiprocessing.connection.wait(busy):
                yield self._receive(connection)
                if waiting:
                    self._send(connection, (job, waiting.pop()))
                else:
                    busy.remove(connection)

    def _send(self, connection, task):
        with self._errors_of_the_dead(connection):
            connection.send(task)

    def _receive(self, connection):
        with self._errors_of_the_dead(connection):
            answer = connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextlib.contextmanager
    def _errors_of_the_dead(self, connection):
        try:
            yield
        except (EOFError, ConnectionError):
            process = self._workers[connection]
            process.join()
            raise UserError(_death(process.exitcode, self._processes)) from None


def _death(exit_code, processes):
    """What to do about a worker that is no more."""
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with {exit_code}"
    return (
        f"a process that attacks texts {how}, often for lack of memory; all that was attacked is "
        f"kept. Run the same command again with fewer --processes than {processes}"
    )


def _work(connection):
    """A worker's life: takes (job, example) and answers with what came of it, or an error."""
    _use_one_core()
    while True:
        try:
            job, example = connection.recv()
        except EOFError:
            return
        try:
            answer = _attack(job, example)
        except UserError as error:
            answer = error
        except Exception:
            answer = RuntimeError(f"a worker failed\n{traceback.format_exc()}")
        try:
            connection.send(answer)
        except BrokenPipeError:  # Nobody is there any more to tell.
            return


def _use_one_core():
    import torch

    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _attack(job, example):
    return _attacker(job)(example.index, example.texts, example.label)


@functools.lru_cache(maxsize=1)
def _attacker(job):
    victim = _victim(job.victim_folder, job.victim_sha256)
    return TextAttacker(victim, job.parts, job.recipe, job.resources)


@functools.lru_cache(maxsize=1)
def _victim(folder, _):
    return load_victim(folder)
