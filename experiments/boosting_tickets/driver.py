"""Reproduces "Boosting Ticket: Towards Practical Pruning for Adversarial Training" (2019).

    python -m experiments.boosting_tickets

One-shot tickets found by cheap training, retrained naturally or against PGD; what that
saves beside adversarial training of the dense network. `--study` names the paper's figures
and tables to make. Ends with the first study's table beside the paper's numbers.
"""

from pathlib import Path

from experiments import engine, image_flags
from experiments import flags as common
from experiments.boosting_tickets.exports import export_best_trainings
from experiments.boosting_tickets.plan import STUDIES, Studies
from experiments.boosting_tickets.presets import MNIST, PAPER, PRESETS
from experiments.boosting_tickets.report import write_report
from experiments.boosting_tickets.settings import (
    PAPER_MODELS,
    REGIMES,
    BoostingSettings,
    Surroundings,
)
from tf_tickets.attacks.threat_model import fast, fgsm, pgd
from tf_tickets.errors import require
from tf_tickets.image_work.data import ImageSource
from tf_tickets.image_work.work import require_trainable
from tf_tickets.masking.magnitude import SCORES
from tf_tickets.models.registry import require_model
from tf_tickets.training.trainer import ATTACK_MODES
from tf_tickets.work.nodes import Attack, Recipe
from tf_tickets.work.view import Shown

define = common.definitions()
image_flags.add_to(define)
engine.add_to(define)
define.choices("study", None, "Figures and tables of the paper to make.", STUDIES)
text = "Networks of the capacity study, wide_resnet_<depth>_<width>."
define.names("capacity_models", None, text, require_model)
text = "Networks of the mnist study; the first for Table 5."
define.names("mnist_models", None, text, require_model)
define.integer("epochs", None, "Length of a whole retraining, 100%.", common.EPOCHS)
text = "Length of the trainings that find masks."
define.integer("finding_epochs", None, text, common.EPOCHS)
text = "Examples a step; 0: 64 for vgg_16, else 128."
define.integer("batch_size", None, text, "[0, 1000000]")
define.number(
    "finding_learning_rate",
    None,
    "Learning rate that finds masks and begins warm-ups; 0: 0.01 for vgg_16, else 0.05.",
    "[0, 1000]",
)
text = "What the learning_rate study finds masks with."
define.numbers("finding_learning_rates", None, text, common.RATE)
text = "Epochs of retraining below the highest rate."
define.integer("warmup_epochs", None, text, "[0, 100000]")
text = "Kinds of training that find the adversarial study's tickets."
define.choices("finders", None, text, REGIMES)
define.number("sparsity", None, "Share of the weights that a ticket removes.", "[0, 1)")
define.numbers("sparsities", None, "Shares that the pruning_ratio study removes.", "[0, 1)")
define.choice("score", None, "What the weights to keep are ranked by.", tuple(SCORES))
define.integer("rounds", None, "Prunings of an iterative ticket.", "[1, 100]")
define.number("eps", None, "Radius of the attacks' L∞ ball; images lie in [0, 1].", "[0, 1]")
define.number("step_size", None, "Length of a PGD step.", "[0, 1]")
define.integer("attack_steps", None, "Number of PGD steps in training.", common.ATTACK_STEPS)
text = "Whether PGD training starts at a random point of the ball; evaluation always does."
define.switch("random_start", None, text)
define.choice("attack_mode", None, "How BatchNorm meets training attacks.", ATTACK_MODES)
FLAGS = define.values

REFERENCE = Path(__file__).parent / "reference.csv"
# Flags that only one study reads.
ONLY_OF = {
    "capacity_models": "capacity",
    "finders": "adversarial",
    "mnist_models": "mnist",
    "finding_learning_rates": "learning_rate",
    "sparsities": "pruning_ratio",
    "rounds": "existence",
}
# What a 0 of these flags stands for.
AUTOMATIC = {
    "batch_size": "64 for vgg_16, else 128",
    "finding_learning_rate": "0.01 for vgg_16, else 0.05",
}


def presets():
    """The presets of the studies asked for."""
    studies = FLAGS.study or PAPER["study"]
    of_study = MNIST if "mnist" in studies else {}
    require(
        not of_study or len(studies) == 1, "study", ",".join(studies), "mnist by itself, if at all"
    )
    return {name: preset | of_study for name, preset in PRESETS.items()}


def study_settings(config):
    """What the studies vary, as a configuration describes it."""
    lists = ("finding_learning_rates", "sparsities")
    numbers = {name: common.numbers(config[name]) for name in lists}
    return common.settings_of(BoostingSettings, config | numbers)


