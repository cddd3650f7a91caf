"""Takes a finished ticket or network of any run to a file that can be served.

    python -m experiments.export_ticket --run_dir=RUN --level=8 --regime=pgd --method=original \\
        --seed=0 --format=tflite --optimize=compact,sparse

Where a level holds several networks, --data_set, --model, --regime, --method and --seed choose
one. What was written is loaded again and compared, on test examples, with the network that it
was made of and with the dense network in the same format: logits, accuracy, accuracy under
attack, zeros, size and latency. An artifact that does not agree is removed.
"""

from pathlib import Path

from experiments import kinds, program
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
define = kinds.Definitions()
define.path("run_dir", None, "The run's folder.")
text = "The network's level in the run; 0 is the dense one."
define.integer("level", None, text, "[0, 1000]")
for name, text in {
    "data_set": "what it was trained on",
    "model": "its architecture",
    "regime": "how it was trained",
    "method": "how its ticket was found",
}.items():
    define.name(name, None, f"Chooses among several networks: {text}.", kinds.any_name)
define.integer("seed", None, "Chooses among several networks: its trial.", "[0, 2147483647]")
define.choice("format", "saved_model", "What is written.", FORMATS)
define.choices(
    "optimize",
    ["none"],
    "Optimizations that go together: compact removes dead units, sparse leaves out zeros in the "
    "file, float16 and int8 are the type of the weights.",
    OPTIMIZATIONS,
)
define.path(
    "output",
    None,
    "Folder of the artifact; what it holds is replaced. Default: "
    "RUN/exports/<the network's place>/level_NN/<format>-<optimize>.",
)
define.path("data_dir", None, "Where the run's data lie: as for its driver.")
text = "Test examples to compare on; 0 for all. Default: 1000, or all of fewer."
define.integer("examples", None, text, "[0, 10000000]")
text = "Of images: radius of PGD's ball. Default: the run's or 8/255."
define.number("eps", None, text, "[0, 1]")
text = "Of images: steps of PGD from a random start, each a quarter of eps long."
define.integer("steps", 20, text, "[1, 100000]")
define.switch("verify", True, "Compares what was written with the network that it is of.")
FLAGS = define.values

DEFAULT_EPS = 8 / 255


def read_config() -> dict:
    """All flags, checked as far as that is possible without loading anything."""
    config = program.configuration(FLAGS)
    require(bool(config["run_dir"]), "run_dir", "", "a driver's run folder")
    require(config["level"] is not None, "level", "", "the number of a finished level")
    config["optimize"] = require_possible(config["format"], config["optimize"])
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
        eps = network.config.get("eps") or DEFAULT_EPS
        good = isinstance(eps, (int, float)) and 0 <= eps <= 1
        require(good, "eps", eps, "a number in [0, 1]; the run's is none")
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


if __name__ == "__main__":
    program.run(main, FLAGS, __doc__, resumable=False)
