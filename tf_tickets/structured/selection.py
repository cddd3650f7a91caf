"""What one round of Algorithm 1 takes out of a network.

"On the Effect of Pruning on Adversarial Robustness" (Jordao and Pedrini, 2021), section 2.
"""

import bisect
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tf_keras as keras

from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import require, require_choices
from tf_tickets.models.graph import graph_of
from tf_tickets.structured.blocks import choose_blocks, choose_in_order, removable_blocks
from tf_tickets.structured.channels import ChannelMap, channels_of
from tf_tickets.structured.cost import flops
from tf_tickets.structured.criteria import CRITERIA, FORMS, Scores, score
from tf_tickets.structured.surgery import Removal, remove
from tf_tickets.structured.weight_norms import layers_between

SCOPES = ("layerwise", "global")


@dataclasses.dataclass(frozen=True)
class Cut:
    """How much a round removes, and what decides.

    Attributes:
      criterion: a name in `CRITERIA`.
      filters: share of the filters that may go, in [0, 1).
      blocks: residual blocks: a share of those that may go if below 1, else how many.
      scope: `layerwise`, the share of every layer's filters, as the related code of the paper's
        first author has it; or `global`, of all filters together, as its text has it.
      form: of the criterion, see `criteria.score`.
      max_share_per_layer: no layer loses a larger share of its filters, in (0, 1].
      round_to: of layers that lose filters, as many stay as make a multiple of this.
      keep_layers: names of layers that stay as they are.
      flops: instead of `filters`, the share of the FLOPs that may stay, in (0, 1); None: none.
      free_convolutions_only: whether only convolutions lose filters whose outputs are not
        added to another layer's, as in the paper, where only the first of a block does.

    Raises:
      UserError: a value out of range.
    """

    criterion: str
    filters: float
    blocks: float
    scope: str
    form: str = "code"
    max_share_per_layer: float = 0.9
    round_to: int = 1
    keep_layers: tuple[str, ...] = ()
    flops: float | None = None
    free_convolutions_only: bool = False

    def __post_init__(self):
        require_choices("criterion", [self.criterion], CRITERIA)
        require_choices("scope", [self.scope], SCOPES)
        require_choices("criterion_form", [self.form], FORMS)
        require(0 <= self.filters < 1, "filters", self.filters, "a share in [0, 1)")
        valid = 0 <= self.blocks < 1 or (1 <= self.blocks < math.inf and self.blocks % 1 == 0)
        require(valid, "blocks", self.blocks, "a share in [0, 1), or a whole number")
        most = self.max_share_per_layer
        require(0 < most <= 1, "max_share_per_layer", most, "a share in (0, 1]")
        expected = f"at most {most}, the --max_share_per_layer"
        require(self.filters <= most, "filters", self.filters, expected)
        require(self.round_to >= 1, "round_to", self.round_to, "at least 1")
        if self.flops is not None:
            require(0 < self.flops < 1, "flops", self.flops, "a share in (0, 1)")
            expected = "no --filters beside it, as it decides how many go"
            require(not self.filters, "flops", self.flops, expected)

    @property
    def removes_filters(self) -> bool:
        """Whether filters go, and not only blocks."""
        return bool(self.filters) or self.flops is not None


def choose_removal(
    model: keras.Model,
    cut: Cut,
    examples: ImageSplit | None,
    seed: int = 0,
    progress: Callable[[float], None] = lambda images: None,
) -> tuple[Removal, Scores]:
    """Scores a network's structures and chooses the least important ones.

    Blocks are chosen first; filters then compete with those of the layers that stay. Filters
    whose outputs are added go together, and have the mean of their scores.

    Args:
      model: functional or sequential, of one input and one output.
      cut: how much.
      examples: what the criterion sees, see `criteria.score`.
      seed: of the criterion `random`.
      progress: see `criteria.score`.

    Returns:
      What to remove, and the scores of everything that might have been. Of filters that go
      together the removal names the first layer's.

    Raises:
      UserError: the network has less to remove than asked for, or no layer of a name; or a score
        is not finite.
    """
    channels = channels_of(model)
    _require_layers(channels, cut.keep_layers)
    names = channels.untied_convolutions if cut.free_convolutions_only else None
    scores = score(model, cut.criterion, examples, seed, progress, cut.form, names)
    _require_finite(cut.criterion, scores)
    blocks = _choose_blocks(channels.graph, cut, scores.blocks)
    if not cut.removes_filters:
        return Removal({}, blocks), scores
    removal_of, shares = _by_share(model, channels, cut, scores.filters, blocks)
    if cut.flops is not None:
        return _within_flops(model, cut, removal_of, shares), scores
    removal = removal_of(cut.filters)
    expected = "more, as no layer has filters enough to lose any"
    require(bool(removal.filters), "filters", cut.filters, expected)
    return removal, scores


