"""The studies of "Boosting Ticket", as plans."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from experiments.boosting_tickets.settings import BoostingSettings, Surroundings, transfer_attack
from tf_tickets.attacks.threat_model import with_margin_attack
from tf_tickets.training.schedules import StepDecay
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import (
    Attack,
    Fresh,
    Masks,
    Measurement,
    Network,
    Training,
    in_order,
)

# Table 1, Figures 2, 3 and 8; Tables 3 and 6: lengths in percent of the whole schedule.
PERCENTS = (20, 40, 60, 80, 100)
ACCELERATED_PERCENTS = (40, 70, 100)
# What Figure 4 needs: accuracy after the first and the fifth epoch.
EARLY_EPOCHS = 5


@dataclasses.dataclass(frozen=True)
class Studies:
    """The trainings of one seed.

    Their labels: `family`, the kind of network, "finding" of those that find tickets; `percent`,
    the length of a retraining, of the whole schedule; `finding_rate`, the learning rate that found
    the ticket, and `pruned_to`, its sparsity, where a study varies them.

    Attributes:
      settings: what the paper's studies vary.
      shared: what they do not.
    """

    settings: BoostingSettings
    shared: Surroundings

    def compared(self, study: str) -> list[Training]:
        """The trainings that a study compares, without those that find their tickets."""
        models = self.settings.models_of(study)
        return [training for model in models for training in STUDIES[study](self, model)]

    def trainings_of(self, studies: Iterable[str]) -> list[Training]:
        """The trainings of several studies, and those that find their tickets, each name once.

        Raises:
          ValueError: two different ones have the same name.
        """
        named: dict[tuple, Training] = {}
        for study in studies:
            compared = self.compared(study)
            finders = in_order(need for training in compared for need in training.needs)
            for training in (*finders, *compared):
                name = tuple(training.labels[label] for label in ("model", "regime", "method"))
                if named.setdefault(name, training) != training:
                    raise ValueError(f"two different trainings are called {name}")
        return list(named.values())

    def measured(self, trainings: Sequence[Training]) -> list[Measurement]:
        """What each network meets on test data at its end.

        Natural images; after adversarial training also the attack that decided its weights, the
        margin loss, and its own attack, which shows whether it is masked.
        """
        evaluation, found = self.shared.evaluation_attack, []
        for training in trainings:
            attacks = {}
            if training.against != "natural":
                attacks = with_margin_attack({evaluation.name: evaluation.threat})
                attacks |= {training.against: training.attack}
            attacks = tuple(Attack(name, threat) for name, threat in attacks.items())
            examples = self.shared.test_examples
            found.append(Measurement(training, attacks, examples=examples, labels=training.labels))
        return found

    def assessed(self, attack: Attack) -> list[Measurement]:
        """Table 6: the networks of `acceleration` under another attack and each other's examples.

        Args:
          attack: the other one, white-box.
        """
        trainings, threat = self.compared("acceleration"), self.shared.evaluation_attack.threat
        return [
            Measurement(
                training,
                (attack,),
                tuple(
                    (other, Attack(transfer_attack(other.labels["method"]), threat))
                    for other in trainings
                    if other.network == training.network and other.labels != training.labels
                ),
                self.shared.test_examples,
                labels=training.labels,
            )
            for training in trainings
        ]

    def existence(self, model: str) -> Iterable[Training]:
        """Figures 1 and 9: boosting, winning, random and iterative tickets, and dense, naturally.

        The hypothesis of section 3.1 compares with the original network, trained as the tickets
        are.
        """
        yield from self._beside_dense(model)
        iterative = self._iterative(self._finding(model, "natural"))
        yield self._retraining("iterative", model, "natural", iterative)

    def epochs(self, model: str) -> Iterable[Training]:
        """Figure 2 and Table 1: boosting and winning tickets trained for 20 to 100%."""
        boosting, winning = self._ticket(model, "natural"), self._winning_ticket(model)
        for percent in PERCENTS:
            yield self._retraining("boosting", model, "natural", boosting, percent)
            yield self._retraining("winning", model, "natural", winning, percent)

    def learning_rate(self, model: str) -> Iterable[Training]:
        """Figure 3: tickets found at several learning rates, trained for 20 to 100%."""
        for rate in self.settings.finding_learning_rates:
            ticket = self._pruned(self._finding(model, "natural", rate))
            for percent in PERCENTS:
                training = self._retraining("boosting", model, "natural", ticket, percent)
                method = f"found_at_{rate:.10g}_{percent}"
                yield _labelled(training, method=method, finding_rate=rate)

    def pruning_ratio(self, model: str) -> Iterable[Training]:
        """Figure 4: the first epochs of boosting and random tickets of several sparsities."""
        for sparsity in self.settings.sparsities:
            ticket = Masks(self._finding(model, "natural"), sparsity, self.settings.score)
            for whole in self._with_random("boosting", "random", model, "natural", ticket):
                early = min(EARLY_EPOCHS * whole.evaluate_every, whole.iterations)
                training = dataclasses.replace(whole, iterations=early)
                method = f"{whole.labels['family']}_sparsity_{sparsity:.10g}"
                yield _labelled(training, method=method, percent=None, pruned_to=sparsity)

    def capacity(self, model: str) -> Iterable[Training]:
        """Figure 5: boosting tickets of Wide ResNets of several widths and depths."""
        yield self._retraining("boosting", model, "natural", self._ticket(model, "natural"))

    def adversarial(self, model: str) -> Iterable[Training]:
        """Figure 6: tickets of natural, FGSM and PGD training, retrained with PGD, and random."""
        for regime in self.settings.finders:
            yield self._retraining(f"{regime}_ticket", model, "pgd", self._ticket(model, regime))
        ticket = self._ticket(model, "fgsm")
        yield self._retraining("fgsm_random", model, "pgd", ticket, redrawn=True)

    def mnist(self, model: str) -> Iterable[Training]:
        """Table 5, natural training of the first model; Figure 7, PGD training of all models.

        Without learning rate schedules (section C). Natural training ends with the weights of the
        smallest validation loss, as Table 5's early stopping does.
        """
        if model == self.settings.mnist_models[0]:
            for training in self._beside_dense(model):
                yield _unscheduled(self._selecting(training))
        ticket = self._ticket(model, "pgd")
        for training in self._with_random("pgd_ticket", "pgd_random", model, "pgd", ticket):
            yield _unscheduled(training)

    def convergence(self, model: str) -> Iterable[Training]:
        """Figure 8 and Table 2: FGSM-found tickets under PGD training for 20 to 100%, and dense."""
        return self._against_dense(model, PERCENTS)

    def acceleration(self, model: str) -> Iterable[Training]:
        """Tables 3 and 6: Madry's training against FGSM-found tickets of 40, 70 and 100%."""
        return self._against_dense(model, ACCELERATED_PERCENTS)

    def _against_dense(self, model, percents):
        yield self._retraining("dense", model, "pgd", None)
        ticket = self._ticket(model, "fgsm")
        for percent in percents:
            yield self._retraining("fgsm_ticket", model, "pgd", ticket, percent)

    def _beside_dense(self, model):
        """Dense, winning, boosting and random, naturally."""
        yield self._retraining("dense", model, "natural", None)
        yield self._retraining("winning", model, "natural", self._winning_ticket(model))
        ticket = self._ticket(model, "natural")
        yield from self._with_random("boosting", "random", model, "natural", ticket)

    def _with_random(self, family, random, model, regime, ticket):
        """A ticket, and its masks with new random weights."""
        yield self._retraining(family, model, regime, ticket)
        yield self._retraining(random, model, regime, ticket, redrawn=True)

    def _ticket(self, model, regime):
        return self._pruned(self._finding(model, regime))

    def _winning_ticket(self, model):
        """Found at the high learning rate of retraining, with its warm-up."""
        rate, epochs = self.settings.learning_rate, self.settings.finding_epochs
        method = f"finding_natural_{rate:.10g}_warmup"
        found_by = self._training(method, "finding", model, "natural", epochs, rate, warms_up=True)
        return self._pruned(found_by)

    def _pruned(self, found_by):
        return Masks(found_by, self.settings.sparsity, self.settings.score)

    def _iterative(self, found_by):
        """A ticket of several prunings, each after a training like the first one.

        Every round removes the same fraction of what remains (Frankle and Carbin,
        arXiv:1803.03635), and the last leaves the sparsity asked for.
        """
        rounds, score = self.settings.rounds, self.settings.score
        kept_a_round = (1 - self.settings.sparsity) ** (1 / rounds)
        ticket = Masks(found_by, 1 - kept_a_round, score)
        for number in range(2, rounds + 1):
            method = f"iterative_{found_by.labels['method']}_{number}"
            again = _labelled(_under(found_by, ticket), method=method)
            ticket = Masks(again, 1 - kept_a_round**number, score)
        return ticket

    def _finding(self, model, regime, learning_rate=None):
        """The training of a dense network that a one-shot ticket comes from.

        It begins at a small learning rate, without warm-up (section 3.1).
        """
        rate = learning_rate or self.settings.small_learning_rate(model)
        method, epochs = f"finding_{regime}_{rate:.10g}", self.settings.finding_epochs
        training = self._training(method, "finding", model, regime, epochs, rate)
        return self._selecting(training) if regime == "fast" else training

    def _retraining(self, family, model, regime, ticket, percent=100, redrawn=False):
        """Training with warm-up; against an attack it ends with the weights best on validation.

        Its length is in percent of the whole schedule. If `redrawn` it starts from new random
        weights instead of those that the ticket's network began with.
        """
        epochs = max(1, round(self.settings.epochs * percent / 100))
        rate = self.settings.learning_rate
        method = f"{family}_{percent}"
        training = self._training(method, family, model, regime, epochs, rate, warms_up=True)
        training = _labelled(training, percent=percent)
        if ticket:
            training = _under(training, ticket)
        if redrawn:
            entropy = np.random.SeedSequence([training.seed, training.stream])
            start = Fresh(int(entropy.generate_state(1)[0] >> 1))
            training = dataclasses.replace(training, start=start)
        return training if regime == "natural" else self._selecting(training)

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

    def _selecting(self, training):
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
    return _labelled(dataclasses.replace(training, masks=masks, stream=level), level=level)


def _labelled(training, **labels):
    return dataclasses.replace(training, labels={**training.labels, **labels})


def _unscheduled(training):
    """The same, all the way back, at constant learning rates."""
    masks, rates = training.masks, training.rates
    if masks:
        masks = dataclasses.replace(masks, of=_unscheduled(masks.of))
    rates = StepDecay(rates.learning_rate, rates.epochs, rates.steps_per_epoch, milestones=())
    return dataclasses.replace(training, masks=masks, rates=rates)


# The trainings of one model that a study compares.
STUDIES: dict[str, Callable[[Studies, str], Iterable[Training]]] = {
    "existence": Studies.existence,
    "epochs": Studies.epochs,
    "learning_rate": Studies.learning_rate,
    "pruning_ratio": Studies.pruning_ratio,
    "capacity": Studies.capacity,
    "adversarial": Studies.adversarial,
    "mnist": Studies.mnist,
    "convergence": Studies.convergence,
    "acceleration": Studies.acceleration,
}
