"""A run's folder: names that lead to the store's files, results, and what killed runs leave."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import tf_keras as keras

from tests.runs.events_test import as_written, read_images, read_scalars
from tests.work.kills import killed_at_every_point
from tests.work.plans import (
    DENSE,
    EVALUATION,
    FINDING,
    RANDOM,
    RETRAINED,
    TRAININGS,
    labels,
    measured,
)
from tests.work.structure_plans import ELEMENTS, TICKET, WHOLE
from tests.work.transfer_plans import FIRST
from tf_tickets.errors import UserError
from tf_tickets.image_work.cuts import fresh_weights, start_of
from tf_tickets.image_work.structure_nodes import Size
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256
from tf_tickets.models.weights import read_weights
from tf_tickets.runs.events import LevelEvents
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.results import Result, read_record, read_results
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.work.nodes import Imported, Measurement
from tf_tickets.work.store import Record, Store
from tf_tickets.work.view import Shown, View, label_names

WANTED = tuple(map(measured, TRAININGS))
# The dense network under the name that another study gives it.
AGAIN = dataclasses.replace(DENSE, labels=labels("found_at_0.05_100", "pgd"))
ASSESSED = Measurement(
    DENSE,
    (dataclasses.replace(EVALUATION, name="pgd_100"),),
    ((RETRAINED, dataclasses.replace(EVALUATION, name="transfer_from_fgsm_ticket_100")),),
    30,
    labels=DENSE.labels,
)


def value_of(node, part):
    """A number that no other work has."""
    return int(node.identity[:6], 16) / 2**24 + part


def trained(training):
    """A pretended record of a training."""
    return (
        (0, "validation/natural/loss", value_of(training, 0)),
        (6, "train/natural/loss", value_of(training, 1)),
        (6, "train/natural/seconds", 1.5),
    )


def met(measurement):
    """A pretended record of a measurement."""
    names = ["natural", *(each.name for each in measurement.attacks)]
    names += [attack.name for _, attack in measurement.transferred]
    return tuple(
        (6, f"test/{name}/{of}", value_of(measurement, number + half))
        for number, name in enumerate(names)
        for half, of in ((0, "accuracy"), (0.5, "loss"))
    )


def finish(store, node):
    """Stores pretended work, with real files."""
    if isinstance(node, Measurement):
        store.finish(node, Record(met(node), (6,), store.record(node.of).sparsity))
        return
    seed = TRAININGS.index(node) if node in TRAININGS else 9
    mask = np.random.default_rng(seed).random((7, 5)) < 0.5
    start = arrays_sha256(fresh_weights(node.network, node.start.seed))
    provenance = Provenance("pretended", "m", {}, "d", 0, node.stream, start, "", {})
    ticket = Ticket({"hidden/kernel": mask}, provenance)
    weights = {"hidden/kernel": np.where(mask, seed + 0.5, 0).astype(np.float32)}
    store.finish(node, Record(trained(node), (6,), ticket.sparsity), ticket, [weights])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of all that these tests show."""
    store = Store(tmp_path_factory.mktemp("whole") / "store")
    for node in (*TRAININGS, *WANTED, ASSESSED):
        finish(store, node)
    return store


def open_view(root, store, wanted=WANTED, assessed=(), **arguments):
    run = RunDirectory(root / "run", {"seed": 0}, {}, **arguments)
    shown = [Shown((each,)) for each in wanted]
    shown += [Shown((each,), "assessment") for each in assessed]
    return View(run, store, "test", tuple(shown), start_of)


def shown(root, store, wanted=WANTED, assessed=()):
    view = open_view(root, store, wanted, assessed)
    view.show_finished()
    return view.run


def place(training, method=None):
    """Where a training's files lie, below a folder of the run."""
    named = training.labels | ({"method": method} if method else {})
    return f"mnist/lenet_300_100/{named['regime']}/{named['method']}/seed_0"


def file_of(training, method=None):
    return f"{place(training, method)}/level_{training.stream:02d}"


def bytes_of(run):
    """Every file but TensorBoard's, which say the time of day."""
    return {
        path.relative_to(run.path): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and "tensorboard" not in path.parts
    }


def rows(training, entries, method=None):
    sparsity = 1 - np.mean(np.random.default_rng(TRAININGS.index(training)).random((7, 5)) < 0.5)
    method, regime = method or training.labels["method"], training.labels["regime"]
    where = ("test", "mnist", "lenet_300_100", method, regime, 0, training.stream, sparsity)
    return [Result(*where, *entry) for entry in entries]


