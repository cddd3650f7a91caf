"""What the masks of a run of "Double-Win Lottery Tickets" look like: Figures A8 and 7."""

from experiments.double_win_tickets.figures import COLOURS
from experiments.double_win_tickets.settings import TicketKind
from tf_tickets.analysis import kernels, similarity, ticket_tables
from tf_tickets.analysis.report import Section
from tf_tickets.analysis.saved_tickets import SavedTicket, labels_of, levels, tickets_in
from tf_tickets.analysis.studies import group_label
from tf_tickets.runs.run_directory import RunDirectory

SIMILARITY_TITLE = "Relative mask similarity (Figure A8)"
KERNELS_TITLE = "Completely pruned kernels (Figures 7 and A8)"


def mask_studies(run: RunDirectory, source: str) -> list[tuple[str, list[Section]]]:
    """The similarity of the tickets found on the source, and their pruned kernels.

    Args:
      run: its `tickets` may lack any.
      source: the data set that they were found on.

    Returns:
      Two studies for `write_studies`, maybe without sections. The heat maps are of the
      sparsest tickets.
    """
    saved = [
        entry._replace(cell=entry.cell._replace(regime=""))  # The method says it already.
        for entry in _tickets(run)
        if entry.cell.data_set == source and entry.level
    ]
    label = group_label(source)
    return [
        (SIMILARITY_TITLE, _similarity(saved, label, run)),
        (KERNELS_TITLE, _kernels(saved, label, run)),
    ]


def _tickets(run):
    return tickets_in(run.path) if (run.path / "tickets").is_dir() else []


def _similarity(saved, label, run):
    rows = similarity.similarity_curves(saved)
    if rows.empty:
        return []
    picture = run.path / "figures" / "figure_a8_similarity.png"
    similarity.draw_similarity_curves(rows, label, picture)
    return [Section(label, ticket_tables.similarity_curve_table(rows), [picture])]


def _kernels(saved, label, run):
    if not saved:
        return []
    rows = kernels.kernel_curves(saved)
    folder = run.path / "figures"
    colours = {TicketKind(kind[1], kind[0]).name: colour for kind, colour in COLOURS.items()}
    picture = folder / "figure_a8_kernels.png"
    pictures = [kernels.draw_kernel_curves(rows, label, picture, colours)]
    pictures += [_draw_map(entry, name, folder) for name, entry in _sparsest(saved).items()]
    return [Section(label, ticket_tables.kernel_curve_table(rows), pictures)]


def _sparsest(saved: list[SavedTicket]) -> dict[str, SavedTicket]:
    """Name of a search → its ticket of the run's highest level."""
    entries = list(levels(saved).values())[-1]
    labels = labels_of([entry.cell for entry in entries])
    return {labels[entry.cell]: entry for entry in entries}


def _draw_map(entry, name, folder):
    ticket = entry.load()
    title = f"{name}: {ticket.sparsity:.2%} sparse"
    return kernels.draw_kernel_map(ticket, title, folder / f"figure_07_{entry.cell.method}.png")
