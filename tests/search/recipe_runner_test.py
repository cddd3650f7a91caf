"""Trainings carried out: masks, starts, selected weights, files, and interruptions."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import stop_at_call
from tf_tickets.attacks.threat_model import fast, fgsm, pgd
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.results import from_csv
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.assessment import assess
from tf_tickets.search.recipe_bench import RecipeSettings
from tf_tickets.search.recipe_runner import run_trainings
from tf_tickets.search.recipes import Pruning, Training
from tf_tickets.training import loop
from tf_tickets.training.trainer import TrainingSettings

EPS = 0.1
DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")
SETTINGS = RecipeSettings(
    experiment="test",
    data_set="mnist",
    data_source="embedded",
    data_dir=None,
    image_size=0,
    train_examples=60,
    validation_examples=20,
    test_examples=30,
    seeds=(0,),
    training=TrainingSettings(
        "lenet_300_100",
        20,
        0.1,
        0.0,
        {"fgsm": fgsm(EPS), "fast": fast(EPS), "pgd": pgd(EPS, EPS / 4, 3, True)},
        objective="adversarial",
        optimizer="sgd",
        width_multiplier=0.1,
    ),
    batch_sizes={},
    warmup_epochs=1,
    evaluation_attacks={"pgd_20": pgd(EPS, EPS / 4, 5, True)},
    fast_stop_after_drop=1.0,
)
FINDING = Training("finding_fgsm_0.05", "lenet_300_100", "fgsm", 2, 2, 0.05)
TICKET = Pruning(FINDING, 0.8, "magnitude")
RETRAINED = Training(
    "fgsm_ticket_100", "lenet_300_100", "pgd", 3, 3, 0.1, 0.05, TICKET, selected=True
)
RANDOM = dataclasses.replace(RETRAINED, method="fgsm_random_100", reinitialized=True)
DENSE = dataclasses.replace(RETRAINED, method="dense_100", ticket=None)
ALL = [DENSE, RETRAINED, RANDOM]


def run_all(path, trainings=ALL, settings=SETTINGS, **arguments):
    run = RunDirectory(path, {}, {})
    run_trainings(trainings, settings, run, DEVICE, **arguments)
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_all(tmp_path_factory.mktemp("runs") / "finished")


def rows_of(run, training):
    rows = from_csv(run.results_path.read_text(), "results.csv")
    return [row for row in rows if row.method == training.method]


def ticket_of(run, training):
    return Ticket.load(run.ticket_path(SETTINGS.cell(training, 0), training.level))


def weights_of(run, training):
    return load_arrays(run.trained_weights_path(SETTINGS.cell(training, 0), training.level))


def test_the_ticket_holds_the_largest_trained_weights_of_the_whole_network(finished):
    trained, ticket = weights_of(finished, FINDING), ticket_of(finished, RETRAINED)
    sizes = np.concatenate([np.abs(trained[path]).ravel() for path in ticket.masks])
    threshold = np.sort(sizes)[::-1][round(0.2 * sizes.size) - 1]
    for path, mask in ticket.masks.items():
        np.testing.assert_array_equal(mask, np.abs(trained[path]) >= threshold)
    assert len(set(ticket.layer_densities.values())) > 1  # Layers are not pruned alike.


def test_the_ticket_depends_on_the_training_that_found_it(finished):
    initial = load_arrays(finished.initial_weights_path(SETTINGS.cell(FINDING, 0)))
    ticket = ticket_of(finished, RETRAINED)
    sizes = np.concatenate([np.abs(initial[path]).ravel() for path in ticket.masks])
    threshold = np.sort(sizes)[::-1][round(0.2 * sizes.size) - 1]
    assert any(
        np.any(mask != (np.abs(initial[path]) >= threshold)) for path, mask in ticket.masks.items()
    )


def test_retraining_starts_from_the_initial_weights_or_from_others(finished):
    initial = load_arrays(finished.initial_weights_path(SETTINGS.cell(FINDING, 0)))
    hashes = {
        each.method: ticket_of(finished, each).provenance.initial_weights_sha256
        for each in (FINDING, *ALL)
    }
    expected = arrays_sha256(initial)
    assert hashes.pop("fgsm_random_100") != expected
    assert set(hashes.values()) == {expected}
    assert ticket_of(finished, RANDOM).sha256 == ticket_of(finished, RETRAINED).sha256
    parent = ticket_of(finished, RETRAINED).provenance.parent_sha256
    assert parent == ticket_of(finished, FINDING).sha256


def test_trained_weights_obey_the_ticket(finished):
    for training in ALL:
        weights, ticket = weights_of(finished, training), ticket_of(finished, training)
        for path, mask in ticket.masks.items():
            assert not np.any(weights[path][~mask])
            assert np.any(weights[path][mask])


def test_what_is_recorded(finished):
    for training in (FINDING, *ALL):
        rows = rows_of(finished, training)
        assert {row.level for row in rows} == {training.level}
        epochs = sorted({row.iteration for row in rows if row.metric.startswith("validation")})
        assert epochs == [3 * epoch for epoch in range(training.epochs + 1)]
        assert {row.metric for row in rows if row.metric.startswith("test")} == {
            f"test/{attack}/{quantity}"
            for attack in ("natural", "pgd_20", "cw_linf", training.regime)
            for quantity in ("accuracy", "loss")
        }
    assert {round(row.sparsity, 2) for row in rows_of(finished, RETRAINED)} == {0.8}


def test_test_data_are_met_once_by_the_weights_best_on_validation_data(finished):
    for training in ALL:
        rows = rows_of(finished, training)
        robust = {
            row.iteration: row.value
            for row in rows
            if row.metric == "validation/pgd_20/accuracy" and row.iteration
        }
        best = max(robust, key=lambda iteration: (robust[iteration], -iteration))
        assert {row.iteration for row in rows if row.metric.startswith("test")} == {best}
    last = {row.iteration for row in rows_of(finished, FINDING) if row.metric.startswith("test")}
    assert last == {6}


def contents(run):
    """Everything that must not depend on interruptions; times do."""
    files = {
        path.relative_to(run.path): path.read_bytes() for path in sorted(run.path.rglob("*.npz"))
    }
    rows = from_csv(run.results_path.read_text(), "results.csv")
    return files, [row for row in rows if not row.metric.endswith("seconds")]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 2)
    for last_call in (3, 5, 4):
        with pytest.raises(StopRequested):
            run_all(tmp_path / "stopped", stop_if_requested=stop_at_call(last_call))
    assert contents(run_all(tmp_path / "stopped")) == contents(finished)


def test_what_is_finished_is_not_trained_again(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "copy")
    before = (tmp_path / "copy" / "results.csv").read_bytes()

    def refuse():
        raise AssertionError("it trains")

    run = run_all(tmp_path / "copy", stop_if_requested=refuse)
    assert run.results_path.read_bytes() == before


def test_a_collapsing_fast_training_is_stopped(tmp_path, monkeypatch):
    fast_training = Training("finding_fast_0.1", "lenet_300_100", "fast", 6, 6, 0.1, selected=True)
    settings = dataclasses.replace(SETTINGS, fast_stop_after_drop=0.2)
    values = iter([0.1, 0.5, 0.6, 0.1])

    def measured(self, split):
        robust = next(values, 0.0)
        return {"natural/accuracy": 0.5, "pgd_20/accuracy": robust}

    monkeypatch.setattr(Evaluator, "evaluate", measured)
    rows = rows_of(run_all(tmp_path / "run", [fast_training], settings), fast_training)
    assert max(row.iteration for row in rows) == 9  # Of 18.
    assert {row.iteration for row in rows if row.metric.startswith("test")} == {6}


def test_a_natural_training_ends_with_the_weights_of_the_smallest_loss(tmp_path, monkeypatch):
    natural = Training("boosting_100", "lenet_300_100", "natural", 4, 4, 0.1, selected=True)
    # Smallest before training, which is no choice; a rise of more than any accuracy stops nothing.
    values = iter([0.1, 0.9, 0.3, 5.0, 0.4])

    def measured(self, split):
        return {"natural/accuracy": 0.5, "natural/loss": next(values, 0.0)}

    monkeypatch.setattr(Evaluator, "evaluate", measured)
    rows = rows_of(run_all(tmp_path / "run", [natural]), natural)
    assert max(row.iteration for row in rows) == 12
    assert {row.iteration for row in rows if row.metric.startswith("test")} == {6}


def test_an_assessment_measures_every_pair(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run", {}, {})
    attacks = {"pgd_100": pgd(EPS, EPS / 4, 10, True)}
    assess([DENSE, RETRAINED], SETTINGS, attacks, run, DEVICE)
    metrics = {row.metric for row in rows_of(run, DENSE)}
    assert {
        "test/pgd_100/accuracy",
        "test/transfer_from_fgsm_ticket_100/accuracy",
    } <= metrics
    before = run.results_path.read_bytes()

    def refuse():
        raise AssertionError("it attacks again")

    assess([DENSE, RETRAINED], SETTINGS, attacks, run, DEVICE, refuse)
    assert run.results_path.read_bytes() == before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": 20}, "--image_size=20: expected 0 or at least 28"),
        ({"train_examples": 10}, "--batch_size=20: expected at most 10"),
        ({"test_examples": 10**6}, "--test_examples=1000000"),
        ({"data_set": "cifar10"}, "--data_source=embedded: cifar10 has no embedded sample"),
        ({"data_set": "svhn"}, "--data_source=embedded: svhn has no embedded sample"),
        ({"train_examples": -1}, "--train_examples=-1: expected at least 0"),
    ],
)
def test_refuses_wrong_settings_before_any_work(tmp_path, changes, message):
    with pytest.raises(UserError) as error:
        run_all(tmp_path / "run", settings=dataclasses.replace(SETTINGS, **changes))
    assert message in str(error.value)
    assert not (tmp_path / "run" / "tickets").exists()


def test_refuses_a_model_that_the_images_are_too_small_for(tmp_path):
    vgg = dataclasses.replace(DENSE, model="vgg_16")
    with pytest.raises(UserError, match="--models=vgg_16: expected images of at least 32x32"):
        run_all(tmp_path / "run", [vgg])
