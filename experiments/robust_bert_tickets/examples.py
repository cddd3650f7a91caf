"""The sentences that a run has attacked, one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tf_tickets.evaluation.text_outcomes import (
    SKIPPED,
    WORD_BUDGETS,
    AttackedText,
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


class Attempt(NamedTuple):
    """What came of one sentence.

    Attributes:
      correct: whether it is classified correctly without the attack.
      held: the attacker's budget → whether it is also with it; None is without a budget. See
        `AttackedText.withstands`.
      queries: how often the network was asked.
      needed: see `AttackedText.needed_change`.
    """

    correct: bool
    held: Mapping[float | None, bool]
    queries: int
    needed: float


class AttackedNetwork(NamedTuple):
    """The test sentences that a network was attacked on.

    Attributes:
      made_with: what the attack used or was held to → what that is, such as which word vectors.
      attempts: the sentence's index among the attacked test sentences, which are the same ones
        under every seed → what came of it.
      metrics: with their confidence intervals.
    """

    made_with: Mapping[str, str]
    attempts: Mapping[int, Attempt]
    metrics: TextAttackMetrics


def table_of_texts(cell: Cell, level: int, split: str, attack: str, recipe: str) -> Path:
    """Where a run's folder has what an attack made of each text, beside a .json on how."""
    return Path("attacks", cell.path, f"level_{level:02d}", f"{split}_{attack}_{recipe}.csv")


def read_attacked(path: Path) -> AttackedNetwork:
    """Reads a table of texts; the file beside it may be missing.

    Raises:
      UserError: a file is damaged.
    """
    rows = read_outcomes(path)
    described = path.with_suffix(".json")
    return AttackedNetwork(
        made_with=_made_with(load_json(described)) if described.exists() else {},
        # The texts, which are most of what the file holds, are let go.
        attempts={row.index: _attempt(row) for row in rows},
        metrics=measure_attack(rows),
    )


class SharedAttempt(NamedTuple):
    """What came of one sentence under each of two networks of one seed.

    Attributes:
      index: the sentence's, see `AttackedNetwork`.
      first: under one of them.
      second: under the other.
    """

    index: int
    first: Attempt
    second: Attempt


def shared_attempts(first: AttackedNetwork, second: AttackedNetwork) -> list[SharedAttempt]:
    """The sentences that both networks were attacked on, by index."""
    shared = sorted(first.attempts.keys() & second.attempts.keys())
    return [SharedAttempt(index, first.attempts[index], second.attempts[index]) for index in shared]


def _made_with(described):
    limit = described.get("max_words_changed")
    held_to = {"at_most": f"{limit:.0%} of the words changed"} if limit else {}
    return held_to | described.get("resources", {})


def _attempt(row: AttackedText) -> Attempt:
    held = {budget: row.withstands(budget) for budget in (None, *WORD_BUDGETS)}
    return Attempt(row.outcome != SKIPPED, held, row.queries, row.needed_change)
