"""The studies of "Boosting Ticket", as plans."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from experiments.boosting_tickets.settings import BoostingSettings, Surroundings
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

    Attributes:
      settings: what the paper's studies vary.
      shared: what they do not.
    """

    settings: BoostingSettings
    shared: Surroundings

    def trainings_of(self, studies: Iterable[str]) -> list[Training]:
        """The trainings of several studies, and those that find their tickets.

        Those of equal labels are the same and are there once.

        Raises:
          ValueError: two different ones have the same labels.
        """
        labelled: dict[tuple, Training] = {}
        for study in studies:
            for training in _with_finders(STUDIES[study](self)):
                key = tuple(training.labels.values())
                if labelled.setdefault(key, training) != training:
                    raise ValueError(f"two different trainings are called {key}")
        return list(labelled.values())

    def measured(self, trainings: Sequence[Training]) -> list[Measurement]:
        """What each network meets on test data at its end.

        Natural images; after adversarial training also the attack that decided its weights, the
        margin loss, and its own attack, which shows whether it is masked.
        """
        return [
            Measurement(
                training,
                self._final_attacks(training),
                examples=self.shared.test_examples,
                labels=training.labels,
            )
            for training in trainings
        ]

    def assessed(self, attack: Attack) -> list[Measurement]:
        """Table 6: the networks of `acceleration` under another attack and each other's examples.

        Args:
          attack: the other one, white-box.
        """
        trainings, threat = self.acceleration(), self.shared.evaluation_attack.threat
        return [
            Measurement(
                training,
                (attack,),
                tuple(
                    (other, Attack(f"transfer_from_{other.labels['method']}", threat))
                    for other in trainings
                    if other.network == training.network and other.labels != training.labels
                ),
                self.shared.test_examples,
                labels=training.labels,
            )
            for training in trainings
        ]

    def finding(self, model: str, regime: str, learning_rate: float | None = None) -> Training:
        """The training of a dense network that a one-shot ticket comes from.

        It begins at a small learning rate, without warm-up (section 3.1).
        """
        rate = learning_rate or self.settings.small_learning_rate(model)
        training = self._training(
            f"finding_{regime}_{rate:.10g}", model, regime, self.settings.finding_epochs, rate
        )
        return self._selecting(training) if regime == "fast" else training

    def winning_finding(self, model: str) -> Training:
        """The same for the winning ticket, at the high learning rate with its warm-up."""
        rate = self.settings.learning_rate
        name, epochs = f"finding_natural_{rate:.10g}_warmup", self.settings.finding_epochs
        return self._warmed_up(self._training(name, model, "natural", epochs, rate))

    def retraining(
        self,
        name: str,
        model: str,
        regime: str,
        ticket: Masks | None,
        percent: int = 100,
        reinitialized: bool = False,
    ) -> Training:
        """Training with warm-up; against an attack it ends with the weights best on validation.

        Args:
          name: of the kind of ticket.
          model, regime: what is trained, and against what.
          ticket: the masks; None for the dense network.
          percent: length, of the whole schedule.
          reinitialized: whether it starts from new random weights instead of those that the
            ticket's network began with.
        """
        epochs = max(1, round(self.settings.epochs * percent / 100))
        rate = self.settings.learning_rate
        training = self._training(f"{name}_{percent}", model, regime, epochs, rate, ticket)
        if reinitialized:
            training = dataclasses.replace(training, start=self._other_start(training.stream))
        training = self._warmed_up(training)
        return training if regime == "natural" else self._selecting(training)

    def existence(self) -> list[Training]:
        """Figures 1 and 9: boosting, winning, random and iterative tickets, and dense, naturally.

        The hypothesis of section 3.1 compares with the original network, trained as the tickets
        are.
        """
        trainings = []
        for model in self.settings.models_of("existence"):
            boosting = self._ticket(model, "natural")
            trainings += [
                self.retraining("dense", model, "natural", None),
                self.retraining("boosting", model, "natural", boosting),
                self._winning(model),
                self.retraining("random", model, "natural", boosting, reinitialized=True),
                self.retraining("iterative", model, "natural", self._iterative(boosting.of)),
            ]
        return trainings

    def epochs(self) -> list[Training]:
        """Figure 2 and Table 1: boosting and winning tickets trained for 20 to 100%."""
        return [
            training
            for model in self.settings.models_of("epochs")
            for percent in PERCENTS
            for training in (
                self.retraining(
                    "boosting", model, "natural", self._ticket(model, "natural"), percent
                ),
                self._winning(model, percent),
            )
        ]

    def learning_rate(self) -> list[Training]:
        """Figure 3: tickets found at several learning rates, trained for 20 to 100%."""
        return [
            self.retraining(
                f"found_at_{rate:.10g}",
                model,
                "natural",
                self._ticket(model, "natural", rate),
                percent,
            )
            for model in self.settings.models_of("learning_rate")
            for rate in self.settings.finding_learning_rates
            for percent in PERCENTS
        ]

    def pruning_ratio(self) -> list[Training]:
        """Figure 4: the first epochs of boosting and random tickets of several sparsities."""
        trainings = []
        for model in self.settings.models_of("pruning_ratio"):
            found_by = self.finding(model, "natural")
            for sparsity in self.settings.sparsities:
                ticket = Masks(found_by, sparsity, self.settings.score)
                for name, reinitialized in (("boosting", False), ("random", True)):
                    whole = self.retraining(
                        name, model, "natural", ticket, reinitialized=reinitialized
                    )
                    first_epochs = dataclasses.replace(
                        whole,
                        iterations=min(EARLY_EPOCHS * whole.evaluate_every, whole.iterations),
                    )
                    trainings.append(_called(first_epochs, f"{name}_sparsity_{sparsity:.10g}"))
        return trainings

    def capacity(self) -> list[Training]:
        """Figure 5: boosting tickets of Wide ResNets of several widths and depths."""
        return [
            self.retraining("boosting", model, "natural", self._ticket(model, "natural"))
            for model in self.settings.capacity_models
        ]

    def adversarial(self) -> list[Training]:
        """Figure 6: tickets of natural, FGSM and PGD training, retrained with PGD, and random."""
        trainings = []
        for model in self.settings.models_of("adversarial"):
            for regime in self.settings.finders:
                ticket = self._ticket(model, regime)
                trainings.append(self.retraining(f"{regime}_ticket", model, "pgd", ticket))
            ticket = self._ticket(model, "fgsm")
            trainings.append(
                self.retraining("fgsm_random", model, "pgd", ticket, reinitialized=True)
            )
        return trainings

    def mnist(self) -> list[Training]:
        """Table 5, natural training of the first model; Figure 7, PGD training of all models.

        Without learning rate schedules (section C). Natural training ends with the weights of the
        smallest validation loss, as Table 5's early stopping does.
        """
        model = self.settings.mnist_models[0]
        boosting = self._ticket(model, "natural")
        naturally = [
            self.retraining("dense", model, "natural", None),
            self._winning(model),
            self.retraining("boosting", model, "natural", boosting),
            self.retraining("random", model, "natural", boosting, reinitialized=True),
        ]
        trainings = [self._selecting(training) for training in naturally]
        for model in self.settings.mnist_models:
            ticket = self._ticket(model, "pgd")
            for name, reinitialized in (("pgd_ticket", False), ("pgd_random", True)):
                trainings.append(
                    self.retraining(name, model, "pgd", ticket, reinitialized=reinitialized)
                )
        return [_unscheduled(training) for training in trainings]

    def convergence(self) -> list[Training]:
        """Figure 8 and Table 2: FGSM-found tickets under PGD training for 20 to 100%, and dense."""
        return self._against_dense(self.settings.models_of("convergence"), PERCENTS)

    def acceleration(self) -> list[Training]:
        """Tables 3 and 6: Madry's training against FGSM-found tickets of 40, 70 and 100%."""
        return self._against_dense(self.settings.models_of("acceleration"), ACCELERATED_PERCENTS)

    def _against_dense(self, models, percents):
        trainings = []
        for model in models:
            ticket = self._ticket(model, "fgsm")
            trainings.append(self.retraining("dense", model, "pgd", None))
            trainings += [
                self.retraining("fgsm_ticket", model, "pgd", ticket, percent)
                for percent in percents
            ]
        return trainings

    def _winning(self, model, percent=100):
        ticket = self._prune(self.winning_finding(model))
        return self.retraining("winning", model, "natural", ticket, percent)

    def _ticket(self, model, regime, learning_rate=None):
        return self._prune(self.finding(model, regime, learning_rate))

    def _prune(self, found_by):
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
            again = _under(found_by, ticket)
            again = _called(again, f"iterative_{found_by.labels['method']}_{number}")
            ticket = Masks(again, 1 - kept_a_round**number, score)
        return ticket

    def _training(self, method, model, regime, epochs, learning_rate, masks=None):
        shared = self.shared
        seed, per_epoch = shared.data.seed, shared.steps_per_epoch(model)
        training = Training(
            network=Network(model, shared.image_shape, shared.classes, shared.width_multiplier),
            data=shared.data,
            recipe=dataclasses.replace(shared.recipe, batch_size=shared.batch_size(model)),
            against=regime,
            attack=shared.attacks.get(regime),
            iterations=epochs * per_epoch,
            evaluate_every=per_epoch,
            rates=StepDecay(learning_rate, epochs, per_epoch),
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
            },
        )
        return _under(training, masks) if masks else training

    def _warmed_up(self, training):
        start = self.settings.warmup_start(training.network.name)
        if start is None:
            return training
        rates = dataclasses.replace(
            training.rates, warmup_epochs=self.settings.warmup_epochs, warmup_start=start
        )
        return dataclasses.replace(training, rates=rates)

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

    def _other_start(self, rounds):
        seed = np.random.SeedSequence([self.shared.data.seed, rounds]).generate_state(1)[0] >> 1
        return Fresh(int(seed))

    def _final_attacks(self, training):
        if training.against == "natural":
            return ()
        evaluation = self.shared.evaluation_attack
        attacks = with_margin_attack({evaluation.name: evaluation.threat})
        attacks |= {training.against: training.attack}
        return tuple(Attack(name, threat) for name, threat in attacks.items())


def _under(training, masks):
    """The same under masks: another pruning lies behind it."""
    level = masks.of.stream + 1
    labels = {**training.labels, "level": level}
    return dataclasses.replace(training, masks=masks, stream=level, labels=labels)


def _called(training, method):
    return dataclasses.replace(training, labels={**training.labels, "method": method})


def _unscheduled(training):
    """The same, all the way back, at constant learning rates."""
    masks, rates = training.masks, training.rates
    if masks:
        masks = dataclasses.replace(masks, of=_unscheduled(masks.of))
    rates = StepDecay(rates.learning_rate, rates.epochs, rates.steps_per_epoch, milestones=())
    return dataclasses.replace(training, masks=masks, rates=rates)


def _with_finders(trainings):
    return [*in_order(need for training in trainings for need in training.needs), *trainings]


STUDIES: dict[str, Callable[[Studies], list[Training]]] = {
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
