"""Reproduces "Data-Efficient Double-Win Lottery Tickets from Robust Pre-training" (2022).

    python -m experiments.double_win_tickets

Pre-trains networks on a source data set, naturally and against attacks; finds tickets of the
pre-trained weights there; transfers them to target data sets, with all training images or a
part, naturally and against PGD. Which tickets do as well as the dense network in accuracy and
in robustness? `--stage` does a part of that. Ends with the extreme sparsities beside the paper's.
"""

import dataclasses
from pathlib import Path

from absl import flags

from experiments import flags as common
from tf_tickets import runtime
from tf_tickets.analysis import double_win_report
from tf_tickets.analysis.double_win_masks import mask_studies
from tf_tickets.attacks.threat_model import fast, pgd
from tf_tickets.data.vision import AUGMENTATIONS
from tf_tickets.deployment.exports import export_best_transfers
from tf_tickets.errors import UserError, require
from tf_tickets.models.registry import MODELS, require_model
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.double_win import (
    DECAYS,
    TICKETS,
    DoubleWinSettings,
    ImagePlace,
    Phase,
)
from tf_tickets.search.source_tickets import SourceTickets
from tf_tickets.search.ticket_transfers import TicketTransfers
from tf_tickets.search.transfer_attacks import attack_from_unseen_models
from tf_tickets.training.trainer import ATTACK_MODES, TrainingSettings

STAGES = ("pretrain", "search", "transfer", "report")

flags.adopt_module_key_flags(common)
flags.DEFINE_enum(
    "stage", "all", [*STAGES, "all"], "What to do; each stage needs those before it, `all` is all."
)
flags.DEFINE_string("source", None, "Data set to pre-train and to prune on.")
flags.DEFINE_list("targets", None, "Data sets to transfer to.")
flags.DEFINE_list(
    "folders", None, "name=DIR,...: those of them that are image folders, DIR/train/<class>/*.png."
)
flags.DEFINE_integer("image_size", None, "Images are scaled to this size; 0 leaves them.")
flags.DEFINE_integer("source_examples", None, "Training images of the source; 0 for all.")
flags.DEFINE_integer("train_examples", None, "Training images of a target, 100%; 0 for all.")
flags.DEFINE_integer("validation_examples", None, "Validation images of each; 0 for all.")
flags.DEFINE_integer("test_examples", None, "Test images of each; 0 for all.")
flags.DEFINE_enum(
    "augmentation",
    None,
    AUGMENTATIONS,
    "crop_and_flip: images are shifted by up to 4 pixels and mirrored, no digits; published: all "
    "are cropped, scaled and mirrored at random, and the middle of test images is seen.",
)
flags.DEFINE_list("percents", None, "Parts of the targets' training images.")
flags.DEFINE_string("model", None, f"One of {', '.join(MODELS)}, wide_resnet_<depth>_<width>.")
flags.DEFINE_float("width_multiplier", None, "Scales the network's channels.")
flags.DEFINE_list(
    "pretrained",
    None,
    "std=WEIGHTS,fat=WEIGHTS,at=WEIGHTS: ResNet-50 weights to use in place of training here; "
    "`imagenet` for Keras', or a PyTorch or safetensors file.",
)
flags.DEFINE_list("tickets", None, f"Any of: {', '.join(TICKETS)}.")
flags.DEFINE_list("levels", None, "Rounds of pruning whose tickets are transferred; 19: 98.56%.")
flags.DEFINE_list(
    "trajectory_levels", None, "Of which levels to keep the way of the weights, for loss surfaces."
)
flags.DEFINE_integer("pretraining_epochs", None, "Length of a pre-training.")
flags.DEFINE_float("pretraining_learning_rate", None, "Its highest learning rate.")
flags.DEFINE_integer("pretraining_batch_size", None, "Its images a step.")
flags.DEFINE_integer("retraining_epochs", None, "Length of the training between two prunings.")
flags.DEFINE_float("retraining_learning_rate", None, "Its constant learning rate.")
flags.DEFINE_integer("retraining_batch_size", None, "Its images a step.")
flags.DEFINE_float("source_weight_decay", None, "λ of the penalty λ/2 ‖θ‖² of both.")
flags.DEFINE_integer("pretraining_attack_steps", None, "PGD steps of the AT pre-training.")
flags.DEFINE_float("fast_eps", None, "Radius of the FAT pre-training's L∞ ball.")
flags.DEFINE_integer("source_attack_steps", None, "PGD steps of adversarial retraining.")
flags.DEFINE_integer("standard_epochs", None, "Length of a standard transfer.")
flags.DEFINE_float("standard_learning_rate", None, "Its highest learning rate.")
flags.DEFINE_enum("standard_decay", None, DECAYS, "How its learning rate falls.")
flags.DEFINE_integer("standard_batch_size", None, "Its images a step.")
flags.DEFINE_integer(
    "epochs", None, "Length of an adversarial transfer; 0: the paper's for the target."
)
flags.DEFINE_float("learning_rate", None, "Its highest learning rate; 0: likewise.")
flags.DEFINE_enum(
    "decay", None, DECAYS, "How its learning rate falls; the paper's for the target if not given."
)
flags.DEFINE_integer("batch_size", None, "Its images a step.")
flags.DEFINE_integer(
    "select_from_epoch",
    None,
    "The first of its epochs whose weights may be kept; 0: the published code's for the target, "
    "or 1 if --epochs is given.",
)
flags.DEFINE_float("weight_decay", None, "λ of the penalty λ/2 ‖θ‖² of all transfers.")
flags.DEFINE_integer("attack_steps", None, "Its PGD steps.")
flags.DEFINE_float("momentum", None, "SGD's momentum.")
flags.DEFINE_float("eps", None, "Radius of the attacks' L∞ ball; images lie in [0, 1].")
flags.DEFINE_float("step_size", None, "Length of a PGD step.")
flags.DEFINE_enum("attack_mode", None, ATTACK_MODES, "How BatchNorm meets training attacks.")

