"""What a run of "Double-Win Lottery Tickets" leaves for its reader: summary and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.double_win_tickets import figures, results, tables
from experiments.double_win_tickets.differences import differences_table
from experiments.double_win_tickets.pretraining import pretraining_table
from tf_tickets.analysis.markdown import MISSING, paragraphs
from tf_tickets.analysis.report import Section, write_studies
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.run_directory import RunDirectory

_INTRODUCTION = f"""\
Tickets are found on the source data set, from weights pre-trained by standard (STD), fast
adversarial (FAT) or adversarial training (AT), and transferred to the others. SA is standard, RA
robust test accuracy. Accuracies are in %, mean±sample standard deviation over seeds; {MISSING} is
what was not measured. Verdicts are on test accuracies, as the paper's; nothing is chosen by them.
"""


def write_report(
    run: RunDirectory,
    exports: Mapping[str, Export],
    reference_path: Path,
    scale: str,
    extra_sections: Sequence[tuple[str, Sequence[Section]]] = (),
) -> str:
    """Writes summary.md, the figures and their TensorBoard page.

    Args:
      run: its results.csv may lack any of the rows; what has none is left out.
      exports: its SavedModels, by what tells them apart; may be empty.
      reference_path: experiments/double_win_tickets/reference.csv.
      scale: a sentence on how the run differs from the paper's.
      extra_sections: further studies for the end of the summary, as `write_studies` takes
        them.

    Returns:
      The table of the verdicts and the paths of everything, for the terminal.

    Raises:
      UserError: results or reference do not follow their schema.
    """
    frame = results.load_results(run.results_path)
    reference = results.load_reference(reference_path)
    targets = results.groups(frame, "transfer")
    sources = results.groups(frame, "pretraining")
    unseen = {group.name: group for group in results.groups(frame, "unseen")}
    directory = run.path / "figures"
    studies = {
        "Extreme sparsity of double-win tickets (Sections 4.1 and 4.2)": [
            Section(group.label, tables.verdict_table(group, reference, sources), ())
            for group in targets
        ],
        "Tickets by pre-training and pruning (Figures 3 and 4)": [
            Section(
                group.label,
                paragraphs(tables.accuracy_table(group, 100), differences_table(group, 100)),
                figures.pretraining_figures(group, directory)
                + figures.pruning_figures(group, directory),
            )
            for group in targets
        ],
        "Data efficiency (Figure 5, Section 5)": [
            Section(
                group.label,
                _little_data_tables(group, reference),
                figures.data_figures(group, directory),
            )
            for group in targets
        ],
        "Pre-training": [Section(group.label, pretraining_table(group), ()) for group in sources],
        "Transfer attack (Table A2)": [
            Section(
                group.label,
                tables.transfer_attack_table(group, reference, unseen.get(group.name)),
                (),
            )
            for group in targets
        ],
    }
    # A target without rows for a study is not in it.
    shown = [
        (title, [section for section in sections if section.table])
        for title, sections in studies.items()
    ]
    heading = "Double-Win Lottery Tickets"
    return write_studies(run, heading, _INTRODUCTION, scale, [*shown, *extra_sections], exports)


def _little_data_tables(group, reference):
    percents = sorted(set(group.rows["percent"]) - {100}, reverse=True)
    accuracies = [
        paragraphs(tables.accuracy_table(group, percent), differences_table(group, percent))
        for percent in percents
    ]
    return paragraphs(tables.gains_table(group, reference), *accuracies)
