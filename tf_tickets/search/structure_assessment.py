"""What is measured of finished networks beside their own tests: single elements and transfer."""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.occlusion import occlude
from tf_tickets.data.splits import stratified_subset
from tf_tickets.data.vision import ImageSplit
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.evaluation.shifted_images import OCCLUSION, one_corruption_each
from tf_tickets.evaluation.versions import VersionEvaluator
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.structure_runner import StructureSettings, StructureTrial
from tf_tickets.search.structure_tests import EVALUATION_BATCH
from tf_tickets.search.structures import Network
from tf_tickets.structured.elements import VersionedNetwork

TRANSFER = "transfer"
# The same test images and corruptions for all trials.
_SEED = 0


def element_images(settings: StructureSettings) -> tuple[ImageSplit, dict[str, ImageSplit]]:
    """What networks without one filter or block are tested on.

    Returns:
      Test images, and the same changed: under `occlusion`, and as `semantic_<severity>`,
      where every image has one of the corruptions at the highest severity asked for.
    """
    test, attacks = settings.load(settings.seeds[0]).test, settings.attacks
    count = settings.element_examples or len(test)
    images = test.subset(stratified_subset(test.labels, count, _SEED))
    severity = max(attacks.severities)
    return images, {
        OCCLUSION: ImageSplit(occlude(images.images, attacks.occlusion_side), images.labels),
        f"semantic_{severity}": one_corruption_each(images, severity, _SEED),
    }


def remove_single_elements(
    networks: Sequence[Network],
    settings: StructureSettings,
    run: RunDirectory,
    strategy: tf.distribute.Strategy,
    stop_if_requested: Callable[[], None] = lambda: None,
) -> None:
    """Removes every filter and every block alone, without training after it (Algorithm 2).

    Records `test/<attack>/accuracy` for the methods `without:<convolution>:<index>`,
    `without:<block>` and `without:nothing`, with "/" in names as ".", under `natural`, the
    white-box attacks and those of `element_images`.

    Args:
      networks: finished ones.
      settings: of the run they belong to.
      run: the run directory; what it holds is not measured again.
      strategy: where it runs.
      stop_if_requested: raises `StopRequested` to stop, between two convolutions.

    Raises:
      StopRequested: as `stop_if_requested` raises it.
    """
    images, shifted = element_images(settings)
    with ProgressBar(len(settings.seeds) * len(networks), runtime.is_chief(strategy)) as bar:
        for seed in settings.seeds:
            trial = StructureTrial(settings, seed, run, strategy, bar, stop_if_requested)
            for network in networks:
                cell = settings.cell(network, seed)
                versions = VersionedNetwork(trial.load(network))
                for group in versions.groups:
                    name = f"without_{_dotted(group.name) or 'blocks'}"
                    if not run.extra_record_path(cell, name).exists():
                        stop_if_requested()
                        judge = VersionEvaluator(versions, group, settings.attacks.white_box)
                        measured = _of_group(judge, group, images, shifted)
                        if group is versions.groups[0]:
                            measured["nothing"] = judge.whole(images, shifted)
                        rows = _element_rows(settings, cell, measured)
                        run.add_record(cell, name, rows)
                    bar.advance(1 / len(versions.groups), f"{cell.description} {name}")
                runtime.wait_for_workers(strategy)
    if run.writable:
        run.write_results()


def _of_group(judge, group, images, shifted):
    """Element → attack → accuracy."""
    accuracies = judge.without_each(images, shifted)
    return {
        element: {name: values[number] for name, values in accuracies.items()}
        for number, element in enumerate(group.elements)
    }


def _element_rows(settings, cell, measured):
    rows = []
    for element, accuracies in measured.items():
        of_element = cell._replace(method=f"without:{_dotted(element)}")
        values = [(0, f"test/{name}/accuracy", float(v)) for name, v in accuracies.items()]
        rows += of_element.results(settings.experiment, 0, 0.0, values)
    return rows


def _dotted(name):
    return name.replace("/", ".")


def transfer_between(
    networks: Sequence[Network],
    settings: StructureSettings,
    run: RunDirectory,
    strategy: tf.distribute.Strategy,
    stop_if_requested: Callable[[], None] = lambda: None,
) -> None:
    """Gives every network the examples that the first white-box attack makes of the others.

    Table 4. Records `test/transfer_from_<model>.<method>/accuracy` for each target.

    Args:
      networks: finished ones.
      settings: of the run they belong to.
      run: the run directory; what it holds is not measured again.
      strategy: where it runs.
      stop_if_requested: raises `StopRequested` to stop, between two networks.
    """
    threat_model = next(iter(settings.attacks.white_box.values()))
    missing = [
        (seed, network)
        for seed in settings.seeds
        for network in networks
        if not run.extra_record_path(settings.cell(network, seed), TRANSFER).exists()
    ]
    with ProgressBar(len(missing), runtime.is_chief(strategy)) as bar:
        for seed, target in missing:
            stop_if_requested()
            trial = StructureTrial(settings, seed, run, strategy, bar, stop_if_requested)
            attacks = {
                f"transfer_from_{source.model}.{source.method}": build_attack(
                    threat_model, FoldedNetwork(trial.load(source))
                )
                for source in networks
                if source != target
            }
            accuracies = _accuracies(trial.load(target), attacks, trial.data.test, strategy)
            cell = settings.cell(target, seed)
            (last, sparsity), *_ = {
                (row.iteration, row.sparsity)
                for row in run.finished_results(cell, target.level)
                if row.metric == "test/natural/accuracy"
            }
            values = [(last, f"test/{name}/accuracy", value) for name, value in accuracies.items()]
            rows = cell.results(settings.experiment, target.level, sparsity, values)
            run.add_record(cell, TRANSFER, rows)
            runtime.wait_for_workers(strategy)
            bar.advance(1, f"attacking {cell.description}")
    if run.writable:
        run.write_results()


def _accuracies(model, attacks: Mapping, split, strategy) -> dict[str, float]:
    chunks = runtime.parallel_chunks(strategy)
    measured = Evaluator(model, attacks, chunks, EVALUATION_BATCH).evaluate(split)
    return {name: measured[f"{name}/accuracy"] for name in attacks}
