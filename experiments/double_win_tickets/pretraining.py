"""What the networks that all tickets are found in reach on the source data set."""

from experiments.double_win_tickets.results import PRETRAINING_LABELS
from tf_tickets.analysis.markdown import MISSING, captioned, cells, markdown_table
from tf_tickets.analysis.measurements import attack_label, seeds_label, select
from tf_tickets.analysis.studies import Group
from tf_tickets.attacks.threat_model import MARGIN_ATTACK


def pretrained_cells(group: Group) -> dict[str, dict]:
    """SA, or an attack → pre-training → test accuracy of θ_p on the source data set."""
    tests = _tests(group)
    headings = {
        "SA": "natural",
        attack_label(group.attack): group.attack,
        attack_label(MARGIN_ATTACK): MARGIN_ATTACK,
    }
    found = {
        name: cells(select(tests, attack=attack), "pretraining")
        for name, attack in headings.items()
    }
    return {name: cells_of for name, cells_of in found.items() if cells_of}


def pretraining_table(group: Group) -> str:
    """What the dense networks reach on the source data set."""
    tests = _tests(group)
    measured = set(tests["pretraining"])
    kinds = [kind for kind in PRETRAINING_LABELS if kind in measured]
    if not kinds:
        return ""
    columns = [("pre-training", PRETRAINING_LABELS), *_headed(pretrained_cells(group))]
    caption = (
        f"Test accuracy in %, {seeds_label(tests)}, of the dense networks that all tickets and "
        "transfers start from. The paper, which takes published ones, gives no numbers. Public "
        "weights whose head is for other classes have no accuracy here and are not listed."
    )
    return captioned(caption, markdown_table(columns, kinds, MISSING))


def _headed(cells_of):
    """The columns of the table; what is not SA is RA."""
    return [(name if name == "SA" else f"RA ({name})", found) for name, found in cells_of.items()]


def _tests(group):
    return select(group.rows, split="test", quantity="accuracy")
