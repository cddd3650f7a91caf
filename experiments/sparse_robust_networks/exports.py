"""Which tickets are exported."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tf_tickets.data.vision import ImageData
from tf_tickets.deployment.exports import export_training, final_accuracy
from tf_tickets.deployment.saved_model import Export
from tf_tickets.evaluation.matching import sparsest_matching_level
from tf_tickets.work.nodes import Training
from tf_tickets.work.store import Store


def export_sparsest_matching(
    searches: Sequence[Sequence[Training]],
    store: Store,
    images_of: Callable[[Training], ImageData],
    folder: Path,
) -> dict[str, Export]:
    """Exports one retrained ticket of every search.

    It is of the sparsest level whose final validation accuracy, under the attack trained
    against, is at least the dense network's.

    Args:
      searches: the finished levels of each, the dense one first.
      store: where they are kept.
      images_of: the data of a level.
      folder: where to.

    Returns:
      `<data set>, <regime>` → its export.
    """
    exports = {}
    for levels in searches:
        accuracies = dict(enumerate(final_accuracy(store, level) for level in levels))
        chosen = levels[sparsest_matching_level(accuracies)]
        labels = chosen.labels
        place = folder / labels["data_set"] / labels["regime"] / f"level_{labels['level']:02d}"
        key = f"{labels['data_set']}, {labels['regime']}"
        exports[key] = export_training(store, chosen, images_of(chosen), place)
    return exports
