"""Similarities and pruned kernels of a run, or of some tickets: CSV, pictures and a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tf_tickets.analysis import kernels, similarity, ticket_tables
from tf_tickets.analysis.markdown import paragraphs
from tf_tickets.analysis.saved_tickets import SavedTicket, file_name, labels_of, shared_label
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.files import atomic_write_text


def similarity_of_run(groups: Sequence[Sequence[SavedTicket]], folder: Path) -> str:
    """Compares the tickets of a run at equal level.

    Args:
      groups: of `saved_tickets.comparable`; each gets a picture of its own.
      folder: where similarity.csv and the pictures go.

    Returns:
      The tables.

    Raises:
      UserError: no group has two tickets of equal level.
    """
    frames, tables = [], []
    for saved in groups:
        rows = similarity.similarity_curves(saved)
        if rows.empty:
            continue
        title = shared_label([entry.cell for entry in saved])
        picture = _numbered(folder, "similarity", len(frames))
        similarity.draw_similarity_curves(rows, title, picture)
        frames.append(rows.assign(network=title))
        tables.append(paragraphs(title, ticket_tables.similarity_curve_table(rows)))
    if not frames:
        raise UserError("no two different tickets of equal level cover the same weights")
    _write_csv(pd.concat(frames), folder / "similarity.csv")
    return paragraphs(*tables)


def similarity_of_tickets(tickets: Mapping[str, Ticket], folder: Path) -> str:
    """Compares every two of some tickets, at least two; writes what `similarity_of_run` does."""
    rows = similarity.similarity_matrix(tickets)
    similarity.draw_similarity_matrix(rows, list(tickets), folder / "similarity.png")
    _write_csv(rows, folder / "similarity.csv")
    return ticket_tables.similarity_table(rows)


def kernels_of_run(groups: Sequence[Sequence[SavedTicket]], folder: Path) -> str:
    """Counts the pruned kernels of a run's tickets, and maps those of each search's sparsest.

    Args:
      groups: of `saved_tickets.comparable`; each gets a picture of its own.
      folder: where kernels.csv and the pictures go.

    Returns:
      The tables.

    Raises:
      UserError: no ticket has convolutions.
    """
    frames, tables = [], []
    for saved in groups:
        rows = kernels.kernel_curves(saved)
        if rows.empty:
            continue
        title = shared_label([entry.cell for entry in saved])
        kernels.draw_kernel_curves(rows, title, _numbered(folder, "kernels", len(frames)))
        for name, entry in _sparsest(saved).items():
            _draw_map(entry.load(), f"{title} {name}, level {entry.level}", folder, len(frames))
        frames.append(rows.assign(network=title))
        tables.append(paragraphs(title, ticket_tables.kernel_curve_table(rows)))
    if not frames:
        raise UserError("its tickets cover no convolution, which alone have kernels")
    _write_csv(pd.concat(frames), folder / "kernels.csv")
    return paragraphs(*tables)


def kernels_of_tickets(tickets: Mapping[str, Ticket], folder: Path) -> str:
    """Counts and maps the pruned kernels of some tickets; writes what `kernels_of_run` does."""
    frames = []
    for name, ticket in tickets.items():
        rows = kernels.kernel_counts(ticket)
        if rows.empty:
            raise UserError(f"{name} covers no convolution, which alone have kernels")
        frames.append(rows.assign(ticket=name)[["ticket", *rows.columns]])
        _draw_map(ticket, name, folder)
    rows = pd.concat(frames, ignore_index=True)
    _write_csv(rows, folder / "kernels.csv")
    return ticket_tables.kernel_table(rows)


def _sparsest(saved):
    """Name of a search → its ticket of the highest level, of the first seed that has it."""
    labels, found = labels_of([entry.cell for entry in saved]), {}
    for entry in saved:
        best = found.setdefault(labels[entry.cell], entry)
        if entry.level > best.level:
            found[labels[entry.cell]] = entry
    return found


def _draw_map(ticket, title, folder, group=0):
    kernels.draw_kernel_map(
        ticket,
        f"{title}: {ticket.sparsity:.2%} sparse",
        _numbered(folder, f"kernel_map_{file_name(title)}", group),
    )


def _numbered(folder, name, group):
    """The picture's file; groups after the first are numbered."""
    return folder / (f"{name}_{group + 1}.png" if group else f"{name}.png")


def _write_csv(rows, path):
    atomic_write_text(path, rows.to_csv(index=False))
