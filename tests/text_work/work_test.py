"""Trainings, searches and attacks of tiny BERTs: where tickets come from, and what starts where."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from experiments.robust_bert_tickets.plan import Trial
from experiments.robust_bert_tickets.settings import AttackSettings, FineTuning
from tests.models.tiny_bert import write_folder
from tests.noise import stop_at_call
from tests.work import text_plans
from tests.work.kills import killed_after
from tf_tickets import runtime
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.models.bert_encoder import load_encoder

pytest.importorskip("keras_nlp", reason="needs the extra `text`")

from tf_tickets.deployment.text_exports import export_texts  # noqa: E402
from tf_tickets.evaluation.text_outcomes import read_outcomes  # noqa: E402
from tf_tickets.text_work.data import (
    TextPlace,
    network_on,
    read_again,
    read_encoder_again,
)
from tf_tickets.text_work.nodes import EncoderPlace, TextAttacked
from tf_tickets.text_work.work import TextWork, fresh_weights, network_of
from tf_tickets.training import loop  # noqa: E402
from tf_tickets.work.nodes import Measurement, in_order  # noqa: E402
from tf_tickets.work.performing import passes  # noqa: E402
from tf_tickets.work.places import Places
from tf_tickets.work.runner import Here, carry_out, missing  # noqa: E402
from tf_tickets.work.store import Store  # noqa: E402

PLACE = TextPlace("embedded", None, 12, 64, 16, 16)
DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")
ATTACKS = AttackSettings(
    ("characters",), "textattack", 0.0, 8, 3, TextResources(), text_plans.PLATFORM
)


def make_trial(encoder_folder, **changes):
    place = EncoderPlace("", str(encoder_folder), 0)
    encoder = load_encoder(bert_dir=place.bert_dir)
    texts, data = PLACE.read(encoder, text_plans.DATA_SET, 0)
    network = network_on(encoder, place, data.num_classes)
    settings = text_plans.make_settings(**changes)
    return Trial(settings, network, texts, 16, text_plans.PLATFORM)


def run(root, wanted, stop_if_requested=lambda: None, advance=lambda *_: None, **how):
    store = Store(root / "store")
    work = TextWork(
        store, Places(), DEVICE, advance, lambda of: root / of.identity, stop_if_requested, **how
    )
    carry_out(missing(wanted, store), store, Here(work.perform))
    work.close()
    return store


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    return make_trial(write_folder(tmp_path_factory.mktemp("encoders") / "tiny"))


@pytest.fixture(scope="module")
def store(trial, tmp_path_factory):
    """With all of the trial's trainings, as they were measured."""
    wanted = [one.nodes[0] for one in trial.shown()]
    return run(tmp_path_factory.mktemp("finished"), wanted)


def training(trial, method, level=20, regime="natural"):
    names = method, regime, level
    (found,) = [
        each
        for each in trial.trainings()
        if tuple(each.labels[name] for name in ("method", "regime", "level")) == names
    ]
    return found


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
def test_tickets_keep_the_highest_log_alpha_of_their_search(trial, store, method, regime):
    drawn = store.ticket(training(trial, method))
    log_alphas = store.weights(trial.search(regime=regime))
    keep = size_of(drawn) - int(0.2 * size_of(drawn))
    assert kept(drawn) == largest(log_alphas, keep)
    assert drawn.sparsity == pytest.approx(0.2, abs=1 / size_of(drawn))


def test_the_searches_with_and_without_an_adversary_differ(trial, store):
    tickets = [store.ticket(training(trial, name)) for name in ("robust", "without_adversarial")]
    assert tickets[0].sha256 != tickets[1].sha256


def test_magnitude_pruning_goes_by_the_round_before_and_is_nested(trial, store):
    first, second = (store.ticket(training(trial, "lth", level)) for level in (10, 20))
    trained = store.weights(training(trial, "fine_tune", 0))
    keep = size_of(first) - int(0.1 * size_of(first))
    assert kept(first) == largest({p: np.abs(trained[p]) for p in first.masks}, keep)
    assert second.is_within(first)
    assert second.provenance.parent_sha256 == first.sha256
    assert second.sparsity == pytest.approx(0.2, abs=1 / size_of(second))


