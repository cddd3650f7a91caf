"""Measures finished networks: their size, under shifted images, and without single elements."""

import hashlib

import numpy as np

from tf_tickets.data.splits import stratified_subset
from tf_tickets.data.vision import ImageSplit
from tf_tickets.evaluation.shifted_images import (
    OCCLUSION,
    corrupted,
    occluded,
    one_corruption_each,
    semantic_mean,
    semantic_name,
)
from tf_tickets.evaluation.versions import VersionEvaluator
from tf_tickets.image_work.cuts import WorkOnImages, network_of
from tf_tickets.image_work.structure_nodes import (
    Corruptions,
    MixedCorruptions,
    Occlusion,
    Shifted,
    SingleElements,
    Size,
)
from tf_tickets.models.weights import write_weights
from tf_tickets.structured.cost import flops, parameters
from tf_tickets.structured.elements import VersionedNetwork
from tf_tickets.work.store import Record

# The same corruptions, and the same images for single elements, for all trials.
_SEED = 0


def measure_size(work: WorkOnImages, node: Size) -> None:
    """Records `model/size/parameters` and `model/size/flops`."""
    model = work.bench(node.of).trainer.model
    counts = {"parameters": parameters(model), "flops": flops(model)}
    _end(work, node, {f"model/size/{name}": float(count) for name, count in counts.items()})


def measure_shifted(work: WorkOnImages, node: Shifted) -> None:
    """Records `test/<shift>/accuracy`: `occlusion`; `<corruption>_<severity>`, and their mean."""
    bench = work.bench(node.of)
    write_weights(bench.trainer.model, work.store.weights(node.of))
    evaluator, accuracies = bench.evaluator_of({}), {}
    for name, split in _shifted(work, _test_images(work, node, node.examples), node.shift).items():
        work.stop_if_requested()
        accuracies[name] = evaluator.evaluate(split)["natural/accuracy"]
    if isinstance(node.shift, Corruptions):
        accuracies |= semantic_mean(accuracies, [node.shift.severity])
    _end(work, node, {f"test/{name}/accuracy": value for name, value in accuracies.items()})


def measure_single_elements(work: WorkOnImages, node: SingleElements) -> None:
    """Records `test/<attack>/accuracy` without each element, and without nothing.

    Labels of each are `element_kind`, filters, blocks or nothing; `element_place`, the layer or
    the block; and of filters `element_index`, their number in the layer.
    """
    work.stop_if_requested()
    images = _test_images(work, node, node.test_examples)
    count = node.examples or len(images)
    images = images.subset(stratified_subset(images.labels, count, _SEED))
    shifted = {}
    for shift in node.shifts:
        shifted |= _shifted(work, images, shift)
    network = VersionedNetwork(network_of(node.of, work.store))
    (group,) = [each for each in network.groups if each.name == node.group]
    attacks = {each.name: each.threat for each in node.attacks}
    judge = VersionEvaluator(network, group, attacks)
    accuracies = judge.without_each(images, shifted)
    measured = [
        (_without(group, number), name, values[number])
        for number in range(len(group.elements))
        for name, values in accuracies.items()
    ]
    if group is network.groups[0]:
        whole = {"method": "without:nothing", "element_kind": "nothing"}
        measured += [(whole, *each) for each in judge.whole(images, shifted).items()]
    history = tuple((0, f"test/{name}/accuracy", float(value)) for _, name, value in measured)
    versions = tuple(labels for labels, *_ in measured)
    record = work.store.record(node.of)
    work.end(node, Record(history, record.selected, record.sparsity, versions))


def dotted(name: str) -> str:
    """A layer's name as results and files have it."""
    return name.replace("/", ".")


def _without(group, number):
    """The labels of a network without one of the group's elements."""
    element = group.elements[number]
    labels = {"method": f"without:{dotted(element)}"}
    if not group.name:
        return {**labels, "element_kind": "blocks", "element_place": dotted(element)}
    place = {"element_kind": "filters", "element_place": dotted(group.name)}
    return {**labels, **place, "element_index": number}


def _test_images(work, node, examples):
    training = node.of
    return work.data(training.data).limited(training.data.seed, test=examples or None).test


def _shifted(work, images, shift):
    """Name → changed images; made once for the same ones, whatever network they are for."""
    content = hashlib.sha256(np.ascontiguousarray(images.images)).hexdigest()
    key = content, images.images.shape, shift
    if key not in work.shifted:
        made = {}
        for name, split in _SHIFTS[type(shift)](images, shift):
            work.stop_if_requested()
            made[name] = split
        work.shifted[key] = made
    return work.shifted[key]


def _occlusion(images: ImageSplit, shift: Occlusion):
    yield OCCLUSION, occluded(images, shift.side)


def _corruptions(images: ImageSplit, shift: Corruptions):
    return corrupted(images, shift.severity, _SEED)


def _mixed(images: ImageSplit, shift: MixedCorruptions):
    yield semantic_name(shift.severity), one_corruption_each(images, shift.severity, _SEED)


_SHIFTS = {Occlusion: _occlusion, Corruptions: _corruptions, MixedCorruptions: _mixed}


def _end(work, node, measured):
    record = work.store.record(node.of)
    history = tuple((record.ended, metric, value) for metric, value in measured.items())
    work.end(node, Record(history, record.selected, record.sparsity))
