"""The flags that all drivers share, and their presets."""

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from absl import flags

from experiments import kinds
from tf_tickets import runtime
from tf_tickets.data.specs import SOURCES
from tf_tickets.errors import UserError, require
from tf_tickets.runs.files import load_json
from tf_tickets.runs.run_directory import RunDirectory

PRESETS = ("smoke", "quick", "paper")
# Counts of examples, images and steps; no data set or training comes near.
EXAMPLES = "[0, 10000000]"
BATCH = "[1, 1000000]"
STEPS = "[1, 10000000]"
EPOCHS = "[1, 100000]"
ATTACK_STEPS = "[1, 100000]"
RATE = "(0, 1000]"
WIDTH = "(0, 16]"
SIDE = "[0, 512]"
_SEEDS = 2**31

_SOURCES = {
    "embedded": "embedded: the samples that come with the package",
    "tfds": "tfds: TensorFlow Datasets, in full",
    "folder": "folder: images in DIR/train/<class>/ and DIR/test/<class>/ of --data_dir=DIR",
}

flags.disclaim_key_flags()


def definitions(sources: Sequence[str] = SOURCES) -> kinds.Definitions:
    """The flags that all drivers share, to which each adds its own.

    Args:
      sources: where the driver's data may come from.
    """
    define = kinds.Definitions()
    define.choice(
        "preset",
        "quick",
        "Values of all flags not given: smoke (a minute or a few: does everything run?), quick "
        "(minutes, real embedded data), paper (the paper's hyper-parameters in full).",
        PRESETS,
    )
    define.path(
        "run_dir",
        None,
        "Folder of the run; the same command resumes it. Default: "
        "tensorboard_logs/<driver>/<preset>-<hash of the configuration>.",
    )
    define.integer(
        "seed", None, "Seed of the first trial; trial k has seed + k.", f"[0, {_SEEDS - 1}]"
    )
    define.integer("trials", None, "Number of trials to average over.", "[1, 1000]")
    described = "; ".join(_SOURCES[source] for source in sources)
    define.choice("data_source", None, f"Where the data come from. {described}.", sources)
    folder = ", or the folder DIR of --data_source=folder" if "folder" in sources else ""
    text = f"Where TensorFlow Datasets finds, or prepares, its data{folder}."
    define.path("data_dir", None, text)
    define.choice(
        "strategy",
        "one_device",
        "one_device; mirrored: all GPUs of this machine; multi_worker: the cluster in TF_CONFIG.",
        runtime.STRATEGIES,
    )
    define.integer(
        "logical_cpus",
        0,
        "Divides the CPU into this many devices, to try mirrored without GPUs.",
        "[0, 64]",
    )
    return define


def resolve(values: flags.FlagValues, presets: Mapping[str, Mapping]) -> dict:
    """The configuration of this run: the preset's values, overridden by the flags given.

    Args:
      values: the driver's flags.
      presets: preset → flag → value, the same flags in each.

    Returns:
      Flag → value, with the preset's name and how the work is distributed.

    Raises:
      UserError: the last trial's seed is too large.
    """
    preset = presets[values.preset]
    given = {name: values[name].value for name in preset if values[name].value is not None}
    config = {
        "preset": values.preset,
        **preset,
        **given,
        "strategy": values.strategy,
        "logical_cpus": values.logical_cpus,
    }
    most = _SEEDS - config["trials"]
    expected = f"at most {most}, so that every trial's seed is below {_SEEDS}"
    require(config["seed"] <= most, "seed", config["seed"], expected)
    return config


def run_path(driver: str, config: Mapping, run_dir: str | None) -> Path:
    """The run's folder, see `opened_run`."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    default = Path("tensorboard_logs", driver, f"{config['preset']}-{digest[:8]}")
    return Path(run_dir) if run_dir else default


@contextlib.contextmanager
def opened_run(
    driver: str,
    config: Mapping,
    run_dir: str | None,
    strategy: tf.distribute.Strategy,
    labels: Sequence[str] = (),
) -> Iterator[RunDirectory]:
    """The run's folder; what is refused before anything was computed leaves none behind.

    Args:
      driver: the driver's name.
      config: see `resolve`.
      run_dir: the folder; None for one below tensorboard_logs/ that the configuration decides.
      strategy: decides which process writes.
      labels: see `RunDirectory`.
    """
    path = run_path(driver, config, run_dir)
    is_new = not path.exists()
    if runtime.is_chief(strategy):
        _say_other_versions(path / "environment.json")
    run = RunDirectory(
        path, config, runtime.environment_report(strategy), runtime.is_chief(strategy), labels
    )
    try:
        yield run
    except UserError:
        if is_new:
            run.discard()
        raise


def _say_other_versions(path):
    """Says that a run goes on under other versions, with which all of its work is other work."""
    try:
        before = load_json(path)["packages"]
        changed = [
            f"{name} {before[name]} (now {version})"
            for name, version in runtime.deciding_versions()
            if before[name] != version
        ]
    except (UserError, KeyError, TypeError):  # A new run, or one whose file says nothing.
        return
    if changed:
        print(f"this run began with {', '.join(changed)}: all is done anew", file=sys.stderr)


def scale(config: Mapping, paper: Mapping) -> str:
    """A sentence on how a configuration differs from the paper's; the order of lists is none."""
    differences = [
        f"{name} {_text(config[name])} (paper: {_text(value)})"
        for name, value in paper.items()
        if name != "seed" and not _same(config[name], value)
    ]
    if not differences:
        return "The paper's hyper-parameters in full."
    return f"Smaller than the paper's, or different: {', '.join(differences)}."


def _same(ours, theirs):
    both_lists = isinstance(ours, list) and isinstance(theirs, list)
    return sorted(ours) == sorted(theirs) if both_lists else ours == theirs


def _text(value):
    return " + ".join(value) if isinstance(value, list) else f"{value}"


def settings_of(kind: type, config: Mapping, **others):
    """Builds a settings dataclass from the flags named like its fields, and `others`."""
    names = [field.name for field in dataclasses.fields(kind) if field.name in config]
    return kind(**{name: config[name] for name in names}, **others)


def numbers(texts: Sequence[str]) -> tuple[float, ...]:
    """The numbers of a list flag."""
    return tuple(map(kinds.parse_number, texts))


def whole_numbers(texts: Sequence[str]) -> tuple[int, ...]:
    """The whole numbers of a list flag."""
    return tuple(map(kinds.parse_whole, texts))
