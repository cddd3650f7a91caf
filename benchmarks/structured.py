"""Networks without some filters and blocks beside the whole ones: latency, size, work to prune.

    python -m benchmarks.structured

SavedModels of random weights answer by turns within one process, so that only ratios are worth
quoting; every operation is divided among the cores. Filters and blocks go by ℓ1-norm, the same
share of every layer's filters. Then the time of surgery, and of scoring by each criterion.
"""

import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import experiments  # noqa: F401  (silences TensorFlow's start)

# isort: split
import numpy as np
import sklearn
import tensorflow as tf
import tf_keras as keras
from absl import app, flags, logging
from tabulate import tabulate

from benchmarks import parse
from tf_tickets import runtime
from tf_tickets.data.vision import ImageSplit
from tf_tickets.deployment.footprint import Latency, compare_saved_models, size_of
from tf_tickets.deployment.saved_model import export_saved_model
from tf_tickets.models.registry import build_model
from tf_tickets.structured.cost import flops, parameters
from tf_tickets.structured.criteria import CRITERIA, DATA_FREE_CRITERIA, score
from tf_tickets.structured.selection import Cut, choose_removal
from tf_tickets.structured.surgery import remove

# Network → (share of the filters, number of blocks). The last ones leave half of the FLOPs.
CUTS = {
    "resnet_20": [(0.1, 0), (0.3, 0), (0.5, 0), (0.3, 2), (0.0, 3)],
    "resnet_56": [(0.1, 0), (0.3, 0), (0.5, 0), (0.3, 8), (0.0, 13)],
    "vgg_16": [(0.1, 0), (0.5, 0), (0.3, 0)],
    "mobilenet_v2": [(0.1, 0), (0.3, 0), (0.3, 4), (0.5, 0)],
}

flags.DEFINE_list("networks", ["resnet_56", "vgg_16", "mobilenet_v2"], f"Of {', '.join(CUTS)}.")
flags.DEFINE_integer("calls", 60, "How often each network answers; the median counts.", 1)
flags.DEFINE_integer("images", 100, "What criteria see.", 2)
flags.DEFINE_list(
    "criteria",
    [criterion for criterion in CRITERIA if criterion != "kl"],
    "Whose scoring is timed. kl, which tries the network without each filter, takes minutes.",
)

SHAPE, CLASSES, BATCHES, SECONDS = (32, 32, 3), 10, (1, 64), 300.0


def pruned_networks(whole: keras.Model, name: str) -> dict[str, keras.Model]:
    """What was taken out → the network without it."""
    networks = {"nothing": whole}
    for filters, blocks in CUTS[name]:
        cut = Cut("l1", filters, blocks, "layerwise", free_convolutions_only=True)
        removal, _ = choose_removal(whole, cut, None)
        networks[f"{filters:.0%} of filters, {blocks} blocks"] = remove(whole, removal)
    return networks


def latency_rows(name: str, whole: keras.Model) -> list[list[str]]:
    """A line of the first table for each network."""
    networks = pruned_networks(whole, name)
    with tempfile.TemporaryDirectory() as place:
        folders = {what: Path(place, str(number)) for number, what in enumerate(networks)}
        images = np.random.default_rng(0).random((4, *SHAPE), np.float32)
        for what, network in networks.items():
            export_saved_model(network, None, folders[what], images)
        timed = [
            compare_saved_models(folders, batch, flags.FLAGS.calls, SECONDS) for batch in BATCHES
        ]
        sizes = {what: size_of(folder).total for what, folder in folders.items()}
    return [
        [
            name,
            what,
            f"{flops(network) / flops(whole):.0%}",
            f"{parameters(network) / parameters(whole):.0%}",
            f"{sizes[what] / sizes['nothing']:.0%}",
            *(beside(latencies[what], latencies["nothing"]) for latencies in timed),
        ]
        for what, network in networks.items()
    ]


def beside(latency: Latency, whole: Latency) -> str:
    """A median and how many times as fast it is as the whole network's."""
    return f"{whole.median / latency.median:.2f}× ({1000 * latency.median:.2f} ms)"


def seconds(work: Callable[[], object]) -> str:
    """How long it takes, once: graphs are built in it, as they are for its user."""
    start = time.perf_counter()
    work()
    return f"{time.perf_counter() - start:.2f}"


def work_row(name: str, whole: keras.Model, examples: ImageSplit) -> list[str]:
    """A line of the second table."""
    cut = Cut("l1", 0.1, 0, "layerwise", free_convolutions_only=True)
    removal, _ = choose_removal(whole, cut, None)
    scorings = [
        functools.partial(score, whole, criterion, examples, seed=0)
        for criterion in flags.FLAGS.criteria
    ]
    return [name, seconds(lambda: remove(whole, removal)), *map(seconds, scorings)]


def main(_):
    """Prints the tables."""
    logging.set_verbosity(logging.ERROR)
    runtime.make_strategy("one_device", split_operations=True)
    count, generator = flags.FLAGS.images, np.random.default_rng(0)
    examples = ImageSplit(
        generator.integers(256, size=(count, *SHAPE), dtype=np.uint8),
        generator.integers(CLASSES, size=count),
    )
    wholes = {name: build_model(name, SHAPE, CLASSES, seed=0) for name in flags.FLAGS.networks}
    threads = tf.config.threading
    print(
        f"TensorFlow {tf.__version__}, scikit-learn {sklearn.__version__}, "
        f"{threads.get_intra_op_parallelism_threads()} threads in an operation, "
        f"{threads.get_inter_op_parallelism_threads()} operation at a time\n"
    )
    headings = ["network", "removed", "FLOPs left", "parameters", "file size"]
    headings += [f"speed at batch {batch}" for batch in BATCHES]
    table = [row for name, whole in wholes.items() for row in latency_rows(name, whole)]
    print(tabulate(table, headings, tablefmt="pipe", disable_numparse=True))

    def shown(criterion):
        return criterion if criterion in DATA_FREE_CRITERIA else f"{criterion}, {count} images"

    headings = ["seconds for", "surgery", *map(shown, flags.FLAGS.criteria)]
    table = [work_row(name, whole, examples) for name, whole in wholes.items()]
    print(f"\n{tabulate(table, headings, tablefmt='pipe', disable_numparse=True)}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
