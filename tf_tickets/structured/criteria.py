"""How important filters and residual blocks are, by the criteria of the pruning literature.

A filter is judged by its feature maps: what its convolution gives after BatchNorm and
activation, `[images, height, width]`. A block is judged by the feature maps of its output,
channel by channel, and has the mean of its channels' scores.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras
from sklearn.cross_decomposition import PLSRegression

from tf_tickets.data.vision import ImageSplit, to_unit_interval
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.structured.blocks import removable_blocks
from tf_tickets.structured.channels import activation_of, channels_of
from tf_tickets.structured.elements import VersionedNetwork, without_one

CRITERIA = ("l1", "expected_abs", "hrank", "kl", "pls", "random")
# Those that need no images.
DATA_FREE_CRITERIA = ("l1", "random")

_BATCH = 100
_PLS_COMPONENTS = 2
# Versions of a network times images in one pass.
_VERSIONED_BATCH = 1600


@dataclasses.dataclass(frozen=True)
class Scores:
    """The importance of everything that may go; the smallest goes first.

    Attributes:
      filters: convolution → float64 `[filters]`.
      blocks: residual block → its score.
    """

    filters: Mapping[str, np.ndarray]
    blocks: Mapping[str, float]


def score(
    model: keras.Model,
    criterion: str,
    examples: ImageSplit | None,
    seed: int,
    progress: Callable[[float], None] = lambda images: None,
) -> Scores:
    """Scores all filters and blocks that may go, in one pass over the examples.

    Args:
      model: functional or sequential, of one input and one output, in [0, 1] and logits.
      criterion: a name in `CRITERIA`:
        `l1`, the sum of a filter's absolute weights (Li et al., arXiv:1608.08710); of a
        block, the mean over its convolutions' filters;
        `expected_abs`, the mean absolute value of the feature maps (Tan and Motani,
        "DropNet", ICML 2020);
        `hrank`, the mean rank of the feature maps (Lin et al., arXiv:2002.10179);
        `kl`, the mean divergence KL(p ‖ q) in nats of the network's distribution q
        without the filter or block from p with it (Luo and Wu, arXiv:1911.08114);
        `pls`, the variable importance in projection of the feature maps' maxima (Jordao
        et al., Neurocomputing 406, 2020), see `variable_importance`;
        `random`, uniform in [0, 1).
      examples: at least 2; None where the criterion needs no images.
      seed: of `random`.
      progress: told how many examples were done, at each step.

    Raises:
      ValueError: no criterion of that name.
    """
    if criterion == "random":
        return _random(model, seed)
    if criterion == "l1":
        return _l1(model)
    if criterion == "kl":
        return _kl(model, examples, progress)
    if criterion not in CRITERIA:
        raise ValueError(f"no criterion {criterion}")
    summarize, conclude = {
        "expected_abs": (_mean_abs, _mean_over_images),
        "hrank": (_ranks, _mean_over_images),
        "pls": (_maxima, lambda features: variable_importance(features, examples.labels)),
    }[criterion]
    filters, blocks = _summaries(model, examples, summarize, progress)
    return Scores(
        _scored_together(filters, conclude),
        {name: float(np.mean(s)) for name, s in _scored_together(blocks, conclude).items()},
    )


def variable_importance(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Variable importance in projection (VIP) under partial least squares.

    scikit-learn's PLS with two components between the features and the one-hot labels,
    both standardized; with weights w_a of unit length, scores t_a and loadings q_a,
    VIP_j = √(p Σ_a SS_a w_ja² / Σ_a SS_a), SS_a = ‖t_a‖² ‖q_a‖² (Mehmood et al., "A review
    of variable selection methods in Partial Least Squares Regression", 2012, eq. 3).

    Args:
      features: `[n, p]`, at least 2 examples.
      labels: integers `[n]`.

    Returns:
      `[p]`, 0 for features that are constant; their mean square is 1 if none is.
    """
    features = np.asarray(features, np.float64)
    varied = np.ptp(features, axis=0) > 0
    importance = np.zeros(features.shape[1])
    targets = (labels[:, np.newaxis] == np.unique(labels)).astype(np.float64)
    if not np.any(varied) or targets.shape[1] < 2:
        return importance
    components = min(_PLS_COMPONENTS, int(np.sum(varied)), len(features) - 1)
    pls = PLSRegression(n_components=components).fit(features[:, varied], targets)
    explained = np.sum(pls.x_scores_**2, axis=0) * np.sum(pls.y_loadings_**2, axis=0)
    weights = pls.x_weights_ / np.linalg.norm(pls.x_weights_, axis=0)
    importance[varied] = np.sqrt(np.sum(varied) * (weights**2 @ explained) / np.sum(explained))
    return importance


def _random(model, seed):
    channels, generator = channels_of(model), np.random.default_rng(seed)
    return Scores(
        {
            name: generator.random(len(channels.filters[name]))
            for name in channels.untied_convolutions
        },
        {block.name: generator.random() for block in removable_blocks(channels.graph)},
    )


