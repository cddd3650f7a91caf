"""An artifact that is its source passes; one that was tampered with does not."""

import dataclasses

import numpy as np
import pytest

from tests import trained
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.deployment.agreement import Verification, WeightCount
from tf_tickets.deployment.artifacts import require_possible, write_artifact
from tf_tickets.deployment.finished_networks import FinishedNetwork
from tf_tickets.deployment.footprint import Latency, Size
from tf_tickets.deployment.image_source import load_image_source
from tf_tickets.deployment.verification import measure_source, verify
from tf_tickets.errors import UserError
from tf_tickets.runs.run_directory import Cell

EPS = 0.05


def no_progress(passes, description):
    pass


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = trained.save_run(trained.lenet(), tmp_path_factory.mktemp("run"))
    network = FinishedNetwork(path.parents[5], Cell("mnist", "natural", "original", 0), 3, path)
    (network.run / "config.json").write_text("{}")
    source = load_image_source(network, None, 100)
    return measure_source(source, pgd(EPS, EPS / 4, 5, random_start=True), 1, no_progress)


def verified(reference, deployed):
    return verify(reference, reference.source, deployed, 1, no_progress)


def write(reference, form, folder, optimizations=()):
    return write_artifact(reference.source, form, optimizations, folder, {"what": "a test"})


def test_a_saved_model_is_its_source(reference, tmp_path):
    found = verified(reference, write(reference, "saved_model", tmp_path))
    assert found.problems() == []
    images, labels = trained.unit_interval(trained.images_of_test(100))
    right = np.argmax(trained.lenet()(images, training=False), axis=1) == labels
    assert found.source_accuracy == found.accuracy == np.mean(right)
    (attack,) = found.attacks
    # The same attack from the same random starts.
    assert attack.way == "white-box" and attack.artifact == pytest.approx(attack.source, abs=0.011)
    assert attack.source < found.accuracy
    zeros = sum(np.sum(weight == 0) for weight in trained.lenet().get_weights())
    assert found.weights.zeros == found.source_weights.zeros == zeros > 100_000
    assert [latency.batch_size for latency in found.latencies] == [1, 64]


class Tampered:
    """An artifact whose answers or weights were changed."""

    def __init__(self, artifact, change_logits=lambda x: x, change_weights=lambda x: x):
        self._artifact = artifact
        self._change_logits, self._change_weights = change_logits, change_weights

    def logits(self, inputs):
        return self._change_logits(self._artifact.logits(inputs))

    def weights(self):
        return [self._change_weights(weight) for weight in self._artifact.weights()]


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        ({"change_logits": lambda x: x + np.float32(0.01)}, "its logits differ by 0.01"),
        ({"change_logits": lambda x: x * np.float32(np.nan)}, "its logits differ by nan"),
        ({"change_weights": lambda x: np.where(x == 0, 1e-30, x)}, "it has 0 zero weights"),
    ],
)
def test_an_artifact_that_was_tampered_with_is_found_out(reference, tmp_path, tampering, problem):
    deployed = write(reference, "tflite", tmp_path)
    found = verified(
        reference, deployed._replace(artifact=Tampered(deployed.artifact, **tampering))
    )
    assert any(text.startswith(problem) for text in found.problems())
    (attack,) = found.attacks
    assert attack.way == "transferred"


def test_transferred_examples_are_tried_on_the_artifact_itself(reference, tmp_path):
    deployed = write(reference, "tflite", tmp_path)
    other = Tampered(deployed.artifact, lambda x: np.roll(x, 1, axis=1))
    found = verified(reference, deployed._replace(artifact=other, optimizations=("int8",)))
    assert found.accuracy < 0.2 < found.source_accuracy
    assert found.attacks[0].artifact <= found.accuracy
    assert len(found.problems()) == 2


@pytest.fixture
def verification():
    return Verification(
        optimizations=("int8",),
        examples=1000,
        max_logits_difference=1.0,
        largest_logit=20.0,
        same_class=0.95,
        source_accuracy=0.9,
        accuracy=0.885,
        attacks=(),
        source_weights=WeightCount(10, 20),
        exported_weights=WeightCount(10, 20),
        weights=WeightCount(11, 20),
        dense_size=Size(100, 100, 90),
        size=Size(50, 50, 20),
        dense_latencies=(Latency(1, 5, 1.0, 2.0),),
        latencies=(Latency(1, 5, 0.5, 1.0),),
        removed={},
    )


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"same_class": 0.89}, ["only 89.0% of the examples"]),
        ({"accuracy": 0.87}, ["its accuracy is 87.0%"]),
        ({"weights": WeightCount(9, 20)}, ["it has 9 zero weights, expected 10"]),
        # What compaction removed is not expected to be there, but what it left is.
        ({"weights": WeightCount(9, 19), "exported_weights": WeightCount(9, 19)}, []),
        ({"weights": WeightCount(8, 19), "exported_weights": WeightCount(9, 19)}, ["expected 9"]),
        ({"optimizations": ("float16",)}, ["differ by 1, expected at most 0.4"]),
        ({"optimizations": ("float16",), "same_class": 0.1}, ["only 10.0%", "differ by 1"]),
        # Of logits that are all small, no difference is small.
        ({"optimizations": (), "largest_logit": 1e-9, "max_logits_difference": 1e-9}, ["1e-13"]),
        ({"optimizations": ("float16",), "max_logits_difference": 0.39}, []),
        ({"optimizations": (), "max_logits_difference": 0.39}, ["expected at most 0.002"]),
        ({"optimizations": (), "max_logits_difference": 0.0019}, []),
    ],
)
def test_what_counts_as_agreement(verification, changes, problems):
    found = dataclasses.replace(verification, **changes).problems()
    assert len(found) == len(problems)
    assert all(part in text for part, text in zip(problems, found, strict=True))


@pytest.mark.parametrize(
    ("form", "optimizations", "message"),
    [
        ("saved_model", ["sparse"], "--optimize=sparse: expected for saved_model"),
        ("onnx", ["compact", "sparse"], "--optimize=sparse: expected for onnx"),
        ("tflite", ["float16", "int8"], "--optimize=float16,int8: expected for tflite"),
        ("tflite", ["sparse", "int8"], "--optimize=sparse,int8: expected for tflite"),
        ("tflite", ["none", "int8"], "--optimize=none,int8: expected none with nothing else"),
        ("tflite", ["tiny"], "--optimize=tiny"),
    ],
)
def test_what_does_not_go_together_is_refused(form, optimizations, message):
    with pytest.raises(UserError, match=message) as caught:
        require_possible(form, optimizations)
    assert "\n" not in str(caught.value)


def test_what_goes_together():
    assert require_possible("tflite", ["none"]) == ()
    assert require_possible("tflite", ["sparse", "compact"]) == ("compact", "sparse")
    assert require_possible("saved_model", ["compact"]) == ("compact",)
