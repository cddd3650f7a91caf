"""Reproduces "Data-Efficient Double-Win Lottery Tickets from Robust Pre-training" (2022).

    python -m experiments.double_win_tickets

Pre-trains networks on a source data set, naturally and against attacks; finds tickets of the
pre-trained weights there; transfers them to target data sets, with all training images or a
part, naturally and against PGD. Which tickets do as well as the dense network in accuracy and
in robustness? `--stage` does a part of that. Ends with the extreme sparsities beside the paper's.
"""

import contextlib
import dataclasses
from pathlib import Path

from experiments import engine, image_flags, kinds
from experiments import flags as common
from experiments.double_win_tickets.exports import export_best_transfers
from experiments.double_win_tickets.masks import mask_studies
from experiments.double_win_tickets.plan import (
    DECAYS,
    TICKETS,
    DoubleWin,
    DoubleWinSettings,
    Images,
    Phase,
    Public,
    transfers,
    unseen_models,
)
from experiments.double_win_tickets.presets import OTHERS, PAPER, PRESETS, SVHN
from experiments.double_win_tickets.report import write_report
from tf_tickets.attacks.threat_model import fast, pgd
from tf_tickets.data.specs import require_data_set
from tf_tickets.data.vision import AUGMENTATIONS
from tf_tickets.errors import UserError, require
from tf_tickets.image_work.data import ImageSource
from tf_tickets.image_work.imported import read_public
from tf_tickets.models.pretrained import pretrained_model
from tf_tickets.models.registry import MODELS, require_image_shape
from tf_tickets.training.trainer import ATTACK_MODES
from tf_tickets.work.nodes import Network, Recipe
from tf_tickets.work.view import Shown

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


def pairs(flag, texts):
    """name → value of a flag such as name=value,name=value."""
    named = dict(text.partition("=")[::2] for text in texts)
    require(len(named) == len(texts), flag, ",".join(texts), "different names")
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
    recipe = common.settings_of(
        Recipe,
        config | own | {"weight_decay": config[weight_decay]},
        objective="adversarial",
        optimizer="sgd",
    )
    return Phase(own["epochs"], decay, own["learning_rate"], recipe, attacks)


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
        evaluation_attacks={
            "pgd_20": pgd(config["eps"], config["step_size"], 20, random_start=True)
        },
    )


def image_source(config, name):
    """Where a data set comes from, as a configuration describes it."""
    folder = pairs("folders", config["folders"]).get(name)
    return ImageSource(
        name,
        "folder" if folder else config["data_source"],
        folder or FLAGS.data_dir,
        config["image_size"],
        config["source_examples" if name == config["source"] else "train_examples"],
        config["validation_examples"],
        config["test_examples"],
        sizing="scaled",
        augmentation=config["augmentation"],
    )


@contextlib.contextmanager
def errors_about(config, name):
    """Names in errors about a data set the flags that it is given by."""
    try:
        yield
    except UserError as error:
        text, folder = str(error), pairs("folders", config["folders"]).get(name)
        if name == config["source"]:
            text = text.replace("--train_examples=", "--source_examples=")
        if folder:
            for flag, value in {"data_dir": folder, "data_set": name}.items():
                if text.startswith(f"--{flag}={value}: "):
                    reason = text.removeprefix(f"--{flag}={value}: ")
                    text = f"--folders={name}={folder}: {reason}"
        raise UserError(text) from None


def read_images(config, name, seed):
    """A data set in a trial: what the plan knows it by, and its images."""
    with errors_about(config, name):
        described, images = image_source(config, name).read(seed)
    require_image_shape(config["model"], images.image_shape, "model")
    shape, classes = images.image_shape, images.num_classes
    return Images(described, shape, classes, config["test_examples"]), images


def read_source(config, settings):
    """The source's images, which must fill the batches."""
    source, _ = read_images(config, settings.source, settings.source_seed)
    most = source.data.trained_on
    expected = f"at most {most}, the training images of {settings.source}"
    for flag in ("pretraining_batch_size", "retraining_batch_size"):
        require(config[flag] <= most, flag, config[flag], expected)
    return source


