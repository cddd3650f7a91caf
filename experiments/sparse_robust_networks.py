"""Reproduces "The Search for Sparse, Robust Neural Networks" (Cosentino et al., 2019).

    python -m experiments.sparse_robust_networks

Iterative magnitude pruning of LeNet-300-100 under natural and adversarial training.
Ends with natural and adversarial accuracy by density beside the paper's Tables 1 and 2.
"""

from pathlib import Path

from experiments import flags as common
from experiments import program
from tf_tickets import runtime
from tf_tickets.analysis import report
from tf_tickets.attacks.threat_model import LABELS, fgsm, pgd
from tf_tickets.data.specs import DATA_SETS, SPECS
from tf_tickets.deployment.exports import export_best_tickets
from tf_tickets.models.registry import MODELS, require_model
from tf_tickets.search.iterative import METHODS, SearchSettings
from tf_tickets.search.study import StudySettings, run_study
from tf_tickets.training.trainer import TrainingSettings

REGIMES = ("natural", "fgsm", "pgd")
ONE_SIZE = tuple(name for name in DATA_SETS if SPECS[name].one_size)

define = common.definitions(("embedded", "tfds"))
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

REFERENCE = Path(__file__).parent / "reference" / "sparse_robust_networks.csv"
PAPER = {
    "data_sets": ["mnist", "fashion_mnist"],
    "data_source": "tfds",
    "model": "lenet_300_100",
    "regimes": ["natural", "fgsm", "pgd"],
    "pruning_strategies": ["original", "random", "continued"],
    "seed": 0,
    "trials": 5,
    "rounds": 20,
    "iterations": 50_000,
    "evaluate_every": 500,
    "batch_size": 60,
    "learning_rate": 1.2e-3,
    "label_smoothing": 0.0,
    "pruning_rate": 0.2,
    "output_pruning_rate": 0.1,
    "rewind_iteration": 0,
    "eps": 0.3,
    "step_size": 0.05,
    "attack_steps": 10,
    "random_start": False,
    "attack_labels": "true",
}
QUICK = PAPER | {
    "data_sets": ["mnist"],
    "data_source": "embedded",
    "pruning_strategies": ["original", "random"],
    "trials": 1,
    "rounds": 12,
    "iterations": 1000,
    "evaluate_every": 250,
}
SMOKE = QUICK | {"rounds": 3, "iterations": 40, "evaluate_every": 20}
PRESETS = {"smoke": SMOKE, "quick": QUICK, "paper": PAPER}


def study_settings(config):
    """The study that a configuration describes."""
    eps, labels = config["eps"], config["attack_labels"]
    attack = pgd(eps, config["step_size"], config["attack_steps"], config["random_start"], labels)
    return StudySettings(
        experiment="sparse_robust_networks",
        data_sets=config["data_sets"],
        data_source=config["data_source"],
        data_dir=FLAGS.data_dir,
        regimes=config["regimes"],
        methods=config["pruning_strategies"],
        seeds=range(config["seed"], config["seed"] + config["trials"]),
        search=common.settings_of(SearchSettings, config),
        training=common.settings_of(
            TrainingSettings,
            config,
            threat_models={"fgsm": fgsm(eps, labels), "pgd": attack},
        ),
    )


def report_on(run, config, exports):
    """Writes the run's summary and figures, and returns what the driver ends with."""
    settings, scale = study_settings(config), common.scale(config, PAPER)
    cells, levels = settings.cells(), settings.search.rounds
    return report.write_report(run, cells, levels, exports, REFERENCE, scale)


def read_config():
    """The configuration of the run, checked as far as that is possible without data."""
    config = common.resolve(FLAGS, PRESETS)
    study_settings(config)
    return config


def main():
    """Runs, or resumes, the study and reports on it."""
    config = read_config()
    settings = study_settings(config)
    strategy = runtime.make_strategy(config["strategy"], config["logical_cpus"])
    with (
        runtime.stoppable() as stop_if_requested,
        common.opened_run("sparse_robust_networks", config, FLAGS.run_dir, strategy) as run,
    ):
        run_study(settings, run, strategy, stop_if_requested)
        stop_if_requested()
        if run.writable:
            print(report_on(run, config, export_best_tickets(settings, run)))


if __name__ == "__main__":
    program.run(main, FLAGS, __doc__, PRESETS)
