"""Planes through a network's trained weights, on which its loss can be drawn.

Li et al., "Visualizing the Loss Landscape of Neural Nets" (arXiv:1712.09913), sections 4 and
7.2. A direction is an array for every trainable weight; BatchNorm's statistics are no part of
it and stay as trained, as in the paper's code.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.evaluation.victims import trained_weights_path
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.weights import Weights, weight_path
from tf_tickets.runs.files import load_arrays

# As in the code of Li et al.; a filter without weights gets a direction without length.
_SMALLEST_NORM = 1e-10

# A second component below this share of the variance is rounding: the trajectory is a line.
_SMALLEST_SHARE = 1e-9


class NoPlaneError(UserError):
    """A training's weights lie on one line."""


@dataclasses.dataclass(frozen=True, eq=False)
class Plane:
    """The weights origin + a · first + b · second, for any numbers a and b.

    Attributes:
      kind: "random", filter-normalised random directions, or "pca", a trajectory's
        principal components.
      origin: the trained weights, path → array; all that the directions move.
      first: the direction of a, path → array of the same shape.
      second: the direction of b.
      trajectory: the coordinates (a, b) of a training's weights, shape [snapshots, 2], start
        first; empty without one.
      variance_shares: the share of the trajectory's variance that each direction explains,
        in [0, 1]; empty without one.
    """

    kind: str
    origin: Weights
    first: Weights
    second: Weights
    trajectory: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    variance_shares: tuple[float, ...] = ()

    @property
    def cosine(self) -> float:
        """Of the angle between the directions, in [-1, 1]."""
        first, second = _flat(self.first), _flat(self.second)
        return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def plane_of(
    ticket: Ticket, model: keras.Model, trajectory: Path | None = None, seed: int = 0
) -> Plane:
    """A plane through a ticket's trained weights.

    Args:
      ticket: its pruned weights stay zero.
      model: holds the trained weights.
      trajectory: a file of the training's snapshots, see `read_trajectory`; None for random
        directions.
      seed: of random directions, non-negative int.

    Raises:
      UserError: the trajectory is damaged or of another network.
      NoPlaneError: it spans no plane.
    """
    weights = {weight_path(variable): variable.numpy() for variable in model.trainable_weights}
    if trajectory is None:
        return random_plane(weights, ticket.masks, seed)
    snapshots = load_arrays(trajectory)
    try:
        return trajectory_plane(weights, ticket.masks, read_trajectory(snapshots))
    except UserError as error:
        raise type(error)(f"{trajectory}: {error}") from None


def trajectory_path(ticket_path: Path) -> Path:
    """Where a run keeps the snapshots of a ticket's training, if it does.

    Raises:
      UserError: the ticket lies in no run, or its trained weights are missing.
    """
    weights = trained_weights_path(ticket_path)
    return weights.with_name(f"{weights.stem}_trajectory.npz")


def random_plane(weights: Weights, masks: Mapping[str, np.ndarray], seed: int) -> Plane:
    """Two random directions, filter-normalised (section 4 of the paper).

    Each is drawn from a normal distribution, set to zero outside the masks, and each of its
    filters scaled to the length of the trained one. Biases and BatchNorm's weights do not
    move.

    Args:
      weights: the trainable weights, path → array; filters along the last axis, those of a
        `depthwise_kernel` along the last two.
      masks: path → boolean array, True where a weight was not pruned; of some of the weights.
      seed: non-negative int.
    """
    random = np.random.default_rng(seed)
    return Plane(
        "random",
        weights,
        *(_random_direction(weights, masks, random) for _ in ("first", "second")),
    )


