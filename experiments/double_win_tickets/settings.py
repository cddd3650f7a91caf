"""What a run of "Double-Win Lottery Tickets" varies, and how long and how it trains."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tf_tickets.attacks.threat_model import ThreatModel, with_margin_attack
from tf_tickets.errors import require
from tf_tickets.training.schedules import Constant, CosineDecay, StepDecay
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import Attack, Recipe

# Pre-training → the regime it is trained in: θ_STD, θ_FAT and θ_AT of the paper.
PRETRAININGS = {"std": "natural", "fat": "fast", "at": "pgd"}
# Pruning → the regime its networks are retrained in on the source; None without retraining.
PRUNINGS = {"imp_st": "natural", "imp_at": "pgd", "omp": None, "random": None}
# Those whose tickets are transferred with a part of the data too (Figure 5).
LIMITED_PRUNINGS = ("dense", "imp_st")
DECAYS = ("constant", "step", "thirds", "cosine")
# Fast adversarial training that loses so much robust accuracy on validation data has overfitted
# catastrophically and is stopped.
STOP_AFTER_DROP = 0.2


class TicketKind(NamedTuple):
    """Masks found from one kind of pre-trained weights in one way.

    Attributes:
      pretraining: a name in `PRETRAININGS`.
      pruning: a name in `PRUNINGS`, or `dense`.
    """

    pretraining: str
    pruning: str

    @property
    def name(self) -> str:
        """Such as `at_imp_st`, the paper's (m^ST, θ_AT)."""
        return f"{self.pretraining}_{self.pruning}"


TICKETS = {
    kind.name: kind
    for kind in itertools.starmap(TicketKind, itertools.product(PRETRAININGS, PRUNINGS))
}


@dataclasses.dataclass(frozen=True)
class Phase:
    """How long networks are trained, and how.

    Attributes:
      epochs: passes through the training images.
      decay: of the learning rate: `constant`; `step`, divided by ten at a half and at three
        quarters of the epochs; `thirds`, at a third and at two thirds; `cosine`.
      learning_rate: the highest.
      recipe: how weights are learned.
      attacks: regime → what is trained against.
      select_from_epoch: the first epoch after which the weights may be the ones that are kept.
    """

    epochs: int
    decay: str
    learning_rate: float
    recipe: Recipe
    attacks: Mapping[str, ThreatModel]
    select_from_epoch: int = 1

    def __post_init__(self):
        first, expected = self.select_from_epoch, f"1 to {self.epochs}, the epochs"
        require(1 <= first <= self.epochs, "select_from_epoch", first, expected)

    def learning_rates(self, steps_per_epoch: int) -> Constant | CosineDecay | StepDecay:
        """Of every iteration."""
        highest = self.learning_rate
        if self.decay == "constant":
            return Constant(highest)
        if self.decay == "cosine":
            return CosineDecay(highest, self.epochs, steps_per_epoch)
        milestones = (0.5, 0.75) if self.decay == "step" else (1 / 3, 2 / 3)
        return StepDecay(highest, self.epochs, steps_per_epoch, milestones=milestones)


@dataclasses.dataclass(frozen=True)
class DoubleWinSettings:
    """A run. What a single value may be, its flag says; here is how they go together.

    Attributes:
      source: data set that networks are pre-trained and pruned on.
      targets: data sets that tickets are transferred to.
      model, width_multiplier: the network that is trained; public weights are of their own.
      seeds: of the transfers, one a trial. The first one is the pre-trainings' and searches' too,
        as all trials transfer the same tickets.
      pretrained: pre-training → public weights that stand for it, see `load_pretrained`; the
        others are trained.
      tickets: names in `TICKETS`.
      levels: rounds of pruning, a fifth each, whose tickets are transferred; 0 is dense.
      percents: parts of the targets' training images.
      trajectory_levels: of which levels the way of the weights is kept: of the first trial's
        adversarial transfers of `imp_st` tickets.
      pretraining, retraining: phases on the source.
      transferring: target → regime → phase.
      test_examples: how many test images networks meet, of each data set; 0 for all.
      evaluation_attack: what adversarially trained networks are measured under; accuracy under
        it is the paper's RA, and decides which weights are selected.
    """

    source: str
    targets: tuple[str, ...]
    model: str
    width_multiplier: float
    seeds: Sequence[int]
    pretrained: Mapping[str, str]
    tickets: tuple[str, ...]
    levels: tuple[int, ...]
    percents: tuple[float, ...]
    trajectory_levels: tuple[int, ...]
    pretraining: Phase
    retraining: Phase
    transferring: Mapping[str, Mapping[str, Phase]]
    test_examples: int
    evaluation_attack: Attack

    def __post_init__(self):
        require(self.source not in self.targets, "targets", self.source, "other than --source")
        for pretraining in self.pretrained:
            expected = f"one of {', '.join(self.pretrainings)}, which --tickets asks for"
            require(pretraining in self.pretrainings, "pretrained", pretraining, expected)
        require(any(self.levels), "levels", ",".join(map(str, self.levels)), "one above 0")
        whole = [kind.name for kind in self.ticket_kinds if kind.pruning not in LIMITED_PRUNINGS]
        expected = f"100 among them, the only part that {', '.join(whole)} is transferred with"
        percents = ",".join(f"{percent:g}" for percent in self.percents)
        require(100 in self.percents or not whole, "percents", percents, expected)

    @property
    def source_seed(self) -> int:
        """Of pre-trainings and searches."""
        return self.seeds[0]

    @property
    def ticket_kinds(self) -> list[TicketKind]:
        """Those of the run."""
        return [TICKETS[name] for name in self.tickets]

    @property
    def pretrainings(self) -> list[str]:
        """Those that the tickets need, each once."""
        return list(dict.fromkeys(kind.pretraining for kind in self.ticket_kinds))

    @property
    def final_attacks(self) -> tuple[Attack, ...]:
        """What is reported in the end: accuracy under the margin loss too."""
        own = self.evaluation_attack
        attacks = with_margin_attack({own.name: own.threat})
        return tuple(Attack(name, threat) for name, threat in attacks.items())

    def selections(self, regime: str, first_iteration: int = 1) -> tuple[Selection, ...]:
        """Which weights a training keeps: those of the best RA, then those of the best SA.

        Args:
          regime: what it is trained against.
          first_iteration: those before it are not kept.
        """
        first = {"first_iteration": first_iteration}
        best_natural = Selection("validation/natural/accuracy", **first)
        if regime == "natural":
            return (best_natural,)
        drop = STOP_AFTER_DROP if regime == "fast" else 1.0
        robust = f"validation/{self.evaluation_attack.name}/accuracy"
        return Selection(robust, drop, **first), best_natural
