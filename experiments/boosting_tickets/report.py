"""What a run of "Boosting Ticket" leaves for its reader: summary, figures, closing words."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.boosting_tickets import results
from experiments.boosting_tickets.figures import FIGURES
from experiments.boosting_tickets.tables import TABLES
from tf_tickets.analysis.markdown import MISSING
from tf_tickets.analysis.report import Section, write_studies
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.run_directory import RunDirectory

STUDIES = tuple(results.STUDIES)

_INTRODUCTION = f"""\
Accuracies are in %, mean±sample standard deviation over seeds; {MISSING} is
what was not measured. After natural training the last weights are tested, after adversarial
training those with the best robust accuracy on validation data. Epoch 0 is before training.
"""


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
      reference_path: experiments/boosting_tickets/reference.csv.
      scale: a sentence on how the run differs from the paper's.

    Returns:
      The tables of the first study and the paths of everything, for the terminal.

    Raises:
      UserError: results or reference do not follow their schema.
      KeyError: there is no such study.
    """
    frame = results.load_results(run.results_path)
    reference = results.load_reference(reference_path)
    shown = []
    for study in studies:
        sections = [
            Section(
                group.label,
                TABLES[study](group, reference),
                FIGURES[study](group, run.path / "figures"),
            )
            for group in results.groups(frame, study)
        ]
        shown.append((results.STUDIES[study].title, sections))
    return write_studies(run, "Boosting Ticket", _INTRODUCTION, scale, shown, exports)
