"""What a run of "On the Effect of Pruning on Adversarial Robustness" leaves for its reader."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.pruning_robustness import results
from experiments.pruning_robustness.figures import FIGURES
from experiments.pruning_robustness.tables import TABLES
from tf_tickets.analysis.markdown import MISSING
from tf_tickets.analysis.report import Section, write_studies
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.run_directory import RunDirectory

STUDIES = tuple(results.STUDIES)

_INTRODUCTION = f"""\
Differences are in percentage points of test accuracy, taken seed by seed, accuracies in %; both
are mean±sample standard deviation over seeds, and {MISSING} is what was not measured. Layers are
residual blocks, as in the paper.
"""


def write_report(
    run: RunDirectory,
    studies: Sequence[str],
    criterion: str,
    exports: Mapping[str, Export],
    reference_path: Path,
    scale: str,
) -> str:
    """Writes summary.md, the figures and their TensorBoard page.

    Args:
      run: its results.csv may lack any of the rows; what has none is left out.
      studies: names in `STUDIES`, in the order of the summary.
      criterion: which the networks are pruned by, a name in `results.CRITERIA`.
      exports: its SavedModels, by what tells them apart; may be empty.
      reference_path: experiments/pruning_robustness/reference.csv.
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
                FIGURES[study](group, reference, run.path / "figures"),
            )
            for group in results.groups(frame, study, criterion)
        ]
        shown.append((results.STUDIES[study].title, sections))
    heading = "On the Effect of Pruning on Adversarial Robustness"
    return write_studies(run, heading, _INTRODUCTION, scale, shown, exports)
