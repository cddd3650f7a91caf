"""What "Data-Efficient Double-Win Lottery Tickets" trains: pre-trainings, tickets, transfers."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tf_tickets.attacks.threat_model import ThreatModel, with_margin_attack
from tf_tickets.errors import require, require_choices
from tf_tickets.masking.magnitude import sparsity_after_rounds
from tf_tickets.models.registry import is_convolutional
from tf_tickets.training.schedules import Constant, CosineDecay, StepDecay, steps_per_epoch
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import (
    Attack,
    Data,
    FoundTicket,
    Fresh,
    Imported,
    Inherited,
    Masks,
    Measurement,
    Network,
    Platform,
    RandomMasks,
    Recipe,
    Training,
    settled,
)

# Pre-training → the regime it is trained in: θ_STD, θ_FAT and θ_AT of the paper.
PRETRAININGS = {"std": "natural", "fat": "fast", "at": "pgd"}
# Pruning → the regime its networks are retrained in on the source; None without retraining.
PRUNINGS = {"imp_st": "natural", "imp_at": "pgd", "omp": None, "random": None}
# Those whose tickets are transferred with a part of the data too (Figure 5).
LIMITED_PRUNINGS = ("dense", "imp_st")
TRANSFER_REGIMES = ("natural", "pgd")
DECAYS = ("constant", "step", "thirds", "cosine")
# Fast adversarial training that loses so much robust accuracy on validation data has overfitted
# catastrophically and is stopped.
STOP_AFTER_DROP = 0.2
TRANSFER_ATTACK = "transfer_attack"
"""Table A2's attack from an unseen model, as the results call it."""


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
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        expected = f"1 to {self.epochs}, the epochs"
        chosen = self.select_from_epoch
        require(1 <= chosen <= self.epochs, "select_from_epoch", chosen, expected)
        require_choices("decay", [self.decay], DECAYS)

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
    """A run.

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
      evaluation_attacks: name → what adversarially trained networks are measured under; the
        first decides which weights are selected. What is reported in the end is also measured
        under the margin loss, see `with_margin_attack`.
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
    evaluation_attacks: Mapping[str, ThreatModel]

    def __post_init__(self):
        for flag in ("targets", "percents", "levels"):
            _require_different(flag, getattr(self, flag))
        require(self.source not in self.targets, "targets", self.source, "other than --source")
        require_choices("tickets", self.tickets, TICKETS)
        for pretraining in self.pretrained:
            expected = f"one of {', '.join(self.pretrainings)}, which --tickets asks for"
            require(pretraining in self.pretrainings, "pretrained", pretraining, expected)
        expected = "a network with convolutions, which alone are pruned"
        require(is_convolutional(self.model), "model", self.model, expected)
        for flag in ("levels", "trajectory_levels"):
            for level in getattr(self, flag):
                require(0 <= level < 100, flag, level, "rounds of pruning, 0 to 99")
        require(any(self.levels), "levels", ",".join(map(str, self.levels)), "one above 0")
        for percent in self.percents:
            require(0 < percent <= 100, "percents", f"{percent:g}", "above 0, at most 100")
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
    def robust_attack(self) -> Attack:
        """The attack under which accuracy is the paper's RA."""
        return next(iter(_named(self.evaluation_attacks)))

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
        robust = f"validation/{self.robust_attack.name}/accuracy"
        return Selection(robust, drop, **first), best_natural

    def attacks_on(self, regime: str) -> tuple[Attack, ...]:
        """What networks are measured under after every epoch of training in a regime."""
        return () if regime == "natural" else _named(self.evaluation_attacks)

    def final_attacks_on(self, regime: str) -> tuple[Attack, ...]:
        """What the weights that it ends with are measured under."""
        if regime == "natural":
            return ()
        return _named(with_margin_attack(self.evaluation_attacks))


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One training on a target: of a ticket with its pre-trained weights and a new head.

    Attributes:
      target: the data set.
      pretraining: whose weights; `scratch` for new ones.
      pruning: whose masks; `dense` for all weights.
      level: rounds of pruning behind them.
      percent: part of the training images.
      regime: `natural` or `pgd`.
      seed: the trial's.
    """

    target: str
    pretraining: str
    pruning: str
    level: int
    percent: float
    regime: str
    seed: int

    @property
    def method(self) -> str:
        """Its name in the results, such as `at_imp_st_10`."""
        return f"{self.pretraining}_{self.pruning}_{self.percent:g}"


def transfers(settings: DoubleWinSettings) -> list[Transfer]:
    """All transfers of a run: dense networks of every pre-training, tickets of every kind.

    Those that train one network on one trial's data in one regime follow each other.
    """
    dense = [TicketKind(pretraining, "dense") for pretraining in settings.pretrainings]
    levels = [level for level in settings.levels if level]
    return [
        Transfer(target, kind.pretraining, kind.pruning, level, percent, regime, seed)
        for seed in settings.seeds
        for target in settings.targets
        for regime in TRANSFER_REGIMES
        for kind in (*dense, *settings.ticket_kinds)
        for percent in settings.percents
        for level in (levels if kind.pruning in PRUNINGS else [0])
        if percent == 100 or kind.pruning in LIMITED_PRUNINGS
    ]


def unseen_models(settings: DoubleWinSettings) -> list[Transfer]:
    """Robust networks that share no weights with any ticket, for transfer attacks (Table A2).

    None where nothing is trained with all training images.
    """
    if 100 not in settings.percents:
        return []
    return [
        Transfer(target, "scratch", "dense", 0, 100, "pgd", seed)
        for seed in settings.seeds
        for target in settings.targets
    ]


class Images(NamedTuple):
    """A data set of a trial, as a plan knows it.

    Attributes:
      data: its examples.
      image_shape: (height, width, channels).
      classes: how many there are.
      test_examples: how many networks are tested on; 0 for all.
    """

    data: Data
    image_shape: tuple[int, ...]
    classes: int
    test_examples: int = 0


class Public(NamedTuple):
    """Public weights that stand for a pre-training.

    Attributes:
      network: what the plan knows them by.
      has_head: whether they tell the source's classes apart; a new head knows nothing, and its
        accuracy says nothing of them.
    """

    network: Imported
    has_head: bool


@dataclasses.dataclass(frozen=True, eq=False)
class DoubleWin:
    """A run's work: each piece with the labels that results and folders know it by.

    Attributes:
      settings: what it consists of.
      source: the data that networks are pre-trained and pruned on.
      targets: (data set, seed) → the data of a trial.
      public: pre-training → the weights that stand for it.
      platform: what else decides the numbers.
    """

    settings: DoubleWinSettings
    source: Images
    targets: Mapping[tuple[str, int], Images]
    public: Mapping[str, Public]
    platform: Platform

    def pretrained(self, pretraining: str) -> Training | Imported:
        """θ_p, with the head of the source's classes."""
        return self._pretrained[pretraining]

    def measured_on_source(self, pretraining: str) -> Measurement | None:
        """What θ_p is worth; None of weights whose head is new.

        Naturally pre-trained networks are attacked too: the table shows their RA.
        """
        if pretraining in self.public and not self.public[pretraining].has_head:
            return None
        of = self.pretrained(pretraining)
        attacks = _named(with_margin_attack(self.settings.evaluation_attacks))
        return Measurement(of, attacks, examples=self.source.test_examples, labels=of.labels)

    def ticket(self, kind: TicketKind, level: int) -> FoundTicket:
        """Masks of the weights that remain after some rounds, at least one.

        The first prune of IMP happens before any retraining.
        """
        return self._search(kind)[level - 1]

    def retrained(self, kind: TicketKind, level: int) -> Training:
        """A ticket's network, trained on the source from θ_p, so that it can be pruned again."""
        settings, ticket = self.settings, self.ticket(kind, level)
        pretrained = self.pretrained(kind.pretraining)
        training = self._training(
            settings.retraining,
            PRUNINGS[kind.pruning],
            self.source,
            pretrained.network,
            start=Inherited(pretrained),
            seed=settings.source_seed,
            stream=level,
            masks=ticket,
            labels=ticket.labels,
        )
        # Nothing is chosen by it on the way.
        return dataclasses.replace(training, evaluate_every=training.iterations)

    def retrained_levels(self, kind: TicketKind) -> range:
        """Those whose networks are trained and pruned again."""
        return range(1, max(self.settings.levels) if PRUNINGS[kind.pruning] else 1)

    def transferred(self, transfer: Transfer) -> Training:
        """A training on a target.

        Its head is the trial's own: all methods of a trial have the same one.
        """
        settings, scratch = self.settings, transfer.pretraining == "scratch"
        images = self.targets[transfer.target, transfer.seed]
        images = images._replace(data=dataclasses.replace(images.data, percent=transfer.percent))
        # The networks that others are attacked from share not even their heads with them.
        seeds = np.random.SeedSequence([transfer.seed, scratch])
        seed = seeds.generate_state(1).item()
        network = self._own_network if scratch else self.pretrained(transfer.pretraining).network
        network = dataclasses.replace(
            network, image_shape=images.image_shape, classes=images.classes
        )
        training = self._training(
            settings.transferring[transfer.target][transfer.regime],
            transfer.regime,
            images,
            network,
            start=Fresh(seed)
            if scratch
            else Inherited(self.pretrained(transfer.pretraining), new_head=seed),
            seed=transfer.seed,
            stream=transfer.level,
            masks=self.ticket(TicketKind(transfer.pretraining, transfer.pruning), transfer.level)
            if transfer.level
            else None,
            labels=_labels(transfer.target, network.name, transfer.regime, transfer.method)
            | {"seed": transfer.seed, "level": transfer.level},
        )
        phase = settings.transferring[transfer.target][transfer.regime]
        first = phase.select_from_epoch * training.evaluate_every
        return dataclasses.replace(
            training,
            selections=settings.selections(transfer.regime, first),
            keeps=self.trajectory(transfer, training),
        )

    def trajectory(self, transfer: Transfer, training: Training) -> tuple[int, ...]:
        """The iterations whose weights are kept: none, or the beginning and every epoch's end."""
        is_kept = (
            transfer.level in self.settings.trajectory_levels
            and transfer.seed == self.settings.seeds[0]
            and transfer.regime == "pgd"
            and transfer.pruning in LIMITED_PRUNINGS
        )
        return tuple(range(0, training.iterations + 1, training.evaluate_every)) if is_kept else ()

    def tested(self, transfer: Transfer, training: Training) -> Measurement:
        """Test accuracies of the weights that each selection kept."""
        return Measurement(
            training,
            self.settings.final_attacks_on(transfer.regime),
            examples=self.targets[transfer.target, transfer.seed].test_examples,
            selections=tuple(range(len(training.selections))),
            labels=training.labels,
        )

    def attacked(self, transfer: Transfer, training: Training, unseen: Training) -> Measurement:
        """Adversarially trained networks under the examples of one that shares no weights.

        Table A2: accuracy there above that under an attack of their own says that tickets do not
        owe it to masked gradients.
        """
        attack = Attack(TRANSFER_ATTACK, self.settings.robust_attack.threat)
        examples = self.targets[transfer.target, transfer.seed].test_examples
        return Measurement(
            training,
            transferred=((unseen, attack),),
            examples=examples,
            labels=training.labels,
        )

    @property
    def _own_network(self):
        model, width = self.settings.model, self.settings.width_multiplier
        return Network(model, self.source.image_shape, self.source.classes, width)

    @functools.cached_property
    def _pretrained(self):
        settings = self.settings
        found = {}
        for pretraining in settings.pretrainings:
            regime = PRETRAININGS[pretraining]
            public = self.public.get(pretraining)
            network = public.network.network if public else self._own_network
            labels = _labels(settings.source, network.name, regime, f"{pretraining}_pretraining")
            labels |= {"seed": settings.source_seed, "level": 0}
            if public:
                found[pretraining] = dataclasses.replace(public.network, labels=labels)
                continue
            training = self._training(
                settings.pretraining,
                regime,
                self.source,
                network,
                start=Fresh(settings.source_seed),
                seed=settings.source_seed,
                stream=0,
                masks=None,
                labels=labels,
            )
            selections = settings.selections(regime)[:1]
            found[pretraining] = dataclasses.replace(training, selections=selections)
        return found

    @functools.cached_property
    def _searches(self) -> dict[TicketKind, list[FoundTicket]]:
        return {}

    def _search(self, kind):
        """The tickets of a kind, from the first round on."""
        if kind not in self._searches:
            tickets = self._searches[kind] = []
            for level in range(1, max(self.settings.levels) + 1):
                tickets.append(settled(self._found(kind, level)))
        return self._searches[kind]

    def _found(self, kind, level):
        settings, sparsity = self.settings, sparsity_after_rounds(level)
        dense = self.pretrained(kind.pretraining)
        if kind.pruning == "random":
            masks = RandomMasks(dense, sparsity, settings.source_seed)
        elif PRUNINGS[kind.pruning] and level > 1:
            masks = Masks(self.retrained(kind, level - 1), sparsity, "magnitude")
        else:
            masks = Masks(dense, sparsity, "magnitude")
        regime = PRUNINGS[kind.pruning] or "natural"
        labels = _labels(settings.source, dense.network.name, regime, kind.name)
        labels |= {"seed": settings.source_seed, "level": level}
        return FoundTicket(masks, level, labels)

    def _training(self, phase, regime, images, network, **how):
        """A training that is measured after every epoch."""
        data = images.data
        per_epoch = steps_per_epoch(data.trained_on, phase.recipe.batch_size)
        return Training(
            network=network,
            data=data,
            recipe=phase.recipe,
            against=regime,
            attack=phase.attacks.get(regime),
            iterations=phase.epochs * per_epoch,
            evaluate_every=per_epoch,
            rates=phase.learning_rates(per_epoch),
            platform=self.platform,
            masked="convolutions",
            measured=self.settings.attacks_on(regime),
            **how,
        )


def _labels(data_set, model, regime, method):
    return {"data_set": data_set, "model": model, "regime": regime, "method": method}


def _named(attacks):
    return tuple(Attack(name, threat) for name, threat in attacks.items())


def _require_different(flag, names):
    require(len(names) > 0, flag, "", "at least one")
    require(len(set(names)) == len(names), flag, ",".join(map(str, names)), "different ones")
