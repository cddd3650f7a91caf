"""The double-win driver as its user runs it: in processes of its own, from flags to files."""

import json
import shutil
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from experiments import double_win_tickets as driver
from tests.drivers import programs
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.results import from_csv

DRIVER = "double_win_tickets"
SMALL = ("--preset=smoke", "--image_size=24")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    code, output, errors = programs.run(DRIVER, f"--run_dir={run_dir}", *SMALL)
    assert code == 0, errors
    return run_dir, output, errors


def rows_of(run_dir):
    return from_csv((run_dir / "results.csv").read_text(), "results.csv")


def test_ends_with_the_table_beside_the_papers_and_the_paths(finished):
    run_dir, output, errors = finished
    for text in ("pre-training", "one-shot magnitude", "91.41", "100% of data"):
        assert text in output
    for name in ("summary.md", "figures", "tickets"):
        assert str(run_dir / name) in output and (run_dir / name).exists()
    assert "source fashion_mnist (paper: imagenet)" in output
    assert "left" in errors and "Traceback" not in errors and "retracing" not in errors
    summary = (run_dir / "summary.md").read_text()
    titles = ("Figures 3 and 4", "Pre-training", "Table A2", "Figure A8", "Figures 7 and A8")
    assert all(text in summary for text in titles)
    assert len(list((run_dir / "figures").glob("*.png"))) >= 3


def test_the_export_is_the_transferred_ticket(finished):
    run_dir, output, _ = finished
    (path,) = run_dir.glob("exports/mnist/*/level_02")
    assert str(path) in output
    method = path.parent.name
    ticket = Ticket.load(
        run_dir / f"tickets/mnist/wide_resnet_10_1/pgd/{method}/seed_0/level_02.npz"
    )
    assert f"({ticket.sparsity:.1%} of its weights are zero)" in output
    serve = tf.saved_model.load(str(path)).signatures["float_images"]
    (spec,) = serve.structured_input_signature[1].values()
    assert spec.shape.as_list() == [None, 24, 24, 1]


def test_one_stage_after_the_other_is_the_same_run(finished, tmp_path):
    flags = (f"--run_dir={tmp_path / 'stages'}", *SMALL)
    code, output, errors = programs.run(DRIVER, "--stage=report", *flags)
    assert code == 0 and "No results yet" in output, errors
    code, _, errors = programs.run(DRIVER, "--stage=transfer", *flags)
    assert code == 2 and "--stage=pretrain" in programs.last_line(errors)
    for stage in ("pretrain", "search", "transfer", "report"):
        code, output, errors = programs.run(DRIVER, f"--stage={stage}", *flags)
        assert code == 0, errors
        assert bool(output) == (stage == "report")
    assert rows_of(tmp_path / "stages") == rows_of(finished[0])


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_numbers(finished, tmp_path):
    flags = (f"--run_dir={tmp_path / 'run'}", *SMALL)
    generator = np.random.default_rng(time.time_ns())
    for _ in range(2):
        process = programs.start(DRIVER, *flags)
        deadline = time.monotonic() + 60
        while not (tmp_path / "run").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(generator.uniform(1.0, 15.0))
        process.kill()
        process.communicate()
    code, _, errors = programs.run(DRIVER, *flags)
    assert code == 0, errors
    assert rows_of(tmp_path / "run") == rows_of(finished[0])


def test_another_run_beside_it_takes_over_what_is_the_same(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "first")
    flags = (f"--run_dir={tmp_path / 'second'}", *SMALL, "--tickets=at_omp", "--percents=100,50")
    code, _, errors = programs.run(DRIVER, *flags)
    assert code == 0, errors
    # Nothing was trained on the source.
    assert not (tmp_path / "second" / "tensorboard" / "fashion_mnist").exists()
    known = set(rows_of(tmp_path / "first"))
    shared = [row for row in rows_of(tmp_path / "second") if not row.method.endswith("_50")]
    assert shared and set(shared) <= known


