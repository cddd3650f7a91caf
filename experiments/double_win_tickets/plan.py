"""What "Data-Efficient Double-Win Lottery Tickets" trains: pre-trainings, tickets, transfers."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.double_win_tickets.settings import (
    LIMITED_PRUNINGS,
    PRETRAININGS,
    PRUNINGS,
    DoubleWinSettings,
    TicketKind,
)
from experiments.double_win_tickets.transfers import (
    SCRATCH,
    TRANSFER_ATTACK,
    Transfer,
    transfers,
    unseen_models,
)
from tf_tickets.masking.magnitude import sparsity_after_rounds
from tf_tickets.training.schedules import steps_per_epoch
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
    Training,
)
from tf_tickets.work.view import Shown


class Images(NamedTuple):
    """A data set of a trial, as a plan knows it.

    Attributes:
      data: its examples.
      image_shape: (height, width, channels).
      classes: how many there are.
    """

    data: Data
    image_shape: tuple[int, ...]
    classes: int


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

    Labels beside those that all results have: `pretraining`, `pruning` and `percent`, as of
    `Transfer`. The networks that tickets are found in have no pruning, and only transfers a
    percent.

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
    _tickets: dict[TicketKind, list[FoundTicket]] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @functools.cached_property
    def pretrained(self) -> Mapping[str, Training | Imported]:
        """Pre-training → θ_p, with the head of the source's classes."""
        return {name: self._pretrained(name) for name in self.settings.pretrainings}

    def measured_on_source(self, pretraining: str) -> Measurement | None:
        """What θ_p is worth; None of weights whose head is new.

        Naturally pre-trained networks are attacked too: the table shows their RA.
        """
        if pretraining in self.public and not self.public[pretraining].has_head:
            return None
        attacks = self.settings.final_attacks
        return self._measured(self.pretrained[pretraining], attacks=attacks)

    def ticket(self, kind: TicketKind, level: int) -> FoundTicket:
        """Masks of the weights that remain after some rounds, at least one.

        The first prune of IMP happens before any retraining.
        """
        found = self._tickets.setdefault(kind, [])
        while len(found) < level:
            found.append(self._found(kind, len(found) + 1))
        return found[level - 1]

    def retrained(self, kind: TicketKind, level: int) -> Training:
        """A ticket's network, trained on the source from θ_p, so that it can be pruned again."""
        ticket, pretrained = self.ticket(kind, level), self.pretrained[kind.pretraining]
        training = self._training(
            self.settings.retraining,
            PRUNINGS[kind.pruning],
            self.source,
            network=pretrained.network,
            start=Inherited(pretrained),
            seed=self.settings.source_seed,
            stream=level,
            masks=ticket,
            labels=ticket.labels,
        )
        # Nothing is chosen by it on the way.
        return dataclasses.replace(training, evaluate_every=training.iterations)

    def transferred(self, transfer: Transfer) -> Training:
        """A training on a target.

        Its head is the trial's own: all methods of a trial have the same one.
        """
        target, pretraining, pruning, level, percent, regime, seed = transfer
        images = self.targets[target, seed]
        images = images._replace(data=dataclasses.replace(images.data, percent=percent))
        # The networks that others are attacked from share not even their heads with them.
        is_new = pretraining == SCRATCH
        head = np.random.SeedSequence([seed, is_new]).generate_state(1).item()
        if is_new:
            start, network = Fresh(head), self._own_network
        else:
            start = Inherited(self.pretrained[pretraining], new_head=head)
            network = start.of.network
        phase = self.settings.transferring[target][regime]
        training = self._training(
            phase,
            regime,
            images,
            network=dataclasses.replace(
                network, image_shape=images.image_shape, classes=images.classes
            ),
            start=start,
            seed=seed,
            stream=level,
            masks=self.ticket(TicketKind(pretraining, pruning), level) if level else None,
            labels=_labels(
                target,
                network,
                regime,
                f"{pretraining}_{pruning}_{percent:g}",
                seed,
                level,
                pretraining,
                pruning,
                f"{percent:g}",
            ),
        )
        first = phase.select_from_epoch * training.evaluate_every
        every_epoch = range(0, training.iterations + 1, training.evaluate_every)
        return dataclasses.replace(
            training,
            selections=self.settings.selections(regime, first),
            keeps=tuple(every_epoch) if self._has_trajectory(transfer) else (),
        )

    def tested(self, training: Training) -> Measurement:
        """Test accuracies of the weights that each of a transfer's selections kept."""
        attacks = () if training.against == "natural" else self.settings.final_attacks
        kept = tuple(range(len(training.selections)))
        return self._measured(training, attacks=attacks, selections=kept)

    def attacked(self, training: Training, unseen: Training) -> Measurement:
        """Adversarially trained networks under the examples of one that shares no weights.

        Table A2: accuracy there above that under an attack of their own says that tickets do not
        owe it to masked gradients.
        """
        attack = Attack(TRANSFER_ATTACK, self.settings.evaluation_attack.threat)
        return self._measured(training, transferred=((unseen, attack),))

    def shown(self) -> dict[str, list[Shown]]:
        """Stage → what it leads to, in the order of the work."""
        settings, last = self.settings, max(self.settings.levels)
        # Files first, as they may be unusable.
        names = sorted(settings.pretrainings, key=lambda name: name not in self.public)
        pretrained = [self.measured_on_source(name) or self.pretrained[name] for name in names]
        found = [  # A ticket is shown with its network, where that is to be pruned again.
            self.retrained(kind, level)
            if PRUNINGS[kind.pruning] and level < last
            else self.ticket(kind, level)
            for kind in settings.ticket_kinds
            for level in range(1, last + 1)
        ]
        return {
            "pretrain": [Shown((node,)) for node in pretrained],
            "search": [Shown((node,)) for node in found],
            "transfer": self._shown_transfers(),
        }

    def _shown_transfers(self):
        """The transfers' test accuracies, then those under attacks from unseen models."""
        tickets, unseen = transfers(self.settings), unseen_models(self.settings)
        trainings = {each: self.transferred(each) for each in [*tickets, *unseen]}
        tested = [
            Shown((self.tested(training),), trajectory=training.keeps)
            for training in trainings.values()
        ]
        attacked = [
            Shown(
                (self.attacked(trainings[each], trainings[model]),),
                f"transfer_attack_{each.level:02d}",
            )
            for model in unseen  # Images are attacked once for all of a trial.
            for each in tickets
            if (each.target, each.seed) == (model.target, model.seed)
            and (each.regime, each.percent) == ("pgd", 100)
        ]
        return [*tested, *attacked]

    @property
    def _own_network(self):
        model, width = self.settings.model, self.settings.width_multiplier
        return Network(model, self.source.image_shape, self.source.classes, width)

    def _pretrained(self, pretraining):
        settings, regime = self.settings, PRETRAININGS[pretraining]
        public = self.public.get(pretraining)
        network = public.network.network if public else self._own_network
        method = f"{pretraining}_pretraining"
        labels = _labels(
            settings.source, network, regime, method, settings.source_seed, 0, pretraining
        )
        if public:
            return dataclasses.replace(public.network, labels=labels)
        training = self._training(
            settings.pretraining,
            regime,
            self.source,
            network=network,
            start=Fresh(settings.source_seed),
            seed=settings.source_seed,
            stream=0,
            labels=labels,
        )
        return dataclasses.replace(training, selections=settings.selections(regime)[:1])

    def _found(self, kind, level):
        sparsity, regime = sparsity_after_rounds(level), PRUNINGS[kind.pruning]
        dense = self.pretrained[kind.pretraining]
        if kind.pruning == "random":
            masks = RandomMasks(dense, sparsity, self.settings.source_seed)
        else:
            is_first = level == 1 or regime is None
            of = dense if is_first else self.retrained(kind, level - 1)
            masks = Masks(of, sparsity, "magnitude")
        seed, regime = self.settings.source_seed, regime or "natural"
        labels = _labels(self.settings.source, dense.network, regime, kind.name, seed, level, *kind)
        return FoundTicket(masks, level, labels)

    def _has_trajectory(self, transfer):
        """Whether the weights of the beginning and of every epoch's end are kept."""
        return (
            transfer.level in self.settings.trajectory_levels
            and transfer.seed == self.settings.seeds[0]
            and transfer.regime == "pgd"
            and transfer.pruning in LIMITED_PRUNINGS
        )

    def _measured(self, network, **how):
        examples = self.settings.test_examples
        return Measurement(network, examples=examples, labels=network.labels, **how)

    def _training(self, phase, regime, images, **how):
        """A training that is measured after every epoch."""
        per_epoch = steps_per_epoch(images.data.trained_on, phase.recipe.batch_size)
        return Training(
            data=images.data,
            recipe=phase.recipe,
            against=regime,
            attack=phase.attacks.get(regime),
            iterations=phase.epochs * per_epoch,
            evaluate_every=per_epoch,
            rates=phase.learning_rates(per_epoch),
            platform=self.platform,
            masked="convolutions",
            measured=() if regime == "natural" else (self.settings.evaluation_attack,),
            **how,
        )


def _labels(
    data_set, network, regime, method, seed, level, pretraining, pruning=None, percent=None
):
    return {
        "data_set": data_set,
        "model": network.name,
        "regime": regime,
        "method": method,
        "seed": seed,
        "level": level,
        "pretraining": pretraining,
        "pruning": pruning,
        "percent": percent,
    }
