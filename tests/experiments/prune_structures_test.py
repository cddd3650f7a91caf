"""The command that prunes a model of its user's, as that user runs it."""

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from experiments import prune_structures
from tests import trained
from tests.experiments import programs
from tf_tickets.data.vision import ImageSplit
from tf_tickets.evaluation.victims import load_victim
from tf_tickets.structured.channels import channels_of
from tf_tickets.structured.surgery import Removal, remove

ROOT = Path(__file__).parents[2]
layers = keras.layers


def network():
    """A stem, three residual blocks, two branches that are concatenated, and a head."""
    keras.utils.set_random_seed(0)
    image = layers.Input(trained.SHAPE)
    x = layers.Conv2D(8, 3, strides=4, padding="same", name="stem")(image)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
    for number in (1, 2, 3):
        y = layers.Conv2D(12, 3, padding="same", use_bias=False, name=f"wide_{number}")(x)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(y))
        y = layers.Conv2D(8, 3, padding="same", name=f"narrow_{number}")(y)
        x = layers.ReLU()(layers.Add(name=f"sum_{number}")([x, y]))
    parts = [
        layers.Conv2D(6, 1, activation="relu", name="pointwise")(x),
        layers.Conv2D(10, 3, padding="same", activation="relu", name="spatial")(x),
    ]
    x = layers.Concatenate()(parts)
    x = layers.Conv2D(16, 3, activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="users_own")


# Filters that may go; the last four layers' are added to one another, and go together.
FILTERS = {"wide_1": 12, "wide_2": 12, "wide_3": 12, "pointwise": 6, "spatial": 10, "last": 16}
TOGETHER = {"stem": 8, "narrow_1": 8, "narrow_2": 8, "narrow_3": 8}
LEFT_ALONE = {"logits"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The network's file, after it has learned something."""
    model, train = network(), trained.mnist().train
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.legacy.Adam(3e-3), loss)
    images = train.images / np.float32(255)
    model.fit(images, train.labels, batch_size=100, epochs=2, verbose=0)
    path = tmp_path_factory.mktemp("saved") / "own.keras"
    model.save(path)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs the command in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return programs.in_this_process(prune_structures, capfd)


def load(path):
    return keras.models.load_model(path, compile=False)


def accuracy(model, split):
    logits = model.predict(split.images / np.float32(255), batch_size=500, verbose=0)
    return np.mean(np.argmax(logits, axis=1) == split.labels)


def bytes_in(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def done(saved, tmp_path_factory):
    """The folder of results, and what was printed, of a run in a process of its own."""
    folder = tmp_path_factory.mktemp("done")
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.prune_structures", f"--model={saved}"),
            *("--criterion=pls", "--filters=0.25", "--blocks=1", "--data_set=mnist"),
            *("--scoring_examples=300", "--fine_tuning_epochs=2", "--batch_size=64"),
            "--output=results/first",
        ],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert "left" in ended.stderr and "oneDNN" not in ended.stderr
    return folder / "results" / "first", ended.stdout


def test_what_is_written(done):
    folder, _ = done
    names = {path.name for path in folder.iterdir()}
    assert names == {"pruned.keras", "saved_model", "report.json", "report.md"}
    assert [path.name for path in folder.parent.iterdir()] == ["first"]


