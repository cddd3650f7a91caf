"""The studies of "Boosting Ticket", as plans."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from experiments.boosting_tickets.settings import transfer_attack
from experiments.boosting_tickets.trainings import Trainings, labelled, unscheduled
from tf_tickets.attacks.threat_model import with_margin_attack
from tf_tickets.work.nodes import Attack, Masks, Measurement, Training, in_order

# Table 1, Figures 2, 3 and 8; Tables 3 and 6: lengths in percent of the whole schedule.
PERCENTS = (20, 40, 60, 80, 100)
ACCELERATED_PERCENTS = (40, 70, 100)
# What Figure 4 needs: accuracy after the first and the fifth epoch.
EARLY_EPOCHS = 5


class Studies(Trainings):
    """The trainings of one seed that each study compares.

    Two labels say what a study varies: `finding_rate`, the learning rate that found a ticket, and
    `pruned_to`, its sparsity. Others have them not.
    """

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
        ticket = self.iterative_ticket(self.finding(model, "natural"))
        yield self.retraining("iterative", model, "natural", ticket)

    def epochs(self, model: str) -> Iterable[Training]:
        """Figure 2 and Table 1: boosting and winning tickets trained for 20 to 100%."""
        boosting, winning = self.ticket(model, "natural"), self.winning_ticket(model)
        for percent in PERCENTS:
            yield self.retraining("boosting", model, "natural", boosting, percent)
            yield self.retraining("winning", model, "natural", winning, percent)

    def learning_rate(self, model: str) -> Iterable[Training]:
        """Figure 3: tickets found at several learning rates, trained for 20 to 100%."""
        for rate in self.settings.finding_learning_rates:
            ticket = self.pruned(self.finding(model, "natural", rate))
            for percent in PERCENTS:
                training = self.retraining("boosting", model, "natural", ticket, percent)
                method = f"found_at_{rate:.10g}_{percent}"
                yield labelled(training, method=method, finding_rate=rate)

    def pruning_ratio(self, model: str) -> Iterable[Training]:
        """Figure 4: the first epochs of boosting and random tickets of several sparsities."""
        for sparsity in self.settings.sparsities:
            ticket = Masks(self.finding(model, "natural"), sparsity, self.settings.score)
            for whole in self._with_random("boosting", "random", model, "natural", ticket):
                early = min(EARLY_EPOCHS * whole.evaluate_every, whole.iterations)
                training = dataclasses.replace(whole, iterations=early)
                method = f"{whole.labels['family']}_sparsity_{sparsity:.10g}"
                yield labelled(training, method=method, percent=None, pruned_to=sparsity)

    def capacity(self, model: str) -> Iterable[Training]:
        """Figure 5: boosting tickets of Wide ResNets of several widths and depths."""
        yield self.retraining("boosting", model, "natural", self.ticket(model, "natural"))

    def adversarial(self, model: str) -> Iterable[Training]:
        """Figure 6: tickets of natural, FGSM and PGD training, retrained with PGD, and random."""
        for regime in self.settings.finders:
            yield self.retraining(f"{regime}_ticket", model, "pgd", self.ticket(model, regime))
        ticket = self.ticket(model, "fgsm")
        yield self.retraining("fgsm_random", model, "pgd", ticket, redrawn=True)

    def mnist(self, model: str) -> Iterable[Training]:
        """Table 5, natural training of the first model; Figure 7, PGD training of all models.

        Without learning rate schedules (section C). Natural training ends with the weights of the
        smallest validation loss, as Table 5's early stopping does.
        """
        if model == self.settings.mnist_models[0]:
            for training in self._beside_dense(model):
                yield unscheduled(self.selecting(training))
        ticket = self.ticket(model, "pgd")
        for training in self._with_random("pgd_ticket", "pgd_random", model, "pgd", ticket):
            yield unscheduled(training)

    def convergence(self, model: str) -> Iterable[Training]:
        """Figure 8 and Table 2: FGSM-found tickets under PGD training for 20 to 100%, and dense."""
        return self._against_dense(model, PERCENTS)

    def acceleration(self, model: str) -> Iterable[Training]:
        """Tables 3 and 6: Madry's training against FGSM-found tickets of 40, 70 and 100%."""
        return self._against_dense(model, ACCELERATED_PERCENTS)

    def _against_dense(self, model, percents):
        yield self.retraining("dense", model, "pgd", None)
        ticket = self.ticket(model, "fgsm")
        for percent in percents:
            yield self.retraining("fgsm_ticket", model, "pgd", ticket, percent)

    def _beside_dense(self, model):
        """Dense, winning, boosting and random, naturally."""
        yield self.retraining("dense", model, "natural", None)
        yield self.retraining("winning", model, "natural", self.winning_ticket(model))
        ticket = self.ticket(model, "natural")
        yield from self._with_random("boosting", "random", model, "natural", ticket)

    def _with_random(self, family, random, model, regime, ticket):
        """A ticket, and its masks with new random weights."""
        yield self.retraining(family, model, regime, ticket)
        yield self.retraining(random, model, regime, ticket, redrawn=True)


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
