"""The boosting driver as its user runs it: in processes of its own, from flags to files."""

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.drivers import programs
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


def contents(run_dir):
    """Everything that must not depend on interruptions; times do."""
    rows = [row for row in rows_of(run_dir) if not row.metric.endswith("seconds")]
    return rows, {
        path.relative_to(run_dir): path.read_bytes() for path in sorted(run_dir.rglob("*.npz"))
    }


def test_killed_at_random_moments_and_resumed_ends_with_the_same_bytes(finished, tmp_path):
    generator = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID", "0"))
    flags = (f"--run_dir={tmp_path / 'run'}", "--study=acceleration,adversarial", *SMALL)
    for _ in range(2):
        process = programs.start(DRIVER, *flags)
        deadline = time.monotonic() + 60
        while not (tmp_path / "run").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(generator.uniform(2.0, 20.0))
        process.kill()
        process.communicate()
    code, _, errors = programs.run(DRIVER, *flags)
    assert code == 0, errors
    assert contents(tmp_path / "run") == contents(finished[0])


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