def test_names_lead_to_the_stores_files(whole, tmp_path):
    run = shown(tmp_path, whole)
    for training in TRAININGS:
        ticket = run.path / f"tickets/{file_of(training)}.npz"
        weights = run.path / f"checkpoints/{file_of(training)}.npz"
        assert ticket.samefile(whole.ticket_path(training))
        assert weights.samefile(whole.weights_path(training))
        assert Ticket.load(ticket) == whole.ticket(training)


def test_they_are_copies_where_files_have_one_name(whole, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):
        run = shown(tmp_path, whole)
        for training in TRAININGS:
            weights = run.path / f"checkpoints/{file_of(training)}.npz"
            assert not weights.samefile(whole.weights_path(training))
            assert weights.read_bytes() == whole.weights_path(training).read_bytes()


def test_the_results_are_records_with_labels(whole, tmp_path):
    run = shown(tmp_path, whole)
    expected = []
    for measurement in sorted(WANTED, key=lambda each: place(each.of)):
        entries = (*trained(measurement.of), *met(measurement))
        expected += rows(measurement.of, entries)
    assert read_results(run.results_path) == expected


def test_further_labels_are_columns_of_all_results(whole, tmp_path):
    first = dataclasses.replace(DENSE, labels={**DENSE.labels, "percent": 40, "family": None})
    second = dataclasses.replace(FINDING, labels={**FINDING.labels, "family": "found"})
    wanted = [measured(first), measured(second)]
    assert [each.identity for each in wanted] == [
        measured(DENSE).identity,
        measured(FINDING).identity,
    ]
    run = shown(tmp_path, whole, wanted)
    found = {row.method: row.labels for row in read_results(run.results_path)}
    assert found == {
        DENSE.labels["method"]: (("percent", "40"),),
        FINDING.labels["method"]: (("family", "found"),),
    }
    assert label_names(Shown((each,)) for each in wanted) == ["percent", "family"]


def test_one_training_has_as_many_names_as_it_was_given(whole, tmp_path):
    run = shown(tmp_path, whole, (measured(DENSE), measured(AGAIN)))
    found = read_results(run.results_path)
    entries = (*trained(DENSE), *met(measured(DENSE)))
    for method in ("dense_100", "found_at_0.05_100"):
        named = [row for row in found if row.method == method]
        assert named == rows(DENSE, entries, method)
        weights = run.path / f"checkpoints/{file_of(DENSE, method)}.npz"
        assert weights.samefile(whole.weights_path(DENSE))
        assert (run.path / f"tensorboard/{file_of(DENSE, method)}").is_dir()


def test_events_of_a_training_go_to_the_first_of_its_names(whole, tmp_path):
    view = open_view(tmp_path, whole, (measured(AGAIN), measured(DENSE)))
    path = view.run.path / f"tensorboard/{file_of(DENSE, 'found_at_0.05_100')}"
    assert view.events_path(DENSE) == view.events_path(AGAIN) == path


def test_an_assessment_is_a_record_apart(whole, tmp_path):
    run = shown(tmp_path, whole, WANTED, [ASSESSED])
    record = read_record(run.path / "records" / place(DENSE) / "assessment.csv")
    accuracies = [each for each in met(ASSESSED)[2:] if each[1].endswith("/accuracy")]
    assert record == rows(DENSE, accuracies)
    names = {row.metric for row in record}
    assert names == {"test/pgd_100/accuracy", "test/transfer_from_fgsm_ticket_100/accuracy"}
    assert set(record) <= set(read_results(run.results_path))
    assert len(read_results(run.results_path)) == 4 * (3 + 4) + 2


def test_initial_weights_are_those_that_nothing_redrew(whole, tmp_path):
    run = shown(tmp_path, whole, [measured(RANDOM)])
    path = run.path / "tickets/mnist/lenet_300_100/seed_0/initial_weights.npz"
    assert not path.exists()
    shown(tmp_path, whole, [measured(RETRAINED), measured(RANDOM)])
    stated = whole.ticket(FINDING).provenance.initial_weights_sha256
    assert arrays_sha256(load_arrays(path)) == stated


def test_a_name_that_stands_for_other_work_leads_to_that(whole, tmp_path):
    run = shown(tmp_path, whole, [measured(DENSE)])
    wider = dataclasses.replace(
        DENSE, network=dataclasses.replace(DENSE.network, width_multiplier=0.2)
    )
    store = Store(tmp_path / "store")
    for node in (wider, measured(wider)):
        finish(store, node)
    shown(tmp_path, store, [measured(wider)])
    path = run.path / "tickets/mnist/lenet_300_100/seed_0/initial_weights.npz"
    assert arrays_sha256(load_arrays(path)) == arrays_sha256(fresh_weights(wider.network, 0))
    weights = run.path / f"checkpoints/{file_of(DENSE)}.npz"
    assert weights.samefile(store.weights_path(wider))
    events = run.path / f"tensorboard/{file_of(DENSE)}"
    assert read_scalars(events)[:3] == as_written(trained(wider))
    values = {row.value for row in read_results(run.results_path)}
    assert value_of(wider, 1) in values and value_of(DENSE, 1) not in values


