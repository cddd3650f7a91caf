"""The boosting driver as its user runs it: in processes of its own, from flags to files."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments.boosting_tickets import driver as boosting_tickets
from tests.experiments import programs
from tests.experiments.programs import counts
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.results import from_csv

DRIVER = "boosting_tickets"
SMALL = ("--preset=smoke", "--train_examples=128", "--models=wide_resnet_10_1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run of two studies, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    studies = "--study=acceleration,adversarial"
    code, output, errors = programs.run(DRIVER, f"--run_dir={run_dir}", studies, *SMALL)
    assert code == 0, errors
    return run_dir, output


def rows_of(run_dir):
    return from_csv((run_dir / "results.csv").read_text(), "results.csv")


def test_ends_with_the_table_beside_the_papers_and_the_paths(finished):
    run_dir, output = finished
    for text in ("Madry", "Ours-40", "50.37", "C&W", "PGD-100", "from Ours-70", "134,764"):
        assert text in output
    for name in ("summary.md", "figures", "tickets"):
        assert str(run_dir / name) in output and (run_dir / name).exists()
    assert "epochs 2 (paper: 100)" in output and "sparsities" not in output
    summary = (run_dir / "summary.md").read_text()
    assert "Figure 6" in summary and "Tables 3 and 6" in summary
    assert len(list((run_dir / "figures").glob("*.png"))) >= 2


def test_both_studies_share_their_trainings(finished):
    run_dir, _ = finished
    assert {(row.regime, row.method) for row in rows_of(run_dir)} == {
        ("fgsm", "finding_fgsm_0.05"),
        ("natural", "finding_natural_0.05"),
        ("pgd", "finding_pgd_0.05"),
        ("pgd", "dense_100"),
        ("pgd", "fgsm_ticket_40"),
        ("pgd", "fgsm_ticket_70"),
        ("pgd", "fgsm_ticket_100"),
        ("pgd", "fgsm_random_100"),
        ("pgd", "natural_ticket_100"),
        ("pgd", "pgd_ticket_100"),
    }


def test_labels_are_columns_of_the_results(finished):
    header = (finished[0] / "results.csv").read_text().splitlines()[0]
    assert header.endswith(",metric,value,family,percent")
    labels = {(row.method, row.labels) for row in rows_of(finished[0])}
    assert len(labels) == 10  # Those of Table 6's assessment are those of the training.
    assert ("fgsm_ticket_70", (("family", "fgsm_ticket"), ("percent", "70"))) in labels
    assert ("finding_fgsm_0.05", (("family", "finding"),)) in labels


def test_all_of_table_6_is_measured(finished):
    rows = [row for row in rows_of(finished[0]) if row.method == "fgsm_ticket_70"]
    assert {row.metric for row in rows if row.metric.startswith("test")} == {
        "test/natural/accuracy",
        "test/natural/loss",
        "test/pgd_20/accuracy",
        "test/pgd_20/loss",
        "test/pgd/accuracy",
        "test/pgd/loss",
        "test/cw_linf/accuracy",
        "test/cw_linf/loss",
        "test/pgd_100/accuracy",
        "test/transfer_from_dense_100/accuracy",
        "test/transfer_from_fgsm_ticket_40/accuracy",
        "test/transfer_from_fgsm_ticket_100/accuracy",
    }


def test_tickets_remove_four_fifths_of_all_weights_and_weights_obey_them(finished):
    for path in finished[0].glob("tickets/**/pgd/*_ticket_100/seed_0/level_01.npz"):
        ticket = Ticket.load(path)
        size = sum(mask.size for mask in ticket.masks.values())
        assert sum(int(mask.sum()) for mask in ticket.masks.values()) == round(0.2 * size)
        weights = load_arrays(
            finished[0] / "checkpoints" / path.relative_to(finished[0] / "tickets")
        )
        for name, mask in ticket.masks.items():
            assert not np.any(weights[name][~mask])


def test_an_export_needs_tensorflow_alone(finished):
    (export,) = finished[0].glob("exports/wide_resnet_10_1/pgd/*_ticket_*")
    program = (
        "import json, sys, tensorflow as tf\n"
        "serve = tf.saved_model.load(sys.argv[1]).signatures['float_images']\n"
        "print(json.dumps(serve(images=tf.zeros([3, 32, 32, 1]))['logits'].shape.as_list()))\n"
    )
    command = [sys.executable, "-c", program, str(export)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout
    assert json.loads(output) == [3, 10]


def contents(run_dir, methods):
    """What of some methods must not depend on interruptions; times do."""
    rows = [
        row
        for row in rows_of(run_dir)
        if not row.metric.endswith("seconds") and row.method in methods
    ]
    files = [
        path.relative_to(run_dir)
        for folder in ("tickets", "checkpoints")
        for path in sorted((run_dir / folder).rglob("*.npz"))
    ]
    named = [path for path in files if methods & set(path.parts) or len(path.parts) == 5]
    return rows, {path: (run_dir / path).read_bytes() for path in named}


def test_killed_among_two_workers_and_resumed_by_one_ends_with_the_same_bytes(finished, tmp_path):
    """The first process is killed once a first piece of work is finished."""
    there, missing = programs.killed_and_resumed(
        DRIVER, tmp_path / "run", "--study=acceleration", *SMALL
    )
    # 40 and 70% of two epochs are the same training.
    assert there > 0 and missing > 0 and there + missing == 4
    methods = {f"fgsm_ticket_{percent}" for percent in (40, 70, 100)}
    methods |= {"finding_fgsm_0.05", "dense_100"}
    assert {row.method for row in rows_of(tmp_path / "run")} == methods
    rows, files = contents(tmp_path / "run", methods)
    assert (rows, files) == contents(finished[0], methods)
    assert len(files) == 2 * 5 + 1  # Initial weights are all trainings'.


CAPACITY = ("--study=capacity", "--capacity_models=wide_resnet_10_1", *SMALL)


def run_small(run_dir, *flags):
    """Runs the capacity study, or with flags that say something else; returns what was done."""
    code, _, errors = programs.run(DRIVER, f"--run_dir={run_dir}", *CAPACITY, *flags)
    assert code == 0, errors
    return counts(errors)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A finished run of a ticket and the training that found it."""
    run_dir = tmp_path_factory.mktemp("small") / "run"
    assert run_small(run_dir) == {"trainings": (0, 2), "measurements": (0, 2)}
    return run_dir


