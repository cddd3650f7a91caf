"""What is finished: a folder for each piece of work, called by its identity.

    <store>/<identity>/node.json      what it is
                       ticket.npz     the masks it was trained under
                       weights.npz    the weights it ended with
                       in_progress/   its state while it trains
                       record.json    its numbers, and the SHA-256 of every file; written last

Work without a `record.json` is not finished. Several processes, also of several machines on one
file system, may share a store: each locks what it works on.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Ticket, refuse_disagreement
from tf_tickets.models.weights import Weights
from tf_tickets.runs.files import (
    atomic_write_json,
    load_arrays,
    load_json,
    make_folder,
    save_arrays,
)
from tf_tickets.work.nodes import Node, described

_TICKET, _WEIGHTS = "ticket.npz", "weights.npz"


@dataclasses.dataclass(frozen=True)
class Record:
    """What was measured.

    Attributes:
      history: (iteration, metric, value), in the order in which it was measured.
      ended: the iteration whose weights the training ended with.
      sparsity: fraction of the prunable weights that is gone.
    """

    history: tuple[tuple[int, str, float], ...]
    ended: int
    sparsity: float


class Store:
    """Finished work, and the state of what is being worked on.

    Args:
      root: its folder.
      writable: False on workers of a cluster that trains one network together, but for its chief;
        they read the chief's folder.
    """

    def __init__(self, root: Path, writable: bool = True):
        self.root = root
        self.writable = writable

    def path(self, node: Node) -> Path:
        """The work's folder."""
        return self.root / node.identity

    def ticket_path(self, node: Node) -> Path:
        """The masks that a finished training was held to."""
        return self.path(node) / _TICKET

    def weights_path(self, node: Node) -> Path:
        """The weights that a finished training ended with."""
        return self.path(node) / _WEIGHTS

    def checkpoint_path(self, node: Node) -> Path:
        """Where a training keeps its state."""
        return self.path(node) / "in_progress"

    def is_finished(self, node: Node) -> bool:
        """Whether the work need not be done."""
        return self._record_path(node).exists()

    @contextlib.contextmanager
    def locked(self, node: Node) -> Iterator[bool]:
        """Keeps others away from the work while the body runs; yields whether it could.

        A lock goes with its process, however that ends.
        """
        if not self.writable:
            yield True
            return
        make_folder(self.path(node))
        with (self.path(node) / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def begin(self, node: Node) -> None:
        """Writes down what is going to be worked on."""
        if self.writable:
            atomic_write_json(self.path(node) / "node.json", described(node))

    def finish(
        self,
        node: Node,
        record: Record,
        ticket: Ticket | None = None,
        weights: Weights | None = None,
    ) -> None:
        """Stores what the work led to, its record last."""
        if not self.writable:
            return
        if weights is not None:
            save_arrays(self.weights_path(node), weights)
        if ticket is not None:
            ticket.save(self.ticket_path(node))
        files = [
            path for path in (self.ticket_path(node), self.weights_path(node)) if path.exists()
        ]
        content = {
            "node": described(node),
            **dataclasses.asdict(record),
            "sha256": {path.name: _sha256(path.read_bytes()) for path in files},
        }
        sealed = {"sha256": _sha256(_canonical(content)), "content": content}
        atomic_write_json(self._record_path(node), sealed)
        shutil.rmtree(self.checkpoint_path(node), ignore_errors=True)

    def record(self, node: Node) -> Record:
        """The numbers of finished work.

        Raises:
          UserError: they are damaged.
        """
        content = self._content(node)
        history = tuple(
            (int(at), str(name), float(value)) for at, name, value in content["history"]
        )
        return Record(history, content["ended"], content["sparsity"])

    def ticket(self, node: Node) -> Ticket:
        """The masks of a finished training.

        Raises:
          UserError: they are missing or damaged.
        """
        with self._naming(node):
            self._require_unchanged(node, _TICKET)
            return Ticket.load(self.ticket_path(node))

    def weights(self, node: Node) -> Weights:
        """The weights that a finished training ended with.

        Raises:
          UserError: they are missing or damaged.
        """
        ticket = self.ticket(node)
        with self._naming(node):
            self._require_unchanged(node, _WEIGHTS)
            weights = load_arrays(self.weights_path(node))
            refuse_disagreement(ticket, weights, self.weights_path(node))
            return weights

    def _record_path(self, node):
        return self.path(node) / "record.json"

    def _content(self, node) -> Mapping:
        with self._naming(node):
            path = self._record_path(node)
            sealed = load_json(path)
            try:
                content = sealed["content"]
                if sealed["sha256"] != _sha256(_canonical(content)):
                    raise UserError(f"{path}: damaged (it does not have the SHA-256 it states)")
                if content["node"] != json.loads(json.dumps(described(node))):
                    raise UserError(f"{path}: of other work than its folder says")
            except (KeyError, TypeError):
                raise UserError(f"{path}: damaged (no record)") from None
            return content

    def _require_unchanged(self, node, name):
        path = self.path(node) / name
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if _sha256(path.read_bytes()) != self._content(node)["sha256"].get(name):
            raise UserError(f"{path}: damaged (it does not have the SHA-256 it was written with)")

    @contextlib.contextmanager
    def _naming(self, node):
        """Says of damaged work how to have it made anew."""
        try:
            yield
        except UserError as error:
            cure = f"; delete {self.path(node)} to have it made anew"
            raise UserError(f"{str(error).removesuffix(cure)}{cure}") from None


def _canonical(content):
    return json.dumps(content, sort_keys=True).encode()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