@pytest.mark.parametrize("name", ["tickets", "checkpoints"])
def test_a_folder_in_a_files_place_is_one_line(whole, tmp_path, name):
    view = open_view(tmp_path, whole)
    in_the_way = view.run.path / f"{name}/{file_of(RETRAINED)}.npz"
    (in_the_way / "mine").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        view.show_finished()
    expected = f"{in_the_way}: a folder, but a file is written here; move it away"
    assert str(caught.value) == expected
    assert (in_the_way / "mine").is_dir()


@pytest.mark.parametrize("name", ["weights.npz", "ticket.npz"])
def test_a_file_that_the_store_has_lost_is_one_line(tmp_path, name):
    store = Store(tmp_path / "store")
    for node in (FINDING, measured(FINDING)):
        finish(store, node)
    folder = store.path(FINDING)
    (folder / name).unlink()
    with pytest.raises(UserError) as caught:
        shown(tmp_path, store, [measured(FINDING)])
    cure = "no such file; delete its folder to have it made anew"
    assert str(caught.value) == f"{folder / name}: {cure}"


def test_a_run_grows(whole, tmp_path):
    run = shown(tmp_path, whole, [measured(DENSE)])
    before = bytes_of(run)
    more = [measured(DENSE), measured(FINDING), measured(RETRAINED)]
    grown = shown(tmp_path, whole, more, [ASSESSED])
    kept = {path: content for path, content in before.items() if path.name != "results.csv"}
    assert kept.items() <= bytes_of(grown).items()
    methods = {row.method for row in read_results(grown.results_path)}
    assert methods == {"dense_100", "finding_fgsm_0.05", "fgsm_ticket_100"}
    assert bytes_of(shown(tmp_path / "alone", whole, more, [ASSESSED])) == bytes_of(grown)


def test_results_are_of_what_was_asked_for_last(whole, tmp_path):
    """As config.json is; the rest stays on disk, and comes back when it is asked for."""
    both = (measured(DENSE), measured(FINDING))
    run = shown(tmp_path, whole, both, [ASSESSED])
    before = bytes_of(run)
    shown(tmp_path, whole, [measured(FINDING)])
    assert {row.method for row in read_results(run.results_path)} == {"finding_fgsm_0.05"}
    after = bytes_of(run)
    assert before.keys() == after.keys()
    assert {path.name for path in before if before[path] != after[path]} == {"results.csv"}
    assert bytes_of(shown(tmp_path, whole, both, [ASSESSED])) == before


def test_only_what_is_finished_is_shown(whole, tmp_path):
    """And a training only with its measurement."""
    store = Store(tmp_path / "store")
    finish(store, DENSE)
    view = open_view(tmp_path, store)
    view.show_finished()
    view.show(DENSE)
    assert not (view.run.path / "records").exists()
    finish(store, measured(DENSE))
    view.show(measured(DENSE))
    assert {row.method for row in read_results(view.run.results_path)} == {"dense_100"}


def test_what_is_shown_already_is_left_as_it_is(whole, tmp_path):
    def times(run):
        folders = ("records", "tickets", "checkpoints", "tensorboard")
        paths = [path for folder in folders for path in (run.path / folder).rglob("*.*")]
        return {path: path.stat().st_mtime_ns for path in paths}

    first = times(shown(tmp_path, whole))
    assert times(shown(tmp_path, whole)) == first and len(first) > 4 * 4


def test_events_of_work_that_was_taken_over(whole, tmp_path):
    run = shown(tmp_path, whole)
    for training in TRAININGS:
        folder = run.path / f"tensorboard/{file_of(training)}"
        mask = whole.ticket(training).masks["hidden/kernel"]
        (sparsity,) = as_written([(6, "sparsity/hidden/kernel", 1 - mask.mean())])
        assert read_scalars(folder) == [*as_written(trained(training)), sparsity]
        assert set(read_images(folder)) == {"mask/hidden/kernel"}