def test_plan_says_what_would_be_done_and_does_nothing(small, capfd, tmp_path):
    run = programs.in_this_process(boosting_tickets, capfd)
    code, output, errors = run("--plan", *CAPACITY, f"--run_dir={tmp_path / 'run'}")
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "2 trainings: 0 are there, 2 to be done",
        "2 measurements: 0 are there, 2 to be done",
        "expected time: not known before the first training of each network has ended",
        f"work is kept in {tmp_path / 'tf_tickets_store'}",
    ]
    assert not list(tmp_path.iterdir())
    before = sorted(small.parent.rglob("*"))
    code, output, _ = run("--plan", *CAPACITY, "--trials=3", f"--run_dir={small}")
    assert code == 0 and counts(output) == {"trainings": (2, 4), "measurements": (2, 4)}
    assert "expected time: less than a minute" in output
    assert sorted(small.parent.rglob("*")) == before


def test_a_run_beside_it_trains_nothing_again(small):
    beside = small.parent / "beside"
    assert run_small(beside) == {"trainings": (2, 0), "measurements": (2, 0)}
    methods = {"finding_natural_0.05", "boosting_100"}
    assert contents(beside, methods) == contents(small, methods)
    for path in contents(small, methods)[1]:
        is_shared = path.name != "initial_weights.npz"
        assert (small / path).samefile(beside / path) == is_shared


def test_a_finished_run_takes_on_more(small, tmp_path):
    """A seed, a study, which is 3 trainings of which 2 are there, and other test examples.

    The results are of what was asked for last.
    """
    shutil.copytree(small.parent, tmp_path, dirs_exist_ok=True)
    run_dir = tmp_path / "run"

    def found():
        return {(row.method, row.seed) for row in rows_of(run_dir)}

    assert run_small(run_dir, "--trials=2") == {"trainings": (2, 2), "measurements": (2, 2)}
    trials = {(name, seed) for name in ("finding_natural_0.05", "boosting_100") for seed in (0, 1)}
    assert found() == trials
    # 20, 40 and 60% of two epochs are one epoch, 80 and 100% two; that is the boosting ticket.
    more = ("--study=learning_rate", "--finding_learning_rates=0.05")
    assert run_small(run_dir, *more) == {"trainings": (2, 1), "measurements": (2, 1)}
    names = {f"found_at_0.05_{percent}" for percent in (20, 40, 60, 80, 100)}
    assert found() == {(name, 0) for name in (*names, "finding_natural_0.05")}
    fewer = ("--trials=2", "--test_examples=40")
    assert run_small(run_dir, *fewer) == {"trainings": (4, 0), "measurements": (0, 4)}
    assert found() == trials
    assert json.loads((run_dir / "config.json").read_text())["test_examples"] == 40


def test_a_store_must_be_apart_from_the_run(capfd, tmp_path):
    run = programs.in_this_process(boosting_tickets, capfd)
    run_dir = tmp_path / "run"
    for store in (run_dir, run_dir / "store"):
        code, _, errors = run(*CAPACITY, f"--run_dir={run_dir}", f"--store={store}")
        expected = f"error: --store={store}: expected a folder outside of the run's, {run_dir}\n"
        assert (code, errors) == (2, expected)
    assert not list(tmp_path.iterdir())


def test_the_store_lies_where_its_flag_says(capfd, small, tmp_path):
    run = programs.in_this_process(boosting_tickets, capfd)
    store = small.parent / "tf_tickets_store"
    flags = ("--plan", *CAPACITY, f"--run_dir={tmp_path / 'run'}", f"--store={store}")
    code, output, _ = run(*flags)
    assert code == 0 and counts(output)["trainings"] == (2, 0)
    # Threads decide the last bits, and so are part of what a training is.
    assert counts(run(*flags, "--threads=2")[1])["trainings"] == (0, 2)


