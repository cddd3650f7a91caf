"""How important filters and residual blocks are, by the criteria of the pruning literature.

A filter is judged by its feature maps: what its convolution gives after BatchNorm and
activation, `[images, height, width]`. A block is judged by the feature maps of its output,
channel by channel, and has the mean of its channels' scores. A unit of a dense layer is a
filter with maps of one place.

Scores of different layers have one scale, so that they can be compared:

- `l1`, `expected_abs` and `hrank` of filters are divided by their layer's mean. The first grows
  with the filters' fan-in, the second with a factor that the next layer undoes, the third
  with the size of the maps; none says that a layer matters.
- `hrank` of blocks is divided by the greatest rank that their maps can have, as the related code
  of the first author has it, and `l1` of blocks by the root of the fan-in (`block_norm`).
- `expected_abs` of blocks stays as it is, as in that code.
- `kl` is measured in one place, the answers, and `pls` over all features at once; `random` is
  the same everywhere.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.data.vision import ImageSplit, to_unit_interval
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.structured.blocks import removable_blocks
from tf_tickets.structured.channels import activation_of, channels_of
from tf_tickets.structured.elements import VersionedNetwork, without_one
from tf_tickets.structured.weight_norms import block_norm, filter_norms

CRITERIA = ("l1", "expected_abs", "hrank", "kl", "pls", "random")
# Those that need no images.
DATA_FREE_CRITERIA = ("l1", "random")
FORMS = ("code", "ours")
"""How `kl` and `pls` are computed, of which the paper says no more, see `score`."""

_BATCH = 100
_PLS_COMPONENTS = 2
# Correlations up to this are of rounding.
_ROUNDING = 1e-9
# Versions of a network times images in one pass.
_VERSIONED_BATCH = 1600


@dataclasses.dataclass(frozen=True)
class Scores:
    """The importance of everything that may go; the smallest goes first.

    Attributes:
      filters: layer → float64 `[filters]`, on one scale for all layers.
      blocks: residual block → its score, on one scale for all blocks.
    """

    filters: Mapping[str, np.ndarray]
    blocks: Mapping[str, float]


def score(
    model: keras.Model,
    criterion: str,
    examples: ImageSplit | None,
    seed: int,
    progress: Callable[[float], None] = lambda images: None,
    form: str = "code",
    names: Collection[str] | None = None,
) -> Scores:
    """Scores filters and all blocks that may go, in one pass over the examples.

    Args:
      model: functional or sequential, of one input and one output, in [0, 1] and logits.
      criterion: a name in `CRITERIA`:
        `l1`, the sum of a filter's absolute weights (Li et al., arXiv:1608.08710); of a
        block, the mean over its filters;
        `expected_abs`, the mean absolute value of the feature maps (Tan and Motani,
        "DropNet", ICML 2020);
        `hrank`, the mean rank of the feature maps (Lin et al., arXiv:2002.10179);
        `kl`, the mean divergence in nats of the network's distribution q without the filter
        or block and p with it (Luo and Wu, arXiv:1911.08114);
        `pls`, the variable importance in projection of the feature maps' maxima (Jordao
        et al., Neurocomputing 406, 2020), see `variable_importance`;
        `random`, uniform in [0, 1).
        All are on one scale, as the module says.
      examples: at least 2; None where the criterion needs no images.
      seed: of `random`.
      progress: told how many examples were done, at each step.
      form: `code`, as the related code of the first author of "On the Effect of Pruning" has
        it: KL(q ‖ p), and PLS sees the maxima of what comes right out of a layer; `ours`:
        KL(p ‖ q), and PLS sees those of the feature maps as the others do.
      names: of the layers whose filters to score; by default of all that may lose any.

    Raises:
      ValueError: no criterion or form of that name.
    """
    if criterion not in CRITERIA or form not in FORMS:
        raise ValueError(f"no criterion {criterion} of the form {form}")
    channels = channels_of(model)
    names = list(channels.filters) if names is None else names
    if criterion == "random":
        return _random(channels, names, seed)
    if criterion == "l1":
        return _l1(channels, names)
    if criterion == "kl":
        return _kl(VersionedNetwork(model, names), examples, progress, reverse=form == "code")
    if criterion == "pls":
        return _pls(model, names, examples, progress, own_output=form == "code")
    summarize = {"expected_abs": _mean_abs, "hrank": _relative_ranks}[criterion]
    filters, blocks = _summaries(model, names, examples, summarize, progress)
    return Scores(
        {name: _to_the_mean(np.mean(part, axis=0)) for name, part in filters.items()},
        {name: float(np.mean(part)) for name, part in blocks.items()},
    )


def variable_importance(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Variable importance in projection (VIP) under partial least squares.

    PLS with two components between the features and the one-hot labels, both standardized; with
    weights w_a of unit length, scores t_a and loadings q_a,
    VIP_j = √(p Σ_a SS_a w_ja² / Σ_a SS_a), SS_a = ‖t_a‖² ‖q_a‖² (Mehmood et al., "A review
    of variable selection methods in Partial Least Squares Regression", 2012, eq. 3). A component
    that would explain nothing is left out.

    Args:
      features: `[n, p]`, at least 2 examples.
      labels: integers `[n]`.

    Returns:
      `[p]`, 0 for features that are constant, and for all where no feature has class means that
      differ; else their mean square is 1 if none is constant. NaN for those that are not finite.
    """
    features = np.asarray(features, np.float64)
    finite = np.all(np.isfinite(features), axis=0)
    varied = finite & np.any(features != features[0], axis=0)
    importance = np.where(finite, 0.0, np.nan)
    x = _standardized(features[:, varied])
    y = _standardized((labels[:, np.newaxis] == np.unique(labels)).astype(np.float64))
    explained = np.zeros(x.shape[1])
    for _ in range(_PLS_COMPONENTS):
        covariances = x.T @ y
        if not np.any(np.abs(covariances) > _ROUNDING * len(x)):
            break
        # What the iterations of NIPALS lead to.
        weights = np.linalg.svd(covariances, full_matrices=False)[0][:, 0]
        t = x @ weights
        x_loadings, y_loadings = x.T @ t / (t @ t), y.T @ t / (t @ t)
        explained += (t @ t) * (y_loadings @ y_loadings) * weights**2
        x, y = x - np.outer(t, x_loadings), y - np.outer(t, y_loadings)
    if np.any(explained):
        importance[varied] = np.sqrt(np.sum(varied) * explained / np.sum(explained))
    return importance