def _l1(model):
    channels = channels_of(model)
    of_blocks = {}
    for block in removable_blocks(channels.graph):
        sizes = [_filter_sizes(layer) for layer in _convolutions(channels.graph, block)]
        of_blocks[block.name] = float(np.mean(np.concatenate(sizes)))
    return Scores(
        {name: _filter_sizes(channels.graph.layer(name)) for name in channels.untied_convolutions},
        of_blocks,
    )


def _filter_sizes(layer):
    return np.sum(np.abs(layer.kernel.numpy().astype(np.float64)), axis=(0, 1, 2))


def _convolutions(graph, block):
    """The convolutions between a block's shortcut and its sum."""
    makers, pending, found = {call.output: call for call in graph.calls}, [block.branch], {}
    while pending:
        number = pending.pop()
        if number in (block.shortcut, graph.input):
            continue
        call = makers[number]
        pending += call.inputs
        if type(call.layer) is keras.layers.Conv2D:
            found[call.layer.name] = call.layer
    return found.values()


def _summaries(model, examples, summarize, progress):
    """Filters' and blocks' feature maps, summarized: name → `[images, channels]`."""
    channels, folded = channels_of(model), FoldedNetwork(model)
    filters = {name: activation_of(channels, name) for name in channels.untied_convolutions}
    graph = channels.graph
    blocks = {block.name: _after(graph, block) for block in removable_blocks(graph)}
    wanted = sorted({*filters.values(), *blocks.values()})

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8)])
    def feature_maps(images):
        tensors = folded.fixed_tensors()(to_unit_interval(images))
        return [tensors[number] for number in wanted]

    parts = {number: [] for number in wanted}
    for start in range(0, len(examples), _BATCH):
        batch = examples.images[start : start + _BATCH]
        for number, maps in zip(wanted, feature_maps(tf.constant(batch))):
            parts[number].append(summarize(maps.numpy()))
        progress(len(batch))
    whole = {number: np.concatenate(part) for number, part in parts.items()}
    return tuple(
        {name: whole[number] for name, number in places.items()} for places in (filters, blocks)
    )


def _after(graph, block):
    """The block's output: its sum, or the activation that alone reads it."""
    readers = [call for call in graph.calls if block.output in call.inputs]
    activations = (keras.layers.ReLU, keras.layers.Activation)
    if len(readers) == 1 and isinstance(readers[0].layer, activations):
        return readers[0].output
    return block.output


def _maxima(maps):
    return np.max(maps, axis=(1, 2))


def _mean_abs(maps):
    return np.mean(np.abs(maps), axis=(1, 2), dtype=np.float64)


def _ranks(maps):
    return np.linalg.matrix_rank(np.transpose(maps, (0, 3, 1, 2)))


def _mean_over_images(features):
    return np.mean(features, axis=0)


def _scored_together(summaries, conclude):
    """name → `[images, channels]` to name → `[channels]`, all channels at once."""
    if not summaries:
        return {}
    scores = conclude(np.concatenate(list(summaries.values()), axis=1))
    ends = np.cumsum([summary.shape[1] for summary in summaries.values()])
    return dict(zip(summaries, np.split(scores, ends[:-1])))


def _kl(model, examples, progress):
    network = VersionedNetwork(model)
    measures = {group.name: _divergences(network, group) for group in network.groups}
    totals = {group.name: np.zeros(len(group.elements)) for group in network.groups}
    for start in range(0, len(examples), _BATCH):
        images = tf.constant(examples.images[start : start + _BATCH])
        for name, measure in measures.items():
            totals[name] += measure(images) / len(examples)
        progress(len(images))
    blocks = [group for group in network.groups if not group.name]
    return Scores(
        {name: total for name, total in totals.items() if name},
        {name: float(s) for group in blocks for name, s in zip(group.elements, totals[""])},
    )


def _divergences(network, group):
    """A function: uint8 images → the sum over them of KL(p ‖ q), for each element of the group."""
    count = len(group.elements)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, *network.image_shape], tf.uint8),
            tf.TensorSpec([None, count], tf.float32),
        ]
    )
    def sums(images, kept):
        """`[versions]`; the first version lacks nothing."""
        logits = network.logits(group, to_unit_interval(images), kept)
        shape = [tf.shape(kept)[0], tf.shape(images)[0], logits.shape[-1]]
        log_p = tf.nn.log_softmax(tf.reshape(logits, shape))
        return tf.reduce_sum(tf.exp(log_p[:1]) * (log_p[:1] - log_p), axis=[1, 2])

    def measure(images):
        return np.concatenate(
            [
                sums(images, tf.constant(np.insert(kept, 0, 1, axis=0))).numpy()[1:]
                for kept in without_one(count, _VERSIONED_BATCH // _BATCH - 1)
            ]
        )

    return measure
