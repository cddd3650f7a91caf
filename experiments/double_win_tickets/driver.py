"""Reproduces "Data-Efficient Double-Win Lottery Tickets from Robust Pre-training" (2022).

    python -m experiments.double_win_tickets

Pre-trains networks on a source data set, naturally and against attacks; finds tickets of the
pre-trained weights there; transfers them to target data sets, with all training images or a
part, naturally and against PGD. Which tickets do as well as the dense network in accuracy and
in robustness? `--stage` does a part of that. Ends with the extreme sparsities beside the paper's.
"""

import dataclasses
from pathlib import Path

from experiments import engine, image_flags, kinds
from experiments import flags as common
from experiments.double_win_tickets.exports import export_best_transfers
from experiments.double_win_tickets.inputs import DataSets, pairs, read_weights, require_models
from experiments.double_win_tickets.masks import mask_studies
from experiments.double_win_tickets.plan import DoubleWin
from experiments.double_win_tickets.presets import OTHERS, PAPER, PRESETS, SVHN
from experiments.double_win_tickets.report import write_report
from experiments.double_win_tickets.settings import DECAYS, TICKETS, DoubleWinSettings, Phase
from experiments.double_win_tickets.transfers import transfers
from tf_tickets.attacks.threat_model import fast, pgd
from tf_tickets.data.specs import find_class_range
from tf_tickets.data.vision import AUGMENTATIONS
from tf_tickets.errors import UserError, require
from tf_tickets.models.registry import MODELS
from tf_tickets.training.trainer import ATTACK_MODES
from tf_tickets.work.nodes import Attack, Recipe

STAGES = ("pretrain", "search", "transfer", "report")

define = common.definitions(("embedded", "tfds"))
engine.add_to(define)
define.choice(
    "stage",
    "all",
    "What to do; each stage needs those before it, `all` is all.",
    (*STAGES, "all"),
)
text = "Data set to pre-train and to prune on."
define.name("source", None, text, image_flags.data_set_name)
define.names("targets", None, "Data sets to transfer to.", image_flags.data_set_name)
text = "name=DIR,...: data sets that are image folders, DIR/train/<class>/*.png."
define.define(kinds.Several(kinds.Pair(), least=0), "folders", None, text)
define.integer("image_size", None, "Images are scaled to this size; 0 leaves them.", common.SIDE)
text = "Training images of the source; 0 for all."
define.integer("source_examples", None, text, common.EXAMPLES)
text = "Training images of a target, 100%; 0 for all."
define.integer("train_examples", None, text, common.EXAMPLES)
text = "Validation images of each data set; 0 for all."
define.integer("validation_examples", None, text, common.EXAMPLES)
define.integer("test_examples", None, "Test images of each data set; 0 for all.", common.EXAMPLES)
define.choice(
    "augmentation",
    None,
    "crop_and_flip: images are shifted by up to 4 pixels and mirrored, no digits; published: all "
    "are cropped, scaled and mirrored at random, and the middle of test images is seen.",
    AUGMENTATIONS,
)
text = "Parts of the targets' training images, in percent."
define.numbers("percents", None, text, "(0, 100]")
text = f"The network, one of {', '.join(MODELS)}, wide_resnet_<depth>_<width>."
define.name("model", None, text, image_flags.convolutional_model)
define.number("width_multiplier", None, "Scales the network's channels.", common.WIDTH)
text = (
    "std=WEIGHTS,fat=WEIGHTS,at=WEIGHTS: ResNet-50 weights to use in place of training here; "
    "`imagenet` for Keras', or a PyTorch or safetensors file."
)
define.define(kinds.Several(kinds.Pair(), least=0), "pretrained", None, text)
text = "Ways to find tickets, <pre-training>_<pruning>_<training between prunings>."
define.choices("tickets", None, text, TICKETS)
text = "Rounds of pruning whose tickets are transferred; round 19 leaves 1.44% of the weights."
define.numbers("levels", None, text, "[0, 99]", whole=True)
text = "Those of --levels whose weights are kept along the training, for loss surfaces."
define.numbers("trajectory_levels", None, text, "[0, 99]", whole=True, least=0)
define.integer("pretraining_epochs", None, "Length of a pre-training.", common.EPOCHS)
text = "Highest learning rate of a pre-training."
define.number("pretraining_learning_rate", None, text, common.RATE)
define.integer("pretraining_batch_size", None, "Images a step of a pre-training.", common.BATCH)
text = "Length of the training between two prunings."
define.integer("retraining_epochs", None, text, common.EPOCHS)
text = "Constant learning rate between two prunings."
define.number("retraining_learning_rate", None, text, common.RATE)
text = "Images a step between two prunings."
define.integer("retraining_batch_size", None, text, common.BATCH)
text = "λ of the penalty λ/2 ‖θ‖² on the weights in pre-training and between prunings."
define.number("source_weight_decay", None, text, "[0, 1)")
text = "PGD steps of the AT pre-training."
define.integer("pretraining_attack_steps", None, text, common.ATTACK_STEPS)
text = "Radius of the FAT pre-training's L∞ ball; images lie in [0, 1]."
define.number("fast_eps", None, text, "[0, 1]")
text = "PGD steps of adversarial training between prunings."
define.integer("source_attack_steps", None, text, common.ATTACK_STEPS)
define.integer("standard_epochs", None, "Length of a standard transfer.", common.EPOCHS)
text = "Highest learning rate of a standard transfer."
define.number("standard_learning_rate", None, text, common.RATE)
text = "How the learning rate of a standard transfer falls."
define.choice("standard_decay", None, text, DECAYS)
text = "Images a step of a standard transfer."
define.integer("standard_batch_size", None, text, common.BATCH)
text = "Length of an adversarial transfer; 0: the paper's for the target."
define.integer("epochs", None, text, "[0, 100000]")
text = "Highest learning rate of an adversarial transfer; 0: the paper's for the target."
define.number("learning_rate", None, text, "[0, 1000]")
text = "How the learning rate of an adversarial transfer falls; the paper's for the target if "
define.choice("decay", None, f"{text}not given.", DECAYS)
define.integer("batch_size", None, "Images a step of an adversarial transfer.", common.BATCH)
define.integer(
    "select_from_epoch",
    None,
    "The first epoch of an adversarial transfer whose weights may be kept; 0: the published "
    "code's for the target, or 1 if --epochs is given.",
    "[0, 100000]",
)
text = "λ of the penalty λ/2 ‖θ‖² on the weights in all transfers."
define.number("weight_decay", None, text, "[0, 1)")
text = "PGD steps of adversarial transfers."
define.integer("attack_steps", None, text, common.ATTACK_STEPS)
define.number("momentum", None, "SGD's momentum.", "[0, 1)")
define.number("eps", None, "Radius of the attacks' L∞ ball; images lie in [0, 1].", "[0, 1]")
define.number("step_size", None, "Length of a PGD step.", "[0, 1]")
define.choice("attack_mode", None, "How BatchNorm meets training attacks.", ATTACK_MODES)
FLAGS = define.values