def _standardized(columns):
    """Of mean 0 and deviation 1, or all 0 if constant."""
    deviations = np.std(columns, axis=0, ddof=1)
    return (columns - np.mean(columns, axis=0)) / np.where(deviations > 0, deviations, 1)


def _to_the_mean(scores):
    """Scores of a layer's filters, which are at least 0, divided by their mean."""
    mean = np.mean(scores)
    with np.errstate(invalid="ignore"):  # `choose_removal` refuses NaN by name.
        return scores / mean if mean != 0 else np.zeros_like(scores)


def _random(channels, names, seed):
    generator, drawn, filters = np.random.default_rng(seed), {}, {}
    for name in names:
        units = channels.filters[name]
        numbers = generator.random(len(units)).tolist()
        # What goes together is drawn once: means of several would hardly ever be the lowest.
        filters[name] = np.array([drawn.setdefault(*pair) for pair in zip(units.tolist(), numbers)])
    return Scores(
        filters, {block.name: generator.random() for block in removable_blocks(channels.graph)}
    )


def _l1(channels, names):
    graph = channels.graph
    return Scores(
        {name: _to_the_mean(filter_norms(graph.layer(name))) for name in names},
        {block.name: block_norm(graph, block) for block in removable_blocks(graph)},
    )


def _pls(model, names, examples, progress, own_output):
    def importance(features):
        return variable_importance(features, examples.labels)

    filters, blocks = _summaries(model, names, examples, _maxima, progress, own_output)
    return Scores(
        _scored_together(filters, importance),
        {name: float(np.mean(s)) for name, s in _scored_together(blocks, importance).items()},
    )


