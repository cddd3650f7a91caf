"""What one round of Algorithm 1 takes out of a network.

"On the Effect of Pruning on Adversarial Robustness" (Jordao and Pedrini, 2021), section 2.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import tf_keras as keras

from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import require, require_choices
from tf_tickets.models.graph import graph_of
from tf_tickets.structured.blocks import choose_blocks, most_removable_blocks
from tf_tickets.structured.criteria import CRITERIA, Scores, score
from tf_tickets.structured.surgery import Removal, remove

SCOPES = ("global", "layerwise")


@dataclasses.dataclass(frozen=True)
class Cut:
    """How much a round removes, and what decides.

    Attributes:
      criterion: a name in `CRITERIA`.
      filters: share of the filters that may go, in [0, 1).
      blocks: residual blocks: a share of those that may go if below 1, else how many.
      scope: `global`, or `layerwise` for the share of every layer's filters.

    Raises:
      UserError: a value out of range.
    """

    criterion: str
    filters: float
    blocks: float
    scope: str

    def __post_init__(self):
        require_choices("criterion", [self.criterion], CRITERIA)
        require_choices("scope", [self.scope], SCOPES)
        require(0 <= self.filters < 1, "filters", self.filters, "a share in [0, 1)")
        valid = 0 <= self.blocks < 1 or (1 <= self.blocks < math.inf and self.blocks % 1 == 0)
        require(valid, "blocks", self.blocks, "a share in [0, 1), or a whole number")


def choose_removal(
    model: keras.Model,
    cut: Cut,
    examples: ImageSplit | None,
    seed: int = 0,
    progress: Callable[[float], None] = lambda images: None,
) -> tuple[Removal, Scores]:
    """Scores a network's structures and chooses the least important ones.

    Blocks are chosen first; filters then compete with those of the convolutions that stay.

    Args:
      model: functional or sequential, of one input and one output.
      cut: how much.
      examples: what the criterion sees, see `criteria.score`.
      seed: of the criterion `random`.
      progress: see `criteria.score`.

    Returns:
      What to remove, and the scores of everything that might have been.

    Raises:
      UserError: the network has less to remove than asked for.
    """
    scores = score(model, cut.criterion, examples, seed, progress)
    blocks = _choose_blocks(model, cut.blocks, scores.blocks)
    staying = {layer.name for layer in remove(model, Removal({}, blocks)).layers}
    candidates = {name: values for name, values in scores.filters.items() if name in staying}
    expected = "0, as this network has no convolution whose filters may go"
    require(not cut.filters or bool(candidates), "filters", cut.filters, expected)
    return Removal(least_important(candidates, cut.filters, cut.scope), blocks), scores


def _choose_blocks(model, amount, scores):
    if not amount:
        return ()
    graph = graph_of(model)
    most = most_removable_blocks(graph)
    count = int(amount) if amount >= 1 else exact_ceil(amount * len(scores))
    expected = f"at most {most}, as every stage keeps its first block and two in all"
    require(most > 0, "blocks", f"{amount:g}", "0, as this network has no block that may go")
    require(count <= most, "blocks", f"{amount:g}", expected)
    return tuple(choose_blocks(graph, sorted(scores, key=scores.get), count))


def least_important(
    scores: Mapping[str, np.ndarray], share: float, scope: str
) -> dict[str, tuple[int, ...]]:
    """The ⌈p · |S|⌉ filters with the lowest scores.

    Every layer keeps its best filter, so fewer may be found. Of equal ones the first go.

    Args:
      scores: layer → `[filters]`.
      share: p, in [0, 1).
      scope: `global`, S holds the filters of all layers; or `layerwise`, those of one.

    Returns:
      Layer → sorted indices, only of layers that lose some.
    """
    if scope == "layerwise":
        chosen = {}
        for layer, values in scores.items():
            chosen |= least_important({layer: values}, share, "global")
        return chosen
    places = [(layer, index) for layer, values in scores.items() for index in range(len(values))]
    best = {layer: int(np.argmax(values)) for layer, values in scores.items()}
    ranked = np.argsort(np.concatenate([*scores.values(), []]), kind="stable")
    may_go = [places[place] for place in ranked if places[place][1] != best[places[place][0]]]
    chosen = {}
    for layer, index in sorted(may_go[: exact_ceil(share * len(places))]):
        chosen.setdefault(layer, []).append(index)
    return {layer: tuple(chosen[layer]) for layer in scores if layer in chosen}


def exact_ceil(number: float) -> int:
    """⌈x⌉, in which 0.1 · 30 is 3 although floats say 3.0000000000000004."""
    return math.ceil(round(number, 9))