def test_without_mask_learning_goes_by_networks_trained_with_free_lb(trial, store):
    first = store.ticket(training(trial, "without_mask_learning", 10, "free_lb"))
    trained = store.weights(training(trial, "free_lb", 0, "free_lb"))
    keep = size_of(first) - int(0.1 * size_of(first))
    assert kept(first) == largest({p: np.abs(trained[p]) for p in first.masks}, keep)
    assert store.ticket(training(trial, "without_mask_learning")).is_within(first)


def test_random_tickets_have_the_robust_ones_layers_and_other_places(trial, store):
    robust, random = (store.ticket(training(trial, name)) for name in ("robust", "random"))
    assert random.layer_densities == robust.layer_densities
    assert random.sha256 != robust.sha256


@pytest.mark.parametrize("method", ["lth", "random", "robust", "without_initialization"])
def test_trained_weights_outside_the_masks_are_zero(trial, store, method):
    trained = store.weights(training(trial, method))
    for path, mask in store.ticket(training(trial, method)).masks.items():
        assert not trained[path][~mask].any()
        assert trained[path][mask].any()


def test_tickets_start_from_the_pre_trained_weights_and_a_new_classifier(trial, store):
    encoder = read_encoder_again(trial.network.encoder).weights
    start = fresh_weights(trial.network, 0)
    assert all(np.array_equal(start[path], encoder[path]) for path in encoder)
    assert set(start) - set(encoder) == {"logits/kernel", "logits/bias"}
    sha256 = arrays_sha256(start)
    for method in ("lth", "random", "robust", "without_adversarial"):
        assert store.ticket(training(trial, method)).provenance.initial_weights_sha256 == sha256
    provenance = store.ticket(training(trial, "robust")).provenance
    assert (provenance.algorithm, provenance.level, provenance.seed) == ("robust", 20, 0)
    assert arrays_sha256(fresh_weights(trial.network, 1)) != sha256


def test_ablations_start_from_what_they_are_named_after(trial, tmp_path_factory, store):
    """What a training began with is what it keeps of iteration 0."""
    folder = tmp_path_factory.mktemp("from_their_starts")
    (folder / "store").symlink_to(store.root)
    names = ("without_structure", "without_initialization")
    begun = [training(trial, name).keeping([0]) for name in names]
    run(folder, begun)
    mixed, anew = (store.weights(each, 0) for each in begun)
    start, robust = fresh_weights(trial.network, 0), store.ticket(training(trial, "robust"))
    for path, mask in robust.masks.items():
        np.testing.assert_array_equal(mixed[path][mask], start[path][mask])
        assert (mixed[path][~mask] != start[path][~mask]).all()
        assert (anew[path][mask] != start[path][mask]).all() and not anew[path][~mask].any()
    assert {p for p in start if not np.array_equal(start[p], anew[p])} == set(robust.masks)
    scale = np.concatenate([anew[path][mask] for path, mask in robust.masks.items()]).std()
    assert scale == pytest.approx(0.02, rel=0.1)
    assert store.ticket(training(trial, "without_initialization")).sha256 == robust.sha256
    assert store.ticket(training(trial, "without_structure")).sparsity == 0


def test_sparsity_is_reported_over_masked_weights_and_over_all(trial, store):
    robust = training(trial, "robust")
    record = store.record(Measurement(robust, examples=16))
    (of_all,) = [value for _, name, value in record.history if name == "ticket/model/sparsity"]
    drawn, trained = store.ticket(robust), store.weights(robust)
    removed = sum(int(np.sum(~mask)) for mask in drawn.masks.values())
    assert record.sparsity == pytest.approx(removed / size_of(drawn))
    assert of_all == pytest.approx(removed / sum(array.size for array in trained.values()))
    assert of_all < record.sparsity


