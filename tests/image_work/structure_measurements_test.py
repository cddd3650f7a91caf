"""Size, shifted images and single elements, beside what NumPy and smaller networks say."""

import collections
import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.image_work.cuts_test import run
from tests.noise import stop_at_call
from tests.work.structure_plans import (
    ELEMENTS,
    FGSM,
    IMAGES,
    PRUNED,
    TWICE,
    WHOLE,
    meets,
)
from tf_tickets.attacks.corruptions import CORRUPTIONS, corrupt
from tf_tickets.data.splits import stratified_subset
from tf_tickets.errors import StopRequested
from tf_tickets.evaluation import shifted_images
from tf_tickets.image_work.cuts import network_of
from tf_tickets.image_work.structure_nodes import (
    Corruptions,
    MixedCorruptions,
    Occlusion,
    Shifted,
    Size,
)
from tf_tickets.structured.surgery import Removal, remove
from tf_tickets.work.nodes import Measurement
from tf_tickets.work.performing import passes

WANTED = (*meets(WHOLE), *meets(TWICE), ELEMENTS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("finished"), WANTED)


def values(store, node):
    return {metric: value for _, metric, value in store.record(node).history}


def some(count):
    """So many test images."""
    return IMAGES.limited(0, test=count).test


def accuracy(model, images, labels):
    logits = model(images.astype(np.float32) / 255, training=False)
    return np.mean(np.argmax(logits, axis=1) == labels)


def occluded(images):
    changed = images.copy()
    changed[:, 9:19, 9:19] = 0
    return changed


@pytest.mark.parametrize("training", [WHOLE, TWICE])
def test_size(finished, training):
    found = values(finished, Size(training))
    model = network_of(training, finished)
    assert found.keys() == {"model/size/parameters", "model/size/flops"}
    assert found["model/size/parameters"] == model.count_params()
    products = sum(
        2 * np.prod(layer.output_shape[1:]) * np.prod(layer.kernel.shape[:-1])
        for layer in model.layers
        if hasattr(layer, "kernel")
    )
    # The rest are biases and poolings.
    assert products < found["model/size/flops"] < 1.2 * products


@pytest.mark.parametrize("training", [WHOLE, TWICE])
def test_occlusion(finished, training):
    split, model = some(25), network_of(training, finished)
    found = values(finished, Shifted(training, Occlusion(10), 25))
    expected = accuracy(model, occluded(split.images), split.labels)
    assert found == {"test/occlusion/accuracy": pytest.approx(expected)}


@pytest.mark.parametrize("training", [WHOLE, TWICE])
def test_corruptions_and_their_mean(finished, training):
    split, model = some(25), network_of(training, finished)
    found = values(finished, Shifted(training, Corruptions(5), 25))
    expected = {
        f"test/{name}_5/accuracy": accuracy(model, corrupt(split.images, name, 5, 0), split.labels)
        for name in CORRUPTIONS
    }
    mean = np.mean(list(expected.values()))
    expected["test/semantic_5/accuracy"] = mean
    assert found == {name: pytest.approx(value) for name, value in expected.items()}
    assert len(set(expected.values())) > 2


def test_they_are_of_the_iteration_and_size_that_the_training_ended_with(finished):
    for training in (WHOLE, TWICE):
        of = finished.record(training)
        for node in meets(training):
            record = finished.record(node)
            assert {at for at, *_ in record.history} == {of.ended}
            assert (record.sparsity, record.versions) == (of.sparsity, ())


def test_single_elements(finished):
    """Every filter alone, against the network from which it was taken out."""
    whole = network_of(WHOLE, finished)
    images = some(30)
    images = images.subset(stratified_subset(images.labels, 20, 0))
    mixed = images.images.copy()
    for number, name in enumerate(CORRUPTIONS):
        mine = slice(number, None, len(CORRUPTIONS))
        mixed[mine] = corrupt(images.images[mine], name, 5, 0)
    record = finished.record(ELEMENTS)
    found = {
        (version["method"], metric): value
        for version, (_, metric, value) in zip(record.versions, record.history, strict=True)
    }
    smaller = {f"conv_1:{i}": remove(whole, Removal({"conv_1": (i,)}, ())) for i in range(5)}
    models = {"nothing": whole, **smaller}
    expected = {}
    for name, model in models.items():
        with tf.GradientTape() as tape:
            x = tf.constant(images.images.astype(np.float32) / 255)
            tape.watch(x)
            loss = keras.losses.SparseCategoricalCrossentropy(True, reduction="sum")(
                images.labels, model(x, training=False)
            )
        step = np.sign(tape.gradient(loss, x)) * np.float32(0.05)
        attacked = 255 * np.clip(x + step, 0, 1)
        tests = {
            "natural": images.images,
            "fgsm": attacked,
            "occlusion": occluded(images.images),
            "semantic_5": mixed,
        }
        for test, changed in tests.items():
            key = (f"without:{name}", f"test/{test}/accuracy")
            expected[key] = accuracy(model, changed, images.labels)
    labels = {version["method"]: version for version in record.versions}
    assert labels["without:conv_1:3"] == {
        "method": "without:conv_1:3",
        "element_kind": "filters",
        "element_place": "conv_1",
        "element_index": 3,
    }
    assert labels["without:nothing"] == {"method": "without:nothing", "element_kind": "nothing"}
    assert found == {key: pytest.approx(value, abs=0.051) for key, value in expected.items()}
    natural = [key for key in expected if "/fgsm/" not in key[1]]
    assert [found[key] for key in natural] == pytest.approx([expected[key] for key in natural])
    assert len({found[key] for key in natural}) > 2


