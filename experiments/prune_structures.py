"""Takes filters and residual blocks out of a Keras model of one's own.

    python -m experiments.prune_structures --model=SAVED.keras --criterion=pls --filters=0.1 \\
        --blocks=1 --data_set=cifar10 --data_source=tfds --output=FOLDER

SAVED.keras is a functional or sequential model from images in [0, 1] to logits. What is left
of it is fine-tuned where there is data, and lies in FOLDER as pruned.keras, which can be pruned
again or attacked with experiments.evaluate, and as a SavedModel. report.md and report.json
say what was removed and compare accuracy, parameters, FLOPs, file size and latency.

The criteria choose, and fine-tuning trains, on training images; accuracies are of test images.
"""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
import tf_keras as keras

from experiments import image_flags, kinds, program
from experiments.fine_tuning import FineTuning, fine_tune
from tf_tickets import runtime
from tf_tickets.analysis import pruned_model
from tf_tickets.data.registry import load_images
from tf_tickets.data.specs import DATA_SETS, SOURCES, require_data_set
from tf_tickets.data.splits import stratified_subset
from tf_tickets.data.vision import ImageData
from tf_tickets.deployment.pruned_export import accuracy_on_test, export_and_compare
from tf_tickets.errors import UserError, require
from tf_tickets.evaluation.victims import (
    Victim,
    fitting_data,
    load_keras_model,
    square_shape,
)
from tf_tickets.models.graph import graph_of
from tf_tickets.runs.files import atomic_path, atomic_write_json, atomic_write_text
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.structured.channels import ChannelMap, channels_of
from tf_tickets.structured.criteria import CRITERIA, DATA_FREE_CRITERIA, FORMS, Scores
from tf_tickets.structured.outcome import count_that_may_go, left_alone, removed_filters, widths
from tf_tickets.structured.selection import SCOPES, Cut, choose_removal, require_possible
from tf_tickets.structured.surgery import Removal, remove

# Flags of its own, as no preset and no run directory belongs to it.
define = kinds.Definitions()
define.path("model", None, "What to prune: a .keras or .h5 file, images in [0, 1] to logits.")
text = "Where the results go: a folder that is empty or not there yet."
define.path("output", None, text)
define.choice(
    "criterion",
    "pls",
    f"What decides which structures go. All but {' and '.join(DATA_FREE_CRITERIA)} need data.",
    CRITERIA,
)
text = "Loads a file that can run code, too. Only for those of people you trust."
define.switch("trust", False, text)
text = "Share of the filters to remove, of those that may go. Default: 0.1."
define.number("filters", None, text, "[0, 1)")
text = "Instead of --filters: remove until at most this share of FLOPs is left."
define.number("flops", None, text, "(0, 1)")
text = "Residual blocks to remove: a share if below 1, else how many."
define.number("blocks", 0.0, text, "[0, 1000]")
text = "Whether each layer loses its share, or all compete with all."
define.choice("scope", SCOPES[0], text, SCOPES)
define.choice(
    "criterion_form",
    FORMS[0],
    "For kl and pls. code: as the author of the paper has them, KL(q‖p), and PLS on what comes "
    "right out of a layer; ours: KL(p‖q), and PLS after BatchNorm and activation.",
    FORMS,
)
text = "No layer loses a larger share of its filters."
define.number("max_share_per_layer", 0.9, text, "(0, 1]")
text = "As many filters stay in a layer as make a multiple of this, such as 8."
define.integer("round_to", 1, text, "[1, 1024]")
text = "Names of layers to leave as they are."
define.names("keep_layers", [], text, kinds.any_name, least=0)
text = "What the network was trained on; none: no images are used."
define.name("data_set", None, text, image_flags.data_set_name)
define.choice("data_source", "embedded", "Where the data set comes from.", SOURCES)
define.path("data_dir", None, "TensorFlow Datasets' directory, or the folder of images.")
text = "Training images that the criterion sees; 0 for all."
define.integer("scoring_examples", 1000, text, "[0, 10000000]")
text = "Passes through the training images. Default: 10, 0 without data."
define.integer("fine_tuning_epochs", None, text, "[0, 100000]")
text = "SGD's learning rate, divided by ten at a half and at three quarters."
define.number("learning_rate", 0.01, text, "(0, 1000]")
define.integer("batch_size", 128, "Images a step of fine-tuning.", "[1, 1000000]")
define.integer("seed", 0, "Decides what is random.", "[0, 2147483647]")
FLAGS = define.values

