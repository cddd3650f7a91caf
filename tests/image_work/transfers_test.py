"""Tickets by themselves, transfers of them, and weights from outside: each against its text."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.image_work.work_test import run
from tests.models import torchvision_resnet
from tests.work.transfer_plans import (
    AT_RANDOM,
    DENSE,
    FIRST,
    PGD,
    PRETRAINED,
    RETRAINED,
    SECOND,
    TARGET_IMAGES,
    TRANSFERRED,
    UNSEEN,
    attacked,
    measured_both,
)
from tf_tickets.data.batches import BatchOrder
from tf_tickets.errors import UserError
from tf_tickets.evaluation.crafted import CraftedImages
from tf_tickets.image_work.cuts import fresh_weights, network_of
from tf_tickets.image_work.data import ImageSource
from tf_tickets.image_work.imported import read_public
from tf_tickets.masking.ticket import Provenance, arrays_sha256, dense_ticket
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights
from tf_tickets.work.nodes import FoundTicket, Masks, Measurement, Network, RandomMasks
from tf_tickets.work.performing import passes
from tf_tickets.work.places import Places
from tf_tickets.work.store import Record, Store

WANTED = (AT_RANDOM, measured_both(TRANSFERRED), attacked(TRANSFERRED), attacked(DENSE))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What a plan leads to, the examples of every training, and images that were attacked."""
    seen, made = {}, []
    indices, craft = BatchOrder.indices, CraftedImages.__init__

    def spy(order, start, count):
        found = indices(order, start, count)
        seen.setdefault(order, set()).update(found.ravel().tolist())
        return found

    def count(*args):
        made.append(args[0])
        craft(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchOrder, "indices", spy)
        patch.setattr(CraftedImages, "__init__", count)
        store = run(tmp_path_factory.mktemp("transfers"), WANTED)
    return store, seen, made


@pytest.fixture(scope="module")
def store(done):
    return done[0]


def kept_of(ticket):
    return sum(int(mask.sum()) for mask in ticket.masks.values())


def largest(weights, among, count):
    """By brute force: the masks of the `count` largest weights among those of some masks."""
    entries = [
        (-abs(value), path, index)
        for path, mask in among.items()
        for index, value in np.ndenumerate(weights[path])
        if mask[index]
    ]
    masks = {path: np.zeros_like(mask) for path, mask in among.items()}
    for _, path, index in sorted(entries, key=lambda entry: entry[0])[:count]:
        masks[path][index] = True
    return masks


def assert_same(arrays, expected):
    assert set(arrays) == set(expected)
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, expected[path])


def test_tickets_hold_all_convolutions_and_nothing_else(store):
    convolutions = {path for path, array in store.weights(PRETRAINED).items() if array.ndim == 4}
    for node in (FIRST, SECOND, AT_RANDOM, PRETRAINED, TRANSFERRED):
        assert set(store.ticket(node).masks) == convolutions


def test_the_first_prune_is_of_the_pretrained_weights_and_the_second_of_the_retrained(store):
    dense, first, second = (store.ticket(node) for node in (PRETRAINED, FIRST, SECOND))
    size = sum(mask.size for mask in dense.masks.values())
    assert (kept_of(first), kept_of(second)) == (round(0.8 * size), round(0.64 * size))
    assert_same(first.masks, largest(store.weights(PRETRAINED), dense.masks, kept_of(first)))
    assert_same(second.masks, largest(store.weights(RETRAINED), first.masks, kept_of(second)))
    assert (first.provenance.level, second.provenance.level) == (1, 2)
    assert second.provenance.parent_sha256 == first.sha256
    pretrained = arrays_sha256(store.weights(PRETRAINED))
    for ticket in (first, second, store.ticket(AT_RANDOM)):  # All belong to these weights.
        assert ticket.provenance.initial_weights_sha256 == pretrained


def test_trainings_are_held_to_the_tickets(store):
    for node, ticket in ((RETRAINED, FIRST), (TRANSFERRED, SECOND)):
        assert_same(store.ticket(node).masks, store.ticket(ticket).masks)
        found = store.ticket(node).provenance.parent_sha256
        assert found == store.ticket(ticket).provenance.parent_sha256
        for path, mask in store.ticket(ticket).masks.items():
            assert not np.any(store.weights(node)[path][~mask])


def test_random_tickets_prune_all_layers_alike_and_are_nested(store, tmp_path):
    ticket = store.ticket(AT_RANDOM)
    assert kept_of(ticket) == kept_of(store.ticket(SECOND))
    assert list(ticket.layer_densities.values()) == pytest.approx([0.64] * 2, abs=0.15)
    fewer = FoundTicket(RandomMasks(PRETRAINED, 0.5, 0), 3, AT_RANDOM.labels)
    other = FoundTicket(RandomMasks(PRETRAINED, 0.36, 1), 2, AT_RANDOM.labels)
    again = run(tmp_path, [fewer, other, AT_RANDOM])
    assert again.ticket(fewer).is_within(again.ticket(AT_RANDOM))
    assert not again.ticket(other).is_within(ticket)


