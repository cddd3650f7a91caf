"""What an artifact takes: bytes on the disk, and time to answer."""

import dataclasses
import gzip
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

# Calls that are not timed: the first ones build and optimize the graph.
_WARM_UP = 3
_FEWEST_CALLS = 5


@dataclasses.dataclass(frozen=True)
class Size:
    """Bytes of an artifact's files.

    Attributes:
      total: of all its files.
      variables: of those that hold its weights.
      compressed: of all its files, each compressed by gzip at its default level.
    """

    total: int
    variables: int
    compressed: int


@dataclasses.dataclass(frozen=True)
class Latency:
    """How long a model takes to answer one call.

    Attributes:
      batch_size: examples a call.
      calls: how many were timed.
      median: seconds.
      percentile_95: seconds within which 95% of the calls were answered.
    """

    batch_size: int
    calls: int
    median: float
    percentile_95: float


def size_of(path: Path) -> Size:
    """Measures the files of a SavedModel's folder, or a single file."""
    single = path.is_file()
    files = [path] if single else [file for file in path.rglob("*") if file.is_file()]
    with_weights = [file for file in files if single or file.parent == path / "variables"]
    return Size(
        sum(file.stat().st_size for file in files),
        sum(file.stat().st_size for file in with_weights),
        sum(len(gzip.compress(file.read_bytes())) for file in files),
    )


def compare_saved_models(
    folders: Mapping[str, Path], batch_size: int, calls: int = 50, seconds: float = 10.0
) -> dict[str, Latency]:
    """Times SavedModels that take the same images, see `compare_latency`.

    Args:
      folders: name → a SavedModel whose `serving_default` takes one batch of images.
      batch_size: images of noise a call.
      calls, seconds: see `compare_latency`.
    """
    loaded = {name: tf.saved_model.load(str(folder)) for name, folder in folders.items()}
    answers = {name: _answering(model, batch_size) for name, model in loaded.items()}
    return compare_latency(answers, batch_size, calls, seconds)


def compare_latency(
    answers: Mapping[str, Callable[[], object]],
    batch_size: int,
    calls: int = 50,
    seconds: float = 10.0,
) -> dict[str, Latency]:
    """Times models by turns, so that noise meets all alike.

    Every model answers three calls before the first that counts.

    Args:
      answers: name → a function that asks the model once and waits for its answer.
      batch_size: examples a call.
      calls: how often each model is timed.
      seconds: after so long no more calls are made, but for the first five of each model.
    """
    for answer in answers.values():
        for _ in range(_WARM_UP):
            answer()
    times, start = {name: [] for name in answers}, time.perf_counter()
    for call in range(calls):
        if call >= _FEWEST_CALLS and time.perf_counter() - start > seconds:
            break
        for name, answer in answers.items():
            asked = time.perf_counter()
            answer()
            times[name].append(time.perf_counter() - asked)
    return {
        name: Latency(batch_size, len(each), float(np.median(each)), float(np.percentile(each, 95)))
        for name, each in times.items()
    }


def _answering(model, batch_size) -> Callable[[], None]:
    """A function that asks the model once and waits for its answer."""
    serve = model.signatures["serving_default"]
    ((name, spec),) = serve.structured_input_signature[1].items()
    shape = (batch_size, *spec.shape[1:])
    noise = np.random.default_rng(0).uniform(
        0, spec.dtype.max if spec.dtype.is_integer else 1, shape
    )
    images = tf.cast(noise, spec.dtype)

    def answer():
        for output in serve(**{name: images}).values():
            output.numpy()

    return answer
