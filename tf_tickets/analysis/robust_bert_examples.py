"""The sentences that a run has attacked, one by one."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from scipy.stats import binomtest

from tf_tickets.evaluation.text_outcomes import (
    FAILED,
    TextAttackMetrics,
    measure_attack,
    read_outcomes,
)
from tf_tickets.runs.files import load_json
from tf_tickets.runs.run_directory import Cell

ATTACK_LABELS = {
    "bert_attack": "BERT-Attack",
    "textfooler": "TextFooler",
    "textbugger": "TextBugger",
    "characters": "Characters",
}
"""The attacks in the order of the paper's Table 1; the last one is not the paper's."""

# DATA_SET/[MODEL/]REGIME/METHOD/seed_N/level_NN/test_ATTACK_RECIPE.csv below RUN/attacks.
_PLACE = re.compile(
    r"(?P<data_set>[^/]+)/((?P<model>[^/]+)/)?(?P<regime>[^/]+)/(?P<method>[^/]+)"
    r"/seed_(?P<seed>\d+)/level_(?P<level>\d+)"
    rf"/test_(?P<attack>{'|'.join(ATTACK_LABELS)})_(?P<recipe>[^/]+)\.csv"
)


class AttackedNetwork(NamedTuple):
    """The test sentences that a network was attacked on.

    Attributes:
      cell: what trained it, with a seed.
      level: its sparsity in percent.
      attack: in `ATTACK_LABELS`.
      recipe: which variant of the attack.
      resources: what the attack used → what that is, such as which word vectors.
      outcomes: the sentence's index among those of the seed → its outcome.
      metrics: with their confidence intervals.
    """

    cell: Cell
    level: int
    attack: str
    recipe: str
    resources: Mapping[str, str]
    outcomes: Mapping[int, str]
    metrics: TextAttackMetrics


class Pairs(NamedTuple):
    """Two networks of a seed, attacked on the same sentences.

    Attributes:
      seed: of both.
      sentences: how many both were attacked on.
      first_only: how many of them only the first network withstands.
      second_only: only the second.
      p_value: of McNemar's exact test, two-sided: how likely counts at least as unequal are
        if neither network is the more robust one.
    """

    seed: int
    sentences: int
    first_only: int
    second_only: int
    p_value: float


def attacked_networks(folder: Path) -> list[AttackedNetwork]:
    """Reads all attacked test sentences of a run.

    Args:
      folder: its `attacks`; need not exist.

    Raises:
      UserError: a file is damaged.
    """
    places = (
        (path, _PLACE.fullmatch(path.relative_to(folder).as_posix()))
        for path in sorted(folder.rglob("*.csv"))
    )
    return [_read(path, match.groupdict("")) for path, match in places if match]


def paired(first: AttackedNetwork, second: AttackedNetwork) -> Pairs:
    """Compares two networks on the sentences that both were attacked on.

    A sentence that a network errs on without an attack is one that it does not withstand.
    """
    shared = first.outcomes.keys() & second.outcomes.keys()
    of_first, of_second = (
        {index for index in shared if network.outcomes[index] == FAILED}
        for network in (first, second)
    )
    first_only, second_only = len(of_first - of_second), len(of_second - of_first)
    unequal = first_only + second_only
    p_value = float(binomtest(first_only, unequal).pvalue) if unequal else 1.0
    return Pairs(first.cell.seed, len(shared), first_only, second_only, p_value)


def _read(path, place):
    seed, level, attack, recipe = map(place.pop, ("seed", "level", "attack", "recipe"))
    rows = read_outcomes(path)
    described = path.with_suffix(".json")
    return AttackedNetwork(
        cell=Cell(seed=int(seed), **place),
        level=int(level),
        attack=attack,
        recipe=recipe,
        resources=load_json(described).get("resources", {}) if described.exists() else {},
        # The texts, which are most of what the file holds, are let go.
        outcomes={row.index: row.outcome for row in rows},
        metrics=measure_attack(rows),
    )
