"""Attacks a saved network, and checks whether its robustness can be believed.

    python -m experiments.evaluate --model=PATH --attack=fgsm,pgd,cw_linf --eps=8/255

PATH is a ticket of a run (RUN/tickets/.../level_NN.npz), the folder of a SavedModel, or a
.keras file. Prints a table and writes it as JSON with everything that decided it.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from experiments import image_flags, kinds, program
from tf_tickets import runtime
from tf_tickets.analysis.robustness_tables import robustness_tables
from tf_tickets.attacks.auto_attack import require_toolbox
from tf_tickets.attacks.carlini_wagner import L2Settings
from tf_tickets.attacks.threat_model import carlini_wagner, fgsm, pgd
from tf_tickets.data.registry import load_images
from tf_tickets.data.specs import DATA_SETS, SOURCES
from tf_tickets.errors import UserError, require
from tf_tickets.evaluation import masked_gradients, robustness
from tf_tickets.evaluation.robustness import RobustnessEvaluator
from tf_tickets.evaluation.victims import fitting_data, load_victim
from tf_tickets.runs.files import atomic_write_json
from tf_tickets.runs.progress import ProgressBar

ATTACKS = ("fgsm", "pgd", "cw_linf", "cw_l2", "auto_attack", "transfer")

# Flags of its own, as no preset and no run directory belongs to an evaluation.
define = kinds.Definitions()
text = "What to attack: a ticket file of a run, a SavedModel folder, a .keras file."
define.path("model", None, text)
text = "A second such network as --model, for transfer: it makes the examples."
define.path("source", None, text)
define.choices("attack", ["pgd"], "Attacks to try.", ATTACKS)
define.number("eps", "8/255", "Radius of the L∞ ball; images lie in [0, 1].", "[0, 1]")
define.number("step_size", None, "Length of an attack step. Default: eps/4.", "(0, 1]")
define.integer("steps", 20, "Steps of pgd, cw_linf and transfer.", "[1, 100000]")
text = "Random starts of pgd, cw_linf, transfer; an image must withstand all."
define.integer("restarts", 1, text, "[1, 10000]")
text = "Test images, as many of each class; 0 for all there are."
define.integer("examples", 1000, text, "[0, 10000000]")
text = "Images, at most, for cw_l2 and auto_attack; 0 for all."
define.integer("slow_examples", 50, text, "[0, 10000000]")
text = "Images, at most, for the checks; 0 for all."
define.integer("check_examples", 500, text, "[0, 10000000]")
text = "Adam's steps in each of the five searches of cw_l2."
define.integer("cw_iterations", 1000, text, "[1, 1000000]")
define.integer("batch_size", 100, "Images at a time.", "[1, 1000000]")
define.integer("seed", 0, "Decides the random starts.", "[0, 2147483647]")
text = "Checks for masked gradients, around pgd. Many times the work of pgd."
define.switch("checks", True, text)
text = "What to attack the network on. Default: the ticket's own; needed for other networks."
define.name("data_set", None, text, image_flags.data_set_name)
text = "Where the data come from. Default: the ticket's own, or embedded."
define.choice("data_source", None, text, SOURCES)
define.path("data_dir", None, "TensorFlow Datasets' directory, or the folder of images.")
text = "The JSON file. Default: tensorboard_logs/evaluate/<model>-<hash>.json."
define.path("output", None, text)
FLAGS = define.values


def read_config() -> dict:
    """All flags, checked as far as that is possible without loading anything."""
    config = program.configuration(FLAGS)
    require(bool(config["model"]), "model", "", "the path of a network to attack")
    if config["step_size"] is None:
        config["step_size"] = config["eps"] / 4
    if "auto_attack" in config["attack"]:
        require_toolbox()
        require(config["eps"] > 0, "eps", config["eps"], "above 0 for auto_attack")
    if "transfer" in config["attack"] and config["source"] is None:
        raise UserError("--attack=transfer: needs --source, a network to make the examples")
    if config["checks"]:
        require(config["eps"] > 0, "eps", config["eps"], "above 0, or --nochecks")
    pgd_attack(config)  # Refuses a step that is longer than the ball.
    return config


def pgd_attack(config):
    """The PGD of `--attack=pgd`, of transfer and of the checks."""
    return pgd(config["eps"], config["step_size"], config["steps"], random_start=True)


def load(config):
    """The network, the source or None, and the images to attack them on."""
    victim = load_victim(config["model"])
    source = load_victim(config["source"], "source") if config["source"] else None
    name = config["data_set"] or victim.data_set
    require(name is not None, "data_set", "", f"one of {', '.join(DATA_SETS)} for this --model")
    place = config["data_source"] or victim.data_source or "embedded"
    size, _, channels = victim.image_shape
    data = load_images(name, place, config["data_dir"], image_size=size, channels=channels)
    if source is not None:
        require(
            source.image_shape == victim.image_shape,
            "source",
            source.path,
            f"a network for images of shape {victim.image_shape}, as --model's; "
            f"its are {source.image_shape}",
        )
        fitting_data(source, data, "source")
    limit = config["examples"]
    if limit:
        require(
            limit <= len(data.test), "examples", limit, f"at most {len(data.test)}, or 0 for all"
        )
        data = data.limited(config["seed"], test=limit)
    return victim, source, fitting_data(victim, data)


def attempts(config, source) -> dict:
    """Attack → how it is tried, and on how many images at most (0: all)."""
    attack, restarts = pgd_attack(config), config["restarts"]
    margin = carlini_wagner(attack.eps, attack.step_size, attack.steps)
    l2 = L2Settings(config["cw_iterations"])
    slow = config["slow_examples"]
    known = {
        "fgsm": (robustness.gradient_attempt("fgsm", fgsm(attack.eps)), 0),
        "pgd": (robustness.gradient_attempt("pgd", attack, restarts), 0),
        "cw_linf": (robustness.gradient_attempt("cw_linf", margin, restarts), 0),
        "cw_l2": (robustness.carlini_wagner_l2_attempt(l2), slow),
        "auto_attack": (robustness.auto_attack_attempt(attack.eps), slow),
        "transfer": (robustness.gradient_attempt("transfer", attack, restarts, source), 0),
    }
    return {name: known[name] for name in config["attack"]}


def measure(config, victim, source, images):
    """The outcomes of all attacks, and the checks."""

    def count(limit):
        return min(limit or len(images), len(images))

    tried = attempts(config, source).values()
    work = len(images) + sum(attempt.passes * count(limit) for attempt, limit in tried)
    checked = count(config["check_examples"])
    if config["checks"]:
        work += masked_gradients.check_passes(pgd_attack(config), source) * checked
    chunks = runtime.parallel_chunks(runtime.make_strategy("one_device"))
    with ProgressBar(work) as bar:
        judge = RobustnessEvaluator(
            victim, images, config["batch_size"], config["seed"], chunks, bar.advance
        )
        outcomes = [judge.natural()]
        outcomes += [attempt.run(judge.limited(count(limit))) for attempt, limit in tried]
        checks = []
        if config["checks"]:
            checks = masked_gradients.gradient_masking_checks(
                judge.limited(checked), pgd_attack(config), source
            )
    return outcomes, checks


def output_path(config, victim) -> Path:
    """`--output`, or a file that the configuration and the network decide."""
    if config["output"]:
        return Path(config["output"])
    decisive = json.dumps([config, victim.sha256], sort_keys=True)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:8]
    return Path("tensorboard_logs", "evaluate", f"{victim.name}-{digest}.json")


def report(config, victim, source, data, outcomes, checks) -> dict:
    """Everything that decided the numbers, and the numbers."""
    return {
        "config": config,
        "model": {"path": victim.path, "sha256": victim.sha256},
        "source": source and {"path": source.path, "sha256": source.sha256},
        "data_set": data.name,
        "data_source": data.source,
        "images": len(data.test),
        "seed": config["seed"],
        "outcomes": [outcome.to_json() for outcome in outcomes],
        "checks": [dataclasses.asdict(check) for check in checks],
        "environment": runtime.environment_report(runtime.make_strategy("one_device")),
    }


def main():
    """Attacks, prints and writes."""
    config = read_config()
    runtime.make_strategy("one_device")
    victim, source, data = load(config)
    path = output_path(config, victim)
    require(not path.is_dir(), "output", path, "a file, not a folder")
    program.require_writable("output", path)
    outcomes, checks = measure(config, victim, source, data.test)
    atomic_write_json(path, report(config, victim, source, data, outcomes, checks))
    print(f"{victim.path} on {len(data.test)} test images of {data.name} ({data.source})\n")
    print(f"{robustness_tables(outcomes, checks)}\n\n{path}")


if __name__ == "__main__":
    program.run(main, FLAGS, __doc__, resumable=False)