def test_what_is_removed_is_what_was_asked_for(saved, done):
    folder, _ = done
    report = json.loads((folder / "report.json").read_text())
    removed, scores = report["removed"], report["scores"]
    scored = {name: len(values) for name, values in scores["filters"].items()}
    assert scored == FILTERS | TOGETHER
    assert set(scores["blocks"]) == {"sum_2", "sum_3"}
    assert removed["blocks"] == [min(scores["blocks"], key=scores["blocks"].get)]
    gone = removed["blocks"][0].replace("sum", "wide")
    taken = {name: len(indices) for name, indices in removed["filters"].items()}
    quarters = {n: math.floor(0.25 * count + 0.5) for n, count in (FILTERS | TOGETHER).items()}
    alone = {name: quarters[name] for name in FILTERS if name != gone}
    without = {gone, gone.replace("wide", "narrow")}
    together = {name: quarters[name] for name in TOGETHER if name not in without}
    assert taken == alone | together
    same = [removed["filters"][name] for name in together]
    assert all(indices == same[0] for indices in same)
    assert report["widths"] == {
        name: [count, count - quarters[name]]
        for name, count in (FILTERS | TOGETHER).items()
        if name not in without
    }
    pruned = load(folder / "pruned.keras")
    assert gone not in [layer.name for layer in pruned.layers]
    for name in set(FILTERS) - {gone}:
        filters = pruned.get_layer(name).filters
        assert filters == FILTERS[name] - len(removed["filters"].get(name, ()))
    assert set(report["left_alone"]) == LEFT_ALONE
    assert report["model"]["sha256"] == {str(saved): hashlib.sha256(saved.read_bytes()).hexdigest()}


def test_the_numbers_are_those_of_the_files(saved, done):
    folder, _ = done
    report = json.loads((folder / "report.json").read_text())
    whole, pruned = load(saved), load(folder / "pruned.keras")
    test = trained.mnist().test
    before, after = report["before"], report["after"]
    assert before["accuracy"] == pytest.approx(accuracy(whole, test), abs=1e-3)
    assert after["accuracy"] == pytest.approx(accuracy(pruned, test), abs=1e-3)
    untuned = remove(whole, Removal.from_json(report["removed"], folder))
    assert report["accuracy_before_fine_tuning"] == pytest.approx(accuracy(untuned, test), abs=1e-3)
    assert after["accuracy"] > accuracy(untuned, test) + 0.05
    assert before["parameters"] == whole.count_params()
    assert after["parameters"] == pruned.count_params() < 0.8 * whole.count_params()
    assert after["flops"] < 0.8 * before["flops"]
    assert after["size"]["total"] == bytes_in(folder / "saved_model") < before["size"]["total"]
    for measured in (before, after):
        assert [latency["batch_size"] for latency in measured["latencies"]] == [1, 64]
        assert all(0 < each["median"] <= each["percentile_95"] for each in measured["latencies"])
    epochs, validation = zip(*report["validation_accuracies"])
    assert epochs == (0, 1, 2)
    assert validation[-1] == pytest.approx(accuracy(pruned, trained.mnist().validation), abs=1e-3)
    assert report["images"]["scoring"] == 300 and report["images"]["test"] == len(test)
    assert report["environment"]["packages"]["tensorflow"]


def test_the_saved_model_is_the_keras_model(done):
    folder, _ = done
    images, _ = trained.unit_interval(trained.images_of_test(30))
    served = tf.saved_model.load(str(folder / "saved_model")).signatures["float_images"]
    expected = load(folder / "pruned.keras")(images, training=False).numpy()
    np.testing.assert_allclose(served(images=images)["logits"], expected, atol=1e-4)
    assert np.std(expected) > 0.1


