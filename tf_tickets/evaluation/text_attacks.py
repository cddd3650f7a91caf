"""Attacks a victim with texts, resumably: a table of examples and the metrics made from it."""

import contextlib
import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tf_tickets.attacks.text_recipes import TextRecipe
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.evaluation.text_outcomes import (
    AttackedText,
    OutcomeTable,
    TextAttackMetrics,
    measure_attack,
)
from tf_tickets.evaluation.text_victim import read_victim_description
from tf_tickets.evaluation.text_workers import Example, TextAttackJob, TextAttackWorkers

_SECONDS_BETWEEN_SAVES = 2.0


@dataclasses.dataclass(frozen=True)
class TextAttackResult:
    """An attack's outcome.

    Attributes:
      metrics: of all examples.
      rows: one an example, in their order; the content of the table.
      resources: what the recipe used → its kind, name and hash.
    """

    metrics: TextAttackMetrics
    rows: tuple[AttackedText, ...]
    resources: dict[str, str]


def attack_examples(
    victim_folder: str | Path,
    parts: Sequence[str],
    texts: Sequence[tuple[str, ...]],
    labels: np.ndarray,
    *,
    recipe: TextRecipe,
    resources: TextResources,
    table_path: str | Path,
    workers: TextAttackWorkers,
    stop_if_requested: Callable[[], None] = lambda: None,
    on_progress: Callable[[int, int], None] = lambda finished, total: None,
) -> TextAttackResult:
    """Attacks examples; those that the table holds already are not attacked again.

    Args:
      victim_folder: see `save_victim`.
      parts: the names of the texts' parts, such as ("premise", "hypothesis").
      texts: the examples, each a tuple of its parts.
      labels: integers `[examples]`, their classes.
      recipe, resources: see `build_text_attack`.
      table_path: the CSV file with a row an example, see `OutcomeTable`; rows that another
        victim, recipe, resource or text made are replaced.
      workers: who does the work.
      stop_if_requested: raises `StopRequested` to stop; the table then keeps what is finished.
      on_progress: told how many examples are finished, of how many.

    Raises:
      UserError: the victim or a resource is missing, before any example is attacked.
    """
    described = resources.describe(recipe.needs)
    sha256 = read_victim_description(victim_folder)["sha256"]
    examples = [
        Example(index, tuple(text), int(label))
        for index, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    identity = {
        **dataclasses.asdict(recipe),
        "textattack": importlib.metadata.version("textattack"),
        "victim_sha256": sha256,
        "resources": described,
    }
    table = OutcomeTable(table_path, parts, identity)
    table.load(examples)
    job = TextAttackJob(str(victim_folder), sha256, tuple(parts), recipe, resources)
    _attack_missing(job, examples, table, workers, stop_if_requested, on_progress)
    return TextAttackResult(measure_attack(table.rows), tuple(table.rows), described)


def _attack_missing(job, examples, table, workers, stop_if_requested, on_progress):
    missing = [example for example in examples if example.index not in table]
    on_progress(len(examples) - len(missing), len(examples))
    saved = time.monotonic()
    try:
        stop_if_requested()
        with contextlib.closing(workers.attack(job, missing)) as rows:
            for row in rows:
                table.add(row)
                on_progress(len(table.rows), len(examples))
                if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                    table.save()
                    saved = time.monotonic()
                stop_if_requested()
    finally:
        table.save()
