"""What a run of "Robust Lottery Tickets" leaves for its reader: summary and figures."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from experiments.robust_bert_tickets import figures, results, tables
from experiments.robust_bert_tickets.comparisons import explanation
from experiments.robust_bert_tickets.patterns import patterns_figures, patterns_table
from experiments.robust_bert_tickets.results import Group
from tf_tickets.analysis.markdown import MISSING
from tf_tickets.analysis.report import Section, write_studies
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.run_directory import RunDirectory


class Study(NamedTuple):
    """One study of the paper.

    Attributes:
      title: heading of its section.
      table: makes its Markdown of a group and the paper's numbers; no text without results.
      draw: draws its figures of a group into a folder.
    """

    title: str
    table: Callable[[Group, pd.DataFrame], str]
    draw: Callable[[Group, Path], list[Path]]


def _no_figures(group, directory):
    return []


def _figures_alone(table):
    """For a study that the paper has no numbers of."""
    return lambda group, reference: table(group)


STUDIES = {
    "main": Study("Robustness evaluation (Tables 1 and 2)", tables.main_table, _no_figures),
    "ablation": Study("Ablation (Table 3)", tables.ablation_table, _no_figures),
    "importance": Study(
        "Importance of initialization and structure (Table 4)",
        tables.importance_table,
        _no_figures,
    ),
    "regularization": Study(
        "Regularization strength (Figures 1 and 5)",
        tables.regularization_table,
        figures.regularization_figures,
    ),
    "sparsity": Study(
        "Impact of sparsity (Figure 2)",
        _figures_alone(tables.sparsity_table),
        figures.sparsity_figures,
    ),
    "patterns": Study(
        "Sparsity patterns (Figure 3)", _figures_alone(patterns_table), patterns_figures
    ),
    "convergence": Study(
        "Speed of training (Figure 4)",
        _figures_alone(tables.convergence_table),
        figures.convergence_figures,
    ),
}
"""The studies by their names, in the order of the summary."""

_INTRODUCTION = f"""\
Clean is the accuracy on the whole test set, Aua that under attack: of all attacked sentences, the
share that is classified correctly without the attack and with it. Suc is the attack's share of the
sentences that are correct without it, #Query the mean number of its questions about each of those.
Numbers are mean±sample standard deviation over seeds or, of one seed alone, with the 95% confidence
interval over its sentences in brackets (Wilson's of shares, a bootstrap's of #Query); {MISSING} is
what was not measured. The paper attacked with TextAttack's own resources; what this run had in
their place stands above each table.

{textwrap.fill(explanation(), 100)}
"""


def write_report(
    run: RunDirectory,
    exports: Mapping[str, Export],
    reference_path: Path,
    scale: str,
    studies: Sequence[str],
) -> str:
    """Writes summary.md, the figures and their TensorBoard page.

    Args:
      run: its results.csv may lack any of the rows; what has none is left out.
      exports: its SavedModels, by what tells them apart; may be empty.
      reference_path: experiments/robust_bert_tickets/reference.csv.
      scale: a sentence on how the run differs from the paper's.
      studies: names in `STUDIES`, at least one, which come first; all others follow of which the
        run has results.

    Returns:
      The tables of the first study and the paths of everything, for the terminal.

    Raises:
      UserError: results, attacked sentences, tickets or reference do not follow their schema.
      KeyError: there is no such study.
    """
    groups = results.load_groups(run)
    reference = results.load_reference(reference_path)
    directory = run.path / "figures"
    shown = []
    for name in dict.fromkeys([*studies, *STUDIES]):
        sections = [
            Section(group.label, table, STUDIES[name].draw(group, directory))
            for group in groups
            if (table := STUDIES[name].table(group, reference))
        ]
        if sections or name in studies:
            shown.append((STUDIES[name].title, sections))
    heading = "Robust Lottery Tickets for Pre-trained Language Models"
    return write_studies(run, heading, _INTRODUCTION, scale, shown, exports)
