"""Bytes are those of the files, and times are those that a known clock gives."""

import gzip

import numpy as np
import pytest
import tensorflow as tf

from tf_tickets.deployment import footprint
from tf_tickets.deployment.footprint import Latency, compare_saved_models, size_of


def save(folder, function, shape=(None, 2, 3, 1)):
    """A SavedModel of a function from images to logits, with a variable of 1000 floats."""
    module = tf.Module()
    module.weights = tf.Variable(tf.zeros([1000]))
    spec = tf.TensorSpec(shape, tf.float32, name="images")
    module.serve = tf.function(
        lambda images: {"logits": function(images) + module.weights[:1]}, input_signature=[spec]
    )
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


def test_sizes_are_sums_over_files(tmp_path):
    contents = {
        "saved_model.pb": b"graph" * 100,
        "variables/variables.data": b"\0" * 4000,
        "variables/variables.index": b"index",
        "assets/deep/words": b"word",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = size_of(tmp_path)
    assert found.total == 500 + 4000 + 5 + 4
    assert found.variables == 4005
    assert found.compressed == sum(len(gzip.compress(content)) for content in contents.values())
    assert found.compressed < 200


def test_the_variables_are_most_of_a_saved_model_s_weights(tmp_path):
    found = size_of(save(tmp_path / "model", lambda images: images[:, 0, 0]))
    assert 4000 <= found.variables < 8000 <= found.total


@pytest.fixture
def clock(monkeypatch):
    """A clock that only models move: `clock.now` in seconds."""

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(footprint, "time", found)
    return found


@pytest.fixture
def slow_models(tmp_path, clock):
    """Two models that take the seconds that they are told, one call after the other."""
    calls = []

    def model(name, seconds):
        def spend(images):
            clock.now += seconds[sum(called == name for called, _ in calls)]
            calls.append((name, images.shape))
            return images[:, 0, 0]

        return save(tmp_path / name, lambda images: tf.numpy_function(spend, [images], tf.float32))

    warm_up = [1000.0] * 3
    times = {"slow": [*warm_up, 5.0, 4.0, 6.0, 4.0, 5.0, 9.0], "fast": [*warm_up, *[1.0] * 5, 2.0]}
    return {name: model(name, seconds) for name, seconds in times.items()}, calls


def test_latencies_are_of_the_calls_after_the_warm_up(slow_models):
    folders, calls = slow_models
    found = compare_saved_models(folders, batch_size=7, calls=6, seconds=1e6)
    times = np.array([4, 4, 5, 5, 6, 9])  # numpy's percentiles lie between the order statistics.
    assert found["slow"] == Latency(7, 6, 5.0, pytest.approx(6 + 0.75 * 3))
    assert found["fast"] == Latency(7, 6, 1.0, pytest.approx(1.75))
    assert found["slow"].percentile_95 > np.sort(times)[-2]
    assert {shape for _, shape in calls} == {(7, 2, 3, 1)}


def test_models_are_called_by_turns(slow_models):
    folders, calls = slow_models
    compare_saved_models(folders, batch_size=1, calls=6, seconds=1e6)
    names = [name for name, _ in calls]
    assert names == ["slow"] * 3 + ["fast"] * 3 + ["slow", "fast"] * 6


def test_no_more_calls_once_the_time_is_over(slow_models):
    found = compare_saved_models(slow_models[0], batch_size=1, calls=6, seconds=10.0)
    assert found["slow"].calls == found["fast"].calls == 5
