"""Residual blocks: which there are, and which may go."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import tf_keras as keras

from tf_tickets.errors import UserError
from tf_tickets.models.graph import Graph

# "On the Effect of Pruning on Adversarial Robustness" and the code related to it.
KEPT_PER_STAGE = 2

_PRODUCTS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)


@dataclasses.dataclass(frozen=True)
class ResidualBlock:
    """Layers whose result is added to what they read, or to a projection of it.

    Removing the block lets the readers of the sum read the shortcut.

    Attributes:
      name: of the Add layer.
      stage: from 1. A stage is a run of blocks that pass tensors of one shape on to each other;
        those without any addition are not counted.
      shortcut: number of the tensor that it hands through.
      branch: number of the tensor that it adds.
      output: number of the sum.
      reason: why the block must stay; "" if it may go.
    """

    name: str
    stage: int
    shortcut: int
    branch: int
    output: int
    reason: str

    @property
    def removable(self) -> bool:
        """Whether it may go."""
        return not self.reason


def residual_blocks(graph: Graph) -> list[ResidualBlock]:
    """Finds the residual blocks, in order, with the reasons of those that must stay.

    A block is an addition of two tensors of one shape, one of which has gone through
    convolutions or dense layers that the other has not, but through no other addition.
    A stage's first block stays, as one with a projection on the shortcut always is, and so do
    all of a stage of two. Where several convolutions without an addition enter a stage, as in
    MobileNetV2, they are its first block; a single one is a stem.
    """
    found = []
    for number, stage in enumerate(_stages(graph), start=1):
        for index, addition in enumerate(stage.additions):
            reason = ""
            if index == 0 and not stage.entered_by_block:
                reason = "it is the first of its stage"
            elif stage.blocks <= KEPT_PER_STAGE:
                reason = f"its stage has no more than {KEPT_PER_STAGE} blocks"
            found.append(
                ResidualBlock(
                    addition.name,
                    number,
                    addition.shortcut,
                    addition.branch,
                    addition.output,
                    reason,
                )
            )
    return found


def removable_blocks(graph: Graph) -> list[ResidualBlock]:
    """The blocks that may go, in order, though not all at once: see `choose_blocks`."""
    return [block for block in residual_blocks(graph) if block.removable]


def most_removable_blocks(graph: Graph) -> int:
    """How many blocks may go at once."""
    return len(choose_in_order(graph, [block.name for block in removable_blocks(graph)]))


def choose_blocks(graph: Graph, ordered_names: Sequence[str], count: int) -> tuple[str, ...]:
    """Chooses the first blocks that may go together.

    Args:
      graph: of the network.
      ordered_names: of blocks that may go, the least important first.
      count: how many to choose.

    Returns:
      The names of the chosen blocks, in their order.

    Raises:
      UserError: so many may not go.
    """
    names = choose_in_order(graph, ordered_names)
    if count > len(names):
        raise UserError(
            f"--blocks={count}: expected at most {len(names)}, because each stage keeps "
            f"{KEPT_PER_STAGE} blocks"
        )
    return names[:count]


def choose_in_order(graph: Graph, ordered_names: Sequence[str]) -> tuple[str, ...]:
    """Chooses each block that may still go after those chosen before it.

    Args:
      graph: of the network.
      ordered_names: of blocks that may go.

    Raises:
      ValueError: a name that is not of a block that may go.
    """
    stage_of = {block.name: block.stage for block in removable_blocks(graph)}
    left = {number: stage.blocks for number, stage in enumerate(_stages(graph), start=1)}
    chosen = []
    for name in ordered_names:
        if name not in stage_of:
            raise ValueError(f"{name}: not a block that may go")
        if name not in chosen and left[stage_of[name]] > KEPT_PER_STAGE:
            left[stage_of[name]] -= 1
            chosen.append(name)
    return tuple(chosen)


def require_removable(graph: Graph, names: Sequence[str]) -> None:
    """Checks that blocks may go together.

    Raises:
      UserError: one is unknown or must stay, or they leave too few in a stage.
    """
    blocks = {block.name: block for block in residual_blocks(graph)}
    for name in names:
        if name not in blocks:
            known = ", ".join(blocks) or "none"
            raise UserError(f"{name}: no residual block of that name; there are: {known}")
        if not blocks[name].removable:
            raise UserError(f"{name}: the block must stay, because {blocks[name].reason}")
    possible = choose_in_order(graph, names)
    refused = [name for name in names if name not in possible]
    if refused:
        raise UserError(
            f"{refused[0]}: the block must stay when {', '.join(names)} go, because each stage "
            f"keeps {KEPT_PER_STAGE} blocks"
        )


class _Addition(NamedTuple):
    """A residual block as it stands in the graph."""

    name: str
    shortcut: int
    branch: int
    output: int
    projected: bool  # Whether the branch does not read the shortcut.


class _Stage(NamedTuple):
    additions: list[_Addition]
    entered_by_block: bool  # Whether layers before the first addition are a block as well.

    @property
    def blocks(self):
        return len(self.additions) + self.entered_by_block


def _stages(graph):
    paths = _Paths(graph)
    stages, last = [], None
    for addition in _additions(graph, paths):
        products_between = paths.products(addition.shortcut, since=last and last.output)
        goes_on = (
            last is not None
            and not addition.projected
            and not products_between
            and graph.shapes[addition.output] == graph.shapes[last.output]
        )
        if not goes_on:
            stages.append(_Stage([], not addition.projected and products_between > 1))
        stages[-1].additions.append(addition)
        last = addition
    return stages


def _additions(graph, paths):
    """The residual blocks' additions, in order."""
    calls = [call for call in graph.calls if type(call.layer) is keras.layers.Add]
    sums = {call.output for call in calls}
    for call in calls:
        if len(call.inputs) != 2 or len({graph.shapes[tensor] for tensor in call.inputs}) != 1:
            continue
        # The shortcut has fewer products of its own: none, unless it is projected.
        one, other = call.inputs
        swapped = paths.products(one, since=other) > paths.products(other, since=one)
        shortcut, branch = (other, one) if swapped else (one, other)
        within = paths.between(branch, shortcut) | paths.between(shortcut, branch)
        if paths.products(branch, since=shortcut) and not within & sums:
            projected = not paths.leads_to(shortcut, branch)
            yield _Addition(call.name, shortcut, branch, call.output, projected)


class _Paths:
    """Which tensors are made of which."""

    def __init__(self, graph):
        self._behind = {graph.input: frozenset({graph.input})}
        for call in graph.calls:
            read = frozenset().union(*(self._behind[tensor] for tensor in call.inputs))
            for tensor in call.outputs:
                self._behind[tensor] = read | {tensor}
        self._products = {call.output for call in graph.calls if isinstance(call.layer, _PRODUCTS)}

    def leads_to(self, tensor, later):
        """Whether the later one is made of the tensor."""
        return tensor in self._behind[later]

    def between(self, tensor, since):
        """The tensors that it is made of, itself included, and that `since` is not."""
        return self._behind[tensor] - self._behind.get(since, frozenset())

    def products(self, tensor, since):
        """How many products are among them."""
        return len(self.between(tensor, since) & self._products)
