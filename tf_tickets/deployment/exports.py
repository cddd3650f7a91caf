"""Which of a study's tickets are exported."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tf_tickets.data.vision import ImageData, resize, to_unit_interval
from tf_tickets.deployment.saved_model import Export, RawImages, export_saved_model
from tf_tickets.evaluation.matching import sparsest_matching_level
from tf_tickets.work.cuts import network_of
from tf_tickets.work.nodes import Cut, Training
from tf_tickets.work.store import Store

_CHECK_IMAGES = 64


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
        accuracies = dict(enumerate(_validation_accuracy(store, level) for level in levels))
        chosen = levels[sparsest_matching_level(accuracies)]
        labels = chosen.labels
        place = folder / labels["data_set"] / labels["regime"] / f"level_{labels['level']:02d}"
        key = f"{labels['data_set']}, {labels['regime']}"
        exports[key] = _export_training(store, chosen, images_of(chosen), place)
    return exports


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
        best = max(group, key=lambda training: _validation_accuracy(store, training))
        place = folder / name / regime / best.labels["method"]
        exports[f"{name}, {regime}"] = _export_training(store, best, data, place)
    return exports


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
    exports, images = {}, _check_images(data)
    for model, group in groups.items():
        best = max(group, key=lambda training: _validation_accuracy(store, training))
        method, level = best.labels["method"], best.labels["level"]
        place = folder / model / method / f"level_{level:02d}"
        network = network_of(best, store)
        exports[f"{model}, {method}, level {level}"] = export_saved_model(
            network, None, place, images
        )
    return exports


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
        exports[key] = _export_training(store, best, images_of(best), place)
    return exports


def _best_validation_accuracy(store, training):
    metric = f"validation/{training.measured[0].name}/accuracy"
    history = store.record(training).history
    return max(value for at, name, value in history if at and name == metric)


def _validation_accuracy(store, training):
    record = store.record(training)
    attack = "natural" if training.against == "natural" else training.measured[0].name
    wanted = (record.ended, f"validation/{attack}/accuracy")
    return next(value for at, metric, value in record.history if (at, metric) == wanted)


def _export_training(store, training, data, place):
    model = network_of(training, store)
    raw = RawImages(data.train.images.shape[1:], resized=bool(data.train.resized_to))
    return export_saved_model(model, store.ticket(training), place, _check_images(data), raw)


def _check_images(data):
    images = to_unit_interval(data.validation.images[:_CHECK_IMAGES])
    return resize(images, data.image_shape).numpy()