def read_targets(config, settings, source):
    """(target, seed) → its images, which a network for the source's must be able to take."""
    found = {}
    for seed in settings.seeds:
        for target in settings.targets:
            found[target, seed], images = read_images(config, target, seed)
            if seed == settings.source_seed:
                require_transferable(source, found[target, seed])
                require_parts(config, images, seed)
    return found


def require_transferable(source, target):
    """Raises a `UserError` unless a network for one can take images of the other."""
    ours, theirs = source.image_shape[2], target.image_shape[2]
    if ours != theirs:
        raise UserError(
            f"--targets={target.data.name}: expected images of {ours} channel(s), as --source="
            f"{source.data.name} has; they have {theirs}"
        )


def require_parts(config, images, seed):
    """Raises a `UserError` unless every part of a target's images fills the batches."""
    parts = [
        images.with_train_fraction(percent, seed) for percent in common.numbers(config["percents"])
    ]
    most = min(len(part.train) for part in parts)
    expected = f"at most {most}, the smallest part of the training images of {images.name}"
    for flag in ("standard_batch_size", "batch_size"):
        require(config[flag] <= most, flag, config[flag], expected)


def public_weights(settings, source, platform):
    """Pre-training → the public weights that stand for it, which are read."""
    found = {}
    for pretraining, path in settings.pretrained.items():
        with errors_about_pretrained(pretraining):
            network = Network(
                pretrained_model(path),
                source.image_shape,
                source.classes,
                settings.width_multiplier,
            )
            known = (network, source.data, settings.source_seed, platform, "convolutions")
            found[pretraining] = Public(*read_public(path, *known))
    return found


@contextlib.contextmanager
def errors_about_pretrained(pretraining):
    """Names the flag in errors about a file of weights."""
    try:
        yield
    except UserError as error:
        raise UserError(f"--pretrained={pretraining}={error}") from None


def plan_of(config, strategy):
    """The run's work, whose data are read for it."""
    settings, platform = settings_of(config), engine.platform(FLAGS, strategy)
    source = read_source(config, settings)
    targets = read_targets(config, settings, source)
    public = public_weights(settings, source, platform)
    return DoubleWin(settings, source, targets, public, platform)


def shown_of(plan):
    """Stage → what it leads to, in the order of the work."""
    settings = plan.settings
    pretrained = [
        Shown((measured,)) if measured else Shown((plan.pretrained(pretraining),))
        # Files first, as they may be unusable.
        for pretraining in sorted(
            settings.pretrainings, key=lambda each: each not in settings.pretrained
        )
        for measured in [plan.measured_on_source(pretraining)]
    ]
    found = []
    for kind in settings.ticket_kinds:
        again = plan.retrained_levels(kind)  # These show their tickets.
        found += [Shown((plan.retrained(kind, level),)) for level in again]
        found += [
            Shown((plan.ticket(kind, level),))
            for level in range(len(again) + 1, max(settings.levels) + 1)
        ]
    transferred, attacked = shown_transfers(plan)
    return {"pretrain": pretrained, "search": found, "transfer": [*transferred, *attacked]}


def shown_transfers(plan):
    """The transfers' test accuracies, and those under attacks from unseen models."""
    settings, transferred, attacked = plan.settings, [], []
    unseen = {(each.target, each.seed): plan.transferred(each) for each in unseen_models(settings)}
    for transfer in [*transfers(settings), *unseen_models(settings)]:
        training = plan.transferred(transfer)
        way = plan.trajectory(transfer, training)
        transferred.append(Shown((plan.tested(transfer, training),), trajectory=way))
    for (target, seed), model in unseen.items():  # Images are attacked once for all of a trial.
        attacked += [
            Shown(
                (plan.attacked(transfer, plan.transferred(transfer), model),),
                f"transfer_attack_{transfer.level:02d}",
            )
            for transfer in transfers(settings)
            if (transfer.target, transfer.seed) == (target, seed)
            and (transfer.regime, transfer.percent) == ("pgd", 100)
        ]
    return transferred, attacked