REFERENCE = Path(__file__).parent / "reference" / "double_win_tickets.csv"
PAPER = {
    "source": "imagenet",
    "targets": ["cifar10", "cifar100", "svhn"],
    "data_source": "tfds",
    "folders": [],
    "image_size": 224,
    "source_examples": 0,
    "train_examples": 0,
    "validation_examples": 0,
    "test_examples": 0,
    "augmentation": "published",
    "percents": ["100", "10", "1"],
    "model": "resnet_50_v1_5",
    "width_multiplier": 1.0,
    "pretrained": [],
    "tickets": ["std_imp_st", "fat_imp_st", "at_imp_st", "at_imp_at", "at_omp", "at_random"],
    "levels": [f"{level}" for level in range(20)],
    "trajectory_levels": ["6"],
    "seed": 0,
    "trials": 3,
    "pretraining_epochs": 100,
    "pretraining_learning_rate": 0.1,
    "pretraining_batch_size": 256,
    "retraining_epochs": 30,
    "retraining_learning_rate": 5e-4,
    "retraining_batch_size": 2048,
    "source_weight_decay": 1e-4,
    "pretraining_attack_steps": 7,
    "fast_eps": 4 / 255,
    "source_attack_steps": 3,
    "standard_epochs": 150,
    "standard_learning_rate": 0.001,
    "standard_decay": "thirds",
    "standard_batch_size": 64,
    "epochs": 0,
    "learning_rate": 0.0,
    "decay": None,
    "batch_size": 128,
    "select_from_epoch": 0,
    "weight_decay": 5e-4,
    "attack_steps": 10,
    "momentum": 0.9,
    "eps": 8 / 255,
    "step_size": 2 / 255,
    "attack_mode": "inference",
}
# Of adversarial transfers to SVHN and to all others, unless flags say otherwise (section 3; the
# first epoch is the published code's).
SVHN = {"epochs": 80, "learning_rate": 0.01, "decay": "cosine", "select_from_epoch": 1}
OTHERS = {"epochs": 100, "learning_rate": 0.1, "decay": "step", "select_from_epoch": 46}
QUICK = PAPER | {
    "source": "fashion_mnist",
    "targets": ["mnist"],
    "data_source": "embedded",
    "image_size": 0,
    "source_examples": 2000,
    "train_examples": 500,
    "validation_examples": 60,
    "test_examples": 200,
    "augmentation": "crop_and_flip",
    "percents": ["100", "20"],
    "model": "wide_resnet_10_1",
    "width_multiplier": 0.5,
    "tickets": ["std_imp_st", "fat_imp_st", "at_imp_st"],
    "levels": ["0", "6"],
    "trajectory_levels": ["6"],
    "pretraining_epochs": 6,
    "pretraining_batch_size": 64,
    "retraining_epochs": 1,
    "retraining_learning_rate": 0.01,
    "retraining_batch_size": 64,
    "pretraining_attack_steps": 3,
    "fast_eps": 0.1,
    "standard_epochs": 6,
    "standard_learning_rate": 0.05,
    "standard_decay": "step",
    "standard_batch_size": 16,
    "epochs": 6,
    "learning_rate": 0.05,
    "decay": "step",
    "batch_size": 16,
    "attack_steps": 3,
    "eps": 0.1,
    "step_size": 0.025,
}
SMOKE = QUICK | {
    "source_examples": 128,
    "train_examples": 80,
    "validation_examples": 20,
    "test_examples": 20,
    "percents": ["100"],
    "width_multiplier": 0.25,
    "tickets": ["at_imp_st", "at_omp"],
    "levels": ["0", "2"],
    "trajectory_levels": [],
    "trials": 1,
    "pretraining_epochs": 1,
    "standard_epochs": 2,
    "epochs": 2,
    "retraining_batch_size": 32,
    "standard_batch_size": 32,
    "batch_size": 32,
}
PRESETS = dict(zip(common.PRESETS, (SMOKE, QUICK, PAPER)))