def require_possible(model: keras.Model, cut: Cut) -> None:
    """Checks before any work that the network has as much to remove, whatever the scores say.

    Raises:
      UserError: it has not.
    """
    without_goal = dataclasses.replace(cut, criterion="random", flops=None)
    _, scores = choose_removal(model, without_goal, None)
    if cut.flops is None:
        return
    channels = channels_of(model)

    def narrowest(blocks):
        # How many filters may go does not depend on which.
        removal_of, shares = _by_share(model, channels, cut, scores.filters, blocks)
        return removal_of(shares[-1])

    # The blocks that cost most go: no choice leaves less.
    left = _flops_without_each_block(remove(model, narrowest(()))) if cut.blocks else {}
    _require_flops(model, cut, narrowest(_choose_blocks(channels.graph, cut, left)))


def widths(channels: ChannelMap, removal: Removal) -> dict[str, tuple[int, int]]:
    """Name of each layer whose filters may go → how many it has, and how many stay.

    Args:
      channels: of the network.
      removal: what is taken out of it; that of blocks does not count.
    """
    gone = {
        unit
        for name, indices in removal.filters.items()
        for unit in channels.filters[name][list(indices)].tolist()
    }
    return {
        name: (len(units), sum(unit not in gone for unit in units.tolist()))
        for name, units in channels.filters.items()
    }


def _require_layers(channels, names):
    known = {call.name for call in channels.graph.calls}
    for name in names:
        expected = f"names of layers, such as {', '.join([*channels.filters][:3]) or 'none'}"
        require(name in known, "keep_layers", name, expected)


def _require_finite(criterion, scores):
    """Refuses what cannot be compared, by the first layer or block that has it."""
    for name, values in [*scores.filters.items(), *scores.blocks.items()]:
        expected = f"finite scores, which those of {name} are not"
        require(bool(np.all(np.isfinite(values))), "criterion", criterion, expected)


def _choose_blocks(graph, cut, scores):
    if not cut.blocks:
        return ()
    amount = f"{cut.blocks:g}"
    kept, names = set(cut.keep_layers), sorted(scores, key=scores.get)
    if kept:
        within = {
            block.name: {block.name, *layers_between(graph, block)}
            for block in removable_blocks(graph)
        }
        names = [name for name in names if not within[name] & kept]
    most = len(choose_in_order(graph, names))
    count = int(cut.blocks) if cut.blocks >= 1 else exact_ceil(cut.blocks * len(scores))
    expected = f"at most {most}, as every stage keeps its first block and two in all"
    require(most > 0, "blocks", amount, "0, as this network has no block that may go")
    require(count <= most, "blocks", amount, expected)
    return tuple(choose_blocks(graph, names, count))


class _Pool(NamedTuple):
    """Filters of one layer that go alone or with those of later layers.

    Attributes:
      indices: which of its layer's.
      scores: of each, with those that go with it.
    """

    indices: np.ndarray
    scores: np.ndarray


def _pools(model, channels, cut, scores, blocks):
    """Layer → pool, which hold every unit that may go once, in the first layer that makes it."""
    staying = {call.name for call in graph_of(remove(model, Removal({}, blocks))).calls}
    of_units, places = {}, {}
    for name, values in scores.items():
        for index, (unit, value) in enumerate(zip(channels.filters[name].tolist(), values)):
            if name in staying:
                of_units.setdefault(unit, []).append(value)
                places.setdefault(unit, (name, index))
    # Of any kind of layer: what it makes must stay, whichever convolution it comes from.
    named = [call for call in channels.graph.calls if call.name in cut.keep_layers]
    made = [channels.units[tensor] for call in named for tensor in call.outputs]
    kept = {unit for units in made for unit in units.tolist()}
    found = {}
    for unit, (name, index) in places.items():
        if unit not in kept:
            found.setdefault(name, []).append((index, float(np.mean(of_units[unit]))))
    reason = "no layer" if cut.keep_layers else "no convolution"
    expected = f"0, as this network has {reason} whose filters may go"
    flag = "filters" if cut.flops is None else "flops"
    require(bool(found), flag, getattr(cut, flag), expected)
    pools = {}
    for name, members in found.items():
        indices, values = zip(*members)
        pools[name] = _Pool(np.array(indices), np.array(values))
    return pools


def _by_share(model, channels, cut, scores, blocks):
    """A function: share of the filters → removal, and the shares that make a difference to it."""
    pools = _pools(model, channels, cut, scores, blocks)

    def removal_of(share):
        chosen = least_important(
            {name: pool.scores for name, pool in pools.items()},
            share,
            cut.scope,
            cut.max_share_per_layer,
            cut.round_to,
        )
        filters = {
            name: tuple(pools[name].indices[list(places)].tolist())
            for name, places in chosen.items()
        }
        return Removal(filters, blocks)

    return removal_of, _different_shares([len(pool.scores) for pool in pools.values()], cut)


