"""What is in a ticket: densities, dead units, and the weights that its run holds for it."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

from tf_tickets.analysis.similarity import EVERY_LAYER
from tf_tickets.errors import UserError
from tf_tickets.evaluation.victims import trained_weights_path
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.models.weights import Weights, shape_problems
from tf_tickets.runs.files import load_arrays

DEAD = {"outputs": "dead_outputs", "inputs": "unread_inputs", "heads": "dead_heads"}
"""Kind of unit → the column that counts those without weights."""

_UNIT_COUNTS = tuple(column for pair in DEAD.items() for column in pair)
_COUNTS = ("weights", "remaining", *_UNIT_COUNTS, "nonzero_outside", "zero_inside")
_COLUMNS = ("layer", "shape", "weights", "remaining", "density", "sparsity", *_COUNTS[2:])


class Axes(NamedTuple):
    """What the axes of a kernel count; those before them are a convolution's window.

    Attributes:
      inputs: units that are read.
      outputs: units that are made.
      heads: of attention, among the axes of the inputs or of the outputs.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    heads: tuple[int, ...] = ()


_DENSE = Axes((0,), (1,))  # [in, out]
_CONVOLUTION = Axes((2,), (3,))  # [height, width, in, out]
_DEPTHWISE = Axes((2,), (2, 3))  # [height, width, in, multiplier]
_INTO_HEADS = Axes((0,), (1, 2), (1,))  # [hidden, heads, size of a head]
_OUT_OF_HEADS = Axes((0, 1), (2,), (0,))  # [heads, size of a head, hidden]
_ATTENTION = {
    "query": _INTO_HEADS,
    "key": _INTO_HEADS,
    "value": _INTO_HEADS,
    "attention_output": _OUT_OF_HEADS,
}


class WeightsFile(NamedTuple):
    """A place where a run keeps weights.

    Attributes:
      path: the file; "" where there is none.
      sha256: `arrays_sha256` of its weights; "" if they cannot be used.
      problem: why they cannot, in words; "" for nothing.
    """

    path: str
    sha256: str
    problem: str


class Inspection(NamedTuple):
    """What is known of a ticket.

    Attributes:
      name: what it is called.
      path: its file.
      ticket: itself.
      layers: of `inspect_layers`.
      initial: the weights that it may belong to; if it does, only those that it belongs to.
      trained: the weights that were trained under it.
    """

    name: str
    path: Path
    ticket: Ticket
    layers: pd.DataFrame
    initial: list[WeightsFile]
    trained: WeightsFile

    @property
    def initial_weights(self) -> WeightsFile | None:
        """Those of `initial` that have the hash which the ticket states."""
        stated = self.ticket.provenance.initial_weights_sha256
        return next((file for file in self.initial if file.sha256 == stated != ""), None)

    @property
    def total(self) -> pd.Series:
        """The row of `layers` about all of them."""
        return self.layers.iloc[0]

    def to_json(self) -> dict:
        """All of it but the masks, as JSON values."""
        found = self.initial_weights
        return {
            "name": self.name,
            "path": str(self.path),
            "masks_sha256": self.ticket.sha256,
            "provenance": dataclasses.asdict(self.ticket.provenance),
            "initial_weights": found and found.path,
            "initial_weights_looked_at": [file._asdict() for file in self.initial],
            "trained_weights": self.trained._asdict(),
            "layers": records(self.layers),
        }


def inspect(path: Path, ticket: Ticket, name: str) -> Inspection:
    """Counts what a ticket keeps, and looks at the weights that its run holds for it.

    Args:
      path: its file.
      ticket: as read from there.
      name: what it is called.
    """
    trained, weights = _trained_weights(path, ticket)
    initial = _initial_weights(path, ticket.provenance.initial_weights_sha256)
    return Inspection(name, path, ticket, inspect_layers(ticket, weights), initial, trained)


def axes_of(path: str, mask: np.ndarray) -> Axes | None:
    """What a kernel's axes count, by its path and their number; None if that is not known."""
    path = PurePosixPath(path)
    if mask.ndim == 3:
        return _ATTENTION.get(path.parent.name)
    if mask.ndim == 4:
        return _DEPTHWISE if path.name == "depthwise_kernel" else _CONVOLUTION
    return _DENSE if mask.ndim == 2 else None