DEFAULT_FILTERS, DEFAULT_EPOCHS = 0.1, 10


def read_config() -> dict:
    """All flags, checked as far as that is possible without loading anything."""
    config = program.configuration(FLAGS)
    require(bool(config["model"]), "model", "", "the path of a .keras file to prune")
    require(bool(config["output"]), "output", "", "the path of a folder for the results")
    if config["filters"] is None:
        config["filters"] = DEFAULT_FILTERS if config["flops"] is None else 0.0
    cut = cut_of(config)
    if not cut.removes_filters and not cut.blocks:
        raise UserError("--filters=0 --blocks=0: expected one of them above 0")
    data_set = config["data_set"]
    if config["fine_tuning_epochs"] is None:
        config["fine_tuning_epochs"] = DEFAULT_EPOCHS if data_set else 0
    fine_tuning_of(config)
    if data_set is None:
        needing = f"one of {', '.join(DATA_SETS)} for --"
        free = cut.criterion in DATA_FREE_CRITERIA
        require(free, "data_set", "", f"{needing}criterion={cut.criterion}")
        epochs = config["fine_tuning_epochs"]
        require(not epochs, "data_set", "", f"{needing}fine_tuning_epochs={epochs}")
    else:
        require_data_set(data_set, source=config["data_source"])
    examples = config["scoring_examples"]
    require(examples == 0 or examples >= 2, "scoring_examples", examples, "0 or at least 2")
    output = Path(config["output"])
    empty = output.is_dir() and not any(output.iterdir())
    require(empty or not output.exists(), "output", output, "a folder that is empty or not there")
    return config


def cut_of(config) -> Cut:
    """How much is removed, and what decides."""
    names = ("criterion", "filters", "blocks", "scope", "max_share_per_layer", "round_to", "flops")
    kept = tuple(config["keep_layers"])
    return Cut(
        **{name: config[name] for name in names}, form=config["criterion_form"], keep_layers=kept
    )


def fine_tuning_of(config) -> FineTuning:
    """How the pruned network is trained."""
    epochs, rate = config["fine_tuning_epochs"], config["learning_rate"]
    return FineTuning(epochs, rate, config["batch_size"])


class Loaded(NamedTuple):
    """What there is to work with."""

    model: keras.Model
    victim: Victim
    channels: ChannelMap
    data: ImageData | None


class Pruned(NamedTuple):
    """What came of it."""

    model: keras.Model
    removal: Removal
    scores: Scores
    scored_images: int
    # On test images, before fine-tuning; None without it.
    untuned_accuracy: float | None
    # (epochs, accuracy on validation images).
    history: list[tuple[int, float]]


def load(config) -> Loaded:
    """The network and the data, and whether they allow what is asked for."""
    model, victim = load_keras_model(config["model"], trust=config["trust"])
    try:
        channels = channels_of(model)
    except UserError as error:
        raise UserError(f"--model={victim.path}: {error}") from None
    try:
        require_possible(model, cut_of(config))
    except UserError:
        print(pruned_model.left_alone_text(left_alone(channels, config["keep_layers"])))
        raise
    if not config["data_set"]:
        return Loaded(model, victim, channels, None)
    size, depth = square_shape(victim)
    place = (config["data_source"], config["data_dir"], config["seed"], size, depth)
    data = fitting_data(victim, load_images(config["data_set"], *place))
    count, most = config["scoring_examples"], len(data.train)
    require(count <= most, "scoring_examples", count, f"at most {most}, or 0 for all")
    fine_tuning_of(config).require_usable(model, data)
    return Loaded(model, victim, channels, data)


