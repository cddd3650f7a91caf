"""How the networks of "Boosting Ticket" are trained, and where their tickets come from."""

import dataclasses

import numpy as np

from experiments.boosting_tickets.settings import BoostingSettings, Surroundings
from tf_tickets.training.schedules import StepDecay
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import Fresh, Masks, Network, Training


@dataclasses.dataclass(frozen=True)
class Trainings:
    """The trainings of one seed.

    Two labels tell them apart: `family`, the kind of network, which is "finding" of those that
    find tickets; and `percent`, which only retrainings have.

    Attributes:
      settings: what the paper's studies vary.
      shared: what they do not.
    """

    settings: BoostingSettings
    shared: Surroundings

    def ticket(self, model: str, regime: str) -> Masks:
        """What one training of a dense network leaves, after one pruning."""
        return self.pruned(self.finding(model, regime))

    def winning_ticket(self, model: str) -> Masks:
        """The same, found at the high learning rate of retraining, with its warm-up."""
        rate, epochs = self.settings.learning_rate, self.settings.finding_epochs
        method = f"finding_natural_{rate:.10g}_warmup"
        found_by = self._training(method, "finding", model, "natural", epochs, rate, warms_up=True)
        return self.pruned(found_by)

    def pruned(self, found_by: Training) -> Masks:
        """What a training leaves, of the sparsity that most studies share."""
        return Masks(found_by, self.settings.sparsity, self.settings.score)

    def iterative_ticket(self, found_by: Training) -> Masks:
        """A ticket of several prunings, each after a training like the first one.

        Every round removes the same fraction of what remains (Frankle and Carbin,
        arXiv:1803.03635), and the last leaves the sparsity asked for.
        """
        rounds, score = self.settings.rounds, self.settings.score
        kept_a_round = (1 - self.settings.sparsity) ** (1 / rounds)
        ticket = Masks(found_by, 1 - kept_a_round, score)
        for number in range(2, rounds + 1):
            method = f"iterative_{found_by.labels['method']}_{number}"
            again = labelled(_under(found_by, ticket), method=method)
            ticket = Masks(again, 1 - kept_a_round**number, score)
        return ticket

    def finding(self, model: str, regime: str, learning_rate: float | None = None) -> Training:
        """The training of a dense network that a one-shot ticket comes from.

        It begins at a small learning rate, without warm-up (section 3.1).
        """
        rate = learning_rate or self.settings.small_learning_rate(model)
        method, epochs = f"finding_{regime}_{rate:.10g}", self.settings.finding_epochs
        training = self._training(method, "finding", model, regime, epochs, rate)
        return self.selecting(training) if regime == "fast" else training

    def retraining(
        self,
        family: str,
        model: str,
        regime: str,
        ticket: Masks | None,
        percent: int = 100,
        redrawn: bool = False,
    ) -> Training:
        """Training with warm-up; against an attack it ends with the weights best on validation.

        Args:
          family: the kind of network, a label.
          model, regime: what is trained, and against what.
          ticket: the masks; None for the dense network.
          percent: length, of the whole schedule; a label too.
          redrawn: whether it starts from new random weights instead of those that the ticket's
            network began with.
        """
        epochs = max(1, round(self.settings.epochs * percent / 100))
        rate = self.settings.learning_rate
        method = f"{family}_{percent}"
        training = self._training(method, family, model, regime, epochs, rate, warms_up=True)
        training = labelled(training, percent=percent)
        if ticket:
            training = _under(training, ticket)
        if redrawn:
            entropy = np.random.SeedSequence([training.seed, training.stream])
            start = Fresh(int(entropy.generate_state(1)[0] >> 1))
            training = dataclasses.replace(training, start=start)
        return training if regime == "natural" else self.selecting(training)

    def _training(self, method, family, model, regime, epochs, learning_rate, warms_up=False):
        """Of a dense network from its first weights, at the end with its last ones."""
        shared = self.shared
        seed, per_epoch = shared.data.seed, shared.steps_per_epoch(model)
        warmup = self.settings.warmup(model) if warms_up else ()
        return Training(
            network=Network(model, shared.image_shape, shared.classes, shared.width_multiplier),
            data=shared.data,
            recipe=dataclasses.replace(shared.recipe, batch_size=shared.batch_size(model)),
            against=regime,
            attack=shared.attacks.get(regime),
            iterations=epochs * per_epoch,
            evaluate_every=per_epoch,
            rates=StepDecay(learning_rate, epochs, per_epoch, *warmup),
            start=Fresh(seed),
            seed=seed,
            stream=0,
            platform=shared.platform,
            measured=() if regime == "natural" else (shared.evaluation_attack,),
            labels={
                "data_set": shared.data.name,
                "model": model,
                "regime": regime,
                "method": method,
                "seed": seed,
                "level": 0,
                "family": family,
            },
        )

    def selecting(self, training: Training) -> Training:
        """The same, ending with the weights best on validation data, not with its last ones.

        Those most robust, or after natural training those of the smallest loss.
        """
        if training.against == "natural":
            selection = Selection("validation/natural/loss", smallest=True)
        else:
            drop = self.shared.fast_stop_after_drop if training.against == "fast" else 1.0
            selection = Selection(f"validation/{self.shared.evaluation_attack.name}/accuracy", drop)
        return dataclasses.replace(training, selections=(selection,))


def _under(training, masks):
    """The same under masks: another pruning lies behind it."""
    level = masks.of.stream + 1
    return labelled(dataclasses.replace(training, masks=masks, stream=level), level=level)


def labelled(training: Training, **labels) -> Training:
    """The same with more labels, or others."""
    return dataclasses.replace(training, labels={**training.labels, **labels})


def unscheduled(training: Training) -> Training:
    """The same, all the way back, at constant learning rates."""
    masks, rates = training.masks, training.rates
    if masks:
        masks = dataclasses.replace(masks, of=unscheduled(masks.of))
    rates = StepDecay(rates.learning_rate, rates.epochs, rates.steps_per_epoch, milestones=())
    return dataclasses.replace(training, masks=masks, rates=rates)