def test_a_run_that_goes_on_under_another_tensorflow_says_so(small, capfd, tmp_path):
    for folder in (small, small.parent / "tf_tickets_store"):
        shutil.copytree(folder, tmp_path / folder.name)
    path = tmp_path / small.name / "environment.json"
    environment = json.loads(path.read_text())
    now = environment["packages"]["tensorflow"]
    environment["packages"]["tensorflow"] = "2.20.0"
    path.write_text(json.dumps(environment))
    run = programs.in_this_process(boosting_tickets, capfd)
    code, _, errors = run(*CAPACITY, f"--run_dir={path.parent}")
    assert code == 0
    said = f"this run began with tensorflow 2.20.0 (now {now}): all is done anew"
    assert errors.splitlines()[0] == said
    _, _, errors = run(*CAPACITY, f"--run_dir={path.parent}")
    assert "this run began" not in errors


def test_a_run_of_the_driver_before_it_knew_threads_is_refused(small, capfd, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(small, run_dir)
    config = json.loads((run_dir / "config.json").read_text())
    del config["threads"]
    (run_dir / "config.json").write_text(json.dumps(config))
    run = programs.in_this_process(boosting_tickets, capfd)
    code, _, errors = run(*CAPACITY, f"--run_dir={run_dir}")
    assert code == 2 and len(errors.splitlines()) == 1
    assert "holds a run of another driver or of an earlier version" in errors


def test_two_workers_on_loopback_prune_and_retrain_together(tmp_path):
    run_dir = tmp_path / "workers"
    flags = ("--study=capacity", "--capacity_models=wide_resnet_10_1", *SMALL)
    programs.run_two_workers(DRIVER, f"--run_dir={run_dir}", *flags)
    rows = [row for row in rows_of(run_dir) if row.metric == "test/natural/accuracy"]
    sparsities = {row.method: round(row.sparsity, 2) for row in rows}
    assert sparsities == {"finding_natural_0.05": 0, "boosting_100": 0.8}


CASES = {
    "--study=speed": "--study=speed: expected one of existence",
    "--study=mnist,epochs": "--study=mnist,epochs: expected mnist by itself, if at all",
    "--models=alexnet": "--models=alexnet: unknown; choose from",
    "--models=wide_resnet_12_1": "--models=wide_resnet_12_1: expected a depth of 6n + 4",
    "--models=vgg_16 --image_size=0": "--models=vgg_16: expected images of at least 32x32",
    "--data_set=cifar10": "--data_source=embedded: cifar10 has no embedded sample",
    "--sparsity=1": "--sparsity=1: expected a number in [0, 1)",
    "--sparsities=a,b": "--sparsities=a,b: expected a number in [0, 1), such as",
    "--epochs=0": "--epochs=0: expected a whole number in [1, ",
    "--eps=-1": "--eps=-1: expected a number in [0, 1], such as 0.03 or 8/255",
    "--step_size=1": "--step_size=1.0: expected in [0, ",
    "--image_size=20": "--image_size=20: expected 0 or at least 28",
    "--train_examples=10": "--batch_size=128: expected at most 10",
    "--test_examples=99999": "--test_examples=99999: expected 1 to 2000",
    "--width_multiplier=0": "--width_multiplier=0: expected a number in (0, 16]",
    "--width_multiplier=1e9": "--width_multiplier=1e9: expected a number in (0, 16]",
    "--rounds=100000": "--rounds=100000: expected a whole number in [1, 100]",
    "--capacity_models=nope": "--capacity_models=nope: unknown",
    "--warmup_epochs=3": "--warmup_epochs=3: expected at most --epochs=2",
    "--momentum=1": "--momentum=1: expected a number in [0, 1)",
    "--threads=0": "--threads=0: expected a whole number in [1, 1000]",
    "--workers=-1": "--workers=-1: expected a whole number in [0, 1000]",
    "--workers=2 --strategy=mirrored": "--workers=2: expected none with --strategy=mirrored",
    "--ray_address=local --strategy=mirrored": "--ray_address=local: expected none with",
    "--store=/dev/null": "--store=/dev/null: expected a folder, not a file",
    "--store=/dev/null/store": "--store=/dev/null/store: expected a place that can be written",
    "--store=/proc/store": "--store=/proc/store: expected a place that can be written",
    "--store=/dev/null --plan": "--store=/dev/null: expected a folder, not a file",
    "--data_source=tfds --data_dir=/nowhere": "--data_dir=/nowhere is not a directory",
}


def test_wrong_input_is_one_line_before_any_work(tmp_path):
    common = ["--preset=smoke", "--study=existence"]
    arguments = [
        [*common, *flags.split(), f"--run_dir={tmp_path / str(number)}"]
        for number, flags in enumerate(CASES)
    ]
    found = programs.run_each(DRIVER, arguments)
    for (code, errors), (flags, message) in zip(found, CASES.items()):
        assert code == 2, flags
        assert len(errors.strip().splitlines()) == 1, errors
        assert errors.startswith("error: ") and message in errors, (flags, errors)
    assert not list(tmp_path.iterdir())