def choose(config, model, data):
    """What to remove, the scores, and how many images they come from."""
    cut, seed = cut_of(config), config["seed"]
    if cut.criterion in DATA_FREE_CRITERIA:
        return *choose_removal(model, cut, None, seed), 0
    count = config["scoring_examples"] or len(data.train)
    examples = data.train.subset(stratified_subset(data.train.labels, count, seed))
    with ProgressBar(count) as bar:
        advance = functools.partial(bar.advance, description=f"scoring by {cut.criterion}")
        return *choose_removal(model, cut, examples, seed, advance), count


def prune(config, loaded, strategy) -> Pruned:
    """Chooses, removes and fine-tunes."""
    model, data, how = loaded.model, loaded.data, fine_tuning_of(config)
    removal, *scores = choose(config, model, data)
    pruned = remove(model, removal)
    if not how.epochs:
        return Pruned(pruned, removal, *scores, None, [])
    chunks = runtime.parallel_chunks(strategy)
    untuned = accuracy_on_test(pruned, data, chunks, how.batch_size)
    with ProgressBar(how.epochs * len(data.train)) as bar:
        advance = functools.partial(bar.advance, description="fine-tuning")
        make_model = functools.partial(remove, model, removal)
        tuned, history = fine_tune(make_model, how, data, strategy, config["seed"], advance)
    return Pruned(tuned, removal, *scores, untuned, history)


def report(config, loaded, pruned, before, after, strategy) -> dict:
    """Everything that decided the result, and the result."""
    images, threads = None, tf.config.threading
    if loaded.data:
        splits = ("train", "validation", "test")
        images = {split: len(getattr(loaded.data, split)) for split in splits}
        images["scoring"] = pruned.scored_images
    filters = {name: values.tolist() for name, values in pruned.scores.filters.items()}
    channels, keep_layers = loaded.channels, config["keep_layers"]
    staying = {call.name for call in graph_of(pruned.model).calls}
    removed = {
        name: indices
        for name, indices in removed_filters(channels, pruned.removal).items()
        if indices and name in staying
    }
    return {
        "config": config,
        "model": {"path": loaded.victim.path, "sha256": loaded.victim.sha256},
        "images": images,
        "removed": Removal(removed, pruned.removal.blocks).to_json(),
        "filters_that_may_go": count_that_may_go(channels, keep_layers),
        "widths": {
            name: width
            for name, width in widths(channels, pruned.removal).items()
            if name in staying
        },
        "left_alone": left_alone(channels, keep_layers),
        "scores": {"filters": filters, "blocks": dict(pruned.scores.blocks)},
        "before": dataclasses.asdict(before),
        "after": dataclasses.asdict(after),
        "accuracy_before_fine_tuning": pruned.untuned_accuracy,
        "validation_accuracies": pruned.history,
        "environment": runtime.environment_report(strategy),
        "threads": {
            "in_an_operation": threads.get_intra_op_parallelism_threads(),
            "operations_at_a_time": threads.get_inter_op_parallelism_threads(),
        },
    }


def main():
    """Prunes, measures, writes and prints."""
    config, output = read_config(), Path(FLAGS.output)
    strategy = runtime.make_strategy("one_device", split_operations=True)
    loaded = load(config)
    program.require_writable("output", output)
    pruned = prune(config, loaded, strategy)
    with atomic_path(output) as folder:
        folder.mkdir()
        before, after = export_and_compare(
            loaded.model,
            pruned.model,
            folder,
            loaded.data,
            runtime.parallel_chunks(strategy),
            config["batch_size"],
        )
        content = report(config, loaded, pruned, before, after, strategy)
        atomic_write_json(folder / "report.json", content)
        atomic_write_text(folder / "report.md", pruned_model.markdown(content))
    print(f"{pruned_model.summary(content)}\n\n{output}")


if __name__ == "__main__":
    program.run(main, FLAGS, __doc__, resumable=False)