def of_stages(plan, shown, stages, store):
    """The work of some stages.

    Args:
      plan: the run's.
      shown: stage → what it leads to.
      stages: names of those to do now.
      store: what is there.

    Raises:
      UserError: a stage before is not finished.
    """
    if "pretrain" not in stages and {"search", "transfer"} & set(stages):
        require_pretrained(plan, store)
    if "search" not in stages and "transfer" in stages:
        require_tickets(plan, store)
    return [node for stage in stages for each in shown.get(stage, ()) for node in each.nodes]


def require_pretrained(plan, store):
    """Raises a `UserError` unless the pre-trainings are finished."""
    for pretraining in plan.settings.pretrainings:
        if not store.is_finished(plan.pretrained(pretraining)):
            raise UserError(
                f"--stage: the {pretraining} pre-training is missing in {store.root}; run "
                "--stage=pretrain, or all, first"
            )


def require_tickets(plan, store):
    """Raises a `UserError` unless the tickets that are transferred are found."""
    for kind in plan.settings.ticket_kinds:
        for level in filter(None, plan.settings.levels):
            if not store.is_finished(plan.ticket(kind, level)):
                raise UserError(
                    f"--stage: the ticket {kind.name} of level {level} is missing in "
                    f"{store.root}; run --stage=search, or all, first"
                )


def exports_of(plan, config, run, store):
    """The SavedModels of the best transfers."""
    first = plan.settings.seeds[0]
    trainings = [plan.transferred(each) for each in transfers(plan.settings) if each.seed == first]
    return export_best_transfers(
        trainings,
        store,
        lambda training: image_source(config, training.data.name).load(first),
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
    require_places(config)
    settings = settings_of(config)
    for pretraining, path in settings.pretrained.items():
        with errors_about_pretrained(pretraining):
            pretrained_model(path)  # Refuses what cannot be weights.
    size, least = config["image_size"], 8  # Networks halve images three times and more.
    require(size == 0 or size >= least, "image_size", size, f"0 or at least {least}")
    if FLAGS.trajectory_levels:
        text = ",".join(FLAGS.trajectory_levels)
        among = set(settings.trajectory_levels) <= set(settings.levels)
        require(among, "trajectory_levels", text, f"some of --levels={','.join(config['levels'])}")
    return config


def require_places(config):
    """Raises a `UserError` about data sets that no source has, and folders that are none's."""
    folders = pairs("folders", config["folders"])
    for flag, names in {"source": [config["source"]], "targets": config["targets"]}.items():
        for name in names:
            require_data_set(name, flag, "folder" if name in folders else config["data_source"])
    expected = "embedded or tfds; image folders are named by --folders"
    require(config["data_source"] != "folder", "data_source", "folder", expected)
    for name in folders:
        known = name in (config["source"], *config["targets"])
        require(known, "folders", name, "names that --source and --targets have")


def main():
    """Runs, or resumes, the stages asked for."""
    config, plans, shown = read_config(), [], {}
    stages = STAGES if FLAGS.stage == "all" else (FLAGS.stage,)

    def shown_on(strategy):
        plans.append(plan_of(config, strategy))
        shown.update(shown_of(plans[0]))
        return [each for of_stage in shown.values() for each in of_stage]

    def report_on(run, store):
        if "report" not in stages:
            return ""
        exports = exports_of(plans[0], config, run, store)
        masks = mask_studies(run, config["source"])
        return write_report(run, exports, REFERENCE, scale(config), masks)

    folders = pairs("folders", config["folders"])
    engine.run(
        "double_win_tickets",
        config,
        FLAGS,
        shown_on,
        report_on,
        only=lambda _, store: of_stages(plans[0], shown, stages, store),
        folders=folders,
    )