def test_events_of_an_attempt_that_others_finished_are_made_whole(whole, tmp_path):
    """A training was killed here, and done by another run."""
    view = open_view(tmp_path, whole, [measured(DENSE)])
    attempt = LevelEvents(view.events_path(DENSE), {"seed": 0})
    attempt.add_history([(0, "validation/natural/loss", 7.0)])
    view.show_finished()
    assert read_scalars(view.events_path(DENSE))[:3] == as_written(trained(DENSE))


def test_events_that_were_deleted_come_back(whole, tmp_path):
    run = shown(tmp_path, whole, [measured(DENSE)])
    folder = run.path / f"tensorboard/{file_of(DENSE)}"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    shown(tmp_path, whole, [measured(DENSE)])
    assert read_scalars(folder)[:3] == as_written(trained(DENSE))


def test_who_must_not_write_shows_nothing(whole, tmp_path):
    view = open_view(tmp_path, whole, writable=False)
    view.show_finished()
    assert not (tmp_path / "run").exists()


def cut_work(root):
    """A store of networks without masks, the second cut from the first, and what they met."""
    store = Store(root / "store")
    network = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3, name="out")])
    store.keep(WHOLE, 2, read_weights(network))
    store.finish(WHOLE, Record(trained(WHOLE), (6,), 0.0), None, [read_weights(network)], network)
    store.finish(TICKET.network, Record((), (6,), 0.25), removal={"filters": {}, "blocks": []})
    record = Record(trained(TICKET), (6,), 0.25)
    store.finish(TICKET, record, None, [read_weights(network)], network)
    for node in (Size(WHOLE, WHOLE.labels), Size(TICKET, TICKET.labels)):
        counted = ((6, "model/size/parameters", 9.0),)
        store.finish(node, Record(counted, (6,), store.record(node.of).sparsity))
    versions = (
        {"method": "without:conv_1:0", "element_kind": "filters", "element_index": 0},
        {"method": "without:nothing", "element_kind": "nothing"},
    )
    without = tuple((0, "test/natural/accuracy", value) for value in (0.25, 0.5))
    store.finish(ELEMENTS, Record(without, (6,), 0.0, versions))
    return store


def show_cut_work(root):
    store = cut_work(root)
    run = RunDirectory(root / "run", {"seed": 0}, {})
    networks = [Shown((Size(each, each.labels),)) for each in (WHOLE, TICKET)]
    asked_for = (*networks, Shown((ELEMENTS,), "without_conv_1"))
    View(run, store, "test", asked_for, start_of).show_finished()
    return run, store


def test_networks_without_masks_are_keras_files_and_cuts_json(tmp_path):
    run, store = show_cut_work(tmp_path)
    found = {
        str(path.relative_to(run.path))
        for name in ("tickets", "checkpoints", "records")
        for path in (run.path / name).rglob("*.*")
    }
    of_whole = "mnist/lenet_conv/natural/unpruned/seed_0"
    of_ticket = "mnist/lenet_conv/natural/l1_filters_winning_ticket/seed_0"
    assert found == {
        f"checkpoints/{of_whole}/level_00.keras",
        f"checkpoints/{of_whole}/rewind.npz",
        f"checkpoints/{of_ticket}/level_01.keras",
        f"tickets/{of_ticket}/level_01.json",
        f"records/{of_whole}/level_00.csv",
        f"records/{of_whole}/without_conv_1.csv",
        f"records/{of_ticket}/level_01.csv",
    }
    network = run.path / f"checkpoints/{of_ticket}/level_01.keras"
    assert network.samefile(store.network_path(TICKET))
    rewound = run.path / f"checkpoints/{of_whole}/rewind.npz"
    assert rewound.samefile(store.weights_path(WHOLE, 2))
    removal = run.path / f"tickets/{of_ticket}/level_01.json"
    assert removal.samefile(store.removal_path(TICKET.network))


def test_versions_of_a_network_have_rows_of_their_own(tmp_path):
    run, _ = show_cut_work(tmp_path)
    where = run.path / "records/mnist/lenet_conv/natural/unpruned/seed_0/without_conv_1.csv"
    expected = [
        Result(
            *("test", "mnist", "lenet_conv", method, "natural", 0, 0, 0.0, 0),
            *("test/natural/accuracy", value, labels),
        )
        for method, value, labels in (
            ("without:conv_1:0", 0.25, (("element_kind", "filters"), ("element_index", "0"))),
            ("without:nothing", 0.5, (("element_kind", "nothing"),)),
        )
    ]
    assert read_record(where) == expected
    assert set(expected) < set(read_results(run.results_path))


