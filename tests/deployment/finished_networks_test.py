"""Runs as folders of made-up files; what is chosen follows from their names."""

import json

import pytest

from tf_tickets.deployment.finished_networks import (
    FinishedNetwork,
    find_network,
    finished_networks,
)
from tf_tickets.errors import UserError
from tf_tickets.runs.results import to_csv
from tf_tickets.runs.run_directory import Cell

PGD = Cell("mnist", "pgd", "original", 0)
NATURAL = Cell("mnist", "natural", "original", 1)
WIDE = Cell("cifar10", "pgd", "fgsm_ticket_70", 3, "wide_resnet_10_1")
RESNET = Cell("cifar10", "natural", "l1_filters", 0, "resnet_20")


def touch(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add(
    run, cell, level, suffix=".npz", record=True, metrics=((1, "validation/natural/loss", 1.0),)
):
    name = f"level_{level:02d}"
    if suffix == ".npz":
        touch(run / "tickets" / cell.path / f"{name}.npz")
    touch(run / "checkpoints" / cell.path / f"{name}{suffix}")
    if record:
        rows = cell.results("made_up", level, 0.5, metrics)
        touch(run / "records" / cell.path / f"{name}.csv", to_csv(rows))


@pytest.fixture
def run(tmp_path):
    touch(tmp_path / "config.json", json.dumps({"eps": 0.1}))
    add(tmp_path, PGD, 0)
    add(tmp_path, PGD, 2)
    add(tmp_path, NATURAL, 2)
    add(tmp_path, WIDE, 1)
    add(tmp_path, RESNET, 1, suffix=".keras")
    add(tmp_path, PGD, 3, record=False)  # Still training.
    touch(tmp_path / "tickets" / PGD.path / "initial_weights.npz")
    touch(tmp_path / "checkpoints" / PGD.path / "level_04.npz")  # A search without a ticket.
    return tmp_path


def test_all_finished_networks_are_found(run):
    found = {(each.cell, each.level, each.has_masks) for each in finished_networks(run)}
    expected = {(PGD, 0), (PGD, 2), (NATURAL, 2), (WIDE, 1)}
    assert found == {(*each, True) for each in expected} | {(RESNET, 1, False)}


@pytest.mark.parametrize(
    ("level", "wanted", "cell"),
    [
        (0, {}, PGD),
        (2, {"regime": "pgd"}, PGD),
        (2, {"seed": 1}, NATURAL),
        (1, {"model": "wide_resnet_10_1"}, WIDE),
        (1, {"method": "l1_filters", "data_set": "cifar10"}, RESNET),
    ],
)
def test_the_one_that_fits_is_chosen(run, level, wanted, cell):
    found = find_network(run, level, wanted)
    assert (found.cell, found.level) == (cell, level)
    folder = "checkpoints" if cell is RESNET else "tickets"
    suffix = ".keras" if cell is RESNET else ".npz"
    assert found.path == run / folder / cell.path / f"level_0{level}{suffix}"
    assert found.config == {"eps": 0.1}


@pytest.mark.parametrize(
    ("level", "wanted", "message"),
    [
        (2, {}, "--level=2: 2 networks in .*choose one by --regime=natural|pgd --seed=0|1"),
        (7, {"regime": "pgd"}, "--level=7: not finished in .*; levels there are 0, 1, 2"),
        (3, {"data_set": "mnist"}, "--level=3: not finished"),
        (2, {"method": "random"}, "--method=random: nothing like that in .*original"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_can(run, level, wanted, message):
    with pytest.raises(UserError, match=message.replace("|", r"\|")) as caught:
        find_network(run, level, wanted)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--run_dir=.*no config.json"):
        find_network(tmp_path, 0, {})
    touch(tmp_path / "config.json", "{}")
    with pytest.raises(UserError, match=r"--run_dir=.*no level is finished"):
        find_network(tmp_path, 0, {})
    touch(tmp_path / "config.json", "[]")
    with pytest.raises(UserError, match=r"config.json: damaged"):
        find_network(tmp_path, 0, {})


def test_only_its_own_test_results_count_as_measured(run):
    add(run, PGD, 2, metrics=[(5, "test/pgd/accuracy", 0.25), (5, "validation/pgd/loss", 1.0)])
    transfer = PGD.results("made_up", 2, 0.5, [(5, "test/transfer/accuracy", 0.75)])
    other = PGD.results("made_up", 0, 0.5, [(5, "test/transfer/accuracy", 0.5)])
    touch(run / "records" / PGD.path / "transfer.csv", to_csv([*transfer, *other]))
    network = find_network(run, 2, {"regime": "pgd"})
    assert isinstance(network, FinishedNetwork)
    assert {row.metric: row.value for row in network.measured()} == {
        "test/pgd/accuracy": 0.25,
        "test/transfer/accuracy": 0.75,
    }