def image_source(config):
    """Where the data come from, as a configuration describes it."""
    return common.settings_of(ImageSource, config, data_dir=FLAGS.data_dir)


def training_attacks(config):
    """Regime → what is trained against."""
    eps, step_size = config["eps"], config["step_size"]
    return {
        "fgsm": fgsm(eps),
        "fast": fast(eps),
        "pgd": pgd(eps, step_size, config["attack_steps"], config["random_start"]),
    }


def attack(config, steps):
    """PGD that networks are measured under."""
    return Attack(f"pgd_{steps}", pgd(config["eps"], config["step_size"], steps, random_start=True))


def recipe(config):
    """How weights are learned."""
    return common.settings_of(
        Recipe,
        config | {"batch_size": config["batch_size"] or 128},
        objective="adversarial",
        optimizer="sgd",
    )


def batch_sizes(config):
    """Model → its own batch size."""
    return {} if config["batch_size"] else {"vgg_16": 64}


def studies_of(config, strategy):
    """The studies of each seed, whose data are read for it."""
    source, settings = image_source(config), study_settings(config)
    for seed in range(config["seed"], config["seed"] + config["trials"]):
        described, data = source.read(seed)
        yield Studies(
            settings,
            Surroundings(
                data=described,
                image_shape=data.image_shape,
                classes=data.num_classes,
                width_multiplier=config["width_multiplier"],
                recipe=recipe(config),
                batch_sizes=batch_sizes(config),
                attacks=training_attacks(config),
                evaluation_attack=attack(config, 20),
                fast_stop_after_drop=0.2,
                test_examples=len(data.test),
                platform=engine.platform(FLAGS, strategy),
            ),
        )


def in_words(config):
    """The same, with words where 0 or nothing stands for something."""
    studies, settings = config["study"], study_settings(config | {"finding_learning_rate": 0.0})
    models = {model for study in studies for model in settings.models_of(study)}
    meant = {
        "batch_size": {batch_sizes({"batch_size": 0}).get(model, 128) for model in models},
        "finding_learning_rate": {settings.small_learning_rate(model) for model in models},
    }
    papers = [model for study in studies for model in PAPER_MODELS.get(study, ())]
    words = {"models": config["models"] or list(dict.fromkeys(papers))}
    words |= {name: config[name] or "all" for name in config if name.endswith("_examples")}
    automatic = (name for name in meant if not config[name] or meant[name] == {config[name]})
    return config | words | {name: AUTOMATIC[name] for name in automatic}


def scale(config):
    """How a configuration differs from the paper's, in words."""
    studies = config["study"]
    paper = in_words(PAPER | (MNIST if "mnist" in studies else {}) | {"study": studies})
    read = {name for name in paper if ONLY_OF.get(name, studies[0]) in studies}
    if not paper["models"]:
        read.remove("models")
    return common.scale(in_words(config), {name: paper[name] for name in paper if name in read})


def report_on(run, config, exports):
    """Writes the run's summary and figures, and returns what the driver ends with."""
    return write_report(run, config["study"], exports, REFERENCE, scale(config))


def read_config():
    """The configuration of the run, checked as far as that is possible without data."""
    config = common.resolve(FLAGS, presets()) | {"threads": FLAGS.threads}
    engine.require_compatible(FLAGS)
    warmup, most = config["warmup_epochs"], config["epochs"]
    require(warmup <= most, "warmup_epochs", warmup, f"at most --epochs={most}")
    image_source(config), training_attacks(config), recipe(config), study_settings(config)
    return config


def shown_of(config, seeds):
    """What the run asks for: what networks meet at their end, and Table 6's assessments."""
    studies = config["study"]
    shown = [Shown((each,)) for seed in seeds for each in seed.measured(seed.trainings_of(studies))]
    if "acceleration" in studies:
        other = attack(config, 100)
        shown += [Shown((each,), "assessment") for seed in seeds for each in seed.assessed(other)]
    return shown


def main():
    """Runs, or resumes, the studies and reports on them."""
    config, trainings = read_config(), []

    def shown_on(strategy):
        seeds = list(studies_of(config, strategy))
        for seed in seeds:
            trainings.extend(seed.trainings_of(config["study"]))
        require_trainable(trainings)
        return shown_of(config, seeds)

    def report(run, store):
        data = image_source(config).load(config["seed"])
        place = run.path / "exports"
        return report_on(run, config, export_best_trainings(trainings, store, data, place))

    engine.run("boosting_tickets", config, FLAGS, shown_on, report)
