"""What a study leaves for its reader: summary, figures, TensorBoard pages, the closing words."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tf_tickets.analysis import figures, summary, tables
from tf_tickets.analysis.markdown import image_link
from tf_tickets.analysis.measurements import load_results
from tf_tickets.deployment.saved_model import Export
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.events import write_figures
from tf_tickets.runs.files import atomic_write_text, load_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory

_NOTHING = "No results yet."


def write_report(
    run: RunDirectory,
    cells: list[Cell],
    levels: int,
    exports: Mapping[str, Export],
    reference_path: Path,
    scale: str,
) -> str:
    """Writes summary.md, the figures and their TensorBoard page.

    Args:
      run: a finished study.
      cells: its searches.
      levels: how many levels each has.
      exports: its SavedModels, by what tells them apart.
      reference_path: the paper's numbers.
      scale: a sentence on how the run differs from the paper's.

    Returns:
      The table by density and the paths of everything, for the terminal.
    """
    frame = load_results(run.results_path)
    reference = tables.load_reference(reference_path)
    directory = run.path / "figures"
    drawn = []
    for data_set in dict.fromkeys(cell.data_set for cell in cells):
        drawn += figures.draw_figures(frame, reference, data_set, directory)
    drawn += _draw_initial_weights(run, cells, levels, directory)
    _show_in_tensorboard(run, drawn)
    summary_path = run.path / "summary.md"
    summary.write_summary(run.results_path, reference_path, summary_path, drawn, scale)
    return "\n".join(
        [
            summary.terminal_table(frame, reference),
            "",
            f"Scale: {scale}",
            "",
            closing_paths(run, summary_path, exports),
        ]
    )


def _draw_initial_weights(run, cells, levels, directory):
    """Figures 13 to 15, of the first trial of each `original` search.

    Of a run whose weights are not kept, the pictures that are.
    """
    original = [cell for cell in cells if cell.method == "original"]
    first = min((cell.seed for cell in original), default=None)
    if not (run.path / "tickets").exists():
        return sorted(directory.glob("*_initial_weights.png"))
    return list(
        itertools.chain.from_iterable(
            figures.initial_weight_distributions(
                load_arrays(run.initial_weights_path(cell)),
                _tickets_to_show(run, cell, levels),
                cell.data_set,
                cell.regime,
                cell.seed,
                directory,
            )
            for cell in original
            if cell.seed == first
        )
    )


def _tickets_to_show(run, cell, levels):
    """The tickets of the densities that the paper shows, and the sparsest one."""
    tickets = [Ticket.load(run.ticket_path(cell, level)) for level in range(levels)]
    densities = pd.Series([100 * ticket.density for ticket in tickets])
    shown = densities.index == densities.index[-1]
    for density in figures.PAPER_DENSITIES:
        shown |= tables.matching_densities(densities, density).to_numpy()
    return [(ticket.density, ticket.masks) for ticket, show in zip(tickets, shown) if show]


def _show_in_tensorboard(run, paths):
    """The figures' page; not of a run that is only read."""
    if run.writable:
        write_figures(run.path / "tensorboard" / "figures", {path.stem: path for path in paths})


class Section(NamedTuple):
    """What a summary says of one study's results of one group of networks.

    Attributes:
      label: its heading.
      table: Markdown.
      figures: PNG files.
    """

    label: str
    table: str
    figures: Sequence[Path]


def write_studies(
    run: RunDirectory,
    heading: str,
    introduction: str,
    scale: str,
    studies: Sequence[tuple[str, Sequence[Section]]],
    exports: Mapping[str, Export],
) -> str:
    """Writes the summary.md of a paper with several studies, and their TensorBoard page.

    Args:
      run: where to.
      heading: the paper's name.
      introduction: what all tables have in common.
      scale: a sentence on how the run differs from the paper's.
      studies: each study's title and what there is of it, in order; maybe nothing yet.
      exports: as for `closing_paths`.

    Returns:
      The tables of the first study and the paths of everything, for the terminal.
    """
    parts = [f"# {heading}", scale, introduction.strip()]
    for title, sections in studies:
        parts.append(f"## {title}")
        for section in sections:
            links = [image_link(path, run.path) for path in section.figures]
            parts += [f"### {section.label}", section.table, *links]
        if not sections:
            parts.append(_NOTHING)
    summary_path = run.path / "summary.md"
    atomic_write_text(summary_path, "\n\n".join(parts) + "\n")
    drawn = [path for _, sections in studies for section in sections for path in section.figures]
    _show_in_tensorboard(run, drawn)
    first = [f"### {section.label}\n\n{section.table}" for section in studies[0][1]]
    closing = closing_paths(run, summary_path, exports)
    return "\n\n".join([*(first or [_NOTHING]), f"Scale: {scale}", closing])


def closing_paths(run: RunDirectory, summary_path: Path, exports: Mapping[str, Export]) -> str:
    """Where a run left what, a line each, for the terminal.

    Args:
      run: its folder.
      summary_path: its summary.md.
      exports: its SavedModels, by what tells them apart.
    """
    lines = {
        "Run directory": run.path,
        "Tables": summary_path,
        "Figures": run.path / "figures",
        "Tickets": run.path / "tickets",
    }
    for label, export in exports.items():
        zeros = ""
        if export.prunable:
            zeros = f" ({export.zeros / export.prunable:.1%} of its weights are zero)"
        lines[f"SavedModel ({label})"] = f"{export.path}{zeros}"
    lines["TensorBoard"] = f"tensorboard --logdir {run.path}"
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':{width}}{value}" for name, value in lines.items())
