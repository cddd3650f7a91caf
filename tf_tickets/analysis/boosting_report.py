"""What a run of "Boosting Ticket" leaves for its reader: summary, figures, closing words."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tf_tickets.analysis import boosting_results, boosting_tables
from tf_tickets.analysis.boosting_figures import FIGURES
from tf_tickets.analysis.boosting_tables import TABLES
from tf_tickets.analysis.markdown import image_link
from tf_tickets.analysis.report import closing_paths
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.events import write_figures
from tf_tickets.runs.files import atomic_write_text
from tf_tickets.runs.run_directory import RunDirectory

STUDIES = tuple(boosting_results.STUDIES)

_INTRODUCTION = f"""\
Accuracies are in %, mean±sample standard deviation over seeds; {boosting_tables.MISSING} is
what was not measured. After natural training the last weights are tested, after adversarial
training those with the best robust accuracy on validation data. Epoch 0 is before training.
"""
_NOTHING = "No results yet."


def write_report(
    run: RunDirectory,
    studies: Sequence[str],
    exports: Mapping[str, Export],
    reference_path: Path,
    scale: str,
) -> str:
    """Writes summary.md, the figures and their TensorBoard page.

    Args:
      run: its results.csv may lack any of the rows; what has none is left out.
      studies: names in `STUDIES`, in the order of the summary.
      exports: its SavedModels, by what tells them apart; may be empty.
      reference_path: experiments/reference/boosting_tickets.csv.
      scale: a sentence on how the run differs from the paper's.

    Returns:
      The tables of the first study and the paths of everything, for the terminal.

    Raises:
      UserError: results or reference do not follow their schema.
      KeyError: there is no such study.
    """
    frame = boosting_results.load_results(run.results_path)
    reference = boosting_results.load_reference(reference_path)
    summary_path = run.path / "summary.md"
    sections = ["# Boosting Ticket", scale, _INTRODUCTION.strip()]
    terminal, drawn = [], []
    for study in studies:
        sections.append(f"## {boosting_results.STUDIES[study].title}")
        groups = boosting_results.groups(frame, study)
        for group in groups:
            table = [f"### {group.label}", TABLES[study](group, reference)]
            paths = FIGURES[study](group, run.path / "figures")
            sections += [*table, *(image_link(path, run.path) for path in paths)]
            terminal += table if study == studies[0] else []
            drawn += paths
        if not groups:
            sections.append(_NOTHING)
    atomic_write_text(summary_path, "\n\n".join(sections) + "\n")
    write_figures(run.path / "tensorboard" / "figures", {path.stem: path for path in drawn})
    closing = closing_paths(run, summary_path, exports)
    return "\n\n".join([*(terminal or [_NOTHING]), f"Scale: {scale}", closing])