def trajectory_plane(
    weights: Weights, masks: Mapping[str, np.ndarray], trajectory: Sequence[Weights]
) -> Plane:
    """The first two principal components of a training's trajectory (section 7.2).

    Rows of the matrix are the differences of the snapshots' trainable weights, biases and
    BatchNorm's included, to the trained ones; a snapshot that equals these gives none. As in
    the code of Li et al., the components have length 1 and are not filter-normalised, and
    the rows are centred before. A snapshot's coordinates are those of its projection onto the
    plane. Signs are chosen so that the start has no negative coordinate.

    Args:
      weights: the trainable weights in the end, path → array.
      masks: path → boolean array, True where a weight was not pruned; of some of the weights.
      trajectory: snapshots, start first, each with the arrays of `weights`; others are ignored.

    Raises:
      UserError: a snapshot lacks a weight or has it in another shape; or all of them lie on
        one line, so that they span no plane.
    """
    _require_same_weights(weights, trajectory)
    differences = np.stack(
        [_flat(_masked(_difference(snapshot, weights), masks)) for snapshot in trajectory]
    )
    rows = differences[np.any(differences != 0, axis=1)]
    components, shares = principal_components(rows)
    signs = np.where(components @ differences[0] < 0, -1, 1).astype(components.dtype)
    components *= signs[:, np.newaxis]
    return Plane(
        "pca",
        weights,
        # Masked again, as what should be zero may come out as 1e-16.
        *(_masked(_unflat(component, weights), masks) for component in components),
        trajectory=differences @ components.T,
        variance_shares=tuple(shares.tolist()),
    )


def principal_components(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components of the rows, which are centred before.

    Args:
      rows: floats `[n, d]`.

    Returns:
      The components `[2, d]`, orthonormal, of any sign; and the share of the variance that
      each explains, `[2]`, in [0, 1].

    Raises:
      UserError: the rows lie on one line.
    """
    if len(rows) > 2:
        centred = rows - rows.mean(axis=0)
        _, lengths, components = np.linalg.svd(centred, full_matrices=False)
        variances = np.square(lengths, dtype=np.float64)
        if lengths.size > 1 and variances[1] > _SMALLEST_SHARE * variances[0]:
            return components[:2], variances[:2] / variances.sum()
    raise NoPlaneError(
        "its weights lie on one line and span no plane; expected at least four snapshots of a "
        "training, or --directions=random"
    )


def read_trajectory(arrays: Mapping[str, np.ndarray]) -> list[Weights]:
    """Takes a trajectory's arrays, named `<index>/<weight path>`, apart into snapshots.

    Raises:
      UserError: another name.
    """
    snapshots = {}
    for name, array in arrays.items():
        index, _, path = name.partition("/")
        if not index.isdecimal() or not path:
            raise UserError(f"holds an array {name}; expected names such as 000/stem/conv/kernel")
        snapshots.setdefault(int(index), {})[path] = array
    return [snapshots[index] for index in sorted(snapshots)]


def _random_direction(weights, masks, random):
    direction = {}
    for path, weight in weights.items():
        drawn = random.standard_normal(weight.shape, dtype=np.float32)
        drawn = drawn * masks[path] if path in masks else drawn
        direction[path] = _filter_normalised(path, drawn, weight)
    return direction


def _filter_normalised(path, direction, weight):
    if weight.ndim < 2:  # A bias, or one of BatchNorm's weights.
        return np.zeros_like(weight)
    filter_axes = 2 if path.endswith("depthwise_kernel") else 1
    axes = tuple(range(weight.ndim - filter_axes))
    target, length = (np.sqrt(np.sum(x**2, axis=axes, keepdims=True)) for x in (weight, direction))
    return direction * (target / (length + _SMALLEST_NORM)).astype(np.float32)


def _require_same_weights(weights, trajectory):
    expected = {path: array.shape for path, array in weights.items()}
    for index, snapshot in enumerate(trajectory):
        for path, shape in expected.items():
            found = snapshot[path].shape if path in snapshot else "missing"
            if found != shape:
                raise UserError(
                    f"its snapshot {index} has {path} of shape {found}; expected {shape}, as the "
                    "trained weights have"
                )


def _difference(snapshot, weights):
    return {path: snapshot[path] - weight for path, weight in weights.items()}


def _masked(arrays, masks):
    return {path: array * masks[path] if path in masks else array for path, array in arrays.items()}


def _flat(arrays):
    return np.concatenate([array.ravel() for array in arrays.values()])


def _unflat(vector, weights):
    ends = np.cumsum([array.size for array in weights.values()])[:-1]
    parts = np.split(vector, ends)
    return {path: part.reshape(array.shape) for part, (path, array) in zip(parts, weights.items())}