def test_a_random_choice_is_drawn_in_the_order_of_the_layers(tmp_path):
    """Of a network whose layers are in another order than their names."""
    network = Network("wide_resnet_10_1", (28, 28, 1), 10, 0.25)
    dense = dataclasses.replace(PRETRAINED, network=network)
    weights = fresh_weights(network, 0)
    shapes = {path: array.shape for path, array in weights.items() if array.ndim == 4}
    assert list(shapes) != sorted(shapes)
    provenance = Provenance("pretended", "m", {}, "d", 0, 0, "", "", {})
    store = Store(tmp_path / "store")
    store.finish(dense, Record((), (4,), 0.0), dense_ticket(shapes, provenance), [weights])
    found = FoundTicket(RandomMasks(dense, 0.36, 3), 2, AT_RANDOM.labels)
    ticket, random = run(tmp_path, [found]).ticket(found), np.random.default_rng(3)
    drawn = {path: random.random(shape) for path, shape in shapes.items()}
    scores = np.sort(np.concatenate([each.ravel() for each in drawn.values()]))
    threshold = scores[-kept_of(ticket)]
    assert_same(ticket.masks, {path: each >= threshold for path, each in drawn.items()})


def test_a_transfer_starts_from_pretrained_weights_under_masks_with_a_new_head(store):
    fresh, pretrained = fresh_weights(TRANSFERRED.network, 7), store.weights(PRETRAINED)
    assert fresh["logits/kernel"].shape[-1] == 5 and pretrained["logits/kernel"].shape[-1] == 10
    start = {
        path: array if path.startswith("logits/") else pretrained[path]
        for path, array in fresh.items()
    }
    assert store.ticket(TRANSFERRED).provenance.initial_weights_sha256 == arrays_sha256(start)
    masks = store.ticket(SECOND).masks
    masked = {path: np.where(masks.get(path, True), array, 0) for path, array in start.items()}
    assert_same(store.weights(TRANSFERRED, at=0), masked)


def test_a_part_of_the_data_is_stratified(done):
    _, seen, _ = done
    labels = TARGET_IMAGES.train.labels
    *others, half = sorted(seen.values(), key=len, reverse=True)
    assert all(part == set(range(40)) for part in others) and len(half) == 20
    assert np.bincount(labels[sorted(half)]).tolist() == [4] * 5
    assert TRANSFERRED.data.trained_on == 20 and TRANSFERRED.data.whole == DENSE.data


def test_both_kinds_of_best_weights_are_tested(store):
    found = {m: (at, value) for at, m, value in store.record(measured_both(TRANSFERRED)).history}
    names = [f"{a}/{of}" for a in ("natural", "pgd_2", "cw_linf") for of in ("accuracy", "loss")]
    splits = ("test", "test_best_natural")
    assert set(found) == {f"{split}/{name}" for split in splits for name in names}
    images, labels = TARGET_IMAGES.test.images, TARGET_IMAGES.test.labels
    model = network_of(TRANSFERRED, store)
    for number, split in enumerate(splits):
        for path, variable in zip(read_weights(model), model.weights):
            variable.assign(store.weights(TRANSFERRED, selection=number)[path])
        right = np.argmax(model(images / np.float32(255)), axis=-1) == labels
        at, accuracy = found[f"{split}/natural/accuracy"]
        assert accuracy == pytest.approx(np.mean(right))
        assert at == store.record(TRANSFERRED).selected[number]
    plain = dataclasses.replace(measured_both(TRANSFERRED), selections=(0,))
    assert passes(measured_both(TRANSFERRED)) == 2 * passes(plain)


def cross_entropy(training, store, images, labels):
    """A network's mean loss, by hand."""
    logits = network_of(training, store)(images).numpy().astype(float)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(shares[np.arange(len(labels)), labels]).mean()


def test_images_are_attacked_once_for_many_networks(done):
    store, _, made = done
    (crafted,) = made
    images, labels = TARGET_IMAGES.test.images / np.float32(255), TARGET_IMAGES.test.labels
    assert 0.05 < np.abs(crafted.images - images).max() <= 0.1 + 1e-6
    losses = [cross_entropy(UNSEEN, store, each, labels) for each in (crafted.images, images)]
    assert losses[0] > losses[1]  # It is this network that they are made for.
    for training in (TRANSFERRED, DENSE):
        found = {metric: value for _, metric, value in store.record(attacked(training)).history}
        right = np.argmax(network_of(training, store)(crafted.images), axis=-1) == labels
        assert found["test/transfer_attack/accuracy"] == pytest.approx(np.mean(right))
        expected = cross_entropy(training, store, crafted.images, labels)
        assert found["test/transfer_attack/loss"] == pytest.approx(expected, rel=1e-5)
    assert UNSEEN.network == DENSE.network and UNSEEN.start != DENSE.start


