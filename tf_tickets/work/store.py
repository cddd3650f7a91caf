"""What is finished: a folder for each piece of work, called by its identity.

    <store>/<identity>/node.json               what it is, and which commit worked on it
                       ticket.npz              the masks it was trained under, if any
                       weights.npz             the weights it ended with
                       weights_selected_1.npz  those of its second selection, if they are others
                       weights_at_40.npz       those of an iteration that it keeps
                       texts.csv               what an attack made of texts, which grows, and in
                       texts.json              this file what made it
                       network.keras           the network, where no masks go with it
                       removal.json            what a cut takes out, and its scores
                       in_progress/            its state while it trains
                       record.json             its numbers, and the SHA-256 of every file;
                                               written last

Work without a `record.json` is not finished. Several processes, also of several machines on one
file system, may share a store: each locks what it works on.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Ticket, refuse_disagreement
from tf_tickets.models.weights import Weights
from tf_tickets.runs.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    atomic_write_json,
    load_arrays,
    load_json,
    make_folder,
    require_file,
    save_arrays,
)
from tf_tickets.structured.surgery import Removal
from tf_tickets.work.nodes import Cut, Node, Training, described

_TICKET, _NETWORK, _REMOVAL = "ticket.npz", "network.keras", "removal.json"
# Files of finished work, beside its record: all but what says what it is, and its lock.
_RESULTS = ("*.npz", "texts.*", _NETWORK, _REMOVAL)
_CURE = "; delete its folder to have it made anew"


@dataclasses.dataclass(frozen=True)
class Record:
    """What was measured.

    Attributes:
      history: (iteration, metric, value), in the order in which it was measured.
      selected: the iteration whose weights each selection of the training kept; the last one
        without a selection.
      sparsity: fraction of the prunable weights that is gone; of all, where there are no masks.
      versions: the labels of each entry of the history that are not the network's, as JSON
        values, where a measurement is of several versions of it; else none.
    """

    history: tuple[tuple[int, str, float], ...]
    selected: tuple[int, ...]
    sparsity: float
    versions: tuple[Mapping, ...] = ()

    @property
    def ended(self) -> int:
        """The iteration whose weights the training ended with."""
        return self.selected[0]


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

    def network_path(self, node: Training) -> Path:
        """The network of a finished training without masks, a `.keras` file."""
        return self.path(node) / _NETWORK

    def removal_path(self, node: Cut) -> Path:
        """What a cut takes out, as JSON."""
        return self.path(node) / _REMOVAL

    def weights_path(self, node: Node, at: int | None = None, selection: int = 0) -> Path:
        """Where weights of a training are.

        Args:
          node: the training.
          at: an iteration that it keeps; None for the weights that it ended with.
          selection: the number of the selection that kept those.
        """
        of = f"_at_{at}" if at is not None else f"_selected_{selection}" if selection else ""
        return self.path(node) / f"weights{of}.npz"

    def table_path(self, node: Node) -> Path:
        """What an attack makes of texts, see `OutcomeTable`."""
        return self.path(node) / "texts.csv"

    def checkpoint_path(self, node: Node) -> Path:
        """Where a training keeps its state."""
        return self.path(node) / "in_progress"

    def is_finished(self, node: Node) -> bool:
        """Whether the work need not be done: all that it is to keep is there."""
        kept = (self.weights_path(node, at) for at in getattr(node, "keeps", ()))
        return self._record_path(node).exists() and all(path.exists() for path in kept)

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
        """Writes down what is going to be worked on, and by which commit of the program."""
        if self.writable:
            content = {**described(node), "commit": runtime.commit()}
            atomic_write_json(self.path(node) / "node.json", content)

    def finish(
        self,
        node: Node,
        record: Record,
        ticket: Ticket | None = None,
        weights: Sequence[Weights] = (),
        network: keras.Model | None = None,
        removal: Mapping | None = None,
    ) -> None:
        """Stores what the work led to, its record last.

        Args:
          node: the work.
          record: its numbers.
          ticket: the masks that a training was held to.
          weights: those that it ended with, of each selection.
          network: with the first of these, of a training without masks.
          removal: what a cut takes out, as `Removal.to_json` has it, and what is to be known of it.
        """
        if not self.writable:
            return
        for number, of_selection in enumerate(weights):
            if record.selected[number] not in record.selected[:number]:
                save_arrays(self.weights_path(node, selection=number), of_selection)
        if ticket is not None:
            ticket.save(self.ticket_path(node))
        if network is not None:
            with atomic_path(self.network_path(node)) as temporary:
                network.save(temporary, save_format="keras")
        if removal is not None:
            atomic_write_json(self.removal_path(node), removal)
        files = [
            path
            for kind in _RESULTS
            for path in sorted(self.path(node).glob(kind))
            if path.is_file() and not path.name.startswith(TEMPORARY_PREFIX)
        ]
        content = {
            "node": described(node),
            **dataclasses.asdict(record),
            "sha256": {path.name: _sha256(path.read_bytes()) for path in files},
        }
        sealed = {"sha256": _sha256(_canonical(content)), "content": content}
        atomic_write_json(self._record_path(node), sealed)
        shutil.rmtree(self.checkpoint_path(node), ignore_errors=True)

    def keep(self, node: Node, at: int, weights: Weights) -> None:
        """Stores weights that a training passes through."""
        if self.writable:
            save_arrays(self.weights_path(node, at), weights)

    def record(self, node: Node) -> Record:
        """The numbers of finished work.

        Raises:
          UserError: they are damaged, or of an earlier version, whose labels were names.
        """
        content = self._content(node)
        versions = tuple(content["versions"])
        if not all(isinstance(version, dict) for version in versions):
            raise UserError(f"{self._record_path(node)}: of an earlier version{_CURE}")
        history = tuple(
            (int(at), str(name), float(value)) for at, name, value in content["history"]
        )
        return Record(history, tuple(content["selected"]), content["sparsity"], versions)

    def has_ticket(self, node: Node) -> bool:
        """Whether a finished training was held to masks.

        Raises:
          UserError: its record is damaged.
        """
        return _TICKET in self._content(node)["sha256"]

    def has_network(self, node: Node) -> bool:
        """Whether a finished training keeps its network whole, as no masks go with it.

        Raises:
          UserError: its record is damaged.
        """
        return _NETWORK in self._content(node)["sha256"]

    def removal(self, node: Cut) -> Removal:
        """What a cut takes out.

        Raises:
          UserError: it is missing or damaged.
        """
        with _naming_cure():
            self.require_unchanged(node, _REMOVAL)
            content, path = load_json(self.removal_path(node)), self.removal_path(node)
            return Removal.from_json({name: content[name] for name in ("filters", "blocks")}, path)

    def ticket(self, node: Node) -> Ticket:
        """The masks of a finished training.

        Raises:
          UserError: they are missing or damaged.
        """
        with _naming_cure():
            self.require_unchanged(node, _TICKET)
            return Ticket.load(self.ticket_path(node))

    def weights(self, node: Node, at: int | None = None, selection: int = 0) -> Weights:
        """Weights of a finished training.

        Args:
          node, at, selection: as of `weights_path`. Selections that kept the same weights share
            a file.

        Raises:
          UserError: they are missing or damaged.
        """
        ticket = self.ticket(node) if self.has_ticket(node) else None
        with _naming_cure():
            if selection:
                selected = self._content(node)["selected"]
                selection = selected.index(selected[selection])
            path = self.weights_path(node, at, selection)
            self.require_unchanged(node, path.name)
            weights = load_arrays(path)
            if at is None and ticket:  # On the way masks may still tighten.
                refuse_disagreement(ticket, weights, path)
            return weights

    def _record_path(self, node):
        return self.path(node) / "record.json"

    def _content(self, node) -> Mapping:
        with _naming_cure():
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

    def require_unchanged(self, node: Node, name: str) -> None:
        """Raises a `UserError` unless a file of finished work is as it was written."""
        path = self.path(node) / name
        with _naming_cure():
            require_file(path)
            if _sha256(path.read_bytes()) != self._content(node)["sha256"].get(name):
                raise UserError(
                    f"{path}: damaged (it does not have the SHA-256 it was written with)"
                )


@contextlib.contextmanager
def _naming_cure():
    """Says in errors about a file of the store how to have the work made anew."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{str(error).removesuffix(_CURE)}{_CURE}") from None


def _canonical(content):
    return json.dumps(content, sort_keys=True).encode()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
