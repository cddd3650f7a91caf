"""Which networks are exported."""

from collections.abc import Sequence
from pathlib import Path

from tf_tickets.data.vision import ImageData
from tf_tickets.deployment.exports import check_images, final_accuracy
from tf_tickets.deployment.saved_model import Export, export_saved_model
from tf_tickets.image_work.cuts import network_of
from tf_tickets.work.nodes import Cut, Training
from tf_tickets.work.store import Store


def export_best_networks(
    trainings: Sequence[Training], store: Store, data: ImageData, folder: Path
) -> dict[str, Export]:
    """Exports one smaller network for every model.

    It is of the first seed: of those that structures were taken out of, the one most
    accurate on validation data at its end.

    Args:
      trainings: finished ones; those of whole networks are left out.
      store: where they are kept.
      data: of their first seed.
      folder: where to.

    Returns:
      `<model>, <method>, level <level>` → its export.
    """
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        if isinstance(training.network, Cut) and training.seed == trainings[0].seed:
            groups.setdefault(training.whole_network.name, []).append(training)
    exports, images = {}, check_images(data)
    for model, group in groups.items():
        best = max(group, key=lambda training: final_accuracy(store, training))
        method, level = best.labels["method"], best.labels["level"]
        place = folder / model / method / f"level_{level:02d}"
        network = network_of(best, store)
        exports[f"{model}, {method}, level {level}"] = export_saved_model(
            network, None, place, images
        )
    return exports
