"""A ticket: masks over a network's weights, and where they come from."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tf_tickets.errors import UserError, one_line
from tf_tickets.runs.files import load_arrays, parse_json, save_arrays

FORMAT_VERSION = 1
# The fields of a provenance, as JSON has them, that are not text.
_TYPES = {"model_config": dict, "seed": int, "level": int, "versions": dict}
# More than any name, level or seed takes.
_LONGEST_TEXT, _LARGEST_NUMBER = 1_000, 2**64
# Weights of a ticket; BERT base has a fifth of them. Eight times the bits that a file unpacks to.
_MOST_WEIGHTS = 2**29
_MOST_AXES = 32


@dataclasses.dataclass(frozen=True)
class Provenance:
    """How a ticket came to be.

    Attributes:
      algorithm: how the masks were chosen, for example `original`.
      model: the model's name in `tf_tickets.models.registry`.
      model_config: what the model was built with.
      data_set: what it was trained on.
      seed: the trial's seed.
      level: rounds of pruning behind it; 0 is the dense network.
      initial_weights_sha256: `weights_sha256` of the weights the masks belong to.
      parent_sha256: `Ticket.sha256` of the ticket it was pruned from; "" for none.
      versions: package → version.
    """

    algorithm: str
    model: str
    model_config: Mapping
    data_set: str
    seed: int
    level: int
    initial_weights_sha256: str
    parent_sha256: str
    versions: Mapping[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Ticket:
    """Immutable masks, weight path → boolean array that is True where a weight stays.

    Raises:
      ValueError: no masks, none of a weight, or one that is not boolean.
    """

    masks: Mapping[str, np.ndarray]
    provenance: Provenance

    def __post_init__(self):
        if not self.masks:
            raise ValueError("a ticket needs at least one mask")
        if not any(mask.size for mask in self.masks.values()):
            raise ValueError("its masks are of no weight at all")
        frozen = {}
        for path, mask in self.masks.items():
            if mask.dtype != bool:
                raise ValueError(f"the mask of {path} has type {mask.dtype}, expected bool")
            frozen[path] = mask.copy()
            frozen[path].setflags(write=False)
        object.__setattr__(self, "masks", MappingProxyType(frozen))

    def __eq__(self, other):
        if not isinstance(other, Ticket):
            return NotImplemented
        return self.sha256 == other.sha256 and self.provenance == other.provenance

    def __hash__(self):
        return hash(self.sha256)

    @property
    def density(self) -> float:
        """The remaining fraction of the weights, P_m of the papers, in [0, 1]."""
        remaining = sum(int(np.count_nonzero(mask)) for mask in self.masks.values())
        return remaining / sum(mask.size for mask in self.masks.values())

    @property
    def sparsity(self) -> float:
        """The removed fraction of the weights, in [0, 1]."""
        return 1.0 - self.density

    @property
    def layer_densities(self) -> dict[str, float]:
        """Weight path → remaining fraction."""
        return {path: float(np.mean(mask)) for path, mask in self.masks.items()}

    @property
    def sha256(self) -> str:
        """Of the masks alone: equal masks, equal hash."""
        return arrays_sha256(self.masks)

    def intersection_over_union(self, other: "Ticket") -> float:
        """|A ∩ B| / |A ∪ B| over all weights; 1.0 for two empty tickets.

        Raises:
          ValueError: the tickets are of different networks.
        """
        if _shapes(self.masks) != _shapes(other.masks):
            raise ValueError("the tickets cover different weights")
        pairs = [(mask, other.masks[path]) for path, mask in self.masks.items()]
        union = sum(int(np.count_nonzero(a | b)) for a, b in pairs)
        return sum(int(np.count_nonzero(a & b)) for a, b in pairs) / union if union else 1.0

    def is_within(self, other: "Ticket") -> bool:
        """Whether every weight of this ticket is in `other`."""
        return _shapes(self.masks) == _shapes(other.masks) and all(
            not np.any(mask & ~other.masks[path]) for path, mask in self.masks.items()
        )

    def save(self, path: Path) -> None:
        """Writes one `.npz`: bit-packed masks and JSON metadata, no pickle."""
        metadata = {
            "format": FORMAT_VERSION,
            "shapes": {name: list(mask.shape) for name, mask in self.masks.items()},
            "masks_sha256": self.sha256,
            "provenance": dataclasses.asdict(self.provenance),
        }
        packed = {name: np.packbits(mask) for name, mask in self.masks.items()}
        text = json.dumps(metadata, sort_keys=True).encode()
        save_arrays(path, {"metadata": np.frombuffer(text, np.uint8), **packed})

    @classmethod
    def load(cls, path: Path) -> "Ticket":
        """Reads and validates a ticket.

        Raises:
          UserError: the file is missing, damaged, of another format version, or
            its masks do not fit their description.
        """
        arrays = load_arrays(path)
        try:
            text = arrays.pop("metadata").tobytes().decode("utf-8")
            metadata = parse_json(text, f"{path}: not a ticket")
            if metadata["format"] != FORMAT_VERSION:
                raise UserError(
                    f"{path}: ticket format {one_line(metadata['format'])}, this version reads "
                    f"{FORMAT_VERSION}"
                )
            shapes = {name: _shape(name, shape) for name, shape in metadata["shapes"].items()}
            if set(shapes) != set(arrays):
                held, described = (one_line(sorted(names), 80) for names in (arrays, shapes))
                raise UserError(f"{path}: holds masks {held}, its description says {described}")
            weights = sum(map(math.prod, shapes.values()))
            if weights > _MOST_WEIGHTS:
                raise ValueError(f"masks of {weights} weights, more than {_MOST_WEIGHTS}")
            provenance = Provenance(**metadata["provenance"])
            _require_types(provenance)
            ticket = cls(
                {name: _unpack(arrays[name], shape) for name, shape in shapes.items()}, provenance
            )
            if ticket.sha256 != metadata["masks_sha256"]:
                raise UserError(f"{path}: damaged (its masks do not have the hash it states)")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: not a ticket ({one_line(repr(error))})") from None
        except MemoryError:
            raise UserError(f"{path}: its masks take more memory than there is") from None
        return ticket


def dense_ticket(shapes: Mapping[str, tuple[int, ...]], provenance: Provenance) -> Ticket:
    """The ticket that keeps every weight."""
    return Ticket({path: np.ones(shape, bool) for path, shape in shapes.items()}, provenance)


def refuse_disagreement(
    ticket: Ticket, weights: Mapping[str, np.ndarray], weights_path: Path
) -> None:
    """Checks that weights were trained under a ticket.

    Args:
      ticket: its masks.
      weights: path → array.
      weights_path: where they lie, for the error.

    Raises:
      UserError: a mask has no weights of its shape, they are not finite, or those outside it are
        not zero.
    """
    for name, mask in ticket.masks.items():
        if name not in weights or weights[name].shape != mask.shape:
            found = weights[name].shape if name in weights else "missing"
            raise UserError(
                f"its mask of {name} has shape {mask.shape}, the weights in {weights_path}: {found}"
            )
        if weights[name].dtype.kind != "f" or not np.all(np.isfinite(weights[name])):
            raise UserError(f"{weights_path}: {name} holds what is no finite number")
        outside = int(np.count_nonzero(weights[name][~mask]))
        if outside:
            raise UserError(
                f"{outside} weights of {name} outside its mask are not zero in {weights_path}; "
                "expected those trained under this ticket"
            )


def arrays_sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of names, types, shapes and values, whatever the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _require_types(provenance):
    """Raises a `TypeError` unless every field of a provenance that was read is of its type."""
    for field in dataclasses.fields(provenance):
        value, expected = getattr(provenance, field.name), _TYPES.get(field.name, str)
        if type(value) is not expected:
            raise TypeError(f"provenance: {field.name} is {value!r}, no {expected.__name__}")
    for name in ("level", "seed"):
        if not 0 <= getattr(provenance, name) < _LARGEST_NUMBER:
            raise ValueError(f"provenance: {name} is {getattr(provenance, name)}")
    if not all(type(version) is str for version in provenance.versions.values()):
        raise TypeError(f"provenance: versions are {provenance.versions!r}")
    for text in (*vars(provenance).values(), *provenance.versions, *provenance.versions.values()):
        if isinstance(text, str) and not (text.isprintable() and len(text) <= _LONGEST_TEXT):
            raise ValueError(f"provenance: a text of {len(text)} characters, not all printable")


def _shapes(masks):
    return {path: tuple(mask.shape) for path, mask in masks.items()}


def _shape(name, shape):
    """A mask's shape as JSON has it, which may say anything."""
    if not (name.isprintable() and len(name) <= _LONGEST_TEXT):
        raise ValueError("a mask's name is no printable text")
    if (
        type(shape) is not list
        or len(shape) > _MOST_AXES
        or not all(type(size) is int and 0 <= size <= _MOST_WEIGHTS for size in shape)
    ):
        raise ValueError(f"{name} has shape {one_line(shape)}")
    return tuple(shape)


def _unpack(bits, shape):
    size = math.prod(shape)
    if bits.dtype != np.uint8 or bits.size != (size + 7) // 8:
        raise ValueError(f"{bits.size} bytes for a mask of shape {shape}")
    return np.unpackbits(bits, count=size).reshape(shape).view(bool)
