"""A whole run of tiny BERTs: where tickets come from, and what each network starts from."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.tiny_bert import write_folder
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.models.bert_encoder import load_encoder
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.results import from_csv
from tf_tickets.runs.run_directory import RunDirectory

pytest.importorskip("keras_nlp", reason="needs the extra `text`")

from tf_tickets.search.bert_tickets import BertTickets  # noqa: E402
from tf_tickets.search.text_bench import TextPlace  # noqa: E402

from tf_tickets.deployment.text_exports import export_robust_texts  # noqa: E402
from tf_tickets.search.robust_bert import (  # noqa: E402
    FineTuning,
    MaskLearning,
    RobustBertSettings,
)
from tf_tickets.search.training_session import TrainingSession  # noqa: E402

DATA = "movie_reviews"
STUDIES = ("main", "ablation", "importance", "convergence")
METHODS = ("fine_tune", "lth", "free_lb", "random", "robust")
LEARNING = MaskLearning(
    1, 0.1, 1e-6, 0.5, (0.1, 0.4), "weight", "free_lb", EmbeddingAttack(0.03, 0.05, 2), "values"
)


def make_settings(**changes):
    values = {
        "data_sets": (DATA,),
        "seeds": (0,),
        "studies": STUDIES,
        "methods": METHODS,
        "sparsity": {DATA: 20},
        "sparsities": (20,),
        "penalties": (0.5,),
        "fine_tuning": FineTuning(1, 2, 16, 1e-3, 0.01, 0.1, 1.0, 0.1, "selected"),
        "mask_learning": {DATA: LEARNING},
    }
    return RobustBertSettings(**values | changes)


def make_tickets(folder, stop=lambda: None, **changes):
    encoder_folder = folder.parent / f"{folder.name}_encoder"
    if not encoder_folder.exists():
        write_folder(encoder_folder)
    return BertTickets(
        make_settings(**changes),
        load_encoder(bert_dir=str(encoder_folder)),
        TextPlace("embedded", None, 12, 64, 16, 16),
        RunDirectory(folder, {}, {}),
        tf.distribute.get_strategy(),
        stop,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tickets = make_tickets(tmp_path_factory.mktemp("runs") / "run")
    tickets.train()
    return tickets


def ticket(tickets, method, level=20, regime="natural"):
    network = tickets.settings.network(DATA, 0, method)._replace(level=level, regime=regime)
    return Ticket.load(tickets.run.ticket_path(tickets.cell(network), level))


def weights(tickets, method, level=20, regime="natural"):
    network = tickets.settings.network(DATA, 0, method)._replace(level=level, regime=regime)
    return load_arrays(tickets.run.trained_weights_path(tickets.cell(network), level))


def initial(tickets):
    network = tickets.settings.network(DATA, 0, "fine_tune")
    return load_arrays(tickets.run.initial_weights_path(tickets.cell(network)))


def log_alphas(tickets, regime):
    search = tickets.settings.search(DATA, 0)._replace(regime=regime)
    return load_arrays(tickets.run.trained_weights_path(tickets.cell(search), 0))


def largest(scores, keep):
    """The paths and places of the highest scores of a network, sorted as one list."""
    every = [
        (-value, position, path, index)
        for position, (path, array) in enumerate(scores.items())
        for index, value in enumerate(array.ravel())
    ]
    return {(path, index) for *_, path, index in sorted(every)[:keep]}


def kept(drawn):
    return {
        (path, int(index)) for path, mask in drawn.masks.items() for index in np.flatnonzero(mask)
    }


def size_of(drawn):
    return sum(mask.size for mask in drawn.masks.values())


@pytest.mark.parametrize(
    ("method", "regime"), [("robust", "free_lb"), ("without_adversarial", "natural")]
)
def test_tickets_keep_the_highest_log_alpha_of_their_search(finished, method, regime):
    drawn = ticket(finished, method)
    keep = size_of(drawn) - int(0.2 * size_of(drawn))
    assert kept(drawn) == largest(log_alphas(finished, regime), keep)
    assert drawn.sparsity == pytest.approx(0.2, abs=1 / size_of(drawn))


def test_the_searches_with_and_without_an_adversary_differ(finished):
    assert ticket(finished, "robust").sha256 != ticket(finished, "without_adversarial").sha256


def test_magnitude_pruning_goes_by_the_round_before_and_is_nested(finished):
    first, second = (ticket(finished, "lth", level) for level in (10, 20))
    trained = weights(finished, "fine_tune", 0)
    keep = size_of(first) - int(0.1 * size_of(first))
    assert kept(first) == largest({p: np.abs(trained[p]) for p in first.masks}, keep)
    assert second.is_within(first)
    assert second.provenance.parent_sha256 == first.sha256
    assert second.sparsity == pytest.approx(0.2, abs=1 / size_of(second))


def test_without_mask_learning_goes_by_networks_trained_with_free_lb(finished):
    first = ticket(finished, "without_mask_learning", 10, "free_lb")
    trained = weights(finished, "free_lb", 0, "free_lb")
    keep = size_of(first) - int(0.1 * size_of(first))
    assert kept(first) == largest({p: np.abs(trained[p]) for p in first.masks}, keep)
    assert ticket(finished, "without_mask_learning", 20).is_within(first)


def test_random_tickets_have_the_robust_ones_layers_and_other_places(finished):
    robust, random = ticket(finished, "robust"), ticket(finished, "random")
    assert random.layer_densities == robust.layer_densities
    assert random.sha256 != robust.sha256


@pytest.mark.parametrize("method", ["lth", "random", "robust", "without_initialization"])
def test_trained_weights_outside_the_masks_are_zero(finished, method):
    trained = weights(finished, method)
    for path, mask in ticket(finished, method).masks.items():
        assert not trained[path][~mask].any()
        assert trained[path][mask].any()


def test_tickets_start_from_the_pre_trained_weights_and_a_new_classifier(finished):
    encoder = finished.encoder.weights
    start = initial(finished)
    assert all(np.array_equal(start[path], encoder[path]) for path in encoder)
    assert set(start) - set(encoder) == {"logits/kernel", "logits/bias"}
    sha256 = arrays_sha256(start)
    for method in ("lth", "random", "robust", "without_adversarial"):
        assert ticket(finished, method).provenance.initial_weights_sha256 == sha256
    provenance = ticket(finished, "robust").provenance
    assert (provenance.algorithm, provenance.level, provenance.seed) == ("robust", 20, 0)


def test_ablations_start_from_what_they_are_named_after(finished):
    start, robust = initial(finished), ticket(finished, "robust")
    network = finished.settings.network(DATA, 0, "without_structure")
    mixed = finished._start(network)
    for path, mask in robust.masks.items():
        np.testing.assert_array_equal(mixed[path][mask], start[path][mask])
        assert (mixed[path][~mask] != start[path][~mask]).all()
    drawn_anew = finished._start(network._replace(method="without_initialization"))
    assert {p for p in start if not np.array_equal(start[p], drawn_anew[p])} == set(robust.masks)
    assert ticket(finished, "without_initialization").sha256 == robust.sha256
    assert ticket(finished, "without_structure").sparsity == 0


def test_sparsity_is_reported_over_masked_weights_and_over_all(finished):
    network = finished.settings.network(DATA, 0, "robust")
    rows = finished.run.finished_results(finished.cell(network), 20)
    (of_all,) = [row.value for row in rows if row.metric == "ticket/model/sparsity"]
    drawn, trained = ticket(finished, "robust"), weights(finished, "robust")
    removed = sum(int(np.sum(~mask)) for mask in drawn.masks.values())
    assert rows[0].sparsity == pytest.approx(removed / size_of(drawn))
    assert of_all == pytest.approx(removed / sum(array.size for array in trained.values()))
    assert of_all < rows[0].sparsity


def test_a_search_reports_how_its_masks_settle(finished):
    network = finished.settings.search(DATA, 0)
    rows = finished.run.finished_results(finished.cell(network), 0)
    metrics = {row.metric for row in rows}
    assert {f"masks/all/{name}" for name in ("expected_l0", "share_zero", "share_one")} <= metrics
    penalties = [row.value for row in rows if row.metric == "masks/all/penalty"]
    assert penalties[0] == 0 and penalties[-1] == 0.5
    expected = [row.value for row in rows if row.metric == "masks/all/expected_l0"]
    # σ(log α − β log(−γ/ζ)) of log α = ln 5.
    assert expected[0] == pytest.approx(1 / (1 + (1 / 11) ** (2 / 3) / 5), rel=1e-5)


def test_the_test_split_is_measured_with_the_weights_best_on_validation(finished):
    network = finished.settings.network(DATA, 0, "without_structure_longer")
    rows = finished.run.finished_results(finished.cell(network), 20)
    validation = {
        row.iteration: row.value
        for row in rows
        if row.metric == "validation/natural/accuracy" and row.iteration
    }
    (tested,) = [row for row in rows if row.metric == "test/natural/accuracy"]
    assert validation[tested.iteration] == max(validation.values())


def test_a_stopped_run_ends_with_the_same_weights(finished, tmp_path):
    calls = 0

    def stop():
        nonlocal calls
        calls += 1
        if calls == 9:
            raise StopRequested(2)

    with pytest.raises(StopRequested):
        make_tickets(tmp_path / "run", stop, studies=("main",)).train()
    resumed = make_tickets(tmp_path / "run", studies=("main",))
    resumed.train()
    for method, level in (("fine_tune", 0), ("lth", 20), ("robust", 20)):
        expected = weights(finished, method, level)
        for path, array in weights(resumed, method, level).items():
            np.testing.assert_array_equal(array, expected[path], err_msg=f"{method} {path}")


def test_a_trajectory_without_the_record_is_not_the_end_of_a_training(finished):
    network = finished.settings.network(DATA, 0, "robust")
    cell = finished.cell(network)
    assert finished.is_finished(network)
    for path in (finished.run.record_path(cell, 20), finished.run.trajectory_path(cell, 20)):
        aside = path.rename(path.with_suffix(".aside"))
        assert not finished.is_finished(network)
        aside.rename(path)


def test_the_learning_rate_rises_for_the_warmup_and_the_last_weights_can_be_kept(
    tmp_path, monkeypatch
):
    given = []
    session_train = TrainingSession.train

    def train(session, *arguments, **how):
        given.append(how)
        return session_train(session, *arguments, **how)

    monkeypatch.setattr(TrainingSession, "train", train)
    # Two epochs of four steps, a quarter of them to warm up.
    tuning = FineTuning(2, 2, 16, 1e-3, 0.01, 0.1, 1.0, 0.25, "last")
    tickets = make_tickets(
        tmp_path / "run", studies=("main",), methods=("fine_tune",), fine_tuning=tuning
    )
    tickets.train()
    (how,) = given
    rates = how["learning_rates"](0, 8)
    np.testing.assert_allclose(rates, [0, 5e-4, 1e-3, *(1e-3 * k / 6 for k in (5, 4, 3, 2, 1))])
    trained = tickets.bench(DATA, 0).trainer("natural").weights()
    for path, array in weights(tickets, "fine_tune", 0).items():
        np.testing.assert_array_equal(array, trained[path], err_msg=path)
    tested = [
        row.iteration
        for row in from_csv(tickets.run.results_path.read_text(), "results.csv")
        if row.metric == "test/natural/accuracy"
    ]
    assert tested == [8] and how["selections"] == []


def test_another_encoder_is_refused(finished):
    encoder = finished.encoder
    weights = {path: 1.5 * array for path, array in encoder.weights.items()}
    other = BertTickets(
        finished.settings,
        dataclasses.replace(encoder, weights=weights),
        TextPlace("embedded", None, 12, 64, 16, 16),
        finished.run,
        tf.distribute.get_strategy(),
        lambda: None,
    )
    with pytest.raises(UserError, match="initial_weights.npz: not the weights of the encoder"):
        other.initial_weights(finished.settings.network(DATA, 0, "fine_tune"))


def test_an_export_answers_as_its_network_does(finished):
    exports = export_robust_texts(finished)
    ((name, export),) = exports.items()
    assert name == f"{DATA}, robust, level 20"
    assert export.zeros == export.prunable - int(0.8 * export.prunable + 0.5)
    assert export.max_logits_difference < 1e-4


def test_texts_that_cannot_be_used_are_refused_before_training(tmp_path):
    tuning = FineTuning(1, 1, 999, 1e-3, 0, 0, 1.0, 0.0, "last")
    tickets = make_tickets(tmp_path / "run", fine_tuning=tuning)
    with pytest.raises(UserError, match="--batch_size=999: expected at most 64"):
        tickets.require_trainable()
