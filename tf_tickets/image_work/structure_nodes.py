"""What networks meet after they were cut, as "On the Effect of Pruning" measures it.

Each is work of its own, so that one more severity or attack computes only what is missing.
"""

import dataclasses
from collections.abc import Mapping

from tf_tickets.attacks.corruptions import CORRUPTIONS
from tf_tickets.work.nodes import Attack, Node, Training
from tf_tickets.work.performing import passes


@dataclasses.dataclass(frozen=True)
class Occlusion:
    """A square of zeros in the middle of every image, `side` pixels high and wide."""

    side: int


@dataclasses.dataclass(frozen=True)
class Corruptions:
    """Every corruption, of a severity from 1 to 5."""

    severity: int


@dataclasses.dataclass(frozen=True)
class MixedCorruptions:
    """One of the corruptions for each image, in turn, of a severity from 1 to 5."""

    severity: int


@dataclasses.dataclass(frozen=True, eq=False)
class Size(Node):
    """How many parameters a trained network has, and how many FLOPs it takes.

    Attributes: as of `Measurement`.
    """

    of: Training
    labels: Mapping = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Shifted(Node):
    """Accuracy on test images changed by someone who knows nothing of the network.

    Attributes:
      of: the training.
      shift: how they are changed.
      examples: how many test images; 0 for all.
      labels: as of `Training`.
    """

    of: Training
    shift: Occlusion | Corruptions
    examples: int = 0
    labels: Mapping = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True, eq=False)
class SingleElements(Node):
    """Accuracies of a network without each filter of a layer, or each block, alone (Algorithm 2).

    Attributes:
      of: the training.
      group: the layer; "" for the blocks. The first group has the whole network's accuracies too.
      attacks: white-box attacks without a random start.
      shifts: how images are changed besides.
      test_examples: how many test images; 0 for all.
      examples: of those, as many of each class; 0 for all.
      elements: how many there are in the group, which the network decides.
      labels: as of `Training`.
    """

    of: Training
    group: str
    attacks: tuple[Attack, ...]
    shifts: tuple[Occlusion | MixedCorruptions, ...]
    test_examples: int = 0
    examples: int = 0
    elements: int = dataclasses.field(default=0, compare=False)
    labels: Mapping = dataclasses.field(default_factory=dict, compare=False)


@passes.register
def _(node: Size) -> float:
    return 1.0


@passes.register
def _(node: Shifted) -> float:
    changes = len(CORRUPTIONS) if isinstance(node.shift, Corruptions) else 1
    return (node.examples or node.of.data.test) * changes / 2


@passes.register
def _(node: SingleElements) -> float:
    attacked = sum(1 + attack.threat.steps for attack in node.attacks)
    images = node.examples or node.test_examples or node.of.data.test
    return images * node.elements * (1 + len(node.shifts) + attacked) / 2
