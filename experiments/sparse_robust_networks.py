"""Reproduces "The Search for Sparse, Robust Neural Networks" (Cosentino et al., 2019).

    python -m experiments.sparse_robust_networks

Iterative magnitude pruning of LeNet-300-100 under natural and adversarial training.
Ends with natural and adversarial accuracy by density beside the paper's Tables 1 and 2.
"""

from pathlib import Path

from absl import flags

from experiments import flags as common
from tf_tickets import runtime
from tf_tickets.analysis import report
from tf_tickets.attacks.threat_model import LABELS, fgsm, pgd
from tf_tickets.data.specs import DATA_SETS
from tf_tickets.deployment.exports import export_best_tickets
from tf_tickets.models.registry import MODELS
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.iterative import METHODS, SearchSettings
from tf_tickets.search.study import StudySettings, run_study
from tf_tickets.training.trainer import TrainingSettings

flags.adopt_module_key_flags(common)
flags.DEFINE_list("data_sets", None, f"Any of: {', '.join(DATA_SETS)}.")
flags.DEFINE_enum("model", None, list(MODELS), "The network.")
flags.DEFINE_list("regimes", None, "Kinds of training, any of: natural, fgsm, pgd.")
flags.DEFINE_list("pruning_strategies", None, f"Any of: {', '.join(METHODS)}.")
flags.DEFINE_integer("rounds", None, "Levels of a search, the dense one included.")
flags.DEFINE_integer("iterations", None, "Optimizer steps a level.")
flags.DEFINE_integer("evaluate_every", None, "Optimizer steps between evaluations.")
flags.DEFINE_integer("batch_size", None, "Examples a step, over all replicas.")
flags.DEFINE_float("learning_rate", None, "Adam's learning rate.")
flags.DEFINE_float("label_smoothing", None, "Share of the training target spread over all classes.")
flags.DEFINE_float("pruning_rate", None, "Share of a hidden layer's weights a round removes.")
flags.DEFINE_float("output_pruning_rate", None, "The same for the output layer.")
flags.DEFINE_integer("rewind_iteration", None, "Iteration of level 0 to rewind to; 0 is θ₀.")
flags.DEFINE_float("eps", None, "Radius of the attacks' L∞ ball; images lie in [0, 1].")
flags.DEFINE_float("step_size", None, "Length of a PGD step.")
flags.DEFINE_integer("attack_steps", None, "Number of PGD steps.")
flags.DEFINE_bool(
    "random_start",
    None,
    "Whether PGD, in training and evaluation, starts at a random point of the ball.",
)
flags.DEFINE_enum("attack_labels", None, LABELS, "The labels whose loss the attacks raise.")

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
        data_dir=flags.FLAGS.data_dir,
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


def main():
    """Runs, or resumes, the study and reports on it."""
    config = common.resolve(PRESETS)
    settings = study_settings(config)
    strategy = runtime.make_strategy(config["strategy"], config["logical_cpus"])
    with runtime.stoppable() as stop_if_requested:
        run = RunDirectory(
            common.run_path("sparse_robust_networks", config),
            config,
            runtime.environment_report(strategy),
            writable=runtime.is_chief(strategy),
        )
        run_study(settings, run, strategy, stop_if_requested)
        stop_if_requested()
        if run.writable:
            print(report_on(run, config, export_best_tickets(settings, run)))


if __name__ == "__main__":
    common.run(main)
