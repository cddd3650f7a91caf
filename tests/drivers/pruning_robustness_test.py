"""The pruning driver as its user runs it: in processes of its own, from flags to files."""

import json
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.drivers import programs
from tf_tickets.data.registry import load_images
from tf_tickets.runs.results import from_csv

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run of three studies, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    studies = "--study=structures,criteria,single_element"
    code, output, errors = programs.run(DRIVER, f"--run_dir={run_dir}", studies, *SMALL)
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
    rows = [row for row in rows_of(finished[0]) if not row.method.startswith("without:")]
    assert {(row.method, row.level) for row in rows} == {
        ("unpruned", 0),
        ("unpruned_fine_tuned", 0),
        ("pls_filters", 1),
        ("pls_blocks", 1),
        ("pls_both", 1),
        ("l1_filters", 1),
    }


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


def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_numbers(finished, tmp_path):
    flags = (f"--run_dir={tmp_path}/run", "--study=structures,criteria,single_element", *SMALL)
    for seconds in (12, 25):
        process = programs.start(DRIVER, *flags)
        time.sleep(seconds)
        process.kill()
        process.wait()
        process.communicate()
    code, _, errors = programs.run(DRIVER, *flags)
    assert code == 0, errors

    def numbers(run_dir):
        return [row for row in rows_of(run_dir) if "seconds" not in row.metric]

    assert numbers(tmp_path / "run") == numbers(finished[0])


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
}


def test_wrong_flags_are_one_line_before_any_work(tmp_path):
    flag_sets = [(*SMALL, flag, f"--run_dir={tmp_path}/run") for flag in CASES]
    for message, (code, errors) in zip(CASES.values(), programs.run_each(DRIVER, flag_sets)):
        assert code == 2 and len(errors.splitlines()) == 1, errors
        assert errors.startswith("error: ") and message in errors, (message, errors)
    assert not list(tmp_path.iterdir())


def test_another_configuration_is_refused_with_the_difference(finished):
    run_dir, *_ = finished
    before = json.loads((run_dir / "config.json").read_text())
    studies = "--study=structures,criteria,single_element"
    flags = (f"--run_dir={run_dir}", studies, *SMALL, "--epochs=3")
    code, _, errors = programs.run(DRIVER, *flags)
    assert code == 2 and "epochs=2 (now 3)" in programs.last_line(errors)
    assert json.loads((run_dir / "config.json").read_text()) == before


def test_two_workers_train_and_keep_a_network_together(tmp_path):
    run_dir = tmp_path / "workers"
    small = [flag for flag in SMALL if not flag.startswith(("--criteria", "--element"))]
    programs.run_two_workers(DRIVER, f"--run_dir={run_dir}", "--study=adjustment", *small)
    assert rows_of(run_dir)
    assert network_of(run_dir, "unpruned", 0).count_params() > 0
    assert (run_dir / "summary.md").exists()