def test_killed_at_every_point_where_something_is_written(whole, tmp_path):
    """At the first such point, at the second, and so on; what is shown then is the same."""
    wanted = (measured(FINDING), measured(DENSE), measured(AGAIN))
    expected = bytes_of(shown(tmp_path / "whole", whole, wanted, [ASSESSED]))
    kills = 0

    def show(point):
        return shown(tmp_path / f"killed_{point}", whole, wanted, [ASSESSED])

    for point in killed_at_every_point(show):
        run = show(point)
        assert bytes_of(run) == expected, point
        for training, method in ((FINDING, None), (DENSE, None), (AGAIN, "found_at_0.05_100")):
            folder = run.path / f"tensorboard/{file_of(training, method)}"
            assert read_scalars(folder)[:3] == as_written(trained(training)), point
        kills += 1
    # All files but results.csv once, and that when the run begins and when all is shown.
    assert kills == len(expected) + 1


def shown_alone(root, store, *shown):
    view = dataclasses.replace(open_view(root, store, []), shown=shown)
    view.show_finished()
    return view


def test_a_ticket_by_itself_is_shown_without_a_record(whole, tmp_path):
    store = Store(tmp_path / "store")
    masks = Ticket({"conv/kernel": np.ones((2, 2), bool)}, whole.ticket(DENSE).provenance)
    found = dataclasses.replace(FIRST, labels={**DENSE.labels, "method": "at_imp", "level": 1})
    store.finish(found, Record((), (0,), 0.0), masks)
    view = shown_alone(tmp_path, store, Shown((found,)))
    path = view.run.path / "tickets/mnist/lenet_300_100/pgd/at_imp/seed_0/level_01.npz"
    assert path.samefile(store.ticket_path(found))
    assert not (view.run.path / "records").exists()


def test_a_training_that_nothing_is_measured_of_is_shown_with_its_own_numbers(whole, tmp_path):
    view = shown_alone(tmp_path, whole, Shown((FINDING,)))
    cell = Cell("mnist", "fgsm", "finding_fgsm_0.05", 0, "lenet_300_100")
    found = view.run.finished_results(cell, 0)
    assert found == rows(FINDING, trained(FINDING))
    assert view.run.trained_weights_path(cell, 0).samefile(whole.weights_path(FINDING))


def test_a_network_of_others_with_a_new_head_has_an_empty_record(whole, tmp_path):
    store = Store(tmp_path / "store")
    imported = Imported(
        FINDING.network, FINDING.data, "0" * 64, 0, FINDING.platform, labels=FINDING.labels
    )
    ticket = whole.ticket(FINDING)
    store.finish(imported, Record((), (0,), 0.0), ticket, [whole.weights(FINDING)])
    view = shown_alone(tmp_path, store, Shown((imported,)))
    cell = Cell("mnist", "fgsm", "finding_fgsm_0.05", 0, "lenet_300_100")
    assert view.run.is_finished(cell, 0) and view.run.finished_results(cell, 0) == []
    assert view.run.trained_weights_path(cell, 0).samefile(store.weights_path(imported))


def test_the_way_of_the_weights_is_shown_in_one_file(whole, tmp_path):
    shutil.copytree(whole.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    on_the_way = {at: {"hidden/kernel": np.full((7, 5), at, np.float32)} for at in (0, 3, 6)}
    keeping = dataclasses.replace(DENSE, keeps=(0, 3, 6))
    for at, weights in on_the_way.items():
        store.keep(keeping, at, weights)
    finish(store, keeping)
    view = shown_alone(tmp_path, store, Shown((measured(keeping),), trajectory=(0, 3, 6)))
    (path,) = view.run.path.rglob("*_trajectory.npz")
    assert path.name == "level_00_trajectory.npz" and path.parent.name == "seed_0"
    found = load_arrays(path)
    assert set(found) == {f"{number:03d}/hidden/kernel" for number in range(3)}
    for number, at in enumerate((0, 3, 6)):
        np.testing.assert_array_equal(found[f"{number:03d}/hidden/kernel"], np.full((7, 5), at))
    more = dataclasses.replace(keeping, keeps=(0, 1, 3, 6))  # Which is to be trained again for it.
    asked = Shown((measured(more),), trajectory=more.keeps)
    assert not list(shown_alone(tmp_path / "more", store, asked).run.path.rglob("*.npz"))
    path.unlink()
    view.show_finished()
    assert path.exists()  # A run that asks for it later has it, too.


def test_what_is_missing_is_not_shown(whole, tmp_path):
    missing = Shown((Measurement(DENSE, labels=DENSE.labels),))
    view = shown_alone(tmp_path, whole, missing, Shown((measured(RETRAINED),)))
    records = {path.parent.parent.name for path in view.run.path.rglob("level_0*.csv")}
    assert records == {"fgsm_ticket_100"}