def _summaries(model, names, examples, summarize, progress, own_output=False):
    """Filters' and blocks' feature maps, summarized: name → `[images, channels]`.

    With `own_output` filters' maps are what comes right out of their layer.
    """
    channels = channels_of(model)
    graph = channels.graph
    if own_output:
        made = {call.name: call.output for call in graph.calls}
        filters, tensors_of = {name: made[name] for name in names}, _unfolded(graph)
    else:
        filters = {name: activation_of(channels, name) for name in names}
        tensors_of = FoldedNetwork(model).fixed_tensors()
    blocks = {block.name: _after(graph, block) for block in removable_blocks(graph)}
    wanted = sorted({*filters.values(), *blocks.values()})

    @tf.function(input_signature=[tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8)])
    def feature_maps(images):
        tensors = tensors_of(to_unit_interval(images))
        return [tensors[number] for number in wanted]

    parts = {number: [] for number in wanted}
    for start in range(0, len(examples), _BATCH):
        batch = examples.images[start : start + _BATCH]
        for number, maps in zip(wanted, feature_maps(tf.constant(batch))):
            parts[number].append(summarize(_with_places(maps.numpy())))
        progress(len(batch))
    whole = {number: np.concatenate(part) for number, part in parts.items()}
    return tuple(
        {name: whole[number] for name, number in places.items()} for places in (filters, blocks)
    )


def _unfolded(graph):
    """Images → all tensors in inference mode, each as its layer makes it.

    A network with its BatchNorms folded away no longer has what convolutions make.
    """

    def tensors_of(images):
        tensors = {graph.input: images}
        for call in graph.calls:
            inputs = [tensors[number] for number in call.inputs]
            keywords = {"training": False} if call.layer._expects_training_arg else {}
            made = call.repeat(call.layer, inputs, **keywords)
            tensors |= zip(call.outputs, tf.nest.flatten(made))
        return tensors

    return tensors_of


def _with_places(maps):
    """`[images, ..., channels]` → `[images, height, width, channels]`."""
    images, *places, channels = maps.shape
    height, *rest = places or [1]
    return maps.reshape(images, height, -1 if rest else 1, channels)


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


def _relative_ranks(maps):
    """In parts of the greatest rank that there could be; NaN of maps that are not finite."""
    matrices = np.transpose(maps, (0, 3, 1, 2))
    finite = np.all(np.isfinite(matrices), axis=(2, 3))
    ranks = np.linalg.matrix_rank(np.where(finite[..., np.newaxis, np.newaxis], matrices, 0))
    return np.where(finite, ranks, np.nan) / min(maps.shape[1:3])


def _scored_together(summaries, conclude):
    """name → `[images, channels]` to name → `[channels]`, all channels at once."""
    if not summaries:
        return {}
    scores = conclude(np.concatenate(list(summaries.values()), axis=1))
    ends = np.cumsum([summary.shape[1] for summary in summaries.values()])
    return dict(zip(summaries, np.split(scores, ends[:-1])))


def _kl(network, examples, progress, reverse):
    measures = {group.name: _divergences(network, group, reverse) for group in network.groups}
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


def _divergences(network, group, reverse):
    """A function: uint8 images → the sum over them of a divergence, for each of the elements.

    It is KL(p ‖ q), or KL(q ‖ p) if `reverse`, of q without the element and p with all.
    """
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
        log_q = tf.nn.log_softmax(tf.cast(tf.reshape(logits, shape), tf.float64))
        log_p = log_q[:1]
        terms = tf.exp(log_q) * (log_q - log_p) if reverse else tf.exp(log_p) * (log_p - log_q)
        return tf.reduce_sum(terms, axis=[1, 2])

    def measure(images):
        return np.concatenate(
            [
                sums(images, tf.constant(np.insert(kept, 0, 1, axis=0))).numpy()[1:]
                for kept in without_one(count, _VERSIONED_BATCH // _BATCH - 1)
            ]
        )

    return measure