REFERENCE = Path(__file__).parent / "reference.csv"


def phase(config, prefix, decay, steps, weight_decay, **changes):
    """Of the flags whose names begin with `prefix`."""
    own = {
        name: config[f"{prefix}{name}"] for name in ("epochs", "learning_rate", "batch_size")
    } | changes
    attacks = {
        "fast": fast(config["fast_eps"]),
        "pgd": pgd(config["eps"], config["step_size"], config[steps], random_start=True),
    }
    recipe = common.settings_of(
        Recipe,
        config | own | {"weight_decay": config[weight_decay]},
        objective="adversarial",
        optimizer="sgd",
    )
    return Phase(own["epochs"], decay, own["learning_rate"], recipe, attacks)


def transferring(config, target):
    """Regime → the phase of transfers to a target."""
    attack_and_decay = ("attack_steps", "weight_decay")
    classes, folders = find_class_range(target), pairs("folders", config["folders"])
    whole = classes.data_set if classes else target
    of_target = SVHN if whole == "svhn" and target not in folders else OTHERS
    chosen = {name: config[name] or value for name, value in of_target.items()}
    decay, first = chosen.pop("decay"), chosen.pop("select_from_epoch")
    if config["epochs"] and not config["select_from_epoch"]:
        first = 1
    adversarial = phase(config, "", decay, *attack_and_decay, **chosen)
    return {
        "natural": phase(config, "standard_", config["standard_decay"], *attack_and_decay),
        "pgd": dataclasses.replace(adversarial, select_from_epoch=first),
    }


