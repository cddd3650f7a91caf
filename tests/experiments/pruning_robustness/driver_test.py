"""The pruning driver as its user runs it: in processes of its own, from flags to files."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from experiments.pruning_robustness import driver as pruning_robustness
from tests.experiments import programs
from tests.experiments.programs import counts
from tf_tickets.data.registry import load_images
from tf_tickets.runs.results import COLUMNS, from_csv

DRIVER = "pruning_robustness"
SMALL = (
    "--preset=smoke",
    "--models=resnet_20",
    "--train_examples=128",
    "--criteria=l1,pls",
    "--element_examples=10",
    "--test_examples=30",
    "--width_multiplier=0.1",
    "--blocks=1",
)
STUDIES = "--study=structures,criteria,single_element"
TINY = (*SMALL, "--structures=filters", "--epochs=1", "--criterion=l1", "--severities=5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run of three studies, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    code, output, errors = programs.run(DRIVER, f"--run_dir={run_dir}", STUDIES, *SMALL)
    assert code == 0, errors
    return run_dir, output, errors


def rows_of(run_dir):
    return from_csv((run_dir / "results.csv").read_text(), "results.csv")


def network_of(run_dir, method, level):
    place = run_dir / "checkpoints" / "fashion_mnist" / "resnet_20" / "natural"
    path = place / method / "seed_0" / f"level_{level:02d}.keras"
    return keras.models.load_model(path, compile=False)


def test_ends_with_the_table_beside_the_papers_and_the_paths(finished):
    run_dir, output, errors = finished
    for text in ("Semantic", "Occlusion", "FGSM", "+1.58", "control", "FLOPs gone"):
        assert text in output
    for name in ("summary.md", "figures", "tickets"):
        assert str(run_dir / name) in output and (run_dir / name).exists()
    assert "epochs 2 (paper: 200)" in output and "rewind_epoch" not in output
    assert "left" in errors and "Traceback" not in errors and "retracing" not in errors
    summary = (run_dir / "summary.md").read_text()
    assert all(text in summary for text in ("Table 1", "Table 2", "Figure 3"))
    assert len(list((run_dir / "figures").glob("*.png"))) >= 3


def test_the_studies_share_their_networks(finished):
    rows = [row for row in rows_of(finished[0]) if "element_kind" not in dict(row.labels)]
    assert {(row.method, row.level) for row in rows} == {
        ("unpruned", 0),
        ("unpruned_fine_tuned", 0),
        ("pls_filters", 1),
        ("pls_blocks", 1),
        ("pls_both", 1),
        ("l1_filters", 1),
    }


def test_results_have_a_column_for_each_label(finished):
    header = (finished[0] / "results.csv").read_text().splitlines()[0].split(",")
    labels = header[len(COLUMNS) :]
    assert labels == [
        *("removed", "adjustment", "criterion", "element_kind", "element_place", "element_index")
    ]
    networks = {}
    for row in rows_of(finished[0]):
        given = dict(row.labels)
        networks.setdefault(row.method, set()).add(tuple(given.get(name, "") for name in labels))
    assert all(len(found) == 1 for found in networks.values())
    expected = {
        "unpruned": ("nothing", "", "", "", "", ""),
        "unpruned_fine_tuned": ("nothing", "fine_tuned", "", "", "", ""),
        "l1_filters": ("filters", "fine_tuned", "l1", "", "", ""),
        "pls_both": ("both", "fine_tuned", "pls", "", "", ""),
        "without:nothing": ("nothing", "", "", "nothing", "", ""),
        "without:stage_2.block_1.conv_1:2": (
            *("nothing", "", "", "filters", "stage_2.block_1.conv_1", "2"),
        ),
    }
    assert {method: networks[method] for method in expected} == {
        method: {labels} for method, labels in expected.items()
    }
    blocks = {
        (method, place)
        for method, ((*_, kind, place, index),) in networks.items()
        if kind == "blocks" and not index
    }
    assert len(blocks) == 6 and all(method == f"without:{place}" for method, place in blocks)


def test_accuracies_are_those_of_the_saved_networks(finished):
    run_dir, *_ = finished
    data = load_images("fashion_mnist", "embedded", None, 0).padded(32).limited(0, test=30)
    images = data.test.images.astype(np.float32) / 255
    occluded = images.copy()
    occluded[:, 8:24, 8:24] = 0
    for method, level in (("unpruned", 0), ("pls_both", 1)):
        model = network_of(run_dir, method, level)
        with tf.GradientTape() as tape:
            x = tf.constant(images)
            tape.watch(x)
            loss = keras.losses.SparseCategoricalCrossentropy(True, reduction="sum")(
                data.test.labels, model(x, training=False)
            )
        step = np.sign(tape.gradient(loss, x)) * np.float32(8 / 255)
        for attack, changed in {
            "natural": images,
            "occlusion": occluded,
            "fgsm": np.clip(images + step, 0, 1),
        }.items():
            right = np.argmax(model(changed, training=False), axis=1) == data.test.labels
            (found,) = [
                row.value
                for row in rows_of(run_dir)
                if (row.method, row.metric) == (method, f"test/{attack}/accuracy")
            ]
            assert abs(found - np.mean(right)) <= 1.5 / 30, (method, attack)


def test_the_export_is_the_smaller_network(finished):
    run_dir, output, _ = finished
    (path,) = (path.parent for path in run_dir.glob("exports/**/saved_model.pb"))
    assert str(path) in output
    serve = tf.saved_model.load(str(path)).signatures["float_images"]
    images = np.random.default_rng(0).random((3, 32, 32, 1), np.float32)
    model = network_of(run_dir, path.parent.name, int(path.name.removeprefix("level_")))
    logits = serve(images=tf.constant(images))["logits"]
    np.testing.assert_allclose(logits, model(images, training=False), atol=1e-4)


def contents(run_dir):
    """Everything that must not depend on interruptions; times do."""
    rows = [row for row in rows_of(run_dir) if "seconds" not in row.metric]
    removals = {
        path.relative_to(run_dir): path.read_bytes() for path in run_dir.glob("tickets/**/*.json")
    }
    store = run_dir.parent / "tf_tickets_store"
    weights = {path.relative_to(store): path.read_bytes() for path in store.glob("*/*.npz")}
    return rows, removals, weights


def test_killed_among_two_workers_and_resumed_by_one_ends_with_the_same_numbers(finished, tmp_path):
    """The first process is killed once a first network is shown."""
    there, missing = programs.killed_and_resumed(
        DRIVER, tmp_path / "run", STUDIES, *SMALL, sign="run/records/**/*.csv"
    )
    assert there > 0 and missing > 0 and there + missing == 6
    assert contents(tmp_path / "run") == contents(finished[0])


def run_small(run_dir, *flags):
    """Cuts filters out of a network; returns what was there and what was done."""
    code, _, errors = programs.run(DRIVER, f"--run_dir={run_dir}", *TINY, *flags)
    assert code == 0, errors
    return counts(errors)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A finished run of a whole network, its control and a smaller one."""
    run_dir = tmp_path_factory.mktemp("small") / "run"
    # Size, attacks, occlusion and corruptions of each.
    done = {"trainings": (0, 3), "cuts": (0, 1), "measurements": (0, 12)}
    assert run_small(run_dir) == done
    return run_dir


