"""What networks are tested under in "On the Effect of Pruning on Adversarial Robustness"."""

import dataclasses
import functools
from collections.abc import Sequence

from tf_tickets.errors import require
from tf_tickets.evaluation.shifted_images import require_severities
from tf_tickets.image_work.cuts import build
from tf_tickets.image_work.structure_nodes import (
    Corruptions,
    MixedCorruptions,
    Occlusion,
    Shifted,
    SingleElements,
    Size,
)
from tf_tickets.structured.elements import VersionedNetwork
from tf_tickets.work.nodes import Attack, Measurement, Network, Node, Training


@functools.cache
def element_groups(network: Network) -> dict[str, int]:
    """What Algorithm 2 takes out of a network, one at a time: layer, "" for blocks → how many."""
    groups = VersionedNetwork(build(network)).groups
    return {group.name: len(group.elements) for group in groups}


def transfer_attack(model: str, method: str) -> str:
    """What the attack is called in the results of other networks than the one that it attacks.

    Args:
      model, method: the labels of that network.
    """
    return f"transfer_from_{model}.{method}"


@dataclasses.dataclass(frozen=True)
class NetworkTests:
    """What networks are tested under, see section 4 of the paper.

    Attributes:
      attack: on the network itself, and on others with the examples made for it.
      severities: of the corruptions, 1 to 5.
      occlusion_side: of the square of zeros, in pixels.
      examples: test images; 0 for all.
      element_examples: of those, as many of each class, for networks without one filter or
        block; 0 for all.
    """

    attack: Attack
    severities: tuple[int, ...]
    occlusion_side: int
    examples: int
    element_examples: int

    def __post_init__(self):
        require_severities(self.severities)
        require(self.occlusion_side >= 1, "occlusion_side", self.occlusion_side, "at least 1")
        require(self.element_examples >= 0, "element_examples", self.element_examples, "at least 0")

    def of(self, training: Training) -> tuple[Node, ...]:
        """What a network meets at its end."""
        labels = training.labels
        shifts = (Occlusion(self.occlusion_side), *map(Corruptions, self.severities))
        return (
            Size(training, labels=labels),
            Measurement(training, (self.attack,), examples=self.examples, labels=labels),
            *(Shifted(training, shift, self.examples, labels) for shift in shifts),
        )

    def without_elements(self, training: Training) -> list[SingleElements]:
        """Algorithm 2 and Figure 3: a whole network without each filter and block alone.

        Corruptions are those of the highest severity.
        """
        shifts = (Occlusion(self.occlusion_side), MixedCorruptions(max(self.severities)))
        return [
            SingleElements(
                training,
                group,
                (self.attack,),
                shifts,
                self.examples,
                self.element_examples,
                elements,
                training.labels,
            )
            for group, elements in element_groups(training.network).items()
        ]

    def transferred(self, trainings: Sequence[Training]) -> list[Measurement]:
        """Table 4: every network under the examples that were made for the others."""
        made_for = []
        for training in trainings:
            name = transfer_attack(training.labels["model"], training.labels["method"])
            made_for.append((training, Attack(name, self.attack.threat)))
        return [
            Measurement(
                training,
                transferred=tuple(each for each in made_for if each[0] != training),
                examples=self.examples,
                labels=training.labels,
            )
            for training in trainings
        ]
