"""The command that looks into tickets, as its user runs it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import analyze
from tests import trained
from tests.analysis.tickets import random_ticket, save
from tests.experiments import programs
from tf_tickets.models.weights import read_weights
from tf_tickets.runs.files import save_arrays


@pytest.fixture(scope="module")
def ticket(tmp_path_factory):
    return trained.save_run(trained.lenet(), tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def convolutional(tmp_path_factory):
    """A run with two methods at two levels, and the masks of one in a transfer."""
    run = tmp_path_factory.mktemp("convolutional")
    for seed, method in enumerate(("at_imp_st", "std_imp_st")):
        for level in (0, 5):
            found = random_ticket(seed, 1 - level / 6)
            save(run, f"mnist/resnet_20/natural/{method}/seed_0", level, found)
    save(run, "svhn/resnet_20/natural/at_imp_st_10/seed_0", 5, random_ticket(0, 1 / 6))
    return run


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs the command in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return programs.in_this_process(analyze, capfd)


def test_from_flags_to_files(ticket, tmp_path):
    code, output, errors = programs.run(
        "analyze",
        "--analysis=loss_surface",
        *(f"--ticket={ticket}", "--examples=50", "--resolution=3", "--eps=32/255", "--seed=1"),
        folder=tmp_path,
    )
    assert code == 0, errors
    (folder,) = (tmp_path / "tensorboard_logs" / "analyze").iterdir()
    assert folder.name.startswith("loss_surface-") and folder.name in output
    assert "left" in errors and "oneDNN" not in errors
    name = "original/seed_0/level_03"
    assert {path.name for path in folder.iterdir()} == {
        "loss_surface.csv",
        "loss_surface_original_seed_0_level_03.png",
        "report.json",
    }
    report = json.loads((folder / "report.json").read_text())
    assert report["config"]["step_size"] == pytest.approx(8 / 255)
    assert set(report["files"]) == {str(ticket), str(ticket).replace("/tickets/", "/checkpoints/")}
    found = report["surfaces"][name]
    assert (found["directions"], found["images"], found["data_set"]) == ("random", 50, "mnist")
    assert found["sides"] == {"a": [-1, 1], "b": [-1, 1]}
    rows = pd.read_csv(folder / "loss_surface.csv")
    assert len(rows) == 2 * 9 and set(rows["ticket"]) == {name}
    here = rows[(rows["a"] == 0) & (rows["b"] == 0)].set_index("images")
    assert here["loss"].to_numpy() == pytest.approx(here["trained"].to_numpy())
    assert here.loc["attacked", "loss"] > 2 * here.loc["clean", "loss"]

    model, images = trained.lenet(), trained.images_of_test(50)
    logits = model(trained.unit_interval(images)[0]).numpy()
    logits = np.take_along_axis(logits, images.labels[:, None], 1)[:, 0], logits
    expected = np.mean(np.log(np.exp(logits[1]).sum(axis=1)) - logits[0])
    assert here.loc["clean", "loss"] == pytest.approx(expected, rel=1e-4)


def test_along_a_trajectory(run, tmp_path):
    model = trained.lenet()
    path = trained.save_run(model, tmp_path / "run")
    weights, random = read_weights(model), np.random.default_rng(0)
    steps = [weights | {"logits/kernel": w} for w in random.normal(size=(4, 100, 10))]
    snapshots = {f"{i:03d}/{k}": a for i, s in enumerate([*steps, weights]) for k, a in s.items()}
    weights_path = Path(str(path).replace("/tickets/", "/checkpoints/"))
    trajectory = weights_path.with_name("level_03_trajectory.npz")
    flags = ["--analysis=loss_surface", f"--ticket={path}", "--examples=20", "--resolution=2"]
    flags += ["--steps=1"]

    code, _, errors = run(*flags, "--directions=pca")
    assert code == 2 and f"--directions=pca: expected random, as there is no {trajectory}" in errors
    save_arrays(trajectory, snapshots)
    code, _, errors = run(*flags, "--output=along")
    assert code == 0, errors
    assert len(pd.read_csv("along/trajectory.csv")) == 5
    report = json.loads(Path("along/report.json").read_text())
    (found,) = report["surfaces"].values()
    assert found["directions"] == "pca" and str(trajectory) in report["files"]
    assert 0 < sum(found["variance_shares"]) < 1 and found["trajectory"][-1] == [0, 0]
    code, _, errors = run(*flags, "--directions=random", "--output=random")
    assert code == 0 and not Path("random/trajectory.csv").exists()


def test_the_similarity_of_a_run(convolutional, run):
    code, output, errors = run("--analysis=similarity", f"--run_dir={convolutional}")
    assert code == 0, errors
    (folder,) = Path("tensorboard_logs/analyze").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "similarity.csv", "similarity.png", "report.json",
    }  # fmt: skip
    rows = pd.read_csv(folder / "similarity.csv")
    assert set(rows["first"]) == {"at_imp_st"} and set(rows["second"]) == {"std_imp_st"}
    assert "mnist resnet_20 natural" in output and "at_imp_st and std_imp_st" in output
    report = json.loads((folder / "report.json").read_text())
    assert len(report["files"]) == 5 and "eps" not in report["config"]
    # The same once more replaces it.
    assert run("--analysis=similarity", f"--run_dir={convolutional}")[1] == output


def test_the_similarity_of_tickets(convolutional, run):
    paths = sorted(convolutional.rglob("level_05.npz"))
    flag = f"--ticket={','.join(map(str, paths))}"
    code, output, errors = run("--analysis=similarity", flag, "--output=out")
    assert code == 0, errors
    rows = pd.read_csv("out/similarity.csv").query("layer == 'all'").set_index(["first", "second"])
    names = [f"{place}/seed_0/level_05" for place in
             ("mnist/resnet_20/natural/at_imp_st", "mnist/resnet_20/natural/std_imp_st",
              "svhn/resnet_20/natural/at_imp_st_10")]  # fmt: skip
    assert rows.loc[(names[0], names[2]), "similarity"] == 1
    one, other = random_ticket(0, 1 / 6), random_ticket(1, 1 / 6)
    expected = one.intersection_over_union(other)
    assert rows.loc[(names[0], names[1]), "similarity"] == pytest.approx(expected)
    assert names[0] in output


@pytest.mark.parametrize("named", [True, False])
def test_kernels(convolutional, run, named):
    path = convolutional / "tickets/mnist/resnet_20/natural/at_imp_st/seed_0/level_05.npz"
    what = f"--ticket={path}" if named else f"--run_dir={convolutional}"
    code, output, errors = run("--analysis=kernels", what, "--output=out")
    assert code == 0, errors
    rows = pd.read_csv("out/kernels.csv")
    if not named:
        rows = rows[(rows["search"] == "at_imp_st") & (rows["level"] == 5)]
    pruned = [(~mask.any((0, 1))).sum() for mask in random_ticket(0, 1 / 6).masks.values()]
    assert rows.set_index("layer").loc["all", "pruned"] == sum(pruned)
    assert f"{sum(pruned)}" in output
    maps = [path.name for path in Path("out").glob("kernel_map_*.png")]
    assert len(maps) == (1 if named else 2)
    assert Path("out/kernels.png").exists() != named


LOSS = ["--analysis=loss_surface", "--ticket=TICKET"]


@pytest.mark.parametrize(
    "flags,message",
    [
        ([], "--analysis=: expected similarity, kernels or loss_surface"),
        (["--analysis=beauty"], "--analysis=beauty: expected one of similarity, kernels"),
        (["--analysis=kernels"], "--ticket, --run_dir: expected one of the two"),
        (["--analysis=kernels", "--ticket=a", "--run_dir=b"], "expected one of the two"),
        (["--analysis=kernels", "--ticket=no.npz"], "no.npz: no such file"),
        (["--analysis=kernels", "--ticket=TICKET"], "covers no convolution"),
        (["--analysis=kernels", "--run_dir=nowhere"], "--run_dir=nowhere: no such folder"),
        (["--analysis=kernels", "--run_dir=/"], "--run_dir=/: expected a run"),
        (["--analysis=kernels", "--ticket=a", "--eps=1"], "--eps=1.0: expected nothing, it is for"),
        (["--analysis=similarity", "--ticket=a.npz"], "--ticket=a.npz: expected two or more"),
        (["--analysis=similarity", "--ticket=a,a"], "--ticket=a,a: expected different ones"),
        (["--analysis=loss_surface", "--run_dir=a"], "--run_dir=a: expected --ticket for loss"),
        (["--analysis=loss_surface", "--ticket=a"], "--ticket=a: expected a ticket's file"),
        ([*LOSS, "--examples=-1"], "--examples=-1: expected a whole number in [0, "),
        ([*LOSS, "--examples=2001"], "--examples=2001: expected at most 2000, or 0 for all"),
        ([*LOSS, "--resolution=1"], "--resolution=1: expected a whole number in [2, 501]"),
        ([*LOSS, "--span=0"], "--span=0: expected a number in (0, 1000]"),
        ([*LOSS, "--span=nan"], "--span=nan: expected a number in (0, 1000]"),
        ([*LOSS, "--eps=2"], "--eps=2: expected a number in [0, 1], such as 0.03 or 8/255"),
        ([*LOSS, "--step_size=1"], "--step_size=1.0: expected in [0, 0.06"),
        ([*LOSS, "--data_set=cifar10"], "--data_source=embedded: cifar10 has no embedded"),
        ([*LOSS, "--output=/"], "--output=/: expected a folder that is empty or not there"),
        ([*LOSS, "--output=/proc/x/y"], "--output=/proc/x/y: expected a place that can be"),
        (["surplus"], "surplus: expected flags only"),
    ],
)
def test_a_wrong_flag_is_one_line(ticket, run, tmp_path, flags, message):
    code, output, errors = run(*(flag.replace("TICKET", str(ticket)) for flag in flags))
    assert code == 2 and output == ""
    line = errors.strip().splitlines()[-1]
    assert line.startswith("error: ") and message in line
    assert not list(tmp_path.rglob("*.json"))


def test_nothing_to_compare(ticket, run):
    code, _, errors = run("--analysis=similarity", f"--run_dir={ticket.parents[5]}")
    assert code == 2 and "no two different tickets of equal level" in errors


def test_tickets_of_different_networks(ticket, convolutional, run):
    other = next(convolutional.rglob("level_05.npz"))
    code, _, errors = run("--analysis=similarity", f"--ticket={ticket},{other}")
    assert code == 2 and f"--ticket={other}: expected masks of the same weights" in errors


def test_help(run):
    code, output, _ = run("--help")
    assert code == 0 and "--analysis" in output and "principal components" in output