def _different_shares(sizes, cut):
    """From 0 on, each share of which more filters go than of the one before, up to all that may."""
    most = [_most_of(size, cut.max_share_per_layer) for size in sizes]
    if cut.scope == "global":
        return [count / sum(sizes) for count in range(sum(most) + 1)]
    # Where p · n is rounded up to the next number of a layer.
    steps = {(c - 0.5) / size for size, last in zip(sizes, most) for c in range(1, last + 1)}
    return [0.0, *sorted(steps)]


def _flops_without_each_block(model):
    """Block → what the network costs without it; counted once for blocks of the same layers."""
    graph, counted, left = graph_of(model), {}, {}
    for block in removable_blocks(graph):
        within = layers_between(graph, block).values()
        configurations = [{**layer.get_config(), "name": type(layer).__name__} for layer in within]
        kind = block.stage, repr(configurations)
        if kind not in counted:
            counted[kind] = flops(remove(model, Removal({}, (block.name,))))
        left[block.name] = counted[kind]
    return left


def _require_flops(model, cut, removal):
    whole, least = flops(model), flops(remove(model, removal))
    expected = "none, as no layer has filters enough to lose any"
    if least < whole:
        expected = f"at least {math.ceil(1000 * least / whole) / 1000}, which is what can go"
    require(least <= cut.flops * whole, "flops", cut.flops, expected)


def _within_flops(model, cut, removal_of, shares):
    """The removal of the smallest share of filters that leaves as few FLOPs as asked for."""
    _require_flops(model, cut, removal_of(shares[-1]))
    goal = cut.flops * flops(model)

    def is_enough(share):
        return flops(remove(model, removal_of(share))) <= goal

    return removal_of(shares[bisect.bisect_left(shares[:-1], True, key=is_enough)])


def least_important(
    scores: Mapping[str, np.ndarray],
    share: float,
    scope: str,
    max_share_per_layer: float = 1.0,
    round_to: int = 1,
) -> dict[str, tuple[int, ...]]:
    """The filters with the lowest scores.

    Every layer keeps its best filter, so fewer may be found. Of equal ones the first go.

    Args:
      scores: layer → `[filters]`.
      share: p, in [0, 1).
      scope: `global`, ⌈p · |S|⌉ of the filters S of all layers; or `layerwise`, p · n of the n
        filters of each, to the nearest whole number, halves up.
      max_share_per_layer: no layer loses more.
      round_to: the number that stays in a layer that loses any is the nearest multiple of it.

    Returns:
      Layer → sorted indices, only of layers that lose some.
    """
    ordered = {layer: _lowest_first(values) for layer, values in scores.items()}
    most = {layer: _most_of(len(values), max_share_per_layer) for layer, values in scores.items()}
    if scope == "layerwise":
        counts = {
            layer: min(most[layer], _exact_floor(share * len(values) + 0.5))
            for layer, values in scores.items()
        }
    else:
        counts = _counts_over_all(scores, ordered, most, share)
    chosen = {}
    for layer, values in scores.items():
        count = _rounded(counts[layer], len(values), most[layer], round_to)
        if count:
            chosen[layer] = tuple(sorted(ordered[layer][:count]))
    return chosen


def _most_of(size, max_share):
    """How many of a layer's filters may go."""
    return min(size - 1, _exact_floor(max_share * size))


def _lowest_first(values):
    """Indices by score; the best, of equal ones the first, is the last."""
    best = int(np.argmax(values))
    ranked = np.argsort(values, kind="stable").tolist()
    return [index for index in ranked if index != best] + [best]


def _counts_over_all(scores, ordered, most, share):
    """Layer → how many of its filters are among the ⌈p · |S|⌉ lowest of all that may go."""
    may_go = [
        (float(scores[layer][index]), number, layer)
        for number, layer in enumerate(scores)
        for index in ordered[layer][: most[layer]]
    ]
    may_go.sort(key=lambda each: each[:2])
    total = exact_ceil(share * sum(map(len, scores.values())))
    counts = dict.fromkeys(scores, 0)
    for *_, layer in may_go[:total]:
        counts[layer] += 1
    return counts


def _rounded(count, size, most, round_to):
    """How many go instead of `count`, so that a multiple stays, or all do."""
    if round_to == 1 or not count:
        return count
    staying = range(size - most, size)
    multiples = [number for number in staying if number % round_to == 0]
    # Of two that are equally near the larger one.
    nearest = min(multiples, key=lambda n: (abs(n - (size - count)), -n), default=size)
    whole_is_nearer = size % round_to == 0 and abs(nearest - (size - count)) >= count
    return 0 if whole_is_nearer else size - nearest


def exact_ceil(number: float) -> int:
    """⌈x⌉, in which 0.1 · 30 is 3 although floats say 3.0000000000000004."""
    return math.ceil(round(number, 9))


def _exact_floor(number):
    """⌊x⌋, in which 0.3 · 10 is 3 whatever floats say."""
    return math.floor(round(number, 9))
