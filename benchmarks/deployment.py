"""Sparse networks in every format that they can be deployed in, beside the dense ones.

    python -m benchmarks.deployment

Untrained networks lose a share of each layer's weights: the smallest ones, or whole blocks,
channels, heads and units. Every artifact answers by turns with the dense network in the same
format, on one thread and within one process, so that only ratios are worth quoting: how many
times smaller and faster it is than the dense one.
"""

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import experiments  # noqa: F401  (silences TensorFlow's start)

# isort: split
import ai_edge_litert
import numpy as np
import onnxruntime
import tensorflow as tf
import tf_keras as keras
from absl import app, flags, logging
from tabulate import tabulate
from tqdm import tqdm

from benchmarks import parse
from tf_tickets.deployment.footprint import compare_latency, size_of
from tf_tickets.deployment.inference import Inference, image_inference, text_inference
from tf_tickets.deployment.onnx import OnnxArtifact, write_onnx
from tf_tickets.deployment.saved_model import SavedModelArtifact
from tf_tickets.deployment.tflite import TFLiteArtifact, write_tflite
from tf_tickets.masking.patterns import pattern_masks
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.models.bert_encoder import load_encoder
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import read_weights, write_weights
from tf_tickets.structured.compaction import compact
from tf_tickets.structured.transformer_compaction import compact_bert

flags.DEFINE_list("networks", ["lenet", "resnet", "bert"], "Of lenet, resnet, bert.")
flags.DEFINE_list(
    "formats", ["saved_model", "tflite", "onnx"], "Of saved_model, tflite, onnx (slow to convert)."
)
flags.DEFINE_list("sparsities", ["0.5", "0.8", "0.9", "0.96"], "Shares of the weights removed.")
flags.DEFINE_integer("calls", 100, "How often each artifact answers; the median counts.", 5)
flags.DEFINE_integer("layers", 2, "Of the BERT encoder's layers, how many are kept.", 1)

# Format → optimizations beside the dense network in the same format. "compact" comes before.
VARIANTS = {
    "saved_model": [(), ("compact",)],
    "tflite": [(), ("sparse",), ("compact", "sparse"), ("sparse", "float16"), ("int8",)],
    "onnx": [(), ("compact",), ("float16",), ("int8",)],
}
BATCHES, SECONDS, TOKENS = (1, 64), 2.0, 32


class Network(NamedTuple):
    """A network to make sparse.

    Attributes:
      dense: builds it: → a model or classifier with all weights.
      patterns: name → (weights, sparsity) → masks by path.
      inference: model → its graph.
      compacted: what `dense` builds, with zeros → the smaller model.
      examples: number → inputs.
    """

    dense: Callable[[], object]
    patterns: Mapping[str, Callable[[dict, float], dict[str, np.ndarray]]]
    inference: Callable[[keras.Model], Inference]
    compacted: Callable[[object], keras.Model]
    examples: Callable[[int], dict[str, np.ndarray]]


def noise(shape: tuple[int, ...], count: int) -> dict[str, np.ndarray]:
    """Images of noise."""
    return {"images": np.random.default_rng(0).random((count, *shape), np.float32)}


