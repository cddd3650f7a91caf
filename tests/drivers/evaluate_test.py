"""The command that attacks saved networks, as its user runs it."""

import json

import numpy as np
import pytest
import tensorflow as tf

from experiments import evaluate
from tests import trained
from tests.bilinear import bilinear
from tests.drivers import programs
from tf_tickets.data.registry import load_images
from tf_tickets.models.registry import build_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    return {
        "ticket": trained.save_run(trained.lenet(), folder / "run"),
        "source": trained.save_model(trained.lenet(1), folder / "source"),
    }


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs the command in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return programs.in_this_process(evaluate, capfd)


def test_from_flags_to_files(saved, tmp_path):
    code, output, errors = programs.run(
        "evaluate",
        *(f"--model={saved['ticket']}", f"--source={saved['source']}"),
        *("--attack=fgsm,pgd,cw_linf,transfer", "--eps=16/255", "--steps=8", "--restarts=2"),
        *("--examples=200", "--check_examples=100", "--batch_size=80", "--seed=1"),
        folder=tmp_path,
    )
    assert code == 0, errors
    (path,) = (tmp_path / "tensorboard_logs" / "evaluate").glob("*.json")
    assert path.name.startswith("mnist-natural-original-seed_0-level_03-")
    assert path.name in output
    assert "200 test images of mnist (embedded)" in output
    assert all(word in output for word in ("cw_linf", "95% interval", "PASS"))
    assert "left" in errors and "oneDNN" not in errors

    found = json.loads(path.read_text())
    assert found["config"]["eps"] == pytest.approx(16 / 255)
    assert found["config"]["step_size"] == pytest.approx(4 / 255)
    assert found["seed"] == 1 and found["images"] == 200 and found["data_set"] == "mnist"
    assert set(found["model"]["sha256"]) == {
        str(saved["ticket"]),
        str(saved["ticket"]).replace("/tickets/", "/checkpoints/"),
    }
    assert found["environment"]["packages"]["tensorflow"]
    names = [outcome["attack"] for outcome in found["outcomes"]]
    assert names == ["natural", "fgsm", "pgd", "cw_linf", "transfer"]
    accuracy = {outcome["attack"]: outcome["accuracy"] for outcome in found["outcomes"]}
    assert accuracy["natural"] > accuracy["transfer"] > accuracy["pgd"]
    assert found["outcomes"][2]["settings"]["restarts"] == 2
    assert [check["verdict"] for check in found["checks"]] == ["PASS"] * 6


def test_a_saved_model_in_this_process(saved, run, tmp_path):
    output = tmp_path / "result" / "numbers.json"
    code, text, _ = run(
        f"--model={saved['source']}",
        "--data_set=mnist",
        "--attack=pgd,cw_l2",
        "--cw_iterations=20",
        "--examples=20",
        "--slow_examples=5",
        "--steps=2",
        "--nochecks",
        f"--output={output}",
    )
    assert code == 0
    found = json.loads(output.read_text())
    assert [outcome["images"] for outcome in found["outcomes"]] == [20, 20, 5]
    assert found["checks"] == [] and "gradient masking" not in text


def test_images_are_scaled_for_a_ticket_whose_own_were(run, tmp_path):
    model = build_model("lenet_300_100", (32, 32, 1), 5, seed=0)
    changes = {
        "data_set": "mnist_classes_5_9 (embedded, resized)",
        "model_config": {"image_shape": [32, 32, 1], "num_classes": 5},
    }
    ticket = trained.save_run(model, tmp_path / "run", **changes)
    flags = ("--attack=fgsm", "--examples=0", "--nochecks", f"--output={tmp_path / 'found.json'}")
    code, _, errors = run(f"--model={ticket}", *flags)
    assert code == 0, errors
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["data_set"] == "mnist_classes_5_9" and found["images"] == 1_000

    test = load_images("mnist_classes_5_9", "embedded").test
    images = np.stack([bilinear(image / 255, 32) for image in test.images[:100]])
    whole = tf.image.resize(test.images / np.float32(255), (32, 32))
    np.testing.assert_allclose(whole[:100], images, atol=1e-6)
    correct = np.argmax(model(whole), axis=1) == test.labels
    assert abs(found["outcomes"][0]["accuracy"] - correct.mean()) <= 1 / 1_000


