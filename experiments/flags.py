"""The flags that all drivers share, and their presets."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import app, flags

from experiments import program
from tf_tickets import runtime
from tf_tickets.data.specs import SOURCES
from tf_tickets.errors import UserError

PRESETS = ("smoke", "quick", "paper")

flags.DEFINE_enum(
    "preset",
    "quick",
    PRESETS,
    "Values of all flags not given: smoke (a minute or a few: does everything run?), quick "
    "(minutes, real embedded data), paper (the paper's hyper-parameters in full).",
)
flags.DEFINE_string(
    "run_dir",
    None,
    "Folder of the run; the same command resumes it. Default: "
    "tensorboard_logs/<driver>/<preset>-<hash of the configuration>.",
)
flags.DEFINE_integer("seed", None, "Seed of the first trial; trial k has seed + k.", 0, 2**31 - 1)
flags.DEFINE_integer("trials", None, "Number of trials to average over.", 1)
flags.DEFINE_enum(
    "data_source",
    None,
    SOURCES,
    "embedded: the samples that come with the package; tfds: TensorFlow Datasets, in full; "
    "folder: images in DIR/train/<class>/ and DIR/test/<class>/.",
)
flags.DEFINE_string(
    "data_dir", None, "Where TensorFlow Datasets finds, or prepares, its data; or DIR."
)
flags.DEFINE_enum(
    "strategy",
    "one_device",
    runtime.STRATEGIES,
    "one_device; mirrored: all GPUs of this machine; multi_worker: the cluster in TF_CONFIG.",
)
flags.DEFINE_integer(
    "logical_cpus", 0, "Divides the CPU into this many devices, to try mirrored without GPUs.", 0
)


def resolve(presets: Mapping[str, Mapping]) -> dict:
    """The configuration of this run: the preset's values, overridden by the flags given.

    Args:
      presets: preset → flag → value, the same flags in each.

    Returns:
      Flag → value, with the preset's name and how the work is distributed.
    """
    values = flags.FLAGS.flag_values_dict()
    preset = presets[values["preset"]]
    given = {name: values[name] for name in preset if values[name] is not None}
    return {
        "preset": values["preset"],
        **preset,
        **given,
        "strategy": values["strategy"],
        "logical_cpus": values["logical_cpus"],
    }


def run_path(driver: str, config: Mapping) -> Path:
    """`--run_dir`, or a folder below tensorboard_logs/ that the configuration decides."""
    if flags.FLAGS.run_dir:
        return Path(flags.FLAGS.run_dir)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return Path("tensorboard_logs", driver, f"{config['preset']}-{digest[:8]}")


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


def numbers(flag: str, texts: Sequence[str]) -> tuple[float, ...]:
    """The numbers of a list flag.

    Raises:
      UserError: one is not a number.
    """
    try:
        return tuple(float(text) for text in texts)
    except ValueError:
        raise UserError(f"--{flag}={','.join(texts)}: expected numbers with commas") from None


def whole_numbers(flag: str, texts: Sequence[str]) -> tuple[int, ...]:
    """The numbers, 0 or above, of a list flag.

    Raises:
      UserError: one is not a whole number.
    """
    if not all(text.isdecimal() for text in texts):
        raise UserError(f"--{flag}={','.join(texts)}: expected whole numbers with commas")
    return tuple(map(int, texts))


def run(main: Callable[[], None]) -> None:
    """Runs a driver; what a user can mend ends in one line and a non-zero exit."""
    app.run(lambda _: sys.exit(program.exit_code(main)), flags_parser=parse)


def parse(arguments: list[str]) -> list[str]:
    """Parses the command line; exits with one line about a flag that is wrong."""
    return program.parse(arguments, flags.FLAGS)
