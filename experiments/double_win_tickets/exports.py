"""Which tickets are exported."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tf_tickets.data.vision import ImageData
from tf_tickets.deployment.exports import export_training
from tf_tickets.deployment.saved_model import Export
from tf_tickets.work.nodes import Training
from tf_tickets.work.store import Store


def export_best_transfers(
    trainings: Sequence[Training],
    store: Store,
    images_of: Callable[[Training], ImageData],
    folder: Path,
) -> dict[str, Export]:
    """Exports one adversarially trained ticket for every target.

    It is trained with all training images: the sparsest whose best robust accuracy on validation
    data is at least that of the dense network of its pre-training; without any, the most robust
    one. Of equally sparse ones, the most robust.

    Args:
      trainings: a trial's; targets whose transfers are not all finished are left out.
      store: where they are kept.
      images_of: the data of a training.
      folder: where to.

    Returns:
      `<target>, <method>, level <level>` → its export.
    """
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        if training.against == "pgd" and training.data.percent == 100:
            groups.setdefault(training.labels["data_set"], []).append(training)
    exports = {}
    for target, group in groups.items():
        if not all(map(store.is_finished, group)):
            continue
        robust = [_best_validation_accuracy(store, each) for each in group]
        dense = {each.start: value for each, value in zip(group, robust) if not each.masks}
        best, _ = max(
            ((each, value) for each, value in zip(group, robust) if each.masks),
            key=lambda pair: (
                pair[0].labels["level"] if pair[1] >= dense[pair[0].start] else 0,
                pair[1],
            ),
        )
        method, level = best.labels["method"], best.labels["level"]
        place = folder / target / method / f"level_{level:02d}"
        key = f"{target}, {method}, level {level}"
        exports[key] = export_training(store, best, images_of(best), place)
    return exports


def _best_validation_accuracy(store, training):
    metric = f"validation/{training.measured[0].name}/accuracy"
    history = store.record(training).history
    return max(value for at, name, value in history if at and name == metric)