@pytest.fixture
def animals(tmp_path):
    """A folder of colour images of two classes."""
    random = np.random.default_rng(0)
    for split, name in itertools.product(("train", "test"), ("cats", "dogs")):
        folder = tmp_path / "animals" / split / name
        folder.mkdir(parents=True)
        for number in range(16):
            pixels = random.integers(256, size=(32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(tmp_path / "animals")


WIDTH = torchvision_resnet.NARROW_WIDTH


def public_weights(path, classes):
    """Writes such a file; returns its arrays."""
    arrays = torchvision_resnet.state_dict(WIDTH, classes)
    arrays = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    save_file(arrays, path)
    return arrays


def imported_from(path, animals):
    data, _ = ImageSource("animals", "folder", animals, 32, 0, 0, 0, sizing="scaled").read(0)
    network = Network("resnet_50_v1_5", (32, 32, 3), 2, WIDTH / 64)
    return read_public(str(path), network, data, 5, PRETRAINED.platform, "convolutions")


@pytest.mark.parametrize(("classes", "keeps_head"), [(2, True), (5, False)])
def test_public_weights_are_taken_over(tmp_path, animals, classes, keeps_head):
    path = tmp_path / "weights.safetensors"
    arrays = public_weights(path, classes)
    imported, has_head = imported_from(path, animals)
    assert has_head == keeps_head
    ticket = FoundTicket(Masks(imported, 0.488, "magnitude"), 3, AT_RANDOM.labels)
    places = Places(None, {"animals": animals})
    store = run(tmp_path, [ticket], places=places)
    found = store.weights(imported)
    np.testing.assert_array_equal(
        found["stem/conv/kernel"], arrays["conv1.weight"].transpose(2, 3, 1, 0)
    )
    network = imported.network
    model = build_model(network.name, network.image_shape, 2, 5, network.width_multiplier)
    head = arrays["fc.weight"].T if keeps_head else read_weights(model)["logits/kernel"]
    np.testing.assert_array_equal(found["logits/kernel"], head)
    chosen, dense = store.ticket(ticket), store.ticket(imported)
    assert_same(chosen.masks, largest(found, dense.masks, kept_of(chosen)))
    assert dense.sparsity == 0 and chosen.sparsity == pytest.approx(0.488, abs=1e-4)


def test_public_weights_are_known_by_their_content(tmp_path, animals):
    paths = [tmp_path / name for name in ("one.safetensors", "other.safetensors")]
    for path in paths:
        arrays = public_weights(path, 2)
    one, other = (imported_from(path, animals)[0] for path in paths)
    assert one.identity == other.identity and one.source != other.source
    arrays["fc.bias"][0] += 1
    save_file(arrays, paths[1])
    assert imported_from(paths[1], animals)[0].identity != one.identity
    with pytest.raises(UserError, match="other.safetensors: its content is not what it was"):
        run(tmp_path, [other], places=Places(None, {"animals": animals}))


def test_public_weights_are_measured_with_their_own_head(tmp_path, animals):
    path = tmp_path / "weights.safetensors"
    public_weights(path, 2)
    imported = dataclasses.replace(imported_from(path, animals)[0], labels=PRETRAINED.labels)
    wanted = Measurement(imported, labels=imported.labels)
    store = run(tmp_path, [wanted], places=Places(None, {"animals": animals}))
    found = {metric: value for _, metric, value in store.record(wanted).history}
    data = ImageSource("animals", "folder", animals, 32, 0, 0, 0, sizing="scaled").load(0)
    logits = network_of(imported, store)(data.test.images / np.float32(255))
    right = np.argmax(logits, axis=-1) == data.test.labels
    assert found["test/natural/accuracy"] == pytest.approx(np.mean(right))


def test_public_weights_of_other_colours_are_refused(tmp_path, animals):
    path = tmp_path / "weights.safetensors"
    public_weights(path, 2)
    gray = Network("resnet_50_v1_5", (32, 32, 1), 2, WIDTH / 64)
    with pytest.raises(UserError, match="holds weights for RGB"):
        read_public(str(path), gray, PRETRAINED.data, 0, PRETRAINED.platform, "convolutions")


def test_the_attack_is_part_of_what_images_are_known_by(store, tmp_path):
    """Another attack on the same network is not given the first one's images."""
    shutil.copytree(store.root.parent, tmp_path, dirs_exist_ok=True)
    stronger = dataclasses.replace(PGD, eps=0.9, step_size=0.6)
    ((source, attack),) = attacked(DENSE).transferred
    other = dataclasses.replace(
        attacked(DENSE), transferred=((source, dataclasses.replace(attack, threat=stronger)),)
    )
    shutil.rmtree(tmp_path / "store" / attacked(DENSE).identity)
    again = run(tmp_path, [attacked(DENSE), other])
    weak, strong = (
        dict(each[1:] for each in again.record(n).history) for n in (attacked(DENSE), other)
    )
    assert weak == dict(each[1:] for each in store.record(attacked(DENSE)).history)
    assert strong["test/transfer_attack/loss"] != weak["test/transfer_attack/loss"]