def tokens(vocabulary_size: int, count: int) -> dict[str, np.ndarray]:
    """Texts of random words."""
    ids = np.random.default_rng(0).integers(1, vocabulary_size, (count, TOKENS), np.int32)
    return {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": np.ones_like(ids)}


def first_channels(weights: dict, sparsity: float) -> dict[str, np.ndarray]:
    """Keeps the first output channels of every convolution, so that so many weights are dead.

    A weight is alive if both of its channels are: a share of √(1 − sparsity) of them stays.
    """
    masks = {}
    for path, weight in weights.items():
        if weight.ndim == 4:
            masks[path] = np.zeros(weight.shape, bool)
            masks[path][..., : round(weight.shape[-1] * (1 - sparsity) ** 0.5)] = True
    return masks


def first_heads_and_units(weights: dict, sparsity: float) -> dict[str, np.ndarray]:
    """Keeps the first attention heads and feed-forward units of every layer."""
    axes = {"query": 1, "key": 1, "value": 1, "attention_output": 0}
    axes |= {"feedforward_intermediate_dense": 1, "feedforward_output_dense": 0}
    masks = {}
    for path, weight in weights.items():
        axis = axes.get(path.split("/")[-2]) if path.endswith("/kernel") else None
        if axis is not None:
            kept = max(1, round(weight.shape[axis] * (1 - sparsity)))
            mask = np.zeros(weight.shape, bool)
            np.moveaxis(mask, axis, 0)[:kept] = True
            masks[path] = mask
    return masks


def smallest(pattern: str, weights: dict, sparsity: float) -> dict[str, np.ndarray]:
    """The smallest weights, or blocks of them, of every kernel but the output's are removed."""
    kernels = {
        path: weight
        for path, weight in weights.items()
        if path.endswith("/kernel") and not path.startswith("logits")
    }
    flat = {path: weight.reshape(-1, weight.shape[-1]) for path, weight in kernels.items()}
    masks = pattern_masks(flat, pattern, sparsity)
    return {path: masks[path].reshape(weight.shape) for path, weight in kernels.items()}


def of_images(name: str, shape: tuple[int, ...], others: Mapping) -> Network:
    """A network of images."""
    return Network(
        dense=lambda: build_model(name, shape, 10, seed=0),
        patterns={"unstructured": functools.partial(smallest, "unstructured"), **others},
        inference=image_inference,
        compacted=lambda model: compact(model).model,
        examples=functools.partial(noise, shape),
    )


def bert() -> Network:
    """The packaged encoder's first layers."""
    encoder = load_encoder(layers=flags.FLAGS.layers)
    return Network(
        dense=lambda: BertClassifier(encoder, 2, dropout=0.0, seed=0),
        patterns={
            "unstructured": functools.partial(smallest, "unstructured"),
            "heads and units": first_heads_and_units,
        },
        inference=lambda model: text_inference(model, TOKENS),
        compacted=lambda classifier: compact_bert(classifier).model,
        examples=functools.partial(tokens, encoder.config.vocabulary_size),
    )


NETWORKS = {
    "lenet": lambda: of_images(
        "lenet_300_100", (28, 28, 1), {"blocks": functools.partial(smallest, "block_4x1")}
    ),
    "resnet": lambda: of_images("wide_resnet_10_1", (32, 32, 3), {"channels": first_channels}),
    "bert": bert,
}


def model_of(network):
    """The Keras model of what `Network.dense` builds."""
    return network if isinstance(network, keras.Model) else network.model


def write(form: str, optimizations, inference: Inference, path: Path, examples):
    """Writes an artifact and loads it."""
    if form == "saved_model":
        module = tf.Module()
        module.weights = inference.model.weights
        tf.saved_model.save(module, str(path), signatures=inference.function)
        return SavedModelArtifact(path, "serving_default")
    if form == "tflite":
        write_tflite(inference, path, optimizations, examples)
        return TFLiteArtifact(path)
    write_onnx(inference, path, optimizations, examples, {})
    return OnnxArtifact(path)


def beside_dense(artifact, path: Path, dense, dense_size: int, examples) -> str:
    """How many times smaller and, at each batch, faster an artifact is than the dense one."""
    speeds = []
    for batch in BATCHES:
        inputs = examples(batch)
        answers = {
            "sparse": functools.partial(artifact.logits, inputs),
            "dense": functools.partial(dense.logits, inputs),
        }
        timed = compare_latency(answers, batch, flags.FLAGS.calls, SECONDS)
        speeds.append(f"{timed['dense'].median / timed['sparse'].median:.2f}")
    sizes = size_of(path)
    smaller, compressed = dense_size / sizes.total, dense_size / sizes.compressed
    return f"{smaller:.1f} ({compressed:.1f}) / {' / '.join(speeds)}"


def pruned(network: Network, pattern: str, sparsity: float):
    """The graphs of a network without some weights and of its compacted form, and how many go."""
    trained = network.dense()
    weights = read_weights(model_of(trained))
    masks = network.patterns[pattern](weights, sparsity)
    write_weights(model_of(trained), {path: w * masks.get(path, 1) for path, w in weights.items()})
    removed = 1 - np.mean(np.concatenate([mask.ravel() for mask in masks.values()]))
    return (
        network.inference(model_of(trained)),
        network.inference(network.compacted(trained)),
        removed,
    )


def table(name: str, network: Network, pattern: str, dense: Mapping, advance) -> str:
    """A line a variant, a column a sparsity; `dense` is format → artifact and bytes."""
    cells, headings = {}, [f"{name}, {pattern}"]
    for sparsity in map(float, flags.FLAGS.sparsities):
        masked, compacted, removed = pruned(network, pattern, sparsity)
        headings.append(f"{removed:.1%} of masked weights gone")
        for form in flags.FLAGS.formats:
            for variant in VARIANTS[form]:
                graph = compacted if "compact" in variant else masked
                rest = [each for each in variant if each != "compact"]
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, "artifact")
                    artifact = write(form, rest, graph, path, network.examples(64))
                    cell = beside_dense(artifact, path, *dense[form], network.examples)
                cells.setdefault(f"{form} {','.join(variant) or 'none'}", []).append(cell)
                advance()
    rows = [[variant, *values] for variant, values in cells.items()]
    return tabulate(rows, headings, tablefmt="pipe", disable_numparse=True)


def tables(name: str, network: Network, advance: Callable[[], object]) -> None:
    """Prints a table for each pattern."""
    with tempfile.TemporaryDirectory() as folder:
        graph, dense = network.inference(model_of(network.dense())), {}
        for form in flags.FLAGS.formats:
            path = Path(folder, form)
            dense[form] = write(form, (), graph, path, None), size_of(path).total
        for pattern in network.patterns:
            print(f"\n{table(name, network, pattern, dense, advance)}", flush=True)


def main(_):
    """Prints a table for each network and pattern."""
    logging.set_verbosity(logging.ERROR)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    networks = {name: NETWORKS[name]() for name in flags.FLAGS.networks}
    count = sum(len(network.patterns) for network in networks.values())
    count *= len(flags.FLAGS.sparsities) * sum(len(VARIANTS[form]) for form in flags.FLAGS.formats)
    print(
        f"TensorFlow {tf.__version__}, LiteRT {ai_edge_litert.__version__}, ONNX Runtime "
        f"{onnxruntime.__version__}, one thread.\nEach cell: times smaller than the dense file "
        f"(gzip-compressed) / times faster at batch {' / '.join(map(str, BATCHES))}."
    )
    with tqdm(total=count) as bar:
        for name, network in networks.items():
            tables(name, network, bar.update)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