def dead_units(path: str, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Which units a mask leaves without a weight in its layer.

    An output is dead when none of its incoming weights remain: it is constant then. An input
    is unread when none of the weights from it remain; other layers may read it. A head is dead
    in a kernel of attention when nothing of it remains there.

    Args:
      path: the weight's, which tells kinds of layers apart.
      mask: boolean, True where a weight remains.

    Returns:
      Of "outputs", "inputs" and "heads" those that the layer has → boolean array over these
      units, True where they are dead. Nothing for weights whose axes are not known.
    """
    axes, found = axes_of(path, mask), {}
    for kind in DEAD:
        own = getattr(axes, kind, ())
        if own:
            found[kind] = ~mask.any(axis=tuple(set(range(mask.ndim)) - set(own)))
    return found


def as_matrix(path: str, mask: np.ndarray) -> np.ndarray:
    """The share of weights that remains between each input and each output.

    Returns:
      Shape [inputs, outputs], in [0, 1]. The outputs of a depthwise convolution are those of
      one input. Where the axes are not known, all but the last are inputs.
    """
    axes = axes_of(path, mask)
    if axes is None:
        return mask.reshape(-1, *mask.shape[-1:] or (1,)).astype(float)
    inputs = math.prod(mask.shape[axis] for axis in axes.inputs)
    return mask.mean(axis=tuple(range(axes.inputs[0]))).reshape(inputs, -1)


def inspect_layers(ticket: Ticket, weights: Weights | None = None) -> pd.DataFrame:
    """Counts weights and units.

    Args:
      ticket: with its masks.
      weights: those trained under it, path → array of the mask's shape; None without any.

    Returns:
      A row for all layers (`EVERY_LAYER`), then one for each. `layer` (a weight's path), `shape`
      (such as "784x300"), `weights`, `remaining`, `density` and `sparsity` (in [0, 1]);
      `outputs`, `inputs` and `heads`, each followed by how many of them are dead (see
      `dead_units`); `nonzero_outside`, the trained weights that the mask should have zeroed, and
      `zero_inside`, the remaining ones that are exactly zero. What there is none of is NA.
    """
    rows = [
        {"layer": path, "shape": "x".join(map(str, mask.shape))}
        | _counts(path, mask, None if weights is None else weights[path])
        for path, mask in in_order(ticket)
    ]
    layers = pd.DataFrame(rows).reindex(columns=["layer", "shape", *_COUNTS])
    whole = {"layer": EVERY_LAYER, "shape": ""} | layers[list(_COUNTS)].sum(min_count=1).to_dict()
    frame = pd.concat([pd.DataFrame([whole]), layers], ignore_index=True)
    density = frame["remaining"] / frame["weights"]
    frame = frame.astype(dict.fromkeys(_COUNTS, "Int64"))
    return frame.assign(density=density, sparsity=1 - density)[list(_COLUMNS)]


def in_order(ticket: Ticket) -> Iterator[tuple[str, np.ndarray]]:
    """Paths and masks by name, but layer_10 after layer_9."""

    def key(path):
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]

    return ((path, ticket.masks[path]) for path in sorted(ticket.masks, key=key))


def records(frame: pd.DataFrame) -> list[dict]:
    """The rows as JSON values, null for what is missing."""
    return json.loads(frame.to_json(orient="records", double_precision=15))


def _counts(path, mask, weights):
    counts = {"weights": mask.size, "remaining": int(np.count_nonzero(mask))}
    for kind, dead in dead_units(path, mask).items():
        counts |= {kind: dead.size, DEAD[kind]: int(np.count_nonzero(dead))}
    if weights is not None:
        counts["nonzero_outside"] = int(np.count_nonzero(weights[~mask]))
        counts["zero_inside"] = int(np.count_nonzero(weights[mask] == 0))
    return counts


def _trained_weights(path, ticket):
    """What there is to say of the file, and the weights of the masked layers, or None."""
    found = ""
    try:
        found = str(trained_weights_path(path))
        weights = load_arrays(Path(found))
        masked = {name: weights[name] for name in ticket.masks if name in weights}
        shapes = {name: mask.shape for name, mask in ticket.masks.items()}
        if problems := shape_problems(masked, shapes):
            raise UserError(f"{found}: weights of another network, {'; '.join(problems)}")
    except UserError as error:
        return WeightsFile(found, "", str(error)), None
    return WeightsFile(found, arrays_sha256(weights), ""), masked


def _initial_weights(path, stated_sha256):
    """The file of the stated weights alone, or all where they could have been."""
    looked_at = []
    for place in filter(Path.is_file, _places_of_initial_weights(path)):
        try:
            file = WeightsFile(str(place), arrays_sha256(load_arrays(place)), "")
        except UserError as error:
            file = WeightsFile(str(place), "", str(error))
        if file.sha256 == stated_sha256 != "":
            return [file]
        looked_at.append(file)
    return looked_at


def _places_of_initial_weights(path):
    """Where runs keep the weights that their tickets belong to; see `RunDirectory`."""
    folder = path.absolute().parent
    tickets = next((parent for parent in folder.parents if parent.name == "tickets"), None)
    if tickets is None:
        return []
    cell, checkpoints = folder.relative_to(tickets), tickets.parent / "checkpoints"
    of_model = Path(*cell.parts[:2])
    # Tickets of pre-trained networks belong to the weights that the pre-training ended with.
    pretrained = (checkpoints / of_model).glob("*/*_pretraining/seed_*/level_00.npz")
    return [
        folder / "initial_weights.npz",
        tickets / of_model / folder.name / "initial_weights.npz",
        checkpoints / cell / "rewind.npz",
        *sorted(pretrained),
    ]