@pytest.mark.parametrize(
    "flag,message",
    [
        ("--model=nowhere", "--model=nowhere: no such file or folder"),
        ("--attack=bim", "--attack=bim: expected one of fgsm, pgd"),
        ("--attack=", "--attack="),
        ("--attack=transfer", "--attack=transfer: needs --source"),
        ("--eps=8/0", "--eps=8/0: expected a number in [0, 1], such as 0.03 or 8/255"),
        ("--eps=1e999999999", "--eps=1e999999999: expected"),
        ("--eps=2", "--eps=2: expected"),
        ("--eps=nan", "--eps=nan: expected"),
        ("--eps=__import__('os')", "--eps=__import__('os'): expected"),
        ("--eps=0", "--eps=0.0: expected above 0, or --nochecks"),
        ("--step_size=1", "--step_size=1.0: expected in [0, 0.06"),
        ("--steps=0", "--steps=0: expected a whole number in [1, "),
        ("--steps=99999999999", "--steps=99999999999: expected a whole number in [1, "),
        ("--restarts=0", "--restarts=0: expected a whole number in [1, "),
        ("--examples=-1", "--examples=-1: expected a whole number in [0, "),
        ("--examples=5000", "--examples=5000: expected at most 2000, or 0 for all"),
        ("--batch_size=0", "--batch_size=0: expected a whole number in [1, "),
        ("--data_set=cifar10", "--data_source=embedded: cifar10 has no embedded sample"),
        ("--data_set=mnits", "--data_set=mnits is not known; use one of mnist"),
        ("--data_set=mnist_classes_3_1", "--data_set=mnist_classes_3_1: expected <data set>_cla"),
        ("--data_set=mnist_classes_3_7", "tells 10 classes apart, but mnist_classes_3_7 has 5"),
        ("--data_source=web", "--data_source=web: expected one of embedded, tfds, folder"),
        ("--source=/", "--source=/: no saved_model.pb in it"),
        ("--output=/", "--output=/: expected a file, not a folder"),
        (
            "--output=/proc/x/y.json",
            "--output=/proc/x/y.json: expected a place that can be written",
        ),
        ("--epsilon=1", "Unknown command line flag 'epsilon'"),
        ("surplus", "surplus: expected flags only"),
    ],
)
def test_a_wrong_flag_is_one_line(saved, run, flag, message):
    code, output, errors = run(f"--model={saved['ticket']}", flag)
    assert code == 2 and output == ""
    line = errors.strip().splitlines()[-1]
    assert line.startswith("error: ") and message in line


def test_what_must_be_given(saved, run):
    code, _, errors = run()
    assert code == 2 and "error: --model=: expected the path of a network" in errors
    code, _, errors = run(f"--model={saved['source']}")
    assert code == 2 and "error: --data_set=: expected one of mnist" in errors


def test_help(run):
    code, output, _ = run("--help")
    assert code == 0 and "--eps" in output and "8/255" in output


def test_what_was_measured_survives_a_later_attack(saved, run, tmp_path, monkeypatch):
    output = tmp_path / "kept.json"
    flags = (
        *(f"--model={saved['source']}", "--data_set=mnist", "--attack=fgsm,cw_l2,pgd"),
        *("--examples=20", "--slow_examples=5", "--steps=2", "--nochecks", f"--output={output}"),
    )

    def fail(self, settings):
        found = json.loads(output.read_text())
        assert [outcome["attack"] for outcome in found["outcomes"]] == ["natural", "fgsm"]
        assert found["state"] != "finished"
        raise TypeError("types differ")

    judge = evaluate.RobustnessEvaluator
    monkeypatch.setattr(judge, "under_carlini_wagner_l2", fail)
    code, text, errors = run(*flags)
    assert code == 2 and "fgsm" in text and "pgd" in text
    assert "--attack=cw_l2: failed (TypeError: types differ)" in errors.splitlines()[-1]
    found = json.loads(output.read_text())
    assert [outcome["attack"] for outcome in found["outcomes"]] == ["natural", "fgsm", "pgd"]
    assert found["state"] == "finished" and list(found["failed"]) == ["cw_l2"]

    def stop(self, settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "under_carlini_wagner_l2", stop)
    code, text, errors = run(*flags)
    assert code == 130 and "fgsm" in text and str(output) in errors.splitlines()[-1]
