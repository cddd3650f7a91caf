"""A run's summary.md, and the tables that a driver prints when it ends."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.sparse_robust_networks import tables
from experiments.sparse_robust_networks.speed_tables import speed_table
from tf_tickets.analysis.markdown import image_link
from tf_tickets.analysis.measurements import DATA_SET_LABELS, load_results, select
from tf_tickets.runs.files import atomic_write_text

# The iteration of the paper's Tables 1 and 2; its training runs to 50,000.
PAPER_ITERATION = 30_000

_INTRODUCTION = """\
Accuracies are test accuracies in %, mean±sample standard deviation over seeds; whatever is
chosen is chosen on validation data. P_m is the share of the weights that remain. The paper's
1.8% is 1.9% here, where counts are exact: its code prunes a weight too many per layer and level.

The columns "paper" are its Tables 1 and 2: of the strategy "original", mean±population standard
deviation of five trials, after what its code counts as 30,000 of 50,000 iterations and are
25,020, whatever moment ours are of.
"""


def write_summary(
    results_path: Path,
    reference_path: Path,
    output_path: Path,
    figure_paths: Sequence[Path],
    scale: str,
) -> None:
    """Writes summary.md: every table beside the paper's numbers, and the figures.

    Args:
      results_path: the run's results.csv.
      reference_path: experiments/sparse_robust_networks/reference.csv.
      output_path: the Markdown file to write; it is replaced whole or not at all.
      figure_paths: PNG files, linked relative to `output_path`.
      scale: a sentence or two on how the run differs from the paper's, such as
        "4,000 of 50,000 iterations a level on an embedded sample of MNIST."

    Raises:
      UserError: results or reference do not follow their schema.
    """
    frame = load_results(results_path)
    reference = tables.load_reference(reference_path)
    sections = ["# The Search for Sparse, Robust Neural Networks", scale, _INTRODUCTION.strip()]
    for data_set in _data_sets(frame):
        sections += _data_set_sections(frame, reference, data_set)
    if figure_paths:
        sections += ["## Figures", *(image_link(path, output_path.parent) for path in figure_paths)]
    atomic_write_text(output_path, "\n\n".join(sections) + "\n")


def terminal_table(frame: pd.DataFrame, reference: pd.DataFrame) -> str:
    """Natural and adversarial accuracy by density beside the paper's, for a terminal.

    Of "original", or of the first strategy there is, at the end of training; then,
    if there are several strategies, how they compare.

    Args:
      frame: from `measurements.load_results`.
      reference: from `tables.load_reference`.
    """
    parts = []
    for data_set in _data_sets(frame):
        of_data_set = select(frame, data_set=data_set)
        methods = tables.methods_in(of_data_set)
        parts.append(f"{DATA_SET_LABELS[data_set]}, {methods[0]}")
        parts.append(tables.accuracy_table(frame, reference, data_set, methods[0]))
        if len(methods) > 1:
            parts.append(tables.strategy_table(frame, data_set))
    return "\n\n".join(parts) or "No results yet."


def _data_sets(frame):
    return [name for name in DATA_SET_LABELS if (frame["data_set"] == name).any()]


def _data_set_sections(frame, reference, data_set):
    label = DATA_SET_LABELS[data_set]
    methods = tables.methods_in(select(frame, data_set=data_set))
    method = methods[0]
    numbers = select(reference, data_set=data_set)["table"].unique()
    sections = [f"## {label}"]
    for title, at in (
        (f"after {PAPER_ITERATION:,} iterations, as the paper", PAPER_ITERATION),
        ("at the end of training", "end"),
        ("at early stopping", "early_stopping"),
    ):
        table = ", ".join(f"Table {number}" for number in numbers)
        sections.append(f"### {table}: {method}, {title}")
        sections.append(tables.accuracy_table(frame, reference, data_set, method, at))
    sections += [
        "### Pruning strategies at the end of training",
        tables.strategy_table(frame, data_set),
        "### How fast",
        speed_table(frame, data_set),
    ]
    for each in methods:
        sections.append(f"### Each adversarial training under all attacks: {each}")
        sections.append(tables.cross_attack_table(frame, data_set, each))
    return sections
