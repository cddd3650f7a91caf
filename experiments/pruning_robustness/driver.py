"""Reproduces "On the Effect of Pruning on Adversarial Robustness" (Jordao and Pedrini, 2021).

    python -m experiments.pruning_robustness

Takes filters and residual blocks out of networks and fine-tunes what is left; what that does
to their accuracy under corruptions, occlusion and FGSM. `--study` names the paper's tables and
figures to make. Ends with the first study's table beside the paper's numbers.
"""

from pathlib import Path

from experiments import engine, image_flags
from experiments import flags as common
from experiments.pruning_robustness.exports import export_best_networks
from experiments.pruning_robustness.network_tests import NetworkTests
from experiments.pruning_robustness.plan import STUDIES, Studies
from experiments.pruning_robustness.presets import PAPER, PRESETS
from experiments.pruning_robustness.report import write_report
from experiments.pruning_robustness.settings import STRUCTURES, PruningSettings
from tf_tickets.attacks.threat_model import fgsm
from tf_tickets.image_work.data import ImageSource
from tf_tickets.structured.criteria import CRITERIA, FORMS
from tf_tickets.structured.selection import SCOPES
from tf_tickets.work.nodes import Attack, Recipe

define = common.definitions()
engine.add_to(define)
image_flags.add_to(define, image_flags.convolutional_model)
text = "Figures and tables of the paper to make."
define.choices("study", None, text, STUDIES)
text = "What the structures study removes."
define.choices("structures", None, text, STRUCTURES)
define.choice("criterion", None, "What all studies but `criteria` prune by.", CRITERIA)
define.choices("criteria", None, "What the criteria study compares.", CRITERIA)
text = "Share of the filters that a round of pruning removes."
define.number("filters", None, text, "(0, 1)")
text = "Residual blocks that a round of pruning removes: a share if below 1, else how many."
define.number("blocks", None, text, "(0, 1000]")
text = "Whether each layer loses its share of filters, or all compete with all."
define.choice("scope", None, text, SCOPES)
define.choice(
    "criterion_form",
    None,
    "For kl and pls. code: as the paper's first author has them, KL(q‖p), and PLS on what comes "
    "right out of a convolution; ours: KL(p‖q), and PLS after BatchNorm and ReLU.",
    FORMS,
)
text = "Training images that criteria see; 0 for all."
define.integer("scoring_examples", None, text, common.EXAMPLES)
text = "Rounds of pruning in the iterations study."
define.integer("iterations", None, text, "[1, 100]")
text = "Length of the training of unpruned networks."
define.integer("epochs", None, text, common.EPOCHS)
text = "Length of the training after pruning."
define.integer("fine_tuning_epochs", None, text, common.EPOCHS)
define.integer("batch_size", None, "Examples a step.", common.BATCH)
text = "SGD's learning rate after pruning, at its highest."
define.number("fine_tuning_learning_rate", None, text, common.RATE)
text = "Epoch of the unpruned training whose weights winning tickets start from."
define.integer("rewind_epoch", None, text, "[0, 100000]")
define.number("eps", None, "Length of FGSM's step; images lie in [0, 1].", "[0, 1]")
text = "Severities of the corruptions; tables show the highest."
define.numbers("severities", None, text, "[1, 5]", whole=True)
text = "Pixels of the side of the square of zeros that occludes images."
define.integer("occlusion_side", None, text, "[1, 1024]")
text = "Test images of the single_element study; 0 for all."
define.integer("element_examples", None, text, common.EXAMPLES)
FLAGS = define.values

REFERENCE = Path(__file__).parent / "reference.csv"
# Flags that only one study reads.
ONLY_OF = {
    "structures": "structures",
    "criteria": "criteria",
    "iterations": "iterations",
    "rewind_epoch": "adjustment",
    "element_examples": "single_element",
}


def study_settings(config):
    """What the studies share, as a configuration describes it."""
    return common.settings_of(PruningSettings, config)


def image_source(config):
    """Where the data come from, as a configuration describes it."""
    return common.settings_of(ImageSource, config, data_dir=FLAGS.data_dir)


def recipe(config):
    """How weights are learned."""
    return common.settings_of(Recipe, config, optimizer="sgd", objective="mixed")


def tests(config):
    """What networks are tested under."""
    return NetworkTests(
        Attack("fgsm", fgsm(config["eps"])),
        common.whole_numbers(config["severities"]),
        config["occlusion_side"],
        config["test_examples"],
        config["element_examples"],
    )


def seeds_of(config, strategy):
    """The studies of each seed, whose data are read for it and must suffice."""
    source, seeds = image_source(config), []
    for seed in range(config["seed"], config["seed"] + config["trials"]):
        described, data = source.read(seed)
        studies = Studies(
            study_settings(config),
            tests(config),
            data.image_shape,
            data.num_classes,
            config["width_multiplier"],
            described,
            recipe(config),
            engine.platform(FLAGS, strategy),
        )
        if not seeds:
            trainings = studies.trainings_of(config["study"])
            studies.require_usable(trainings, len(data.test))
        seeds.append(studies)
    return seeds


def scale(config):
    """How a configuration differs from the paper's, in words."""
    studies, settings = config["study"], study_settings(PAPER)
    models = [model for study in studies for model in settings.models_of(study)]
    paper = PAPER | {"study": studies, "models": list(dict.fromkeys(models))}
    counts = [name for name in paper if name.endswith("_examples")]
    words = {name: "all" for name in counts if not config[name]}
    words["models"] = config["models"] or paper["models"]
    paper |= {name: "all" for name in counts if not paper[name]}
    read = [name for name in paper if ONLY_OF.get(name, studies[0]) in studies]
    return common.scale(config | words, {name: paper[name] for name in read})


def report_on(run, config, exports):
    """Writes the run's summary and figures, and returns what the driver ends with."""
    studies, criterion = config["study"], config["criterion"]
    how = scale(config)
    return write_report(run, studies, criterion, exports, REFERENCE, how)


def read_config():
    """The configuration of the run, checked as far as that is possible without data."""
    config = common.resolve(FLAGS, PRESETS) | {"threads": FLAGS.threads}
    engine.require_compatible(FLAGS)
    study_settings(config).require_studies(config["study"])
    image_source(config), recipe(config), tests(config)
    return config


def main():
    """Runs, or resumes, the studies and reports on them."""
    config, trainings = read_config(), []

    def shown_on(strategy):
        seeds = seeds_of(config, strategy)
        trainings.extend(seeds[0].trainings_of(config["study"]))
        return [shown for each in seeds for shown in each.shown(config["study"])]

    def report(run, store):
        data = image_source(config).load(config["seed"])
        exports = export_best_networks(trainings, store, data, run.path / "exports")
        return report_on(run, config, exports)

    engine.run("pruning_robustness", config, FLAGS, shown_on, report)
