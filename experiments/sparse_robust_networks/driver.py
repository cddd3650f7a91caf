"""Reproduces "The Search for Sparse, Robust Neural Networks" (Cosentino et al., 2019).

    python -m experiments.sparse_robust_networks

Iterative magnitude pruning of LeNet-300-100 under natural and adversarial training.
Ends with natural and adversarial accuracy by density beside the paper's Tables 1 and 2.
"""

import itertools
from pathlib import Path

from experiments import engine
from experiments import flags as common
from experiments.sparse_robust_networks.exports import export_sparsest_matching
from experiments.sparse_robust_networks.plan import METHODS, Searches, SearchSettings
from experiments.sparse_robust_networks.presets import PAPER, PRESETS
from experiments.sparse_robust_networks.report import write_report
from tf_tickets.attacks.threat_model import LABELS, fgsm, pgd
from tf_tickets.data.specs import DATA_SETS, SPECS
from tf_tickets.image_work.data import ImageSource
from tf_tickets.image_work.tickets import require_rounds
from tf_tickets.image_work.work import prunable_shapes, require_trainable
from tf_tickets.models.registry import MODELS, require_model
from tf_tickets.runs.run_directory import Cell
from tf_tickets.work.nodes import Network, Recipe
from tf_tickets.work.view import Shown

REGIMES = ("natural", "fgsm", "pgd")
ONE_SIZE = tuple(name for name in DATA_SETS if SPECS[name].one_size)

define = common.definitions(("embedded", "tfds"))
engine.add_to(define)
define.choices("data_sets", None, "What to train on.", ONE_SIZE)
define.name("model", None, f"The network: {', '.join(MODELS)}.", require_model)
define.choices("regimes", None, "Kinds of training.", REGIMES)
define.choices("pruning_strategies", None, "How tickets are found.", METHODS)
define.integer("rounds", None, "Levels of a search, the dense one included.", "[1, 100]")
define.integer("iterations", None, "Optimizer steps a level.", common.STEPS)
define.integer("evaluate_every", None, "Optimizer steps between evaluations.", common.STEPS)
define.integer("batch_size", None, "Examples a step, over all replicas.", common.BATCH)
define.number("learning_rate", None, "Adam's learning rate.", common.RATE)
text = "Share of the training target spread over all classes."
define.number("label_smoothing", None, text, "[0, 1)")
text = "Share of a hidden layer's weights that a round removes."
define.number("pruning_rate", None, text, "[0, 1)")
text = "Share of the output layer's weights that a round removes."
define.number("output_pruning_rate", None, text, "[0, 1)")
text = "Iteration of level 0 to rewind to; 0 is θ₀."
define.integer("rewind_iteration", None, text, "[0, 10000000]")
define.number("eps", None, "Radius of the attacks' L∞ ball; images lie in [0, 1].", "[0, 1]")
define.number("step_size", None, "Length of a PGD step.", "[0, 1]")
define.integer("attack_steps", None, "Number of PGD steps.", common.ATTACK_STEPS)
text = "Whether PGD, in training and evaluation, starts at a random point of the ball."
define.switch("random_start", None, text)
define.choice("attack_labels", None, "The labels whose loss the attacks raise.", LABELS)
FLAGS = define.values

REFERENCE = Path(__file__).parent / "reference.csv"


def image_source(config, data_set):
    """Where a data set comes from, as a configuration describes it; all of it is used."""
    return ImageSource(data_set, config["data_source"], FLAGS.data_dir, 0, 0, 0, 0)


def search_settings(config):
    """The extent of the searches, as a configuration describes it."""
    settings = common.settings_of(SearchSettings, config)
    settings.require_methods(config["pruning_strategies"])
    return settings


def training_attacks(config):
    """Regime → what is trained against."""
    eps, labels = config["eps"], config["attack_labels"]
    steps = config["step_size"], config["attack_steps"], config["random_start"]
    return {"fgsm": fgsm(eps, labels), "pgd": pgd(eps, *steps, labels)}


def recipe(config):
    """How weights are learned."""
    return common.settings_of(Recipe, config, optimizer="adam", objective="mixed")


def searches_of(config, strategy):
    """The searches of each seed and data set, whose data are read for it."""
    for seed in seeds(config):
        for name in config["data_sets"]:
            described, data = image_source(config, name).read(seed)
            yield Searches(
                search_settings(config),
                Network(config["model"], data.image_shape, data.num_classes),
                described,
                recipe(config),
                config["learning_rate"],
                training_attacks(config),
                engine.platform(FLAGS, strategy),
            )


def levels_of(config, searches):
    """The levels of every search, in the order of the trials.

    Raises:
      UserError: networks that the data do not fit, or more rounds than they have weights for.
    """
    asked_for = list(itertools.product(config["regimes"], config["pruning_strategies"]))
    levels = [of_seed.levels(*each) for of_seed in searches for each in asked_for]
    require_trainable(search[0] for search in levels)
    for first in searches[: len(config["data_sets"])]:
        shapes = prunable_shapes(first.network)
        for method in config["pruning_strategies"]:
            masks = first.rounds_of(method)
            if masks:
                require_rounds(masks, config["rounds"], shapes)
    return levels


def seeds(config):
    """One a trial."""
    return range(config["seed"], config["seed"] + config["trials"])


def report_on(run, config, exports):
    """Writes the run's summary and figures, and returns what the driver ends with."""
    cells = [
        Cell(data_set, regime, method, seed)
        for seed in seeds(config)
        for data_set in config["data_sets"]
        for regime in config["regimes"]
        for method in config["pruning_strategies"]
    ]
    scale = common.scale(config, PAPER)
    return write_report(run, cells, config["rounds"], exports, REFERENCE, scale)


def read_config():
    """The configuration of the run, checked as far as that is possible without data."""
    config = common.resolve(FLAGS, PRESETS) | {"threads": FLAGS.threads}
    engine.require_compatible(FLAGS)
    search_settings(config), training_attacks(config), recipe(config)
    for data_set in config["data_sets"]:
        image_source(config, data_set)
    return config


def main():
    """Runs, or resumes, the study and reports on it."""
    config, levels = read_config(), []

    def shown_on(strategy):
        searches = list(searches_of(config, strategy))
        levels.extend(levels_of(config, searches))
        measured = searches[0].measured
        return [Shown((measured(level),)) for search in levels for level in search]

    def report_of(run, store):
        exports = export_sparsest_matching(
            first_searches(config, levels),
            store,
            lambda level: image_source(config, level.data.name).load(config["seed"]),
            run.path / "exports",
        )
        return report_on(run, config, exports)

    engine.run("sparse_robust_networks", config, FLAGS, shown_on, report_of, folder_a_model=False)


def first_searches(config, levels):
    """Those whose tickets are exported: of the first strategy and the first trial."""
    is_first = {"method": config["pruning_strategies"][0], "seed": config["seed"]}
    return [search for search in levels if is_first.items() <= search[0].labels.items()]