def test_what_is_said(done):
    folder, printed = done
    report = json.loads((folder / "report.json").read_text())
    text = (folder / "report.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 10 and all(line in printed for line in table)
    before, after = report["before"], report["after"]
    medians = [measured["latencies"][1]["median"] for measured in (before, after)]
    points = 100 * (after["accuracy"] - before["accuracy"])
    fewer = 100 * (1 - after["parameters"] / before["parameters"])
    for row in (
        (
            f"{before['accuracy']:.2%}",
            f"{after['accuracy']:.2%}",
            f"{points:+.2f} percentage points",
        ),
        (f"{report['accuracy_before_fine_tuning']:.2%}",),
        (f"{before['parameters']:,}", f"{after['parameters']:,}", f"-{fewer:.1f}%"),
        (f"{before['flops']:,}", f"{after['flops']:,}"),
        (f"{before['size']['total']:,}", f"{after['size']['total']:,}"),
        (*(f"{1000 * median:.2f}" for median in medians), f"{medians[0] / medians[1]:.2f}× as"),
    ):
        assert any(all(word in line for word in row) for line in table), row
    assert "by pls on 300 training images" in text and "Fine-tuned for 2 epochs" in text
    for name, why in report["left_alone"].items():
        assert f"- {name}: {why}" in text
    assert "results/first" in printed


def test_without_data(saved, run, tmp_path):
    code, printed, _ = run(f"--model={saved}", "--criterion=l1", "--output=out")
    assert code == 0 and "accuracy" not in printed and "Not fine-tuned" in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    whole, pruned = load(saved), load(tmp_path / "out" / "pruned.keras")
    # Of each layer the tenth with the smallest sum of absolute weights.
    for name, filters in FILTERS.items():
        sizes = np.abs(whole.get_layer(name).kernel.numpy()).sum(axis=(0, 1, 2))
        smallest = sorted(np.argsort(sizes)[: math.floor(0.1 * filters + 0.5)].tolist())
        assert report["removed"]["filters"][name] == smallest
    assert report["after"]["accuracy"] is None and report["images"] is None
    expected = remove(whole, Removal.from_json(report["removed"], tmp_path))
    for found, weight in zip(pruned.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(found, weight)


def test_a_share_of_the_flops_in_multiples_and_a_warning(saved, run, tmp_path):
    code, printed, _ = run(
        *(f"--model={saved}", "--criterion=l1", "--flops=0.15", "--round_to=2"),
        *("--keep_layers=last,wide_1", "--output=out"),
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert code == 0 and report["after"]["flops"] <= 0.15 * report["before"]["flops"]
    pruned = load(tmp_path / "out" / "pruned.keras")
    left = {name: pruned.get_layer(name).filters for name in FILTERS}
    assert (left["last"], left["wide_1"]) == (16, 12)
    assert all(count % 2 == 0 for count in left.values()) and left["spatial"] < 10
    text = (tmp_path / "out" / "report.md").read_text()
    assert "- last: it is one of --keep_layers" in text
    thin = [name for name, count in left.items() if count < 0.2 * FILTERS[name]]
    assert thin and all(f"{name} keeps {left[name]} of {FILTERS[name]}" in text for name in thin)
    assert "WARNING: " in printed


def test_what_is_tied_to_a_kept_layer_is_left_alone_too(saved, run, tmp_path):
    code, printed, _ = run(
        *(f"--model={saved}", "--criterion=l1", "--filters=0.5", "--keep_layers=stem,last"),
        "--output=out",
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    # 12, 12, 12, 6 and 10 filters, half of which go; those of stem and last stay.
    assert code == 0 and "26 of the 52 filters that may go" in printed
    tied = dict.fromkeys(TOGETHER.keys() - {"stem"}, "it is tied to stem, which is one of --keep_l")
    assert set(report["left_alone"]) == LEFT_ALONE | {"stem", "last", *tied}
    assert all(report["left_alone"][name].startswith(why) for name, why in tied.items())


def test_a_refusal_says_what_is_left_alone_and_why(run, tmp_path):
    image = layers.Input((8, 8, 3))
    turned = layers.Permute((1, 3, 2), name="turned")(layers.Conv2D(4, 3, name="conv")(image))
    model = keras.Model(image, layers.Dense(3, name="head")(layers.Flatten()(turned)))
    model.save("turned.keras")
    code, printed, errors = run("--model=turned.keras", "--criterion=l1", "--output=out")
    assert code == 2 and "--filters=0.1: expected 0, as this network has no" in errors
    reasons = channels_of(load("turned.keras")).left_alone
    assert printed.splitlines() == ["Left alone:", *(f"{n}: {why}" for n, why in reasons.items())]
    assert "turned" in reasons["conv"]


def test_the_result_can_be_attacked_and_pruned_again(done, run, tmp_path):
    path = done[0] / "pruned.keras"
    assert load_victim(path).num_classes == 10
    code, _, _ = run(f"--model={path}", "--criterion=random", "--seed=3", "--output=again")
    assert code == 0
    again = load(tmp_path / "again" / "pruned.keras")
    assert again.count_params() < load(path).count_params()


def test_test_images_decide_nothing(saved, run, tmp_path, monkeypatch):
    data = trained.mnist().limited(0, 200, 50, 50)
    other = ImageSplit(255 - data.test.images, data.test.labels[::-1].copy())
    results = []
    for test in (data.test, other):
        versions = dataclasses.replace(data, test=test)
        monkeypatch.setattr(prune_structures, "load_images", lambda *_, found=versions: found)
        folder = tmp_path / str(len(results))
        code, _, errors = run(
            f"--model={saved}",
            "--criterion=expected_abs",
            "--data_set=mnist",
            "--scoring_examples=0",
            "--fine_tuning_epochs=1",
            "--batch_size=50",
            f"--output={folder}",
        )
        assert code == 0, errors
        report = json.loads((folder / "report.json").read_text())
        results.append((report, load(folder / "pruned.keras").get_weights()))
    (one, weights), (two, other_weights) = results
    assert one["after"]["accuracy"] != two["after"]["accuracy"]
    assert one["images"]["scoring"] == 200
    assert one["removed"] == two["removed"]
    for some, others in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(some, others)


def assert_refused(run, tmp_path, message, *flags):
    before = sorted(tmp_path.rglob("*"))
    code, output, errors = run(*flags)
    assert code == 2 and (output == "" or output.startswith("Left alone:\n"))
    line = errors.strip().splitlines()[-1]
    assert line.startswith("error: ") and message in line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "flag,message",
    [
        ("--model=", "--model=: expected a path"),
        ("--model=nowhere.keras", "--model=nowhere.keras: no such file or folder"),
        ("--model=/", "--model=/: is a folder, such as a SavedModel"),
        ("--output=", "--output=: expected a path"),
        ("--output=/", "--output=/: expected a folder that is empty or not there"),
        ("--output=/proc/x/y", "--output=/proc/x/y: expected a place that can be written"),
        ("--criterion=pls", "svhn, cub200 for --criterion=pls"),
        ("--criterion=size", "--criterion=size: expected one of "),
        ("--filters=1", "--filters=1: expected a number in [0, 1)"),
        ("--filters=nan", "--filters=nan: expected a number in [0, 1)"),
        ("--filters=0", "--filters=0 --blocks=0: expected one of them above 0"),
        ("--filters=0.95", "--filters=0.95: expected at most 0.9, the --max_share_per_layer"),
        ("--flops=0", "--flops=0: expected a number in (0, 1)"),
        ("--flops=0.001", "--flops=0.001: expected at least 0."),
        ("--keep_layers=wider", "--keep_layers=wider: expected names of layers, such as stem"),
        ("--round_to=0", "--round_to=0: expected a whole number in [1, 1024]"),
        ("--blocks=1.5", "--blocks=1.5: expected a share in [0, 1), or a whole number"),
        ("--blocks=2", "--blocks=2: expected at most 1, as every stage keeps"),
        ("--scope=all", "--scope=all: expected one of "),
        ("--fine_tuning_epochs=1", "cub200 for --fine_tuning_epochs=1"),
        ("--fine_tuning_epochs=-1", "--fine_tuning_epochs=-1: expected a whole number in [0, "),
        ("--learning_rate=0", "--learning_rate=0: expected a number in (0, 1000]"),
        ("--batch_size=0", "--batch_size=0: expected a whole number in [1, "),
        ("--scoring_examples=1", "--scoring_examples=1: expected 0 or at least 2"),
        ("--seed=-1", "--seed=-1: expected a whole number in [0, 2147483647]"),
        ("--surplus", "Unknown command line flag 'surplus'"),
    ],
)
def test_a_wrong_flag_is_one_line(saved, run, tmp_path, flag, message):
    flags = [f"--model={saved}", "--criterion=l1", "--output=out/put"]
    assert_refused(run, tmp_path, message, *flags, flag)


@pytest.mark.parametrize(
    "flag,message",
    [
        ("--scoring_examples=9000", "--scoring_examples=9000: expected at most 8333, or 0"),
        ("--batch_size=9000", "--batch_size=9000: expected at most 8333"),
        ("--data_set=cifar10", "--data_source=embedded: cifar10 has no embedded sample"),
        ("--data_dir=/", "--data_dir=/ is for --data_source=tfds"),
    ],
)
def test_a_wrong_flag_about_data_is_one_line(saved, run, tmp_path, flag, message):
    flags = [f"--model={saved}", "--data_set=mnist", "--output=out"]
    assert_refused(run, tmp_path, message, *flags, flag)


class TurnedRound(layers.Layer):
    """A layer that no program but this one knows."""

    def call(self, inputs):
        return inputs[..., ::-1]


TurnedRound.__module__ = "of_its_user"


def unfit_networks():
    image = layers.Input(trained.SHAPE)
    maps = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="convolution")(image))
    logits, flat = layers.Dense(10, name="logits")(maps), layers.Flatten()(image)
    second = layers.Input(trained.SHAPE)
    frozen = keras.Model(image, logits)
    frozen.trainable = False
    return {
        "several_inputs": keras.Model([image, second], layers.Dense(2)(layers.Flatten()(second))),
        "custom": keras.Model(image, layers.Dense(10)(layers.Flatten()(TurnedRound()(image)))),
        "softmax": keras.Model(image, layers.Softmax()(logits)),
        "no_filters": keras.Model(image, layers.Dense(10)(flat)),
        "no_blocks": keras.Model(image, logits),
        "other_classes": keras.Model(image, layers.Dense(7)(maps)),
        "frozen": frozen,
    }


@pytest.mark.parametrize(
    "name,flags,message",
    [
        ("several_inputs", [], "expected a model with one input and one output"),
        ("custom", [], "has TurnedRound in it, which is not a layer of Keras' own"),
        ("softmax", [], "returns probabilities; expected logits"),
        ("no_filters", [], "--filters=0.1: expected 0, as this network has no convolution whose"),
        ("no_blocks", ["--blocks=1"], "--blocks=1: expected 0, as this network has no block"),
        (
            "other_classes",
            ["--data_set=mnist", "--filters=0.5"],
            "tells 7 classes apart, but mnist has 10",
        ),
        ("frozen", ["--data_set=mnist", "--filters=0.5"], "expected 0, as no weight"),
    ],
)
def test_what_cannot_be_pruned_is_one_line(run, tmp_path, name, flags, message):
    path = tmp_path / f"{name}.keras"
    unfit_networks()[name].save(path)
    assert_refused(
        run, tmp_path, message, f"--model={path}", "--criterion=l1", "--output=out", *flags
    )


def test_earlier_results_are_kept(saved, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.md").write_text("earlier")
    message = "--output=out: expected a folder that is empty or not there"
    assert_refused(run, tmp_path, message, f"--model={saved}", "--criterion=l1", "--output=out")


def test_a_loss_that_diverges_is_one_line(saved, run, tmp_path):
    flags = ["--data_set=mnist", "--criterion=random", "--learning_rate=1000", "--output=out"]
    message = "--learning_rate=1000.0: expected a smaller one"
    assert_refused(run, tmp_path, message, f"--model={saved}", *flags)


def test_stopping_leaves_nothing(saved, run, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tf_tickets.deployment.pruned_export.compare_saved_models", stop)
    code, _, errors = run(f"--model={saved}", "--criterion=l1", "--output=out")
    assert code == 130 and errors.strip().endswith("stopped by SIGINT; nothing was written")
    assert list(tmp_path.iterdir()) == []


def test_help(run):
    code, output, _ = run("--help")
    assert code == 0 and "--criterion" in output and "pruned.keras" in output
