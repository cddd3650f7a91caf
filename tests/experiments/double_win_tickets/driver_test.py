"""The double-win driver as its user runs it: in processes of its own, from flags to files."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from experiments.double_win_tickets import driver
from experiments.double_win_tickets.results import LABELS
from tests.experiments import programs
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.files import load_arrays
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


def timeless(run_dir):
    """What must not depend on interruptions or on who trained: all results but times."""
    return [row for row in rows_of(run_dir) if not row.metric.endswith("seconds")]


def arrays_of(run_dir):
    """The bytes of tickets and weights."""
    return {
        path.relative_to(run_dir): path.read_bytes()
        for folder in ("tickets", "checkpoints")
        for path in sorted((run_dir / folder).rglob("*.npz"))
    }


def counts(said):
    """What a run says before it begins: trainings and others, there and to be done."""
    found = re.findall(r"^(\d+) (\w+): (\d+) are there, (\d+) to be done$", said, re.MULTILINE)
    return {noun: (int(there), int(missing)) for _, noun, there, missing in found}


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


def test_the_results_say_in_columns_what_each_network_is(finished):
    rows = rows_of(finished[0])
    found = {(row.data_set, *(dict(row.labels).get(name, "") for name in LABELS)) for row in rows}
    kinds = {("at", "dense", "100"), ("at", "imp_st", "100"), ("at", "omp", "100")}
    assert found == {
        ("fashion_mnist", "at", "", ""),
        ("fashion_mnist", "at", "imp_st", ""),
        *(("mnist", *kind) for kind in kinds),
        ("mnist", "scratch", "dense", "100"),
    }
    header = (finished[0] / "results.csv").read_text().partition("\n")[0]
    assert header.endswith(",value,pretraining,pruning,percent")


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


def test_one_stage_after_the_other_is_the_same_run(finished, capfd, tmp_path):
    run = programs.in_this_process(driver, capfd)
    flags = (f"--run_dir={tmp_path / 'stages'}", *SMALL)
    code, output, errors = run("--stage=report", *flags)
    assert code == 0 and "No results yet" in output, errors
    for stage in ("search", "transfer"):
        code, _, errors = run(f"--stage={stage}", *flags)
        assert code == 2 and "--stage=pretrain" in programs.last_line(errors)
    done = {}
    for stage in ("pretrain", "search", "transfer", "report"):
        code, output, errors = programs.run(DRIVER, f"--stage={stage}", *flags)
        assert code == 0, errors
        assert bool(output) == (stage == "report")
        done[stage] = counts(errors)["trainings"]
        if stage == "pretrain":
            code, _, errors = run("--stage=transfer", *flags)
            expected = "--stage: the ticket at_imp_st of level 2 is missing"
            assert code == 2 and expected in programs.last_line(errors)
    # Of pre-training, retraining, three kinds of two transfers, and the unseen model.
    assert done == {"pretrain": (0, 1), "search": (1, 1), "transfer": (2, 7), "report": (0, 0)}
    assert timeless(tmp_path / "stages") == timeless(finished[0])
    assert arrays_of(tmp_path / "stages") == arrays_of(finished[0])


def test_killed_among_two_workers_and_resumed_by_one_ends_with_the_same_bytes(finished, tmp_path):
    """The first process is killed once a first piece of work is finished."""
    there, missing = programs.killed_and_resumed(DRIVER, tmp_path / "run", *SMALL)
    assert there > 0 and missing > 0 and there + missing == 9
    assert timeless(tmp_path / "run") == timeless(finished[0])
    assert arrays_of(tmp_path / "run") == arrays_of(finished[0])


def test_plan_says_what_would_be_done_and_does_nothing(finished, capfd, tmp_path):
    run = programs.in_this_process(driver, capfd)
    code, output, errors = run("--plan", *SMALL, f"--run_dir={tmp_path / 'run'}")
    assert (code, errors) == (0, "")
    # Tickets: level 1 of iterative pruning is that of one-shot pruning.
    assert counts(output) == {"trainings": (0, 9), "tickets": (0, 3), "measurements": (0, 11)}
    assert not list(tmp_path.iterdir())
    code, output, _ = run("--plan", *SMALL, f"--run_dir={finished[0]}", "--trials=2")
    # The second trial transfers the same tickets.
    assert counts(output) == {"trainings": (9, 7), "tickets": (3, 0), "measurements": (11, 10)}


@pytest.mark.parametrize(
    "flags, trainings, tickets",
    [
        # Half of the images, in other batches: other transfers of the same tickets.
        (["--percents=100,50", "--batch_size=16", "--standard_batch_size=16"], None, None),
        # Retraining of level 2, and level 3 of two kinds in two regimes.
        (["--levels=0,2,3"], (9, 5), (3, 2)),
        (["--tickets=at_imp_st,at_omp,at_random"], (9, 2), (3, 2)),
        (["--trials=2"], (9, 7), (3, 0)),
        # Weights on the way are not there any more.
        (["--trajectory_levels=2"], (8, 1), (3, 0)),
    ],
)
def test_a_finished_run_takes_on_more(finished, capfd, flags, trainings, tickets):
    run = programs.in_this_process(driver, capfd)
    code, output, errors = run("--plan", *SMALL, f"--run_dir={finished[0]}", *flags)
    assert code == 0, errors
    if trainings:
        found = counts(output)
        assert (found["trainings"], found["tickets"]) == (trainings, tickets)
    else:
        assert counts(output)["trainings"] == (2, 11)


def test_a_finished_run_grows(finished, tmp_path):
    """By a kind of ticket, which needs no training on the source, and the way of some weights."""
    shutil.copytree(finished[0].parent, tmp_path, dirs_exist_ok=True)
    run_dir = tmp_path / "finished"
    flags = (f"--run_dir={run_dir}", *SMALL)
    more = ("--tickets=at_imp_st,at_omp,at_random", "--trajectory_levels=2")
    code, _, errors = programs.run(DRIVER, *flags, *more)
    assert code == 0, errors
    assert counts(errors)["trainings"] == (8, 3)
    before = set(timeless(finished[0]))
    rows = timeless(run_dir)
    assert before < set(rows)
    assert {row.method for row in set(rows) - before} == {"at_random_100"}
    (path,) = run_dir.rglob("*_trajectory.npz")
    assert path.parent.parent.name == "at_imp_st_100"
    way, end = load_arrays(path), load_arrays(path.with_name("level_02.npz"))
    assert {name.partition("/")[0] for name in way} == {"000", "001", "002"}
    row = next(
        r
        for r in rows
        if (r.method, r.regime) == ("at_imp_st_100", "pgd") and r.metric == "test/natural/accuracy"
    )
    epoch = row.iteration // round(80 / 32)
    for name, array in end.items():
        np.testing.assert_array_equal(way[f"{epoch:03d}/{name}"], array)


def test_another_run_beside_it_trains_nothing_again(finished, tmp_path):
    shutil.copytree(finished[0].parent, tmp_path, dirs_exist_ok=True)
    flags = (f"--run_dir={tmp_path / 'second'}", *SMALL, "--tickets=at_omp")
    code, _, errors = programs.run(DRIVER, *flags)
    assert code == 0, errors
    assert counts(errors)["trainings"] == (6, 0)
    known = set(rows_of(finished[0]))
    rows = rows_of(tmp_path / "second")
    assert rows and set(rows) <= known  # Even the times, which are of the one training.
    assert any(row.metric == "test/transfer_attack/accuracy" for row in rows)


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
        "--workers=2",  # Each reads the folders again.
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
    ).attacks
    assert found["fast"].eps == pytest.approx(4 / 255)  # Wong et al., on ImageNet.
    assert (found["pgd"].eps, found["pgd"].steps) == (pytest.approx(8 / 255), 7)
    weaker = driver.phase(
        driver.PAPER, "retraining_", "constant", "source_attack_steps", "source_weight_decay"
    )
    assert weaker.attacks["pgd"].steps == 3


def test_standard_and_adversarial_transfer_have_recipes_of_their_own():
    phases = driver.transferring(driver.PAPER, "cifar10")
    # The published code's: 150 epochs, a tenth at 50 and at 100; epochs 46 to 100.
    rates = phases["natural"].learning_rates(1)(0, 150)
    assert rates[[0, 49, 50, 99, 100, 149]].tolist() == pytest.approx(
        [1e-3] * 2 + [1e-4] * 2 + [1e-5] * 2
    )
    assert phases["natural"].recipe.batch_size == 64
    adversarial = phases["pgd"].learning_rates(1)(0, 100)
    assert adversarial[[0, 49, 50, 74, 75]].tolist() == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3])
    assert phases["pgd"].select_from_epoch == 46
    assert driver.transferring(driver.PAPER, "svhn")["pgd"].select_from_epoch == 1
    assert driver.transferring(driver.PAPER, "svhn_classes_0_4")["pgd"].epochs == 80
    own = driver.PAPER | {"folders": ["svhn=/pictures"]}  # Only called as the paper's data set.
    assert driver.transferring(own, "svhn")["pgd"].epochs == 100
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
    "--image_size=1": "--image_size=1: expected 0 or at least 8",
    "--image_size=100000": "--image_size=100000: expected a whole number in [0, 512]",
    "--trajectory_levels=9": "--trajectory_levels=9: expected some of --levels=0,2",
    "--step_size=1": "--step_size=1.0: expected in [0, ",
    "--percents=100,5 --batch_size=4 --standard_batch_size=4": "--percents=5: 5% of the 80",
    "--threads=0": "--threads=0: expected a whole number in [1, 1000]",
    "--workers=2 --strategy=mirrored": "--workers=2: expected none with --strategy=mirrored",
    "--pretrained=at=/nowhere/a.pt": "--pretrained=at=/nowhere/a.pt: ",
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


def test_a_run_of_the_driver_before_it_knew_threads_is_refused(finished, capfd, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(finished[0], run_dir)
    config = json.loads((run_dir / "config.json").read_text())
    del config["threads"]
    (run_dir / "config.json").write_text(json.dumps(config))
    code, _, errors = programs.in_this_process(driver, capfd)(*SMALL, f"--run_dir={run_dir}")
    assert code == 2 and len(errors.splitlines()) == 1
    assert "holds a run of another driver or of an earlier version" in errors


def test_an_error_in_a_folder_names_only_the_flag_that_gave_it(capfd, tmp_path):
    for split, name in itertools.product(("train", "test"), ("cats", "dogs")):
        folder = tmp_path / "pets" / split / name
        folder.mkdir(parents=True)
        for number in range(1 if (split, name) == ("train", "dogs") else 8):
            pixels = np.full((16, 16, 1), number, np.uint8)
            Image.fromarray(pixels[..., 0]).save(folder / f"{number}.png")
    folders = f"--folders=pets={tmp_path / 'pets'}"
    run = programs.in_this_process(driver, capfd)
    flags = (*SMALL, folders, "--targets=pets", f"--run_dir={tmp_path / 'run'}")
    code, _, errors = run(*flags)
    expected = f"error: {folders}: too few training images of class dogs"
    assert code == 2 and errors.startswith(expected)


def test_too_many_training_images_of_the_source_are_refused_by_their_flag(capfd, tmp_path):
    run = programs.in_this_process(driver, capfd)
    code, _, errors = run(*SMALL, "--source_examples=99999", f"--run_dir={tmp_path / 'run'}")
    assert code == 2 and errors.startswith("error: --source_examples=99999: expected 1 to 8333")