def test_plan_says_what_would_be_done_and_does_nothing(capfd, tmp_path):
    run = programs.in_this_process(pruning_robustness, capfd)
    code, output, errors = run("--plan", *TINY, f"--run_dir={tmp_path / 'run'}")
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "3 trainings: 0 are there, 3 to be done",
        "12 measurements: 0 are there, 12 to be done",
        "1 cuts: 0 are there, 1 to be done",
        "expected time: not known before the first training of each network has ended",
        f"work is kept in {tmp_path / 'tf_tickets_store'}",
    ]
    assert not list(tmp_path.iterdir())


GROWING = {
    "--severities=3,5": {"trainings": (3, 0), "cuts": (1, 0), "measurements": (12, 3)},
    "--eps=4/255": {"trainings": (3, 0), "cuts": (1, 0), "measurements": (9, 3)},
    "--occlusion_side=8": {"trainings": (3, 0), "cuts": (1, 0), "measurements": (9, 3)},
    "--test_examples=20": {"trainings": (3, 0), "cuts": (1, 0), "measurements": (3, 9)},
    "--criterion=random": {"trainings": (2, 1), "cuts": (0, 1), "measurements": (8, 4)},
    "--filters=0.3": {"trainings": (2, 1), "cuts": (0, 1), "measurements": (8, 4)},
    "--fine_tuning_epochs=2": {"trainings": (1, 2), "cuts": (1, 0), "measurements": (4, 8)},
    "--epochs=2": {"trainings": (0, 3), "cuts": (0, 1), "measurements": (0, 12)},
    "--trials=2": {"trainings": (3, 3), "cuts": (1, 1), "measurements": (12, 12)},
    "--seed=1": {"trainings": (0, 3), "cuts": (0, 1), "measurements": (0, 12)},
    "--study=iterations": {"trainings": (3, 1), "cuts": (1, 1), "measurements": (12, 4)},
    # All have the same cut.
    "--study=adjustment --rewind_epoch=0": {
        "trainings": (3, 3), "cuts": (1, 0), "measurements": (12, 12),
    },
    # Of nine layers and all blocks.
    "--study=single_element": {"trainings": (1, 0), "measurements": (4, 10)},
    "--study=transfer": {"trainings": (2, 0), "cuts": (1, 0), "measurements": (8, 2)},
}  # fmt: skip


def test_a_change_computes_only_what_is_missing(small, capfd):
    run = programs.in_this_process(pruning_robustness, capfd)
    for flags, expected in GROWING.items():
        code, output, errors = run("--plan", *TINY, *flags.split(), f"--run_dir={small}")
        assert (code, errors) == (0, ""), flags
        assert counts(output) == expected, flags