def settings_of(config):
    """The run that a configuration describes."""
    threat = pgd(config["eps"], config["step_size"], 20, random_start=True)
    return common.settings_of(
        DoubleWinSettings,
        config
        | {
            "targets": tuple(config["targets"]),
            "tickets": tuple(config["tickets"]),
            "pretrained": pairs("pretrained", config["pretrained"]),
            "levels": common.whole_numbers(config["levels"]),
            "percents": common.numbers(config["percents"]),
            "trajectory_levels": common.whole_numbers(config["trajectory_levels"]),
        },
        seeds=range(config["seed"], config["seed"] + config["trials"]),
        pretraining=phase(
            config, "pretraining_", "step", "pretraining_attack_steps", "source_weight_decay"
        ),
        retraining=phase(
            config, "retraining_", "constant", "source_attack_steps", "source_weight_decay"
        ),
        transferring={target: transferring(config, target) for target in config["targets"]},
        evaluation_attack=Attack("pgd_20", threat),
    )


def plan_of(config, data_sets, strategy):
    """The run's work, whose data are read for it."""
    settings, platform = settings_of(config), engine.platform(FLAGS, strategy)
    source = data_sets.read_source(settings)
    targets = data_sets.read_targets(settings, source)
    return DoubleWin(settings, source, targets, read_weights(settings, source, platform), platform)


def require_earlier_stages(plan, stages, store):
    """Raises a `UserError` unless what some stages begin with is finished."""
    settings, needed = plan.settings, []
    if "pretrain" not in stages and {"search", "transfer"} & set(stages):
        needed += [
            (f"{name} pre-training", "pretrain", node) for name, node in plan.pretrained.items()
        ]
    if "search" not in stages and "transfer" in stages:
        needed += [
            (f"ticket {kind.name} of level {level}", "search", plan.ticket(kind, level))
            for kind in settings.ticket_kinds
            for level in filter(None, settings.levels)
        ]
    for what, stage, node in needed:
        if not store.is_finished(node):
            cure = f"run --stage={stage}, or all, first"
            raise UserError(f"--stage: the {what} is missing in {store.root}; {cure}")


def exports_of(plan, data_sets, run, store):
    """The SavedModels of the best transfers."""
    first = plan.settings.seeds[0]
    trainings = [plan.transferred(each) for each in transfers(plan.settings) if each.seed == first]
    return export_best_transfers(
        trainings,
        store,
        lambda training: data_sets.source_of(training.data.name).load(first),
        run.path / "exports",
    )


def scale(config):
    """How a configuration differs from the paper's, in words."""
    everything = {name: "all" for name in PAPER if name.endswith("_examples")}
    words = {name: word for name, word in everything.items() if not config[name]}
    of_target = {name: config[name] or "the paper's" for name in OTHERS}
    paper = PAPER | everything | dict.fromkeys(OTHERS, "the paper's")
    return common.scale(config | words | of_target, paper)


def read_config():
    """The configuration of the run, checked as far as that is possible without data."""
    config = common.resolve(FLAGS, PRESETS) | {"threads": FLAGS.threads}
    engine.require_compatible(FLAGS)
    DataSets(config, FLAGS.data_dir).require_known()
    settings = settings_of(config)
    require_models(settings.pretrained)
    size, least = config["image_size"], 8  # Networks halve images three times and more.
    require(size == 0 or size >= least, "image_size", size, f"0 or at least {least}")
    if FLAGS.trajectory_levels:
        text = ",".join(FLAGS.trajectory_levels)
        among = set(settings.trajectory_levels) <= set(settings.levels)
        require(among, "trajectory_levels", text, f"some of --levels={','.join(config['levels'])}")
    return config


def main():
    """Runs, or resumes, the stages asked for."""
    config, plans, shown = read_config(), [], {}
    data_sets = DataSets(config, FLAGS.data_dir)
    stages = STAGES if FLAGS.stage == "all" else (FLAGS.stage,)

    def shown_on(strategy):
        plans.append(plan_of(config, data_sets, strategy))
        shown.update(plans[0].shown())
        return [each for of_stage in shown.values() for each in of_stage]

    def of_stages(_, store):
        require_earlier_stages(plans[0], stages, store)
        return [node for stage in stages for each in shown.get(stage, ()) for node in each.nodes]

    def report_on(run, store):
        if "report" not in stages:
            return ""
        exports = exports_of(plans[0], data_sets, run, store)
        masks = mask_studies(run, config["source"])
        return write_report(run, exports, REFERENCE, scale(config), masks)

    engine.run(
        "double_win_tickets",
        config,
        FLAGS,
        shown_on,
        report_on,
        only=of_stages,
        folders=data_sets.folders,
    )