def test_only_the_first_group_has_the_whole_network(finished, tmp_path):
    shutil.copytree(finished.root.parent, tmp_path, dirs_exist_ok=True)
    second = dataclasses.replace(ELEMENTS, group="conv_2", elements=12)
    store = run(tmp_path, [second])
    found = {
        (each["element_kind"], each["element_place"], each["element_index"], each["method"])
        for each in store.record(second).versions
    }
    assert found == {("filters", "conv_2", index, f"without:conv_2:{index}") for index in range(12)}


def test_changed_images_are_made_once_for_all_networks(tmp_path, monkeypatch):
    made = []
    real = shifted_images.corrupt

    def counted(images, name, severity, seed):
        made.append((len(images), name, severity))
        return real(images, name, severity, seed)

    monkeypatch.setattr(shifted_images, "corrupt", counted)
    asked_for = ((WHOLE, 5, 25), (PRUNED, 5, 25), (WHOLE, 3, 25), (PRUNED, 3, 24))
    nodes = [
        Shifted(training, Corruptions(severity), examples, training.labels)
        for training, severity, examples in asked_for
    ]
    run(tmp_path, nodes)
    assert collections.Counter(made) == {
        (count, name, severity): 1
        for count, severity in ((25, 5), (25, 3), (24, 3))
        for name in CORRUPTIONS
    }


def test_one_more_severity_computes_only_that(finished, tmp_path):
    shutil.copytree(finished.root.parent, tmp_path, dirs_exist_ok=True)
    told = []
    more = Shifted(WHOLE, Corruptions(4), 25, WHOLE.labels)
    run(tmp_path, [*WANTED, more], advance=lambda amount, text: told.append((amount, text)))
    # Half of 25 images under 15 corruptions.
    assert told == [(25 * 15 / 2, "measuring mnist lenet_conv natural unpruned 0 level 0")]


def test_a_cut_network_under_attack(finished, tmp_path):
    """And under the examples of the network that it was cut from."""
    shutil.copytree(finished.root.parent, tmp_path, dirs_exist_ok=True)
    attack = dataclasses.replace(FGSM, name="transfer_from_unpruned")
    node = Measurement(TWICE, (FGSM,), ((WHOLE, attack),), 30, labels=TWICE.labels)
    store = run(tmp_path, [node])
    found, model = values(store, node), network_of(TWICE, store)
    whole, split = network_of(WHOLE, store), some(30)
    x = tf.constant(split.images.astype(np.float32) / 255)
    for name, source in (("fgsm", model), ("transfer_from_unpruned", whole)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = keras.losses.SparseCategoricalCrossentropy(True, reduction="sum")(
                split.labels, source(x, training=False)
            )
        step = np.sign(tape.gradient(loss, x)) * np.float32(0.05)
        expected = accuracy(model, 255 * np.clip(x + step, 0, 1), split.labels)
        assert found[f"test/{name}/accuracy"] == pytest.approx(expected, abs=0.034)


@pytest.mark.parametrize("node", [*meets(WHOLE)[1:], ELEMENTS])
def test_a_request_to_stop_is_heard(finished, tmp_path, node):
    shutil.copytree(finished.root.parent, tmp_path, dirs_exist_ok=True)
    again = dataclasses.replace(node, examples=node.examples - 1)
    with pytest.raises(StopRequested):
        run(tmp_path, [again], stop_if_requested=stop_at_call(1))


def test_passes():
    size, occlusion, corruptions = meets(WHOLE)
    assert (passes(size), passes(occlusion), passes(corruptions)) == (1, 12.5, 187.5)
    # 20 images as they are, occluded and corrupted, and attacked there and back, of 5 networks.
    assert passes(ELEMENTS) == 20 * 5 * (1 + 2 + 2) / 2
    assert passes(dataclasses.replace(ELEMENTS, examples=0)) == 30 * 5 * (1 + 2 + 2) / 2
    every = dataclasses.replace(ELEMENTS, examples=0, test_examples=0)
    assert passes(every) == 2000 * 5 * (1 + 2 + 2) / 2
    mixed = dataclasses.replace(ELEMENTS, shifts=(MixedCorruptions(5),))
    assert passes(mixed) == 20 * 5 * (1 + 1 + 2) / 2