def test_a_finished_run_takes_on_more(small, tmp_path):
    """What its old results were of stays; the results are of what was asked for last."""
    shutil.copytree(small.parent, tmp_path, dirs_exist_ok=True)
    run_dir = tmp_path / "run"
    before = rows_of(run_dir)
    severities = GROWING["--severities=3,5"]
    assert run_small(run_dir, "--severities=3,5") == severities
    more = rows_of(run_dir)
    assert set(before) < set(more)
    added = {row.metric for row in set(more) - set(before)}
    assert len(added) == 16 and all(metric.endswith("_3/accuracy") for metric in added)
    several = ("--study=transfer", "--trials=2", "--fine_tuning_epochs=2")
    # The first seed's whole network and its cut are there, and what the network met.
    missing = {"trainings": (1, 3), "cuts": (1, 1), "measurements": (4, 16)}
    assert run_small(run_dir, *several) == missing
    assert {(row.method, row.seed) for row in rows_of(run_dir)} == {
        (method, seed) for method in ("unpruned", "l1_filters") for seed in (0, 1)
    }
    nothing = {"trainings": (3, 0), "cuts": (1, 0), "measurements": (12, 0)}
    assert run_small(run_dir) == nothing
    assert sorted(rows_of(run_dir)) == sorted(before)


def test_a_run_of_the_driver_before_it_knew_threads_is_refused(small, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(small, run_dir)
    config = json.loads((run_dir / "config.json").read_text())
    del config["threads"]
    (run_dir / "config.json").write_text(json.dumps(config))
    code, _, errors = programs.run(DRIVER, *TINY, f"--run_dir={run_dir}")
    assert code == 2 and len(errors.splitlines()) == 1
    assert "holds a run of another driver or of an earlier version" in errors


def test_transfer_adjustment_iterations_and_defenses(tmp_path):
    studies = "--study=transfer,adjustment,iterations,defenses"
    code, output, errors = programs.run(DRIVER, f"--run_dir={tmp_path}/run", studies, *SMALL)
    assert code == 0, errors
    rows = rows_of(tmp_path / "run")
    assert {row.regime for row in rows} == {"natural", "cutout", "mixup", "cutmix"}
    methods = {row.method for row in rows}
    ways = {f"pls_filters_{way}" for way in ("scratch_1x", "scratch_2x", "winning_ticket")}
    assert ways < methods and {row.level for row in rows} == {0, 1, 2}
    transfers = {row.metric for row in rows if "transfer" in row.metric}
    assert transfers == {
        f"test/transfer_from_resnet_20.{method}/accuracy" for method in ("unpruned", "pls_filters")
    }
    assert "32.73" in output  # Of Table 4.
    summary = (tmp_path / "run" / "summary.md").read_text()
    assert all(text in summary for text in ("Table 3", "Table 5", "Pearson", "Shape-Texture"))


CASES = {
    "--study=structure": "--study=structure: expected one of structures",
    "--severities=6": "--severities=6: expected a whole number in [1, 5], with commas between",
    "--severities=nan": "--severities=nan: expected a whole number in [1, 5]",
    "--severities=4.7": "--severities=4.7: expected a whole number in [1, 5]",
    "--models=resnet_20,resnet_50": "--width_multiplier=0.1: expected 1 for resnet_50",
    "--models=lenet_300_100": "--models=lenet_300_100: expected a network with convolutions",
    "--filters=1.5": "--filters=1.5: expected a number in (0, 1)",
    "--blocks=9": "--blocks=9",
    "--iterations=1000": "--iterations=1000: expected a whole number in [1, 100]",
    "--models=resnet_21": "--models=resnet_21: unknown",
    "--criteria=l1,l1": "--criteria=l1,l1: expected different ones",
    "--occlusion_side=40": "--occlusion_side=40",
    "--element_examples=9999": "--element_examples=9999",
    "--scoring_examples=1": "--scoring_examples=1: expected 0 or at least 2",
    "--study=adjustment --rewind_epoch=3": "--rewind_epoch=3: expected 0 to 2, the --epochs",
    "--threads=0": "--threads=0: expected a whole number in [1, 1000]",
    "--workers=2 --strategy=mirrored": "--workers=2: expected none with --strategy=mirrored",
    "--store=/dev/null": "--store=/dev/null: expected a folder, not a file",
}


def test_wrong_flags_are_one_line_before_any_work(tmp_path):
    flag_sets = [(*SMALL, *flags.split(), f"--run_dir={tmp_path}/run") for flags in CASES]
    for message, (code, errors) in zip(CASES.values(), programs.run_each(DRIVER, flag_sets)):
        assert code == 2 and len(errors.splitlines()) == 1, errors
        assert errors.startswith("error: ") and message in errors, (message, errors)
    assert not list(tmp_path.iterdir())


def test_two_workers_train_and_keep_a_network_together(tmp_path):
    run_dir = tmp_path / "workers"
    small = [flag for flag in SMALL if not flag.startswith(("--criteria", "--element"))]
    programs.run_two_workers(DRIVER, f"--run_dir={run_dir}", "--study=adjustment", *small)
    assert rows_of(run_dir)
    assert network_of(run_dir, "unpruned", 0).count_params() > 0
    assert (run_dir / "summary.md").exists()
