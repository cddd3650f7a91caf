"""Transfers of tickets: what they start from, which images they see, what is kept of them."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.search.double_win_runs import SETTINGS, open_run, phase, to_mnist
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import head_paths, write_weights
from tf_tickets.runs.files import load_arrays
from tf_tickets.search.double_win import Transfer, require_transferable, transfers
from tf_tickets.search.ticket_transfers import part
from tf_tickets.search.training_session import TrainingSession
from tf_tickets.search.transfer_attacks import attack_from_unseen_models

KINDS = ("std_imp_st", "at_imp_st", "at_random")


@pytest.fixture(scope="module")
def transferred(tmp_path_factory):
    """A finished run, and how every training of it began."""
    source, finished = open_run(tmp_path_factory.mktemp("runs") / "run", tickets=KINDS)
    source.pretrain()
    source.search()
    starts, train = {}, TrainingSession.train

    def spy(session, trainer, order, iterations, **how):
        cell = session.cell
        seen = order.indices(0, iterations)
        starts[cell.regime, cell.method, session.level] = trainer.weights(), seen
        return train(session, trainer, order, iterations, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingSession, "train", spy)
        finished.transfer()
    attack_from_unseen_models(finished)
    return source, finished, starts


def rows_of(finished, transfer):
    return finished.run.finished_results(finished.cell(transfer), transfer.level)


def trained_weights(finished, transfer):
    return load_arrays(finished.run.trained_weights_path(finished.cell(transfer), transfer.level))


def test_every_kind_of_ticket_meets_both_regimes_and_imp_less_data():
    wanted = {(each.method, each.level, each.regime) for each in transfers(SETTINGS)}
    dense = {(f"at_dense_{percent}", 0) for percent in (100, 50)}
    pruned = {("at_imp_st_100", 3), ("at_imp_st_50", 3), ("at_omp_100", 3)}
    assert wanted == {
        (*method, regime) for method in dense | pruned for regime in ("natural", "pgd")
    }


def test_transfers_start_from_pretrained_weights_under_masks_with_a_new_head(transferred):
    source, finished, starts = transferred
    model = build_model("wide_resnet_10_1", (28, 28, 1), 10, 0, 0.25)
    heads = []
    for transfer in transfers(finished.settings):
        weights, _ = starts[transfer.regime, transfer.method, transfer.level]
        pretrained = source.pretrained_weights(transfer.pretraining)
        masks = finished.source_ticket(transfer).masks
        for path, array in pretrained.items():
            if path in head_paths(model):
                continue
            expected = np.where(masks[path], array, 0) if path in masks else array
            np.testing.assert_array_equal(weights[path], expected)
        heads.append([weights[path] for path in head_paths(model)])
        assert np.any(heads[-1][0] != pretrained[head_paths(model)[0]])
    for kernel, bias in heads:  # All methods of a trial get the same.
        np.testing.assert_array_equal(kernel, heads[0][0])
        np.testing.assert_array_equal(bias, heads[0][1])


def test_a_part_of_the_data_is_stratified_and_the_same_for_all_methods(transferred):
    _, finished, starts = transferred
    labels = finished.data("mnist", 0).train.labels
    parts = {}
    for (_, method, _), (_, seen) in starts.items():
        parts.setdefault(method.rsplit("_", 1)[1], []).append(frozenset(seen.ravel().tolist()))
    assert {percent: len(set(found)) for percent, found in parts.items()} == {"100": 1, "50": 1}
    (half,), (whole,) = set(parts["50"]), set(parts["100"])
    assert half < whole == frozenset(range(40))
    assert np.bincount(labels[sorted(half)]).tolist() == [2] * 10


def test_other_trials_see_another_part(tmp_path):
    _, trial = open_run(tmp_path, seeds=(0, 1))
    first, second = (part(trial.data("mnist", seed), 50.0, seed) for seed in (0, 1))
    assert set(first) != set(second)


def test_weights_and_accuracies_are_those_of_the_best_epoch_on_validation_data(transferred):
    _, finished, _ = transferred
    data = finished.data("mnist", 0)
    images = tf.constant(data.test.images / np.float32(255))
    for transfer in transfers(finished.settings):
        rows = rows_of(finished, transfer)
        decisive = "pgd_20" if transfer.regime == "pgd" else "natural"
        validated = {
            row.iteration: row.value
            for row in rows
            if row.metric == f"validation/{decisive}/accuracy" and row.iteration
        }
        (tested,) = [row for row in rows if row.metric == "test/natural/accuracy"]
        assert tested.iteration == max(validated, key=validated.get)
        model = build_model("wide_resnet_10_1", (28, 28, 1), 10, 0, 0.25)
        write_weights(model, trained_weights(finished, transfer))
        found = np.argmax(model(images, training=False), axis=-1)
        assert tested.value == pytest.approx(np.mean(found == data.test.labels))


def test_adversarial_transfers_report_both_kinds_of_best_weights(transferred):
    _, finished, _ = transferred
    robust = Transfer("mnist", "at", "imp_st", 3, 50.0, "pgd", 0)
    found = {row.metric: row for row in rows_of(finished, robust)}
    for split in ("test", "test_best_natural"):
        for attack in ("natural", "pgd_20", "cw_linf"):
            assert 0 <= found[f"{split}/{attack}/accuracy"].value <= 1
    natural = [
        (row.value, -row.iteration)
        for row in rows_of(finished, robust)
        if row.metric == "validation/natural/accuracy" and row.iteration
    ]
    assert found["test_best_natural/natural/accuracy"].iteration == -max(natural)[1]


def test_masked_weights_stay_zero(transferred):
    _, finished, _ = transferred
    for transfer in transfers(finished.settings):
        weights = trained_weights(finished, transfer)
        for path, mask in finished.source_ticket(transfer).masks.items():
            assert not np.any(weights[path][~mask])
            assert transfer.level or mask.all()


def test_a_trajectory_leads_from_the_start_to_the_trained_weights(transferred):
    _, finished, starts = transferred
    transfer = Transfer("mnist", "at", "imp_st", 3, 100.0, "pgd", 0)
    cell = finished.cell(transfer)
    way = load_arrays(finished.run.trajectory_path(cell, 3))
    epochs = sorted({name.partition("/")[0] for name in way})
    assert epochs == ["000", "001", "002"]  # Beyond the epoch whose weights are kept, too.
    start, _ = starts["pgd", "at_imp_st_100", 3]
    (tested,) = [r for r in rows_of(finished, transfer) if r.metric == "test/natural/accuracy"]
    kept = f"{tested.iteration // 2:03d}"  # 40 images in batches of 16 are 2 steps.
    for path, array in trained_weights(finished, transfer).items():
        np.testing.assert_array_equal(way[f"000/{path}"], start[path])
        np.testing.assert_array_equal(way[f"{kept}/{path}"], array)
    others = list(finished.run.path.rglob("*trajectory.npz"))
    assert len(others) == 4  # Of two pre-trainings, with all data and with half of them.


def test_unseen_models_attack_every_network_trained_on_all_data(transferred):
    _, finished, starts = transferred
    finished.run.write_results()
    lines = finished.run.results_path.read_text().splitlines()
    attacked = [line for line in lines if "test/transfer_attack/accuracy" in line]
    assert len(attacked) == 5
    scratch, _ = starts["pgd", "scratch_dense_100", 0]
    ours, _ = starts["pgd", "at_dense_100", 0]
    assert all(np.any(scratch[path] != ours[path]) for path in ours if "kernel" in path)


def test_a_run_beside_it_takes_over_what_is_the_same(transferred, monkeypatch):
    _, finished, _ = transferred
    folder = finished.run.path.parent / "beside"
    source, again = open_run(folder, tickets=("at_imp_st",), percents=(100.0,))
    monkeypatch.setattr(TrainingSession, "train", None)  # Nothing is left to train.
    source.pretrain()
    source.search()
    again.transfer()
    for transfer in transfers(again.settings):
        assert rows_of(again, transfer) == rows_of(finished, transfer)
        ours, theirs = trained_weights(again, transfer), trained_weights(finished, transfer)
        assert all(np.array_equal(ours[path], theirs[path]) for path in theirs)


def test_equal_tickets_of_two_kinds_are_pieces_of_their_own(tmp_path, monkeypatch):
    """After one round, iterative and one-shot pruning have done the same."""
    small = {"levels": (0, 1), "percents": (100.0,), "trajectory_levels": ()}
    small |= {"transferring": to_mnist(phase())}
    for name, tickets in {"both": ("at_imp_st", "at_omp"), "one": ("at_imp_st",)}.items():
        source, finished = open_run(tmp_path / name, tickets=tickets, **small)
        source.pretrain()
        source.search()
        finished.transfer()
        monkeypatch.setattr(TrainingSession, "train", None)  # The second takes all over.


def test_other_settings_are_not_taken_over(transferred, monkeypatch):
    _, finished, _ = transferred
    folder = finished.run.path.parent / "another"
    longer = to_mnist(phase(3, "step"))
    source, again = open_run(folder, tickets=("at_imp_st",), transferring=longer)
    monkeypatch.setattr(TrainingSession, "train", None)
    source.pretrain()
    source.search()
    with pytest.raises(TypeError):
        again.transfer()


def test_what_was_measured_under_another_attack_is_not_taken_over(transferred, monkeypatch):
    """Even naturally pre-trained weights are: their robust accuracy is recorded with them."""
    _, finished, _ = transferred
    weaker = {"pgd_20": pgd(0.05, 0.05, 2, random_start=True)}
    folder = finished.run.path.parent / "weaker"
    source, _ = open_run(folder, tickets=("std_imp_st",), evaluation_attacks=weaker)
    monkeypatch.setattr(TrainingSession, "train", None)
    with pytest.raises(TypeError):
        source.pretrain()


def test_a_damaged_file_is_not_taken_over(transferred, tmp_path, monkeypatch):
    _, finished, _ = transferred
    copied = tmp_path / "copied"
    shutil.copytree(finished.run.path, copied)
    for weights in copied.glob("checkpoints/fashion_mnist/**/level_00.npz"):
        weights.write_bytes(b"damaged")
    source, _ = open_run(tmp_path / "beside", tickets=("at_imp_st",))
    monkeypatch.setattr(TrainingSession, "train", None)
    with pytest.raises(TypeError):
        source.pretrain()


def test_stopped_and_resumed_it_ends_with_the_same_numbers(transferred, tmp_path):
    _, finished, _ = transferred
    calls = []

    def stop_at_tenth_call():
        calls.append(None)
        if len(calls) == 10:
            raise StopRequested(2)

    for stop in (stop_at_tenth_call, lambda: None):
        source, again = open_run(tmp_path / "run", stop, tickets=("at_imp_st",), percents=(100.0,))
        try:
            source.pretrain()
            source.search()
            again.transfer()
        except StopRequested:
            assert not again.run.is_finished(again.cell(transfers(again.settings)[-1]), 3)
    for transfer in transfers(again.settings):
        assert rows_of(again, transfer) == rows_of(finished, transfer)


def test_a_part_smaller_than_a_batch_is_refused(tmp_path):
    _, transfer = open_run(tmp_path, percents=(100.0, 30.0))
    with pytest.raises(UserError, match="--standard_batch_size=16: expected at most 12, the"):
        transfer.require_trainable()


def test_a_part_without_an_image_of_every_class_is_refused(tmp_path):
    _, transfer = open_run(tmp_path, percents=(100.0, 10.0))
    with pytest.raises(UserError, match="--percents=10: 10% of the 40 training examples"):
        transfer.require_trainable()


def test_targets_of_other_colours_are_refused(tmp_path):
    source, _ = open_run(tmp_path)

    class Colour:
        name, image_shape = "cifar10", (32, 32, 3)

    with pytest.raises(UserError, match="--targets=cifar10: expected images of 1 channel"):
        require_transferable(source.data, Colour)
