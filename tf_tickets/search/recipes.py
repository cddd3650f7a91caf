"""Trainings that begin from tickets, and tickets that come from trainings."""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Pruning:
    """A ticket: what is left of a trained network.

    Attributes:
      of: the training whose last weights are pruned.
      sparsity: fraction of all prunable weights of the network that is gone then.
      score: a name in `masking.magnitude.SCORES`; all weights compete.
    """

    of: "Training"
    sparsity: float
    score: str


@dataclasses.dataclass(frozen=True)
class Training:
    """One training, from the initial weights under a ticket's masks.

    Attributes:
      method: its name in the results, unique among those of a model and regime.
      model: the network.
      regime: `natural`, or the attack to train against.
      epochs: how long it trains.
      schedule_epochs: the length that the learning rate's schedule is made for.
      learning_rate: the highest.
      warmup_start: the learning rate that a warm-up begins with; None for no warm-up.
      ticket: the masks; None for the dense network.
      reinitialized: whether it starts from new random weights instead of those that
        the ticket's network began with.
      decayed: whether the learning rate falls at a half and three quarters of the schedule.
      selected: whether it ends with the weights best on validation data, not with its last
        ones: those most robust, or after natural training of the smallest loss.
    """

    method: str
    model: str
    regime: str
    epochs: int
    schedule_epochs: int
    learning_rate: float
    warmup_start: float | None = None
    ticket: Pruning | None = None
    reinitialized: bool = False
    decayed: bool = True
    selected: bool = False

    @property
    def level(self) -> int:
        """Rounds of pruning behind it."""
        return self.ticket.of.level + 1 if self.ticket else 0


def in_order(trainings: Iterable[Training]) -> list[Training]:
    """The trainings and all that their tickets come from, each once, nothing before its ticket.

    Raises:
      ValueError: two different trainings of one name.
    """
    ordered = {}
    for training in trainings:
        before = in_order([training.ticket.of]) if training.ticket else []
        for each in (*before, training):
            key = (each.model, each.regime, each.method)
            if ordered.setdefault(key, each) != each:
                raise ValueError(f"two different trainings are called {key}")
    return list(ordered.values())


def unscheduled(training: Training) -> Training:
    """The same, all the way back, at constant learning rates."""
    ticket = training.ticket
    if ticket:
        ticket = dataclasses.replace(ticket, of=unscheduled(ticket.of))
    return dataclasses.replace(training, ticket=ticket, warmup_start=None, decayed=False)


def iterative(found_by: Training, sparsity: float, score: str, rounds: int) -> Pruning:
    """A ticket of several prunings, each after a training like the first one.

    Every round removes the same fraction of what remains (Frankle and Carbin,
    arXiv:1803.03635), and the last leaves the sparsity asked for.

    Args:
      found_by: the dense training; later rounds repeat it under their masks.
      sparsity: of the ticket.
      score: see `Pruning`.
      rounds: number of prunings, at least 1.
    """
    kept_a_round = (1 - sparsity) ** (1 / rounds)
    ticket = Pruning(found_by, 1 - kept_a_round, score)
    for number in range(2, rounds + 1):
        again = dataclasses.replace(
            found_by, method=f"iterative_{found_by.method}_{number}", ticket=ticket
        )
        ticket = Pruning(again, 1 - kept_a_round**number, score)
    return ticket
