"""Which networks are trained on the targets of a run of "Double-Win Lottery Tickets"."""

from typing import NamedTuple

from experiments.double_win_tickets.settings import (
    LIMITED_PRUNINGS,
    PRUNINGS,
    DoubleWinSettings,
    TicketKind,
)

REGIMES = ("natural", "pgd")
SCRATCH = "scratch"
"""The pre-training of networks that have none."""
TRANSFER_ATTACK = "transfer_attack"
"""Table A2's attack from such a network, as the results call it."""


class Transfer(NamedTuple):
    """One training on a target: of a ticket with its pre-trained weights and a new head.

    Attributes:
      target: the data set.
      pretraining: whose weights; `SCRATCH` for new ones.
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


def transfers(settings: DoubleWinSettings) -> list[Transfer]:
    """All transfers of a run: dense networks of every pre-training, tickets of every kind.

    Those that train one network on one trial's data in one regime follow each other.
    """
    dense = [TicketKind(pretraining, "dense") for pretraining in settings.pretrainings]
    levels = [level for level in settings.levels if level]
    return [
        Transfer(target, *kind, level, percent, regime, seed)
        for seed in settings.seeds
        for target in settings.targets
        for regime in REGIMES
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
        Transfer(target, SCRATCH, "dense", 0, 100, "pgd", seed)
        for seed in settings.seeds
        for target in settings.targets
    ]
