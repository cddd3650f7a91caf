"""Trainings and measurements of images: masks, starts, selected weights, and interruptions."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import stop_at_call
from tests.work.kills import killed_after
from tests.work.plans import (
    DENSE,
    EPS,
    EVALUATION,
    FINDING,
    RANDOM,
    RETRAINED,
    TRAININGS,
    measured,
)
from tf_tickets.attacks.threat_model import fast, pgd
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.image_work.cuts import fresh_weights, network_of
from tf_tickets.image_work.work import ImageWork, require_trainable
from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.runs import files
from tf_tickets.training import loop
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import Attack, Masks, Measurement
from tf_tickets.work.performing import passes
from tf_tickets.work.places import Places
from tf_tickets.work.runner import Here, carry_out, missing
from tf_tickets.work.store import Store

DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")
WANTED = tuple(map(measured, TRAININGS))


def run(
    root,
    wanted=WANTED,
    stop_if_requested=lambda: None,
    advance=lambda *_: None,
    places=Places(),  # noqa: B008
    **how,
):
    store = Store(root / "store")
    work = ImageWork(
        store,
        places,
        DEVICE,
        advance,
        lambda training: root / "events" / training.labels["method"],
        stop_if_requested,
        **how,
    )
    carry_out(missing(wanted, store), store, Here(work.perform))
    return store


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("finished"))


def test_the_ticket_holds_the_largest_trained_weights_of_the_whole_network(finished):
    trained, ticket = finished.weights(FINDING), finished.ticket(RETRAINED)
    sizes = np.concatenate([np.abs(trained[path]).ravel() for path in ticket.masks])
    threshold = np.sort(sizes)[::-1][round(0.2 * sizes.size) - 1]
    for path, mask in ticket.masks.items():
        np.testing.assert_array_equal(mask, np.abs(trained[path]) >= threshold)
    assert len({round(float(mask.mean()), 2) for mask in ticket.masks.values()}) > 1


def test_the_ticket_depends_on_the_training_that_found_it(finished):
    initial = fresh_weights(FINDING.network, 0)
    ticket = finished.ticket(RETRAINED)
    sizes = np.concatenate([np.abs(initial[path]).ravel() for path in ticket.masks])
    threshold = np.sort(sizes)[::-1][round(0.2 * sizes.size) - 1]
    assert any(
        np.any(mask != (np.abs(initial[path]) >= threshold)) for path, mask in ticket.masks.items()
    )


def test_trainings_start_from_the_weights_that_their_seeds_decide(finished):
    stated = {
        training.labels["method"]: finished.ticket(training).provenance.initial_weights_sha256
        for training in TRAININGS
    }
    expected = arrays_sha256(fresh_weights(FINDING.network, 0))
    assert stated.pop("fgsm_random_100") == arrays_sha256(fresh_weights(FINDING.network, 7))
    assert set(stated.values()) == {expected}
    assert finished.ticket(RANDOM).sha256 == finished.ticket(RETRAINED).sha256
    parent = finished.ticket(RETRAINED).provenance.parent_sha256
    assert parent == finished.ticket(FINDING).sha256


def test_trained_weights_obey_the_ticket(finished):
    for training in TRAININGS:
        weights = finished.weights(training)
        for path, mask in finished.ticket(training).masks.items():
            assert not np.any(weights[path][~mask]) and np.any(weights[path][mask])


def test_what_is_recorded(finished):
    for training in TRAININGS:
        record = finished.record(training)
        validated = {at for at, metric, _ in record.history if metric.startswith("validation")}
        assert validated == set(range(0, training.iterations + 1, 3))
        assert round(record.sparsity, 2) == (0.8 if training.masks else 0)
        (*tested,) = finished.record(measured(training)).history
        assert {(at, metric) for at, metric, _ in tested} == {
            (record.ended, f"test/{attack}/{quantity}")
            for attack in ("natural", "pgd_5")
            for quantity in ("accuracy", "loss")
        }


def test_a_training_ends_with_the_weights_best_on_validation_data(finished):
    for training in (DENSE, RETRAINED, RANDOM):
        record = finished.record(training)
        robust = {
            at: value
            for at, metric, value in record.history
            if metric == "validation/pgd_5/accuracy" and at
        }
        assert record.ended == max(robust, key=lambda at: (robust[at], -at))
    assert finished.record(FINDING).ended == 6


def test_a_measurement_is_of_the_network_that_is_stored(finished, tmp_path):
    """Natural accuracy, worked out without the evaluator."""
    from tests.work.plans import IMAGES

    logits = network_of(RETRAINED, finished)(IMAGES.test.images.astype(np.float32) / 255)
    accuracy = np.mean(np.argmax(logits, axis=1) == IMAGES.test.labels)
    measured_values = {m: v for _, m, v in finished.record(measured(RETRAINED)).history}
    assert measured_values["test/natural/accuracy"] == pytest.approx(accuracy)


def contents(root):
    """Everything that must not depend on interruptions; times do."""
    store = Store(root / "store")
    records = {}
    for node in (*TRAININGS, *WANTED):
        history = store.record(node).history
        records[node] = [entry for entry in history if not entry[1].endswith("seconds")]
    return records, {
        path.relative_to(root): path.read_bytes() for path in (root / "store").rglob("*.npz")
    }


def test_an_interrupted_run_ends_as_an_uninterrupted_one(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 2)
    for last_call in (3, 5, 4):
        with pytest.raises(StopRequested):
            run(tmp_path, stop_if_requested=stop_at_call(last_call))
    run(tmp_path)
    assert contents(tmp_path) == contents(finished.root.parent)


def test_a_training_is_saved_when_it_is_time(tmp_path, monkeypatch):
    """At once, so that each call into the graph is followed by a save; or not at all."""
    saved = []
    monkeypatch.setattr(files, "before_commit", lambda path: saved.append(path.name))
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 2)
    run(tmp_path / "often", [FINDING], seconds_unsaved=0)
    # Iterations 0, 2, 3, 5 and 6: epochs have three.
    assert saved.count("in_progress") == 5
    saved.clear()
    run(tmp_path / "never", [FINDING], seconds_unsaved=600)
    assert saved == ["node.json", "weights.npz", "ticket.npz", "record.json"]


def test_killed_wherever_a_training_writes_it_ends_with_the_same_bytes(finished, tmp_path):
    """The first start is killed at the second point where it writes, the next one later."""
    for kills in range(20):
        with killed_after(kills + 1) as was_killed:
            run(tmp_path, [measured(RETRAINED)], seconds_unsaved=0)
        if not was_killed():
            break
    assert kills >= 6
    store = Store(tmp_path / "store")
    for node in (FINDING, RETRAINED):
        assert store.weights_path(node).read_bytes() == finished.weights_path(node).read_bytes()
        assert store.ticket_path(node).read_bytes() == finished.ticket_path(node).read_bytes()


def test_a_collapsing_training_is_stopped(tmp_path, monkeypatch):
    collapsing = dataclasses.replace(
        FINDING,
        against="fast",
        attack=fast(EPS),
        iterations=18,
        selections=(Selection("validation/pgd_5/accuracy", 0.2),),
    )
    values = iter([0.1, 0.5, 0.6, 0.1])

    def evaluate(self, split):
        return {"natural/accuracy": 0.5, "pgd_5/accuracy": next(values, 0.0)}

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    store = run(tmp_path, [collapsing])
    record = store.record(collapsing)
    assert max(at for at, *_ in record.history) == 9  # Of 18.
    assert record.ended == 6


def test_an_assessment_attacks_with_other_networks_examples(finished, tmp_path):
    shutil.copytree(finished.root.parent, tmp_path, dirs_exist_ok=True)
    assessment = Measurement(
        DENSE,
        (Attack("pgd_100", pgd(EPS, EPS / 4, 10, True)),),
        ((RETRAINED, Attack("transfer_from_fgsm_ticket_100", EVALUATION.threat)),),
        examples=30,
        labels=DENSE.labels,
    )
    store = run(tmp_path, [assessment])
    values = {metric: value for _, metric, value in store.record(assessment).history}
    names = ("natural", "pgd_100", "transfer_from_fgsm_ticket_100")
    assert set(values) == {f"test/{name}/{of}" for name in names for of in ("accuracy", "loss")}
    # An attack that sees the network harms it more than one that does not.
    white_box = {m: v for _, m, v in store.record(measured(DENSE)).history}
    assert values["test/transfer_from_fgsm_ticket_100/loss"] < white_box["test/pgd_5/loss"]


def test_all_passes_are_told(tmp_path):
    told = []
    run(tmp_path, [measured(DENSE)], advance=lambda amount, text: told.append(amount))
    assert sum(told) == pytest.approx(passes(DENSE) + passes(measured(DENSE)))
    # 60 examples of one way there and four there and back, 20 of 1 + 6 halves, three times.
    assert passes(DENSE) == 3 * (60 * 5 + 20 * 3.5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"network": dataclasses.replace(DENSE.network, name="vgg_16")}, "images of at least 32x3"),
        ({"recipe": dataclasses.replace(DENSE.recipe, batch_size=61)}, "--batch_size=61: expected"),
    ],
)
def test_refuses_what_cannot_be_trained(changes, message):
    with pytest.raises(UserError, match=message):
        require_trainable([dataclasses.replace(DENSE, **changes)])


def test_data_that_changed_are_refused(tmp_path):
    other = dataclasses.replace(DENSE, data=dataclasses.replace(DENSE.data, sha256="0" * 64))
    with pytest.raises(UserError, match="--data_set=mnist: its content is not what it was"):
        run(tmp_path, [other])


def test_a_second_pruning_is_within_the_first(finished, tmp_path):
    shutil.copytree(finished.root.parent, tmp_path, dirs_exist_ok=True)
    again = dataclasses.replace(
        RETRAINED,
        masks=Masks(RETRAINED, 0.9, "magnitude"),
        stream=2,
        labels={**RETRAINED.labels, "method": "again"},
    )
    store = run(tmp_path, [again])
    first, second = store.ticket(RETRAINED), store.ticket(again)
    assert second.is_within(first) and round(second.sparsity, 2) == 0.9
    assert second.provenance.level == 2
