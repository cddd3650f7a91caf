"""The command that attacks saved networks, as its user runs it."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from PIL import Image

from experiments import evaluate
from tests import trained
from tests.bilinear import bilinear
from tests.experiments import programs
from tf_tickets.attacks.threat_model import carlini_wagner
from tf_tickets.data.registry import load_images
from tf_tickets.evaluation.robustness import Outcome, RobustnessEvaluator
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
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    margin = next(check for check in found["checks"] if "margin" in check["name"])
    # The margin loss may well beat PGD on this network; then the check must say so.
    left = margin["measured"]
    beaten = left["PGD"] - left["margin loss"] > max(0.005, 2.5 / 100)
    assert verdicts.pop(margin["name"]) == ("FAIL" if beaten else "PASS")
    assert list(verdicts.values()) == ["PASS"] * 5


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


def small_network(path, shape, *layers):
    keras.Sequential([keras.layers.Input(shape), *layers]).save(path)
    return path


def outcomes_of(run, output, model, *flags):
    """Attack → images answered right, and the remarks."""
    code, text, errors = run(f"--model={model}", *flags, "--nochecks", f"--output={output}")
    assert code == 0, errors
    found = json.loads(output.read_text())
    assert all(f"Remark: {remark}" in text for remark in found["remarks"])
    return {each["attack"]: each["correct"] for each in found["outcomes"]}, found["remarks"]


def test_a_network_that_takes_0_to_255(run, tmp_path):
    """Two such networks are the same function; in the wrong range one answers 3 to everything."""
    biased = keras.layers.Dense(
        10,
        kernel_initializer=keras.initializers.Identity(),
        bias_initializer=keras.initializers.Constant(2 * np.eye(10)[3]),
    )
    network = (trained.lenet(), biased)
    small_network(tmp_path / "plain.keras", trained.SHAPE, *network)
    other = (keras.layers.Rescaling(1 / 255), *network)
    small_network(tmp_path / "other.keras", trained.SHAPE, *other)
    flags = ("--data_set=mnist", "--attack=fgsm", "--eps=0.1", "--examples=200")

    plain, remarks = outcomes_of(run, tmp_path / "1.json", tmp_path / "plain.keras", *flags)
    assert remarks == [] and plain["natural"] > 150 > plain["fgsm"]
    wrong, remarks = outcomes_of(run, tmp_path / "2.json", tmp_path / "other.keras", *flags)
    assert wrong["natural"] == 20
    (remark,) = remarks
    assert "10.00%, is near chance (10.00%)" in remark and "--input_range=0,255" in remark
    flags += ("--input_range=0,255",)
    right, remarks = outcomes_of(run, tmp_path / "3.json", tmp_path / "other.keras", *flags)
    assert remarks == []
    for attack, correct in plain.items():  # Rounding may turn an image around.
        assert abs(right[attack] - correct) <= 1


def test_remarks_by_hand():
    victim = trained.victim_of(None)
    well = Outcome("natural", {}, 90, 100)
    assert evaluate.remarks_on(victim, []) == evaluate.remarks_on(victim, [well]) == []
    (lost,) = evaluate.remarks_on(victim, [Outcome("natural", {}, 90, 100, {"not_finite": 3})])
    assert lost.startswith("3 of 100 images got logits that are not finite")
    two = trained.victim_of(None, num_classes=2)
    (chance,) = evaluate.remarks_on(two, [Outcome("natural", {}, 52, 100)])
    assert "52.00%, is near chance (50.00%)" in chance


def test_half_precision_under_every_gradient_attack(run, tmp_path):
    """The network of float16 withstands as often as that of float32, nearly."""
    sizes = ((300, "relu"), (100, "relu"), (10, None))
    half = [keras.layers.Dense(*size, False, dtype="mixed_float16") for size in sizes]
    model = keras.Sequential([keras.layers.Input(trained.SHAPE), keras.layers.Flatten(), *half])
    model.set_weights(trained.lenet().get_weights())
    assert model.output.dtype == "float16"
    model.save(tmp_path / "half.keras")
    flags = ("--data_set=mnist", "--attack=fgsm,pgd,cw_linf", "--steps=3", "--examples=100")
    found, _ = outcomes_of(run, tmp_path / "half.json", tmp_path / "half.keras", *flags)
    assert list(found) == ["natural", "fgsm", "pgd", "cw_linf"]

    victim = trained.victim_of(lambda images: trained.lenet()(images, training=False))
    judge = RobustnessEvaluator(victim, trained.images_of_test(100), 100)
    margin = carlini_wagner(8 / 255, 2 / 255, 3)
    for name, expected in (("natural", judge.natural()), ("cw_linf", judge.under("", margin))):
        assert abs(found[name] - expected.correct) <= 2


@pytest.mark.parametrize("attacks", ["auto_attack", "pgd,auto_attack"])
def test_auto_attack_with_two_classes_is_refused_before_any_work(
    run, tmp_path, monkeypatch, attacks
):
    def fail(*_, **__):
        raise AssertionError("worked already")

    monkeypatch.setattr(evaluate, "require_toolbox", lambda: None)
    monkeypatch.setattr(evaluate, "load_images", fail)
    layers = (keras.layers.Flatten(), keras.layers.Dense(2))
    path = small_network(tmp_path / "two.keras", trained.SHAPE, *layers)
    flags = (f"--model={path}", "--data_set=mnist_classes_0_1", f"--attack={attacks}")
    code, output, errors = run(*flags)
    assert code == 2 and output == ""
    line = programs.last_line(errors)
    assert "--attack=auto_attack: its difference of logits ratio needs three classes" in line
    assert len(line) - len(str(tmp_path)) <= 250
    with pytest.raises(AssertionError, match="worked already"):
        run(*flags[:2], "--attack=cw_linf")


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 1)])
def test_a_gray_network_on_gray_images_of_a_folder(run, tmp_path, shape):
    """Dark and bright images, told apart by their mean; two of the bright ones lie in `dark`."""
    values = {"bright": [180, 200, 220], "dark": [10, 20, 30, 240, 250]}
    for part in ("train", "test"):
        for name, shades in values.items():
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for number, shade in enumerate(shades):
                Image.new("L", (6, 6), shade).save(folder / f"{number}.png")
    kernel = keras.initializers.Constant(np.tile([[1.0, -1.0]], (36, 1)))
    bias = keras.initializers.Constant([-18.0, 18.0])
    dense = keras.layers.Dense(2, kernel_initializer=kernel, bias_initializer=bias)
    path = small_network(tmp_path / "gray.keras", shape, keras.layers.Flatten(), dense)
    flags = ("--data_set=shades", "--data_source=folder", f"--data_dir={tmp_path / 'data'}")
    flags += ("--attack=fgsm", "--eps=0.22", "--examples=0")
    found, _ = outcomes_of(run, tmp_path / "found.json", path, *flags)
    # Of the six that are right, 180 / 255 - 0.22 alone is below a half.
    assert found == {"natural": 6, "fgsm": 5}


@pytest.mark.parametrize("shape", [(28, 32, 1), (32, 28)])
def test_a_network_that_takes_no_squares(run, tmp_path, shape):
    layers = (keras.layers.Flatten(), keras.layers.Dense(10))
    path = small_network(tmp_path / "long.keras", shape, *layers)
    code, _, errors = run(f"--model={path}", "--data_set=mnist")
    line = programs.last_line(errors)
    expected = f"takes images of shape {(*shape, 1)[:3]}; expected square ones"
    assert code == 2 and expected in line and len(line) - len(str(tmp_path)) <= 250