def test_an_image_folder_is_a_target(tmp_path):
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cats", "dogs"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number in range(40):
                pixels = random.integers(256, size=(20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    code, output, errors = programs.run(
        DRIVER,
        f"--run_dir={tmp_path / 'run'}",
        *SMALL,
        f"--folders=pets={tmp_path / 'pets'},animals={tmp_path / 'pets'}",
        "--source=animals",
        "--targets=pets",
        "--image_size=16",
        "--source_examples=64",
        "--train_examples=50",
        "--validation_examples=8",
        "--tickets=at_omp",
    )
    assert code == 0, errors
    assert "pets" in output


def test_two_workers_transfer_together(tmp_path):
    run_dir = tmp_path / "workers"
    flags = (f"--run_dir={run_dir}", *SMALL, "--tickets=at_imp_st", "--trajectory_levels=2")
    programs.run_two_workers(DRIVER, *flags)
    assert any(row.metric == "test/transfer_attack/accuracy" for row in rows_of(run_dir))
    assert list(run_dir.rglob("*_trajectory.npz"))


def test_the_papers_pretrainings_have_strengths_of_their_own():
    found = driver.phase(
        driver.PAPER, "pretraining_", "step", "pretraining_attack_steps", "source_weight_decay"
    ).training.threat_models
    assert found["fast"].eps == pytest.approx(4 / 255)  # Wong et al., on ImageNet.
    assert (found["pgd"].eps, found["pgd"].steps) == (pytest.approx(8 / 255), 7)
    weaker = driver.phase(
        driver.PAPER, "retraining_", "constant", "source_attack_steps", "source_weight_decay"
    )
    assert weaker.training.threat_models["pgd"].steps == 3


def test_standard_and_adversarial_transfer_have_recipes_of_their_own():
    phases = driver.transferring(driver.PAPER, "cifar10")
    # The published code's: 150 epochs, a tenth at 50 and at 100; epochs 46 to 100.
    rates = phases["natural"].learning_rates(1)(0, 150)
    assert rates[[0, 49, 50, 99, 100, 149]].tolist() == pytest.approx(
        [1e-3] * 2 + [1e-4] * 2 + [1e-5] * 2
    )
    assert phases["natural"].training.batch_size == 64
    adversarial = phases["pgd"].learning_rates(1)(0, 100)
    assert adversarial[[0, 49, 50, 74, 75]].tolist() == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3])
    assert phases["pgd"].select_from_epoch == 46
    assert driver.transferring(driver.PAPER, "svhn")["pgd"].select_from_epoch == 1
    shorter = driver.transferring(driver.PAPER | {"epochs": 8}, "cifar10")
    assert shorter["pgd"].select_from_epoch == 1 and shorter["natural"].epochs == 150


CASES = {
    "--tickets=at_imp": "--tickets=at_imp: expected one of",
    "--targets=mnist,mnist": "--targets=mnist,mnist: expected different ones",
    "--targets=fashion_mnist": "--targets=fashion_mnist: expected other than --source",
    "--levels=0": "--levels=0: expected one above 0",
    "--levels=2,-1": "--levels=2,-1: expected a whole number in [0, 99], with commas",
    "--percents=100,25": "--standard_batch_size=32: expected at most 20, the smallest part",
    "--fast_eps=-1": "--fast_eps=-1: expected a number in [0, 1]",
    "--select_from_epoch=3": "--select_from_epoch=3: expected 1 to 2, the epochs",
    "--retraining_batch_size=500": "--retraining_batch_size=500: expected at most 128",
    "--pretrained=std=a.pt": "--pretrained=std: expected one of at, which --tickets asks for",
    "--folders=pets=/nowhere": "--folders=pets: expected names that --source and --targets have",
    "--folders=mnist=/nowhere --image_size=8": "--folders=mnist=/nowhere: ",
    "--model=lenet_300_100": "--model=lenet_300_100: expected a network with convolutions",
    "--percents=50": "--percents=50: expected 100 among them, the only part that at_omp is",
    "--targets=visda": "--targets=visda: TensorFlow Datasets has no VisDA-17",
    "--pretrained=at=weights.bin": "--pretrained=at=weights.bin: expected imagenet or a file",
    "--model=alexnet": "--model=alexnet: unknown; choose from",
    "--trajectory_levels=9": "--trajectory_levels=9: expected some of --levels=0,2",
    "--step_size=1": "--step_size=1.0: expected in [0, ",
    "--data_source=tfds --data_dir=/nowhere": "--data_dir=/nowhere is not a directory",
}


def test_wrong_flags_are_one_line_before_any_work(tmp_path):
    flag_sets = [
        (f"--run_dir={tmp_path / 'run'}", "--preset=smoke", *flag.split()) for flag in CASES
    ]
    for message, (code, errors) in zip(CASES.values(), programs.run_each(DRIVER, flag_sets)):
        assert code == 2 and len(errors.splitlines()) == 1, errors
        assert errors.startswith("error: ") and message in errors, (message, errors)
    assert not list(tmp_path.iterdir())


def test_another_configuration_is_refused_with_the_difference(finished):
    run_dir, *_ = finished
    code, _, errors = programs.run(DRIVER, f"--run_dir={run_dir}", *SMALL, "--epochs=3")
    assert code == 2
    assert "holds a run with epochs=2 (now 3)" in programs.last_line(errors)
    assert json.loads((run_dir / "config.json").read_text())["epochs"] == 2
