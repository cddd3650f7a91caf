"""What the tables and figures of "Double-Win Lottery Tickets" compute from results.

A transfer has a `pretraining`, a `pruning` and the `percent` of the target's training data
that it sees; a search has no percent, a pre-training no pruning either.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.double_win_tickets.transfers import SCRATCH
from experiments.double_win_tickets.verdicts import (
    METRICS,
    PairedDifference,
    Scores,
    Verdict,
    judge,
    paired_difference,
)
from tf_tickets.analysis import measurements
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.studies import (
    ANY,
    Group,
    Study,
    evaluation_attack,
    grouped,
    model_label,
    select_any,
)

PRETRAINING_LABELS = {"std": "STD", "fat": "FAT", "at": "AT"}
PRUNING_LABELS = {
    "dense": "dense",
    "imp_st": "IMP (standard)",
    "imp_at": "IMP (adversarial)",
    "omp": "one-shot magnitude",
    "random": "random",
}
METRIC_LABELS = {
    "standard_sa": "SA, standard training",
    "adversarial_sa": "SA, adversarial training",
    "adversarial_ra": "RA, adversarial training",
}

LABELS = {"pretraining": str, "pruning": str, "percent": float}
"""What tells networks apart beside the columns that all results have."""

_STUDIES = {
    "pretraining": {"pretraining": PRETRAINING_LABELS, "pruning": pd.Series.isna},
    "transfer": {"pretraining": PRETRAINING_LABELS, "pruning": PRUNING_LABELS, "percent": ANY},
    # The networks that Table A2's attack is made on.
    "unseen": {"pretraining": [SCRATCH]},
}
_REFERENCE_COLUMNS = [
    "source", "data_set", "model", *LABELS, "regime", "sparsity_percent", "quantity", "value",
    "unit", "remark",
]  # fmt: skip

_NETWORK_KEYS = ["percent", "pruning", "pretraining", "level"]


class Network(NamedTuple):
    """One network of a target, over all its seeds.

    Attributes:
      percent: how much of the training data it has seen, in %.
      pruning: in `PRUNING_LABELS`.
      pretraining: in `PRETRAINING_LABELS`.
      level: 0 for the dense network.
      sparsity_percent: the removed share of the prunable weights, in %.
      scores: its test accuracies.
      verdict: beside the dense network of the same pre-training and data, of the seeds that
        both have.
      differences: metric → its difference from that network; of those that both have.
    """

    percent: float
    pruning: str
    pretraining: str
    level: int
    sparsity_percent: float
    scores: Scores
    verdict: Verdict
    differences: dict[str, PairedDifference]


def load_results(path: Path) -> pd.DataFrame:
    """Reads results.csv as `measurements.load_results`.

    Returns:
      With the columns `LABELS`, and `sparsity_percent`, to two decimals. The split
      `test_best_natural` is of the weights with the best standard accuracy.
    """
    splits = ("validation", "test", "test_best_natural")
    frame = measurements.load_results(path, splits, LABELS)
    return frame.assign(
        # Exact counts make 20% of a network's weights 19.9997% of them.
        sparsity_percent=(100 - frame["density_percent"]).round(2),
    )


def load_reference(path: Path) -> pd.DataFrame:
    """Reads the paper's numbers; raises as `measurements.load_reference`."""
    return measurements.load_reference(path, _REFERENCE_COLUMNS)


def groups(frame: pd.DataFrame, study: str) -> list[Group]:
    """A study's results, data set by data set.

    Args:
      frame: from `load_results`.
      study: "pretraining", of the source; "transfer", of the targets; or "unseen", of the
        networks that transfers are attacked from.
    """
    attack, where = evaluation_attack(frame), _STUDIES[study]
    found = []
    for name, label, rows in grouped(frame, Study(study, ("data_set",), where)):
        rows = select_any(rows, where)
        models = " and ".join(model_label(model) for model in sorted(rows["model"].unique()))
        found.append(Group(name, f"{models} on {label}", rows, attack))
    return found


def tested(
    rows: pd.DataFrame, metric: str, attack: str, split: str = "test", **values
) -> pd.DataFrame:
    """The test accuracies in [0, 1] of one metric.

    Args:
      rows: from `load_results`.
      metric: in `METRICS`.
      attack: which robust accuracy (RA) is under.
      split: "test", or "test_best_natural" after adversarial training.
      **values: as in `select`.
    """
    regime = "natural" if metric == "standard_sa" else "pgd"
    attack = attack if metric == "adversarial_ra" else "natural"
    return select(rows, regime=regime, attack=attack, split=split, quantity="accuracy", **values)


def networks(group: Group) -> list[Network]:
    """The tested networks of a target: most data first, then by pruning, pre-training, level."""
    tests = [tested(group.rows, metric, group.attack).assign(metric=metric) for metric in METRICS]
    by_kind = pd.concat(tests).sort_values("seed").groupby(_NETWORK_KEYS)
    scores = {
        kind: {
            metric: dict(zip(rows["seed"], rows["value"]))
            for metric, rows in tests.groupby("metric")
        }
        for kind, tests in by_kind
    }
    sparsities = by_kind["sparsity_percent"].first()
    found = []
    for kind in sorted(scores, key=_order):
        percent, _, pretraining, _ = kind
        dense = scores.get((percent, "dense", pretraining, 0), {})
        found.append(
            Network(*kind, sparsities[kind], _scores(scores[kind]), *_beside(scores[kind], dense))
        )
    return found


def _scores(by_metric):
    """Metric → seed → accuracy, without the seeds."""
    return Scores(**{metric: tuple(values.values()) for metric, values in by_metric.items()})


def _beside(ticket, dense):
    """The verdict and the differences, of the seeds that both have."""
    pairs = {name: (ticket.get(name, {}), dense.get(name, {})) for name in METRICS}
    ours, theirs = (
        _scores({name: _of_seeds(pair[i], pair[1 - i]) for name, pair in pairs.items()})
        for i in (0, 1)
    )
    differences = {name: paired_difference(*pair) for name, pair in pairs.items()}
    return judge(ours, theirs), {name: found for name, found in differences.items() if found}


def _of_seeds(values, others):
    return {seed: value for seed, value in values.items() if seed in others}


class Difference(NamedTuple):
    """A difference of accuracies: mean and deviation (NaN: one seed) over seeds, and where."""

    mean: float
    sd: float
    sparsity: float


def largest_differences(
    rows: pd.DataFrame, others: pd.DataFrame, by: list[str], on: list[str]
) -> dict[Any, Difference]:
    """By how much networks are at most better than others, seed by seed.

    Args:
      rows: accuracies.
      others: what they are compared with.
      by: the columns that tell apart what has a largest difference of its own.
      on: the columns that pair `rows` with `others`.

    Returns:
      `by` → the largest mean difference of any sparsity, and that sparsity in %.
    """
    pairs = rows.merge(others[[*on, "value"]], on=on, suffixes=("", "_other"))
    pairs["value"] -= pairs["value_other"]
    keys = by[0] if len(by) == 1 else by
    found = {}
    for key, of_key in pairs.groupby(keys):
        differences = measurements.mean_and_sd(of_key, "sparsity_percent")
        sparsity = differences["mean"].idxmax()
        found[key] = Difference(*differences.loc[sparsity, ["mean", "sd"]], sparsity)
    return found


def _order(kind):
    percent, pruning, pretraining, level = kind
    prunings, pretrainings = list(PRUNING_LABELS), list(PRETRAINING_LABELS)
    return -percent, prunings.index(pruning), pretrainings.index(pretraining), level
