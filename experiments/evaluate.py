"""Attacks a saved network, and checks whether its robustness can be believed.

    python -m experiments.evaluate --model=PATH --attack=fgsm,pgd,cw_linf --eps=8/255

PATH is a ticket of a run (RUN/tickets/.../level_NN.npz), the folder of a SavedModel, a
.keras or an .h5 file. Prints a table and writes it as JSON with everything that decided it, after
each attack.
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
from tf_tickets.evaluation.victims import fitting_data, load_victim, square_shape
from tf_tickets.runs.files import atomic_write_json
from tf_tickets.runs.progress import ProgressBar

ATTACKS = ("fgsm", "pgd", "cw_linf", "cw_l2", "auto_attack", "transfer")

# How far above chance, of what is possible, an accuracy says that a network knows its images.
NEAR_CHANCE = 0.15

# Flags of its own, as no preset and no run directory belongs to an evaluation.
define = kinds.Definitions()
text = "What to attack: a ticket file of a run, a SavedModel folder, a .keras or .h5 file."
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
text = "Loads files that can run code, too. Only for those of people you trust."
define.switch("trust", False, text)
define.numbers(
    "input_range",
    ["0", "1"],
    "What the networks take for black and white, such as 0,255. eps and step_size are in [0, 1].",
    "[-1000000, 1000000]",
    least=2,
    most=2,
)
text = "The JSON file. Default: tensorboard_logs/evaluate/<model>-<hash>.json."
define.path("output", None, text)
FLAGS = define.values


def read_config() -> dict:
    """All flags, checked as far as that is possible without loading anything."""
    config = program.configuration(FLAGS)
    require(bool(config["model"]), "model", "", "the path of a network to attack")
    if config["step_size"] is None:
        config["step_size"] = config["eps"] / 4
    config["input_range"] = input_range(config["input_range"])
    if "auto_attack" in config["attack"]:
        require_toolbox()
        require(config["eps"] > 0, "eps", config["eps"], "above 0 for auto_attack")
    if "transfer" in config["attack"] and config["source"] is None:
        raise UserError("--attack=transfer: needs --source, a network to make the examples")
    if config["checks"]:
        require(config["eps"] > 0, "eps", config["eps"], "above 0, or --nochecks")
    pgd_attack(config)  # Refuses a step that is longer than the ball.
    return config


def input_range(values) -> list[float]:
    """Two numbers of a flag, the lower one first."""
    low, high = map(kinds.parse_number, values)
    expected = "two numbers, the lower first, such as 0,255"
    require(low < high, "input_range", ",".join(values), expected)
    return [low, high]


def pgd_attack(config):
    """The PGD of `--attack=pgd`, of transfer and of the checks."""
    return pgd(config["eps"], config["step_size"], config["steps"], random_start=True)


def load(config):
    """The network, the source or None, and the images to attack them on."""
    how = {"trust": config["trust"], "input_range": tuple(config["input_range"])}
    victim = load_victim(config["model"], **how)
    source = load_victim(config["source"], "source", **how) if config["source"] else None
    if "auto_attack" in config["attack"] and victim.num_classes < 3:
        raise UserError(
            "--attack=auto_attack: its difference of logits ratio needs three classes or more, "
            f"{victim.path} has {victim.num_classes}; leave it out, cw_linf attacks the margin"
        )
    name = config["data_set"] or victim.data_set
    require(name is not None, "data_set", "", f"one of {', '.join(DATA_SETS)} for this --model")
    place = config["data_source"] or victim.data_source or "embedded"
    size, channels = square_shape(victim)
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


@dataclasses.dataclass
class Results:
    """What came of the evaluation so far.

    Attributes:
      outcomes: of the attacks that ended, the natural accuracy first.
      checks: for masked gradients, once they ended.
      failed: attack → why it ended without an outcome.
      remarks: what a reader of the numbers should know.
      state: what it is doing, or "finished".
    """

    outcomes: list[robustness.Outcome] = dataclasses.field(default_factory=list)
    checks: list[masked_gradients.Check] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    remarks: list[str] = dataclasses.field(default_factory=list)
    state: str = "natural"


def measure(config, victim, source, images, results, keep):
    """Fills `results`, and calls `keep` after each measurement."""

    def count(limit):
        return min(limit or len(images), len(images))

    tried = attempts(config, source)
    checked = count(config["check_examples"])
    work = len(images) + sum(attempt.passes * count(limit) for attempt, limit in tried.values())
    if config["checks"]:
        work += masked_gradients.check_passes(pgd_attack(config), source) * checked
    chunks = runtime.parallel_chunks(runtime.make_strategy("one_device"))
    with ProgressBar(work) as bar:
        judge = RobustnessEvaluator(
            victim, images, config["batch_size"], config["seed"], chunks, bar.advance
        )

        def step(name, compute, found):
            results.state = name
            try:
                found.extend(compute())
            except Exception as error:  # Every attack's library has errors of its own.
                text = f"{type(error).__name__}: {' '.join(str(error).split())}"
                results.failed[name] = text[:150]
            keep()

        step("natural", lambda: [judge.natural()], results.outcomes)
        results.remarks += remarks_on(victim, results.outcomes)
        for name, (attempt, limit) in tried.items():
            step(name, lambda: [attempt.run(judge.limited(count(limit)))], results.outcomes)  # noqa: B023
        if config["checks"]:
            part, attack = judge.limited(checked), pgd_attack(config)
            step(
                "checks",
                lambda: masked_gradients.gradient_masking_checks(part, attack, source),
                results.checks,
            )
    results.state = "finished"
    keep()


def remarks_on(victim, outcomes) -> list[str]:
    """What is odd about a network without an attack."""
    found, chance = [], 1 / victim.num_classes
    for natural in outcomes:
        if natural.accuracy < chance + NEAR_CHANCE * (1 - chance):
            found.append(
                f"the natural accuracy, {natural.accuracy:.2%}, is near chance ({chance:.2%}). "
                "Were the images given as the network takes them? See --input_range=0,255"
            )
        lost = natural.measured.get("not_finite")
        if lost:
            found.append(f"{lost} of {natural.images} images got logits that are not finite")
    return found


def output_path(config, victim) -> Path:
    """`--output`, or a file that the configuration and the network decide."""
    if config["output"]:
        return Path(config["output"])
    decisive = json.dumps([config, victim.sha256], sort_keys=True)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:8]
    return Path("tensorboard_logs", "evaluate", f"{victim.name}-{digest}.json")


def report(config, victim, source, data, results) -> dict:
    """Everything that decided the numbers, and the numbers."""
    return {
        "state": results.state,
        "config": config,
        "model": {"path": victim.path, "sha256": victim.sha256},
        "source": source and {"path": source.path, "sha256": source.sha256},
        "data_set": data.name,
        "data_source": data.source,
        "images": len(data.test),
        "seed": config["seed"],
        "outcomes": [outcome.to_json() for outcome in results.outcomes],
        "checks": [dataclasses.asdict(check) for check in results.checks],
        "failed": results.failed,
        "remarks": results.remarks,
        "environment": runtime.environment_report(runtime.make_strategy("one_device")),
    }


def show(victim, data, results, path):
    """Prints what there is."""
    print(f"{victim.path} on {len(data.test)} test images of {data.name} ({data.source})\n")
    print(robustness_tables(results.outcomes, results.checks))
    for remark in results.remarks:
        print(f"\nRemark: {remark}")
    print(f"\n{path}", flush=True)


def main():
    """Attacks, writes after each attack, and prints."""
    config = read_config()
    runtime.make_strategy("one_device")
    victim, source, data = load(config)
    path, results = output_path(config, victim), Results()
    require(not path.is_dir(), "output", path, "a file, not a folder")
    program.require_writable("output", path)

    def keep():
        atomic_write_json(path, report(config, victim, source, data, results))

    try:
        measure(config, victim, source, data.test, results, keep)
    except KeyboardInterrupt as stop:
        if results.outcomes:
            show(victim, data, results, path)
            stop.kept = f"what was measured before {results.state} is in {path}"
        raise
    show(victim, data, results, path)
    if results.failed:
        name, reason = next(iter(results.failed.items()))
        raise UserError(f"--attack={name}: failed ({reason}); all other results are in {path}")


if __name__ == "__main__":
    program.run(main, FLAGS, __doc__, resumable=False)