def pairs(flag, texts):
    """name → value of a flag such as name=value,name=value."""
    named = dict(text.partition("=")[::2] for text in texts)
    if len(named) < len(texts) or not all(named.values()) or "" in named:
        raise UserError(f"--{flag}={','.join(texts)}: expected different name=value with commas")
    return named


def phase(config, prefix, decay, steps, weight_decay, **changes):
    """Of the flags whose names begin with `prefix`."""
    own = {
        name: config[f"{prefix}{name}"] for name in ("epochs", "learning_rate", "batch_size")
    } | changes
    require(0 <= config[weight_decay] < 1, weight_decay, config[weight_decay], "in [0, 1)")
    for name, value in own.items():
        require(value > 0, f"{prefix}{name}", value, "above 0")
    require(config[steps] >= 1, steps, config[steps], "at least 1")
    eps, step_size, fast_eps = config["eps"], config["step_size"], config["fast_eps"]
    require(0 <= fast_eps <= 1, "fast_eps", fast_eps, "in [0, 1]")
    attacks = {
        "fast": fast(fast_eps),
        "pgd": pgd(eps, step_size, config[steps], random_start=True),
    }
    training = common.settings_of(
        TrainingSettings,
        config | own | {"weight_decay": config[weight_decay]},
        label_smoothing=0.0,
        threat_models=attacks,
        objective="adversarial",
        optimizer="sgd",
    )
    return Phase(own["epochs"], decay, training)


def transferring(config, target):
    """Regime → the phase of transfers to a target."""
    steps, weight_decay = "attack_steps", "weight_decay"
    return {
        "natural": phase(config, "standard_", config["standard_decay"], steps, weight_decay),
        "pgd": adversarial_transfer(config, target),
    }


def adversarial_transfer(config, target):
    """The phase of adversarial transfers to a target."""
    digits = target.partition("_classes_")[0] == "svhn" and target not in pairs(
        "folders", config["folders"]
    )
    of_target = SVHN if digits else OTHERS
    chosen = {name: config[name] or value for name, value in of_target.items()}
    decay, first = chosen.pop("decay"), chosen.pop("select_from_epoch")
    if config["epochs"] and not config["select_from_epoch"]:
        first = 1
    found = phase(config, "", decay, "attack_steps", "weight_decay", **chosen)
    return dataclasses.replace(found, select_from_epoch=first)


def settings_of(config):
    """The run that a configuration describes."""
    require_model(config["model"], "model")
    folders = pairs("folders", config["folders"])
    return common.settings_of(
        DoubleWinSettings,
        config
        | {
            "targets": tuple(config["targets"]),
            "tickets": tuple(config["tickets"]),
            "pretrained": pairs("pretrained", config["pretrained"]),
            "levels": common.whole_numbers("levels", config["levels"]),
            "percents": common.numbers("percents", config["percents"]),
            "trajectory_levels": common.whole_numbers(
                "trajectory_levels", config["trajectory_levels"]
            ),
        },
        place=common.settings_of(
            ImagePlace, config | {"folders": folders}, data_dir=flags.FLAGS.data_dir
        ),
        seeds=range(config["seed"], config["seed"] + config["trials"]),
        pretraining=phase(
            config, "pretraining_", "step", "pretraining_attack_steps", "source_weight_decay"
        ),
        retraining=phase(
            config, "retraining_", "constant", "source_attack_steps", "source_weight_decay"
        ),
        transferring={target: transferring(config, target) for target in config["targets"]},
        evaluation_attacks={
            "pgd_20": pgd(config["eps"], config["step_size"], 20, random_start=True)
        },
    )


def scale(config):
    """How a configuration differs from the paper's, in words."""
    everything = {name: "all" for name in PAPER if name.endswith("_examples")}
    words = {name: word for name, word in everything.items() if not config[name]}
    of_target = {name: config[name] or "the paper's" for name in OTHERS}
    paper = PAPER | everything | dict.fromkeys(OTHERS, "the paper's")
    return common.scale(config | words | of_target, paper)


def main():
    """Runs, or resumes, the stages asked for."""
    config = common.resolve(PRESETS)
    settings = settings_of(config)
    stages = STAGES if flags.FLAGS.stage == "all" else (flags.FLAGS.stage,)
    strategy = runtime.make_strategy(config["strategy"], config["logical_cpus"], True)
    with runtime.stoppable() as stop_if_requested:
        run = RunDirectory(
            common.run_path("double_win_tickets", config),
            config,
            runtime.environment_report(strategy),
            writable=runtime.is_chief(strategy),
        )
        source = SourceTickets(settings, run, strategy, stop_if_requested)
        transfers = TicketTransfers(source)
        source.require_trainable()
        transfers.require_trainable()
        if "pretrain" in stages:
            source.pretrain()
        if "search" in stages:
            source.search()
        if "transfer" in stages:
            transfers.transfer()
            attack_from_unseen_models(transfers)
        stop_if_requested()
        if run.writable and "report" in stages:
            exports = export_best_transfers(settings, run)
            masks = mask_studies(run, settings.source)
            print(double_win_report.write_report(run, exports, REFERENCE, scale(config), masks))


if __name__ == "__main__":
    common.run(main)