def test_a_search_ends_with_log_alphas_and_reports_how_they_settle(trial, store):
    search = trial.search()
    record = store.record(search)
    assert not store.has_ticket(search) and record.sparsity == 0
    assert set(store.weights(search)) == set(store.ticket(training(trial, "robust")).masks)
    metrics = {name for _, name, _ in record.history}
    assert {f"masks/all/{name}" for name in ("expected_l0", "share_zero", "share_one")} <= metrics
    penalties = [value for _, name, value in record.history if name == "masks/all/penalty"]
    assert penalties[0] == 0 and penalties[-1] == 0.5
    expected = [value for _, name, value in record.history if name == "masks/all/expected_l0"]
    # σ(log α − β log(−γ/ζ)) of log α = ln 5.
    assert expected[0] == pytest.approx(1 / (1 + (1 / 11) ** (2 / 3) / 5), rel=1e-5)


def test_the_weights_best_on_validation_are_kept_and_tested(trial, store):
    longer = training(trial, "without_structure_longer")
    record = store.record(longer)
    validation = {
        at: value for at, name, value in record.history if name == "validation/natural/accuracy"
    }
    assert set(validation) == {0, 4, 8}
    assert validation[record.ended] == max(validation[at] for at in (4, 8))
    (tested,) = [
        entry
        for entry in store.record(Measurement(longer, examples=16)).history
        if entry[1] == "test/natural/accuracy"
    ]
    data = PLACE.load(text_plans.DATA_SET, 0)
    tokens = PLACE.tokenizer(read_encoder_again(trial.network.encoder), text_plans.DATA_SET)
    token_ids, segment_ids = tokens(data.test.texts)
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids}
    inputs["padding_mask"] = (token_ids != 0).astype(np.int32)
    answers = np.argmax(network_of(longer, store.weights(longer)).model(inputs), axis=1)
    assert tested[0] == record.ended
    assert tested[2] == pytest.approx(np.mean(answers == data.test.labels))


def test_a_stopped_run_ends_with_the_same_weights(trial, store, tmp_path, monkeypatch):
    """Also where dropout and the masks' noise stand is saved."""
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 1)
    wanted = [training(trial, "robust"), training(trial, "lth", 10)]
    for calls in (2, 5, 5):
        with pytest.raises(StopRequested):
            run(tmp_path, wanted, stop_at_call(calls))
    resumed = run(tmp_path, wanted)
    for each in in_order(wanted):
        for path, array in store.weights(each).items():
            np.testing.assert_array_equal(resumed.weights(each)[path], array, err_msg=path)


def test_the_learning_rate_rises_and_the_last_weights_can_be_kept(trial, tmp_path):
    # Two epochs of four steps, a quarter of them to warm up.
    tuning = FineTuning(2, 2, 16, 1e-3, 0.01, 0.1, 1.0, 0.25, "last")
    folder = trial.network.encoder.place.bert_dir
    last = make_trial(folder, fine_tuning=tuning).training("fine_tune").keeping([8])
    np.testing.assert_allclose(
        last.rates(0, 8), [0, 5e-4, 1e-3, *(1e-3 * k / 6 for k in (5, 4, 3, 2, 1))]
    )
    store = run(tmp_path, [last])
    assert store.record(last).ended == 8
    at_end = store.weights(last, 8)
    for path, array in store.weights(last).items():
        np.testing.assert_array_equal(array, at_end[path], err_msg=path)


def test_another_encoder_is_other_work_and_is_refused_where_the_plan_knew_it(trial, tmp_path):
    folder = write_folder(tmp_path / "tiny")
    same = make_trial(folder).training("fine_tune")
    assert same.identity == trial.training("fine_tune").identity
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text().replace("film", "book"))
    other = make_trial(folder).training("fine_tune")
    assert other.identity != same.identity
    read_encoder_again.cache_clear()
    with pytest.raises(UserError, match="--bert_dir=.*tiny: not the encoder that it was"):
        run(tmp_path, [same])


def test_other_texts_are_refused(trial):
    changed = dataclasses.replace(trial.texts, sha256="0" * 64)
    with pytest.raises(UserError, match="--data_sets=movie_reviews: its content is not what"):
        read_again(changed, None)
    assert len(read_again(trial.texts, None).train) == 64


