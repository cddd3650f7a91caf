"""Takes a finished ticket or network of any run to a file that can be served.

    python -m experiments.export_ticket --run_dir=RUN --level=8 --regime=pgd --method=original \\
        --seed=0 --format=tflite --optimize=compact,sparse

Where a level holds several networks, --data_set, --model, --regime, --method and --seed choose
one. What was written is loaded again and compared, on test examples, with the network that it
was made of and with the dense network in the same format: logits, accuracy, accuracy under
attack, zeros, size and latency. An artifact that does not agree is removed.
"""

import functools
import sys
from pathlib import Path

from absl import flags

from experiments import program
from tf_tickets import runtime
from tf_tickets.analysis import artifact_report
from tf_tickets.attacks.threat_model import ThreatModel, pgd
from tf_tickets.deployment import ticket_card
from tf_tickets.deployment.artifacts import FORMATS, OPTIMIZATIONS, require_possible
from tf_tickets.deployment.finished_networks import CHOICES, FinishedNetwork, find_network
from tf_tickets.deployment.image_source import load_image_source
from tf_tickets.deployment.network_export import export_network, is_replaceable
from tf_tickets.deployment.text_source import load_text_source
from tf_tickets.deployment.verification import work_of
from tf_tickets.errors import require
from tf_tickets.runs.progress import ProgressBar

# Flags of its own, as it starts no run.
FLAGS = flags.FlagValues()
_string = functools.partial(flags.DEFINE_string, flag_values=FLAGS)
_integer = functools.partial(flags.DEFINE_integer, flag_values=FLAGS)

flags.DEFINE_boolean("help", False, "Shows this text.", flag_values=FLAGS)
_string("run_dir", None, "The run's folder.")
_integer("level", None, "The network's level in the run; 0 is the dense one.")
_string("data_set", None, "Chooses among several networks: what it was trained on.")
_string("model", None, "Chooses among several networks: its architecture.")
_string("regime", None, "Chooses among several networks: how it was trained.")
_string("method", None, "Chooses among several networks: how its ticket was found.")
_integer("seed", None, "Chooses among several networks: its trial.")
flags.DEFINE_enum("format", "saved_model", FORMATS, "What is written.", flag_values=FLAGS)
flags.DEFINE_list(
    "optimize",
    ["none"],
    f"Any of {', '.join(OPTIMIZATIONS)} that go together: compact removes dead units, sparse "
    "leaves out zeros in the file, float16 and int8 are the type of the weights.",
    flag_values=FLAGS,
)
_string(
    "output",
    None,
    "Folder of the artifact; what it holds is replaced. Default: "
    "RUN/exports/<the network's place>/level_NN/<format>-<optimize>.",
)
_string("data_dir", None, "Where the run's data lie: as for its driver.")
_integer(
    "examples", None, "Test examples to compare on; 0 for all. Default: 1000, or all of fewer."
)
_string(
    "eps",
    None,
    "Of images: radius of PGD's ball, a decimal or a fraction. Default: the run's or 8/255.",
)
_integer("steps", 20, "Of images: steps of PGD from a random start, each a quarter of eps long.")
flags.DEFINE_boolean("verify", True, "Compares what was written.", flag_values=FLAGS)

DEFAULT_EPS = "8/255"


def read_config() -> dict:
    """All flags, checked as far as that is possible without loading anything."""
    config = {flag: value for flag, value in FLAGS.flag_values_dict().items() if flag != "help"}
    require(bool(config["run_dir"]), "run_dir", "", "a driver's run folder")
    require(config["level"] is not None, "level", "", "the number of a finished level")
    config["optimize"] = require_possible(config["format"], config["optimize"])
    if config["examples"] is not None:
        require(config["examples"] >= 0, "examples", config["examples"], "at least 0")
    require(config["steps"] >= 1, "steps", config["steps"], "at least 1")
    if config["eps"] is not None:
        config["eps"] = program.number("eps", config["eps"])
    return config


def find(config) -> FinishedNetwork:
    """The network that the flags choose."""
    wanted = {name: config[name] for name in CHOICES if config[name] is not None}
    return find_network(Path(config["run_dir"]), config["level"], wanted)


def load(config, network):
    """The network with its data."""
    if "bert_preset" in network.config:
        return load_text_source(network, config["data_dir"], config["examples"])
    return load_image_source(network, config["data_dir"], config["examples"])


def attack_of(config, network) -> ThreatModel:
    """PGD within the ball that the run's networks are attacked in."""
    eps = config["eps"]
    if eps is None:
        stated = str(network.config.get("eps") or DEFAULT_EPS)
        eps = program.number("eps", stated)
    return pgd(eps, eps / 4, config["steps"], random_start=True)


def output_path(config, network) -> Path:
    """`--output`, or a place among the run's exports."""
    if config["output"]:
        return Path(config["output"])
    level = f"level_{network.level:02d}"
    kind = "-".join([config["format"], *(config["optimize"] or ["none"])])
    return network.run / "exports" / network.cell.path / level / kind


def require_replaceable(output: Path) -> None:
    """Refuses a folder that holds anything but an earlier export."""
    expected = "a folder that is new, empty or an earlier export and nothing else"
    fits = output.name not in ("", "..") and is_replaceable(output)
    require(fits, "output", output, expected)
    program.require_writable("output", output)


def export(config, network, source, output) -> str:
    """Writes, compares and reports; returns what to print."""
    chunks = runtime.parallel_chunks(runtime.make_strategy("one_device"))
    form, optimizations, attack = config["format"], config["optimize"], attack_of(config, network)
    with ProgressBar(work_of(source, attack) if config["verify"] else 0) as bar:
        exported = export_network(
            source, form, optimizations, output, attack, config["verify"], chunks, bar.advance
        )
    text = "Not verified."
    if exported.verification:
        how = f"{form} {','.join(optimizations) or 'none'}"
        title = f"{network.cell.description}, level {network.level}, {how}"
        notes = ticket_card.notes(exported.card)
        text = artifact_report.write_report(exported.verification, title, notes, output)
    return f"{text}\n\n{exported.path}"


def main():
    """Exports one network."""
    config = read_config()
    network = find(config)
    output = output_path(config, network)
    require_replaceable(output)
    source = load(config, network)
    print(export(config, network, source, output))


def parse(arguments):
    """Reads the command line into FLAGS; exits after --help and on a flag that is wrong."""
    program.parse_or_help(arguments, FLAGS, __doc__)


if __name__ == "__main__":
    parse(sys.argv)
    sys.exit(program.exit_code(main, resumable=False))
