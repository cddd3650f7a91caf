"""The tickets of run directories, of any driver, and names for them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.run_directory import Cell

_LEVEL = re.compile(r"level_(\d+)\.npz")
_SEED = re.compile(r"seed_(\d+)")
_NAMING_FIELDS = ("data_set", "model", "regime", "method")


class SavedTicket(NamedTuple):
    """A ticket's file in a run, and what its place says of it."""

    cell: Cell
    level: int
    path: Path

    def load(self) -> Ticket:
        """Reads it (see `Ticket.load`)."""
        return Ticket.load(self.path)


def tickets_in(folder: Path) -> list[SavedTicket]:
    """All tickets of a run, or of a part of it.

    Args:
      folder: a run directory, its folder `tickets`, or one below that.

    Returns:
      The tickets in the order of their paths.

    Raises:
      UserError: no such folder, or no tickets in it.
    """
    if not folder.is_dir():
        raise UserError(f"--run_dir={folder}: no such folder")
    below = folder.absolute()
    if (below / "tickets").is_dir():
        below /= "tickets"
    tickets = next((place for place in (below, *below.parents) if place.name == "tickets"), None)
    if tickets is None:
        raise UserError(f"--run_dir={folder}: expected a run, or a folder below its `tickets`")
    found = [_saved_ticket(path, tickets) for path in sorted(below.rglob("level_*.npz"))]
    found = [saved for saved in found if saved is not None]
    if not found:
        raise UserError(f"--run_dir={folder}: no tickets in it; expected .../seed_N/level_NN.npz")
    return found


def _saved_ticket(path, tickets):
    """What the place DATA_SET/[MODEL/]REGIME/METHOD/seed_N/level_NN.npz says; None for others."""
    parts = path.relative_to(tickets).parts
    if len(parts) not in (5, 6):
        return None
    data_set, *model, regime, method, seed, level = parts
    seed, level = _SEED.fullmatch(seed), _LEVEL.fullmatch(level)
    if not seed or not level:
        return None
    cell = Cell(data_set, regime, method, int(seed[1]), "".join(model))
    return SavedTicket(cell, int(level[1]), path)


def comparable(saved: Iterable[SavedTicket]) -> list[list[SavedTicket]]:
    """Groups the tickets by the weights that they cover, without repeated searches.

    A transfer trains under a mask that another search found. A cell whose every ticket
    equals another cell's of the same level therefore is left out; of cells that hold the
    same tickets the first is kept. Reads each ticket once, and keeps none in memory.

    Returns:
      A list for each set of names and shapes, largest first; its tickets in their order.
    """
    groups, hashes = {}, {}
    for entry in saved:
        ticket = entry.load()
        groups.setdefault(_shapes(ticket), []).append(entry)
        hashes[entry.path] = ticket.sha256
    kept = [_without_repetitions(group, hashes) for group in groups.values()]
    return sorted(kept, key=len, reverse=True)


def _shapes(ticket):
    return tuple(sorted((name, mask.shape) for name, mask in ticket.masks.items()))


def _without_repetitions(group, hashes):
    contents = {}
    for entry in group:
        contents.setdefault(entry.cell, set()).add((entry.level, hashes[entry.path]))
    kept = []
    for cell in sorted(contents, key=lambda cell: -len(contents[cell])):  # Ties stay in order.
        if not any(contents[cell] <= contents[other] for other in kept):
            kept.append(cell)
    return [entry for entry in group if entry.cell in kept]


def labels_of(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Names for searches: of the cells' fields, the seed left out, those that differ."""
    shared = _shared_fields(cells)
    telling = [name for name in _NAMING_FIELDS if name not in shared] or ["method"]
    return {cell: _joined(cell, telling) for cell in cells}


def shared_label(cells: Sequence[Cell]) -> str:
    """What all cells have in common, as a heading: "mnist pgd"."""
    return _joined(cells[0], _shared_fields(cells))


def _shared_fields(cells):
    return [name for name in _NAMING_FIELDS if len({getattr(cell, name) for cell in cells}) == 1]


def _joined(cell, fields):
    return " ".join(getattr(cell, name) for name in fields if getattr(cell, name))


def file_labels(paths: Sequence[Path]) -> list[str]:
    """Short names of files: what is left without the folders that all of them share.

    Raises:
      UserError: a file is given twice.
    """
    every = [path.absolute().with_suffix("").parts for path in paths]
    if len(set(every)) < len(every):
        raise UserError(f"--ticket={','.join(map(str, paths))}: expected no file twice")
    start = 0
    while len(every) > 1 and len({parts[: start + 1] for parts in every}) == 1:
        start += 1
    # Of a single file, the level says too little.
    return ["/".join(parts[start:] if len(every) > 1 else parts[-3:]) for parts in every]


def file_name(label: str) -> str:
    """A label with nothing in it that a file's name cannot have."""
    return re.sub(r"[^\w.-]+", "_", label)


def load_tickets(paths: Mapping[str, Path], comparable_only: bool) -> dict[str, Ticket]:
    """Reads named files.

    Args:
      paths: name → file.
      comparable_only: whether all must cover the same weights.

    Raises:
      UserError: as `Ticket.load`; or a ticket covers other weights than the first.
    """
    tickets = {name: Ticket.load(path) for name, path in paths.items()}
    shapes = {name: _shapes(ticket) for name, ticket in tickets.items()}
    first = next(iter(paths))
    for name, path in paths.items():
        if comparable_only and shapes[name] != shapes[first]:
            raise UserError(
                f"--ticket={path}: expected masks of the same weights as {paths[first]} has; "
                "their names or shapes differ"
            )
    return tickets


def levels(saved: Iterable[SavedTicket]) -> Mapping[int, list[SavedTicket]]:
    """Level → its tickets, in ascending order of the levels."""
    found = {}
    for entry in sorted(saved, key=lambda entry: entry.level):
        found.setdefault(entry.level, []).append(entry)
    return found