def test_an_export_answers_as_its_network_does(trial, store, tmp_path):
    exports = export_texts([trial.training("robust")], store, None, tmp_path)
    ((name, export),) = exports.items()
    assert name == f"{text_plans.DATA_SET}, robust, level 20"
    assert export.zeros == export.prunable - int(0.8 * export.prunable + 0.5)
    assert export.max_logits_difference < 1e-4
    assert not export_texts([trial.training("robust")], Store(tmp_path / "none"), None, tmp_path)


# Attacks


def attacks_of(trial, method="robust", how=ATTACKS):
    resources = how.described_resources()
    return [one.nodes[0] for one in trial.attacks(how, resources) if one.labels["method"] == method]


@pytest.fixture(scope="module")
def attacked(trial, store, tmp_path_factory):
    """The store with the attacks on the robust ticket, after its epoch and at its end."""
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "store").symlink_to(store.root)
    told = []
    run(folder, attacks_of(trial), advance=lambda *each: told.append(each))
    attacks = [entry for entry in told if entry[1].startswith("characters on")]
    assert sum(done for done, _ in attacks) == pytest.approx(sum(map(passes, attacks_of(trial))))
    return store


def test_what_attacks_did_is_kept_for_every_text(trial, attacked):
    assert {(node.split, node.at) for node in attacks_of(trial)} == {
        ("test", None),
        ("validation", 4),
    }
    for node in attacks_of(trial):
        rows = read_outcomes(attacked.table_path(node))
        record = attacked.record(node)
        assert len(rows) == 3
        measured = {name: value for _, name, value in record.history}
        place = f"{node.split}/characters"
        assert measured[f"{place}/examples"] == 3
        held = np.mean([row.outcome == 0 for row in rows])
        assert measured[f"{place}/accuracy"] <= measured[f"{place}/clean_accuracy"]
        assert {at for at, *_ in record.history} == {
            attacked.record(node.of).ended if node.at is None else node.at
        }
        assert 0 <= held <= 1
        texts = {row.texts for row in rows}
        data = PLACE.load(text_plans.DATA_SET, 0)
        assert texts <= set(getattr(data, node.split).texts)


def test_a_killed_attack_goes_on_with_the_same_texts(trial, attacked, tmp_path, monkeypatch):
    from tf_tickets.evaluation import text_attacks

    monkeypatch.setattr(text_attacks, "_SECONDS_BETWEEN_SAVES", 0.0)
    (node,) = [each for each in attacks_of(trial) if each.split == "test"]
    (tmp_path / "store").mkdir()
    for each in in_order([node]):
        if not isinstance(each, TextAttacked):
            (tmp_path / "store" / each.identity).symlink_to(attacked.path(each))
    begun = Store(tmp_path / "store")
    with killed_after(6) as was_killed:
        run(tmp_path, [node])
    assert was_killed() and not begun.is_finished(node)
    assert begun.table_path(node).exists()
    asked = []
    run(tmp_path, [node], advance=lambda done, _: asked.append(done))
    assert len(asked) < 4
    assert begun.table_path(node).read_bytes() == attacked.table_path(node).read_bytes()
    assert begun.record(node) == attacked.record(node)


def test_another_resource_is_refused(trial, store, tmp_path):
    (node,) = [each for each in attacks_of(trial) if each.split == "test"]
    other = dataclasses.replace(node, resources=(("stop_words", "another list"),))
    (tmp_path / "store").symlink_to(store.root)
    with pytest.raises(UserError, match="--stop_words: .*, not another list as when the run"):
        run(tmp_path, [other])


def test_the_chief_alone_attacks(trial, store, tmp_path):
    (node,) = [each for each in attacks_of(trial) if each.split == "validation"]
    other = dataclasses.replace(node, examples=2)
    reader = Store(store.root, writable=False)
    work = TextWork(reader, Places(), DEVICE, lambda *_: None, lambda of: tmp_path, lambda: None)
    work.perform(other)
    assert not store.path(other).exists()


def test_versions_of_what_computes_are_those_of_texts():
    names = {name for name, _ in runtime.deciding_text_versions()}
    assert {"tensorflow", "keras-nlp", "tensorflow-text"} <= names
    assert {"textattack", "torch"} <= {name for name, _ in runtime.attacking_versions()} - names
