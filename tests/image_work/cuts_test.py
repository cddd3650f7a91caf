"""Networks cut and trained: what goes, what they start from, their files, and interruptions."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.noise import mirrored, stop_at_call
from tests.work.kills import killed_after
from tests.work.structure_plans import (
    CHOICE,
    CUT_TRAININGS,
    IMAGES,
    MIXED,
    PRUNED,
    SCRATCH,
    TICKET,
    TWICE,
    WHOLE,
)
from tf_tickets.data.splits import stratified_subset
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.image_work.cuts import network_of, require_cuts_possible
from tf_tickets.image_work.work import ImageWork
from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights, write_weights
from tf_tickets.structured import selection
from tf_tickets.structured.selection import choose_removal
from tf_tickets.structured.surgery import remove
from tf_tickets.training import loop
from tf_tickets.training.schedules import StepDecay
from tf_tickets.work.nodes import Cut, Inherited, in_order
from tf_tickets.work.performing import passes
from tf_tickets.work.places import Places
from tf_tickets.work.runner import Here, carry_out, missing
from tf_tickets.work.store import Store

DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")
ALL = (*CUT_TRAININGS, MIXED)


def run(root, wanted=ALL, stop_if_requested=lambda: None, advance=lambda *_: None, device=DEVICE):
    store = Store(root / "store")
    work = ImageWork(
        store,
        Places(),
        device,
        advance,
        lambda training: root / "events" / training.identity,
        stop_if_requested,
        seconds_unsaved=0,
    )
    carry_out(missing(wanted, store), store, Here(work.perform))
    return store


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("finished"))


def fresh(seed):
    return build_model("lenet_conv", (28, 28, 1), 10, seed, 0.25)


def whole_with(weights):
    model = fresh(0)
    write_weights(model, weights)
    return model


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_allclose(found[path], array, rtol=0, atol=1e-20)


def test_the_cut_is_the_one_that_the_criterion_chooses_of_the_trained_network(finished):
    scored = IMAGES.train.subset(stratified_subset(IMAGES.train.labels, 20, 0))
    whole = whole_with(finished.weights(WHOLE))
    once, _ = choose_removal(whole, CHOICE, scored)
    assert finished.removal(PRUNED.network) == once and once.filters
    pruned = remove(whole, once)
    write_weights(pruned, finished.weights(PRUNED))
    again, _ = choose_removal(pruned, CHOICE, scored)
    assert finished.removal(TWICE.network) == again
    shapes = {path: array.shape for path, array in finished.weights(TWICE).items()}
    assert shapes == {
        path: array.shape for path, array in read_weights(remove(pruned, again)).items()
    }


def test_a_cut_that_several_trainings_share_is_chosen_once():
    cuts = [node for node in in_order(ALL) if isinstance(node, Cut)]
    assert cuts == [PRUNED.network, TWICE.network]


def test_a_record_says_how_much_is_gone(finished):
    counts = {
        training: sum(array.size for array in finished.weights(training).values())
        for training in (WHOLE, PRUNED, TWICE)
    }
    assert counts[WHOLE] > counts[PRUNED] > counts[TWICE]
    for training, count in counts.items():
        gone = finished.record(training).sparsity
        assert gone == pytest.approx(1 - count / counts[WHOLE], abs=1e-12)
    for training in (PRUNED, TWICE):
        assert finished.record(training.network).sparsity == finished.record(training).sparsity


def test_what_was_removed_is_explained(finished):
    saved = json.loads(finished.removal_path(PRUNED.network).read_text())
    provenance = saved["provenance"]
    assert (provenance["criterion"], provenance["filters"]) == ("l1", 0.3)
    assert (provenance["scoring_examples"], provenance["seed"]) == (20, 0)
    assert provenance["base"] == "unpruned, level 0"
    assert provenance["base_weights_sha256"] == arrays_sha256(finished.weights(WHOLE))
    scores = np.concatenate(list(saved["scores"]["filters"].values()))
    removed = [
        saved["scores"]["filters"][layer][index]
        for layer, indices in saved["filters"].items()
        for index in indices
    ]
    assert len(removed) == int(np.ceil(0.3 * len(scores)))
    assert np.mean(removed) < np.mean(scores)


def started(root, finished, training):
    """What a training begins with: what it ends with at a learning rate of nearly nothing."""
    shutil.copytree(finished.root.parent, root, dirs_exist_ok=True)
    still = dataclasses.replace(training, rates=StepDecay(1e-30, 1, 2))
    return run(root, [still]).weights(still)


@pytest.mark.parametrize(
    "training, before",
    [
        (PRUNED, lambda store: whole_with(store.weights(WHOLE))),
        (SCRATCH, lambda store: fresh(7)),
        (TICKET, lambda store: whole_with(store.weights(WHOLE, at=2))),
    ],
)
def test_where_trainings_start(finished, tmp_path, training, before):
    """What is left of whole weights."""
    expected = read_weights(remove(before(finished), finished.removal(training.network)))
    assert_equal(started(tmp_path, finished, training), expected)


def test_a_second_cut_starts_from_what_the_first_became(finished, tmp_path):
    once = remove(whole_with(finished.weights(WHOLE)), finished.removal(PRUNED.network))
    write_weights(once, finished.weights(PRUNED))
    expected = read_weights(remove(once, finished.removal(TWICE.network)))
    assert_equal(started(tmp_path, finished, TWICE), expected)


def test_the_stored_network_has_the_stored_weights(finished):
    for training in (WHOLE, *ALL):
        assert not finished.ticket_path(training).exists()
        model = keras.models.load_model(finished.network_path(training), compile=False)
        assert_equal(read_weights(model), finished.weights(training))
        images = IMAGES.validation.images.astype(np.float32) / 255
        rebuilt = network_of(training, finished)
        np.testing.assert_allclose(rebuilt(images), model(images), atol=1e-5)


def numbers(store):
    """Everything that must not depend on interruptions; times do."""
    nodes = in_order(ALL)
    histories = {
        node.identity: [entry for entry in store.record(node).history if "seconds" not in entry[1]]
        for node in nodes
    }
    files = [path for path in store.root.rglob("*.npz")]
    files += [store.removal_path(node) for node in nodes if isinstance(node, Cut)]
    return histories, {path.relative_to(store.root): path.read_bytes() for path in files}


def test_stopped_and_resumed_it_ends_with_the_same_numbers(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 1)
    for call in (2, 5, 4):
        with pytest.raises(StopRequested):
            run(tmp_path, stop_if_requested=stop_at_call(call))
    assert numbers(run(tmp_path)) == numbers(finished)


def test_killed_wherever_something_is_written_it_ends_with_the_same_bytes(finished, tmp_path):
    """The first start is killed at the second point where it writes, the next one later."""
    for kills in range(20):
        with killed_after(kills + 1) as was_killed:
            run(tmp_path)
        if not was_killed():
            break
    assert kills >= 5
    assert numbers(Store(tmp_path / "store")) == numbers(finished)


def test_all_passes_are_told(tmp_path):
    told = []
    run(tmp_path, [TICKET], advance=lambda amount, text: told.append((amount, text)))
    expected = sum(map(passes, (WHOLE, PRUNED.network, TICKET)))
    assert sum(amount for amount, _ in told) == pytest.approx(expected)
    # Twice 40 images and three evaluations of 20 at half the price; 20 scored; half of that.
    assert expected == (80 + 2 * 10) + 20 + (40 + 10)
    assert "cutting mnist lenet_conv natural unpruned 0 level 0" in {text for _, text in told}


@pytest.mark.parametrize("name", ["removal.json", "weights.npz"])
def test_what_a_training_comes_from_is_refused_when_damaged(finished, tmp_path, name):
    shutil.copytree(finished.root.parent, tmp_path, dirs_exist_ok=True)
    store = Store(tmp_path / "store")
    node = PRUNED.network if name == "removal.json" else WHOLE
    path = store.path(node) / name
    path.write_bytes(path.read_bytes()[:-2] + b"  ")
    shutil.rmtree(store.path(PRUNED))
    with pytest.raises(UserError) as caught:
        run(tmp_path, [PRUNED])
    said = "damaged (it does not have the SHA-256 it was written with)"
    assert str(caught.value) == f"{path}: {said}; delete its folder to have it made anew"


def test_several_devices_train_the_network_that_one_trains(finished, tmp_path):
    store = run(tmp_path, [PRUNED], device=mirrored())
    for training in (WHOLE, PRUNED):
        found, expected = store.weights(training), finished.weights(training)
        assert found.keys() == expected.keys()
        for path, array in expected.items():
            np.testing.assert_allclose(found[path], array, atol=1e-4)


def test_cuts_that_networks_cannot_bear():
    """Of 5 and 12 filters a cut leaves 1 and 2, a second one 1 and 1, and a third finds none."""
    require_cuts_possible(ALL)
    choice = selection.Cut("l1", 0.9, 0, "layerwise", free_convolutions_only=True)
    chain = [WHOLE]
    for _ in range(3):
        cut = Cut(chain[-1], choice, 20, 0)
        chain.append(dataclasses.replace(PRUNED, network=cut, start=Inherited(chain[-1])))
    require_cuts_possible(chain[:3])
    with pytest.raises(UserError, match="--filters=0.9: expected more, as no layer has filters"):
        require_cuts_possible(chain)
    blocks = Cut(WHOLE, dataclasses.replace(CHOICE, blocks=1), 20, 0)
    with pytest.raises(UserError, match="--blocks=1: expected 0, as this network has no block"):
        require_cuts_possible([dataclasses.replace(PRUNED, network=blocks)])
