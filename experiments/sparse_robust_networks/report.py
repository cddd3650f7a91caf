"""The summary and figures of a run, and what its driver ends with."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from experiments.sparse_robust_networks import figures, summary, tables
from tf_tickets.analysis.measurements import load_results
from tf_tickets.analysis.report import closing_paths, show_in_tensorboard
from tf_tickets.deployment.saved_model import Export
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.run_directory import Cell, RunDirectory


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
    show_in_tensorboard(run, drawn)
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
