"""Which tickets are exported."""

from collections.abc import Sequence
from pathlib import Path

from tf_tickets.data.vision import ImageData
from tf_tickets.deployment.exports import export_training, final_accuracy
from tf_tickets.deployment.saved_model import Export
from tf_tickets.work.nodes import Training
from tf_tickets.work.store import Store


def export_best_trainings(
    trainings: Sequence[Training], store: Store, data: ImageData, folder: Path
) -> dict[str, Export]:
    """Exports one retrained ticket for every model and regime.

    It is of the first seed: the one most accurate on validation data with the weights it
    ended with, under attack where it was trained against one.

    Args:
      trainings: finished ones; those without a ticket, or from other weights than its
        own, are left out.
      store: where they are kept.
      data: of their first seed.
      folder: where to.

    Returns:
      `<model>, <regime>` → its export.
    """
    groups: dict[tuple[str, str], list[Training]] = {}
    for training in trainings:
        is_first = training.seed == trainings[0].seed
        if is_first and training.masks and training.start.seed == training.seed:
            groups.setdefault((training.network.name, training.against), []).append(training)
    exports = {}
    for (name, regime), group in groups.items():
        best = max(group, key=lambda training: final_accuracy(store, training))
        place = folder / name / regime / best.labels["method"]
        exports[f"{name}, {regime}"] = export_training(store, best, data, place)
    return exports
