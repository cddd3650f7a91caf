"""The searches of "The Search for Sparse, Robust Neural Networks", as a plan."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tf_tickets.attacks.threat_model import ThreatModel, with_margin_attack
from tf_tickets.errors import require, require_choices
from tf_tickets.training.schedules import Constant
from tf_tickets.work.nodes import (
    Attack,
    Data,
    Fresh,
    Gradual,
    Inherited,
    LayerMasks,
    Measurement,
    Network,
    Platform,
    Recipe,
    Training,
)


@dataclasses.dataclass(frozen=True)
class Method:
    """How a search goes from one level to the next.

    Attributes:
      masks: what the next ticket keeps: the weights largest in `magnitude`, the `blocks` of
        four weights largest in it, a `random` choice, `all` of them, or the largest by a
        `gradual` schedule during training (Zhu and Gupta, arXiv:1710.01878).
      start: the weights a level starts from: the `initial` ones (or those they
        are rewound to), `reinitialized` ones, or the `previous` level's.
    """

    masks: str
    start: str


METHODS = {
    "original": Method("magnitude", "initial"),  # The paper's strategy 1.
    "random": Method("magnitude", "reinitialized"),  # Strategy 2.
    "continued": Method("magnitude", "previous"),  # Strategy 3.
    "random_pruning": Method("random", "initial"),  # Control: does it matter which weights stay?
    "dense": Method("all", "previous"),  # Control: what more training does without pruning.
    "gradual": Method("gradual", "initial"),  # Control: pruned while it trains.
    "blocks": Method("blocks", "initial"),  # Tickets that a TFLite file multiplies as they are.
}


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """The extent of an iterative search.

    Attributes:
      rounds: number of levels, the dense one (level 0) included.
      iterations: optimizer steps a level.
      evaluate_every: optimizer steps between evaluations.
      pruning_rate: fraction of a hidden layer's remaining weights that a round removes.
      output_pruning_rate: the same for the output layer.
      rewind_iteration: iteration of level 0 whose weights count as the initial
        ones for later levels; 0 is θ₀.
    """

    rounds: int
    iterations: int
    evaluate_every: int
    pruning_rate: float
    output_pruning_rate: float
    rewind_iteration: int

    def __post_init__(self):
        require(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(self.evaluate_every >= 1, "evaluate_every", self.evaluate_every, "at least 1")
        for name in ("pruning_rate", "output_pruning_rate"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        require(
            0 <= self.rewind_iteration <= self.iterations,
            "rewind_iteration",
            self.rewind_iteration,
            f"in [0, {self.iterations}], the iterations of a level",
        )

    def require_methods(self, methods) -> None:
        """Raises a `UserError` about pruning strategies that are unknown or need more."""
        require_choices("pruning_strategies", methods, METHODS)
        gradual, iterations = "gradual" in methods, self.iterations
        require(not gradual or iterations >= 2, "iterations", iterations, "at least 2 for gradual")


@dataclasses.dataclass(frozen=True)
class Searches:
    """The searches on one seed's data.

    Attributes:
      settings: their extent.
      network: what is pruned.
      data: what it learns; its seed decides initial weights and the order of batches too.
      recipe: how weights are learned.
      learning_rate: constant.
      attacks: regime → what is trained against, and what networks are measured under.
      platform: what else decides the numbers.
    """

    settings: SearchSettings
    network: Network
    data: Data
    recipe: Recipe
    learning_rate: float
    attacks: Mapping[str, ThreatModel]
    platform: Platform

    def levels(self, regime: str, method: str) -> list[Training]:
        """One search (section 4.1), level by level.

        Every level sets the weights as the strategy says, trains them under the masks, and
        prunes. Level 0 is the dense network, the same for all strategies.

        Args:
          regime: `natural`, or the attack to train against.
          method: a name in `METHODS`.
        """
        dense = self._dense(regime, method)
        trainings = [dense]
        for number in range(1, self.settings.rounds):
            level = dataclasses.replace(
                dense,
                start=self._start(METHODS[method], number, trainings),
                masks=self._masks(METHODS[method], number, trainings[-1]),
                stream=number,
                labels={**dense.labels, "level": number},
            )
            trainings.append(level)
        return trainings

    def measured(self, training: Training) -> Measurement:
        """What a level's network meets at its end.

        While it learns, an adversarially trained network meets its own attack only; the others
        and the margin loss show whether it merely masks that attack's gradients. What it met
        after its last iteration is not measured again.
        """
        attacks = with_margin_attack(self.attacks)
        every = [Attack(name, threat) for name, threat in attacks.items()]
        met = tuple(attack for attack in every if attack not in training.measured)
        return Measurement(training, met, splits=("validation", "test"), labels=training.labels)

    def rounds_of(self, method: str) -> LayerMasks | Gradual | None:
        """How a strategy prunes, for `require_rounds`; None where it does not."""
        return self._masks(METHODS[method], 1, self._dense("natural", method))

    def _dense(self, regime, method):
        settings, seed = self.settings, self.data.seed
        own = [name for name in self.attacks if regime in ("natural", name)]
        rewind = settings.rewind_iteration
        return Training(
            network=self.network,
            data=self.data,
            recipe=self.recipe,
            against=regime,
            attack=self.attacks.get(regime),
            iterations=settings.iterations,
            evaluate_every=settings.evaluate_every,
            rates=Constant(self.learning_rate),
            start=Fresh(seed),
            seed=seed,
            stream=0,
            platform=self.platform,
            measured=tuple(Attack(name, self.attacks[name]) for name in own),
            measured_on=("validation", "test"),
            keeps=(rewind,) if rewind else (),
            labels={
                "data_set": self.data.name,
                "model": self.network.name,
                "regime": regime,
                "method": method,
                "seed": seed,
                "level": 0,
            },
        )

    def _start(self, method, number, trainings):
        if method.start == "previous":
            return Inherited(trainings[-1])
        if method.start == "reinitialized":
            seeds = np.random.SeedSequence([self.data.seed, number])
            return Fresh(int(seeds.generate_state(1)[0] >> 1))
        rewind = self.settings.rewind_iteration
        return Inherited(trainings[0], rewind) if rewind else trainings[0].start

    def _masks(self, method, number, previous):
        rates = self.settings.pruning_rate, self.settings.output_pruning_rate
        if method.masks == "all":
            return None
        if method.masks == "gradual":
            return Gradual(*rates, rounds=number)
        seeds = (self.data.seed, number) if method.masks == "random" else ()
        return LayerMasks(previous, *rates, method.masks, seeds)
