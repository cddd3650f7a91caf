"""The command that shows what is in a ticket, as its user runs it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import inspect_ticket
from experiments.inspect_ticket import split_paths
from tests import trained
from tests.analysis.tickets import random_ticket, save
from tests.experiments import programs
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights, write_weights
from tf_tickets.runs.files import save_arrays


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """A ticket with its trained weights in a run; most pixels are not read."""
    model = build_model("lenet_300_100", trained.SHAPE, 10, seed=0)
    weights = read_weights(model)
    weights["hidden_1/kernel"][28:] = 0
    write_weights(model, weights)
    return trained.save_run(model, tmp_path_factory.mktemp("lenet") / "run")


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    """Two tickets of a network."""
    run = tmp_path_factory.mktemp("convolutional")
    cells = {"std_imp_st": random_ticket(0, 0.5), "at_imp_st": random_ticket(1, 0.2)}
    return [
        save(run, f"mnist/natural/{method}/seed_0", 5, found) for method, found in cells.items()
    ]


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs the command in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return programs.in_this_process(inspect_ticket, capfd)


def test_from_flags_to_files(lenet, tmp_path):
    code, output, errors = programs.run("inspect_ticket", f"--ticket={lenet}", folder=tmp_path)
    assert code == 0 and errors == "", errors
    (folder,) = (tmp_path / "tensorboard_logs" / "inspect_ticket").iterdir()
    assert folder.name.startswith("original_seed_0_level_03-") and folder.name in output
    assert "lenet_300_100 (image_shape [28, 28, 1], num_classes 10)" in output
    assert "zero outside the masks, 0 of 38,400 inside are zero" in output
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*")} == {
        "inspection.json",
        "layers.csv",
        *(f"figures/{name}.png" for name in ("dead_units", "densities", "masks", "pixels")),
    }
    rows = pd.read_csv(folder / "layers.csv").set_index("layer")
    assert rows.loc["hidden_1/kernel", ["inputs", "unread_inputs"]].to_list() == [784, 756]
    assert rows.loc["all", "remaining"] == 28 * 300 + 300 * 100
    content = json.loads((folder / "inspection.json").read_text())
    (found,) = content["tickets"]
    assert content["comparison"] is None and list(content["files"]) == [str(lenet)]
    assert found["provenance"]["data_set"] == "mnist (embedded)"
    assert found["masks_sha256"] == Ticket.load(lenet).sha256
    assert found["trained_weights"]["path"] == str(lenet).replace("/tickets/", "/checkpoints/")
    assert found["layers"][1]["unread_inputs"] == 756 and found["layers"][1]["heads"] is None


def test_two_tickets(convolutional, run):
    flag = f"--ticket={','.join(map(str, convolutional))}"
    code, output, errors = run(flag, "--output=out")
    assert code == 0, errors
    first, second = map(Ticket.load, convolutional)
    overlap = first.intersection_over_union(second)
    assert f"{overlap:.2%} intersection over union" in output and "neither" in output
    content = json.loads(Path("out/inspection.json").read_text())
    total = content["comparison"]["layers"][0]
    assert total["intersection_over_union"] == pytest.approx(overlap)
    assert content["comparison"]["same_initial_weights"] is None
    names = [f"{method}/seed_0/level_05" for method in ("std_imp_st", "at_imp_st")]
    assert [each["name"] for each in content["tickets"]] == names
    rows = pd.read_csv("out/layers.csv")
    assert rows["ticket"].to_list() == np.repeat(names, 3).tolist()
    compared = pd.read_csv("out/comparison.csv").set_index("layer")
    assert compared.loc["all", "chance"] == pytest.approx(total["chance"])
    assert Path("out/figures/overlap.png").exists()


def test_the_same_again_gives_the_same_files(convolutional, run):
    flag = f"--ticket={convolutional[0]}"
    first = run(flag)
    (folder,) = Path("tensorboard_logs/inspect_ticket").iterdir()
    assert first[0] == 0 and folder.name.startswith("std_imp_st_seed_0_level_05-")
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert run(flag) == first
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    assert list(folder.parent.iterdir()) == [folder]


def test_paths_may_have_commas_in_them(convolutional, run, tmp_path):
    names = [tmp_path / "c_0,6" / f"level_0{number}.npz" for number in (1, 2)]
    names[0].parent.mkdir()
    for name, path in zip(names, convolutional, strict=True):
        shutil.copy(path, name)
    assert split_paths(str(names[0])) == [str(names[0])]
    assert split_paths(f"{names[0]},{names[1]}") == [str(name) for name in names]
    code, output, errors = run(f"--ticket={names[0]}", f"--output={tmp_path / 'out'}")
    assert code == 0 and str(names[0]) in output, errors


@pytest.fixture
def wrong(lenet, convolutional, tmp_path):
    """Names in flags → paths."""
    files = tmp_path.parent / f"{tmp_path.name}_files"
    save_arrays(files / "weights.npz", {"kernel": np.ones(3)})
    (files / "text.npz").write_text("no ticket")
    (files / "full").mkdir()
    (files / "full" / "something").write_text("")
    one, other = convolutional
    return {"LENET": lenet, "ONE": one, "OTHER": other, "FILES": files}


@pytest.mark.parametrize(
    "flags,message",
    [
        ([], "--ticket=: expected the path of a ticket, or of two"),
        (["--ticket=a,b,c"], "--ticket=a,b,c: expected the path of a ticket, or of two"),
        (["--ticket=ONE,ONE"], "expected no file twice"),
        (["--ticket=no.npz"], "no.npz: no such file"),
        (["--ticket=FILES"], "a folder, not a file"),
        (["--ticket=FILES/text.npz"], "text.npz: damaged"),
        (["--ticket=FILES/weights.npz"], "weights.npz: not a ticket"),
        (["--ticket=ONE,LENET"], "expected masks of the same weights as ONE has"),
        (["--ticket=ONE", "--output=ONE"], "--output=ONE: expected a folder that is empty or"),
        (["--ticket=ONE", "--output=FILES/full"], "full: expected a folder that is empty or not"),
        (["--ticket=ONE", "--output=/proc/x/y"], "--output=/proc/x/y: expected a place that can"),
        (["--ticket=ONE", "surplus"], "surplus: expected flags only"),
        (["--tickets=ONE"], "Unknown command line flag 'tickets'"),
    ],
)
def test_a_wrong_flag_is_one_line(wrong, run, tmp_path, flags, message):
    for name, path in wrong.items():
        flags = [flag.replace(name, str(path)) for flag in flags]
        message = message.replace(name, str(path))
    code, output, errors = run(*flags)
    assert code == 2 and output == ""
    (line,) = errors.strip().splitlines()
    assert line.startswith("error: ") and message in line
    assert not list(tmp_path.iterdir())


def test_help(run):
    code, output, _ = run("--help")
    assert code == 0 and "--ticket" in output and "nesting" in output
