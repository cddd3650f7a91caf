"""Networks cut and trained: starts, files, tests and interruptions."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import mirrored, stop_at_call
from tf_tickets.attacks.threat_model import fgsm
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.models.weights import read_weights
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.results import from_csv
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.network_store import NetworkStore
from tf_tickets.search.structure_assessment import remove_single_elements, transfer_between
from tf_tickets.search.structure_runner import StructureSettings, run_networks
from tf_tickets.search.structure_tests import AttackSettings
from tf_tickets.search.structures import Network, in_order
from tf_tickets.structured.selection import Cut, choose_removal
from tf_tickets.structured.surgery import remove
from tf_tickets.training import loop
from tf_tickets.training.trainer import TrainingSettings

MODEL = "lenet_conv"
DEVICE = tf.distribute.OneDeviceStrategy("CPU:0")
SETTINGS = StructureSettings(
    experiment="test",
    data_set="mnist",
    data_source="embedded",
    data_dir=None,
    image_size=0,
    train_examples=40,
    validation_examples=20,
    test_examples=30,
    seeds=(0,),
    training=TrainingSettings(MODEL, 20, 0.1, 0.0, {}, optimizer="sgd", width_multiplier=0.25),
    scoring_examples=20,
    element_examples=20,
    attacks=AttackSettings({"fgsm": fgsm(0.05)}, (5,), 10),
)
WHOLE = Network("unpruned", MODEL, "natural", 2, 0.1)
CUT = Cut("l1", 0.3, 0, "global")
PRUNED = Network("l1_filters", MODEL, "natural", 1, 0.01, WHOLE, CUT)
TWICE = dataclasses.replace(PRUNED, base=PRUNED)
SCRATCH = dataclasses.replace(PRUNED, method="l1_filters_scratch_1x", start="new")
TICKET = dataclasses.replace(
    PRUNED, method="l1_filters_winning_ticket", start="rewound", rewind_epoch=1
)
MIXED = dataclasses.replace(WHOLE, regime="mixup")
ALL = [TWICE, SCRATCH, TICKET, MIXED]


def run_all(path, networks=ALL, settings=SETTINGS, strategy=DEVICE, **arguments):
    run = RunDirectory(path, {}, {})
    run_networks(networks, settings, run, strategy, **arguments)
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_all(tmp_path_factory.mktemp("runs") / "finished")


def store_of(run, network):
    return NetworkStore(run, SETTINGS.cell(network, 0))


def model_of(run, network):
    return store_of(run, network).load_network(network.level)


def rows_of(run, network):
    return run.finished_results(SETTINGS.cell(network, 0), network.level)


def value(run, network, metric):
    (found,) = [row.value for row in rows_of(run, network) if row.metric == metric]
    return found


def test_every_network_is_there_with_all_that_it_comes_from(finished):
    for network in in_order(ALL):
        assert store_of(finished, network).network_path(network.level).exists()
        assert store_of(finished, network).removal_path(network.level).exists() == bool(network.cut)
    rows = from_csv(finished.results_path.read_text(), "results.csv")
    assert {(row.method, row.regime, row.level) for row in rows} == {
        (network.method, network.regime, network.level) for network in in_order(ALL)
    }


def test_the_cut_is_the_one_that_the_criterion_chooses_of_the_trained_network(finished):
    data = SETTINGS.load(0)
    for network in (PRUNED, TWICE):
        base = model_of(finished, network.base)
        expected, _ = choose_removal(base, CUT, SETTINGS.scoring_split(data, 0))
        assert store_of(finished, network).load_removal(network.level) == expected
        found = model_of(finished, network)
        assert {w.name: w.shape for w in found.weights} == {
            w.name: w.shape for w in remove(base, expected).weights
        }


def test_networks_shrink_and_the_results_say_how_much(finished):
    sizes = [value(finished, each, "model/size/parameters") for each in (WHOLE, PRUNED, TWICE)]
    assert sizes == [model_of(finished, each).count_params() for each in (WHOLE, PRUNED, TWICE)]
    assert sizes[0] > sizes[1] > sizes[2]
    flops = [value(finished, each, "model/size/flops") for each in (WHOLE, PRUNED, TWICE)]
    assert flops[0] > flops[1] > flops[2]
    (sparsity,) = {row.sparsity for row in rows_of(finished, TWICE)}
    assert sparsity == pytest.approx(1 - sizes[2] / sizes[0])


def starts_of(tmp_path, finished, network):
    """The weights that a network trains from: those it ends with at learning rate 0."""
    folder = tmp_path / network.method
    shutil.copytree(finished.path, folder)
    still = dataclasses.replace(network, learning_rate=1e-30, epochs=1)
    run = RunDirectory(folder, {}, {})
    run.record_path(SETTINGS.cell(network, 0), network.level).unlink()
    run_networks([still], SETTINGS, run, DEVICE)
    return read_weights(model_of(run, still))


def kernels(weights):
    return {path: array for path, array in weights.items() if path.endswith("kernel")}


def test_where_trainings_start(finished, tmp_path):
    removal = store_of(finished, PRUNED).load_removal(1)
    training = SETTINGS.training_of(MODEL)
    inherited = read_weights(remove(model_of(finished, WHOLE), removal))
    kept = training.build_model(SETTINGS.load(0), 0)
    rewound = load_arrays(finished.rewind_weights_path(SETTINGS.cell(WHOLE, 0)))
    for weight in kept.weights:
        weight.assign(rewound[weight.name.removesuffix(":0")])
    starts = {
        each.method: starts_of(tmp_path, finished, each) for each in (PRUNED, SCRATCH, TICKET)
    }
    for path, kernel in kernels(starts[PRUNED.method]).items():
        np.testing.assert_array_equal(kernel, inherited[path])
    for path, kernel in kernels(starts[TICKET.method]).items():
        np.testing.assert_array_equal(kernel, read_weights(remove(kept, removal))[path])
        assert np.any(kernel != inherited[path])
    fresh = read_weights(remove(training.build_model(SETTINGS.load(0), 0), removal))
    for path, kernel in kernels(starts[SCRATCH.method]).items():
        assert kernel.shape == fresh[path].shape and np.any(kernel != fresh[path])


def test_every_attack_is_measured_once_at_the_end(finished):
    for network in in_order(ALL):
        tests = [row for row in rows_of(finished, network) if row.metric.startswith("test")]
        assert len(tests) == len({row.metric for row in tests}) == 3 + 15 + 1
        assert {row.iteration for row in tests} == {2 * network.epochs}
    corrupted = [
        row.value
        for row in rows_of(finished, TWICE)
        if row.metric.endswith("_5/accuracy") and "semantic" not in row.metric
    ]
    mean = value(finished, TWICE, "test/semantic_5/accuracy")
    assert len(corrupted) == 15 and mean == pytest.approx(np.mean(corrupted))


def test_natural_accuracy_is_that_of_the_saved_network(finished):
    test = SETTINGS.load(0).test
    for network in (WHOLE, TWICE):
        logits = model_of(finished, network)(test.images.astype(np.float32) / 255, training=False)
        right = np.mean(np.argmax(logits, axis=1) == test.labels)
        assert value(finished, network, "test/natural/accuracy") == pytest.approx(right)


def test_what_was_removed_is_explained(finished):
    saved = json.loads(store_of(finished, PRUNED).removal_path(1).read_text())
    assert saved["provenance"]["criterion"] == "l1" and saved["provenance"]["filters"] == 0.3
    assert saved["provenance"]["scoring_examples"] == 20
    scores = np.concatenate(list(saved["scores"]["filters"].values()))
    removed = [
        saved["scores"]["filters"][layer][index]
        for layer, indices in saved["filters"].items()
        for index in indices
    ]
    assert len(removed) == int(np.ceil(0.3 * len(scores)))
    assert np.mean(removed) < np.mean(scores)


@pytest.mark.parametrize("call", [2, 5])
def test_stopped_and_resumed_it_ends_with_the_same_numbers(finished, tmp_path, monkeypatch, call):
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 1)
    with pytest.raises(StopRequested):
        run_all(tmp_path / "run", stop_if_requested=stop_at_call(call))
    again = run_all(tmp_path / "run")

    def numbers(run):
        rows = from_csv(run.results_path.read_text(), "results.csv")
        return [row for row in rows if "seconds" not in row.metric]

    assert numbers(again) == numbers(finished)


def test_a_finished_run_is_not_trained_again(finished):
    def fail():
        raise AssertionError("trained again")

    run_all(finished.path, stop_if_requested=fail)


def test_a_missing_network_is_named(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run", {}, {})
    store_of(run, WHOLE).network_path(0).write_bytes(b"no archive")
    run.record_path(SETTINGS.cell(PRUNED, 0), 1).unlink()
    with pytest.raises(UserError, match=r"level_00.keras: no .keras file.* delete .*level_00"):
        run_networks([PRUNED], SETTINGS, run, DEVICE)


def test_a_damaged_removal_is_named(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run", {}, {})
    store_of(run, PRUNED).removal_path(1).write_text('{"filters": 3}')
    run.record_path(SETTINGS.cell(PRUNED, 0), 1).unlink()
    with pytest.raises(UserError, match="level_01.json.* to choose anew, delete it"):
        run_networks([PRUNED], SETTINGS, run, DEVICE)


def test_single_elements_and_transfer_are_recorded_once(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run", {}, {})
    remove_single_elements([WHOLE], SETTINGS, run, DEVICE)
    transfer_between([WHOLE, PRUNED], SETTINGS, run, DEVICE)
    rows = from_csv(run.results_path.read_text(), "results.csv")
    without = {row.method for row in rows if row.method.startswith("without:")}
    assert {"without:nothing", "without:conv_1:0"} <= without
    assert len(without) == 1 + 5 + 12
    attacks = {row.metric for row in rows if row.method == "without:nothing"}
    names = ("natural", "fgsm", "occlusion", "semantic_5")
    assert attacks == {f"test/{name}/accuracy" for name in names}
    (found,) = [
        row for row in rows if row.metric == "test/transfer_from_lenet_conv.unpruned/accuracy"
    ]
    assert found.method == "l1_filters" and found.level == 1
    assert found.sparsity == {row.sparsity for row in rows_of(run, PRUNED)}.pop()
    text = run.results_path.read_text()
    remove_single_elements([WHOLE], SETTINGS, run, DEVICE, stop_if_requested=stop_at_call(1))
    assert run.results_path.read_text() == text


def test_several_devices_train_the_network_that_one_trains(finished, tmp_path):
    run = run_all(tmp_path / "run", [PRUNED], strategy=mirrored())
    assert value(run, PRUNED, "model/size/parameters") < value(run, WHOLE, "model/size/parameters")
    one, several = (model_of(each, WHOLE) for each in (finished, run))
    for a, b in zip(one.get_weights(), several.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"scoring_examples": 1}, {"scoring_examples": 41}, {"element_examples": 31},
     {"element_examples": -1}],
)  # fmt: skip
def test_examples_that_there_are_not(tmp_path, changes):
    with pytest.raises(UserError, match=f"--{next(iter(changes))}="):
        run_all(tmp_path / "run", settings=dataclasses.replace(SETTINGS, **changes))


def test_a_square_larger_than_the_images(tmp_path):
    attacks = dataclasses.replace(SETTINGS.attacks, occlusion_side=29)
    with pytest.raises(UserError, match="--occlusion_side=29: expected at most 28"):
        run_all(tmp_path / "run", settings=dataclasses.replace(SETTINGS, attacks=attacks))
