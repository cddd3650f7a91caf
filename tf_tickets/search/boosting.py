"""The studies of "Boosting Ticket", as lists of trainings."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from tf_tickets.errors import require, require_choices
from tf_tickets.masking.magnitude import SCORES
from tf_tickets.models.registry import require_model
from tf_tickets.search.recipes import Pruning, Training, iterative, unscheduled

REGIMES = ("natural", "fgsm", "fast", "pgd")

# Table 1, Figures 2, 3 and 8; Tables 3 and 6: lengths in percent of the whole schedule.
PERCENTS = (20, 40, 60, 80, 100)
ACCELERATED_PERCENTS = (40, 70, 100)
# The paper does not name Figure 6's network.
PAPER_MODELS = {
    "existence": ("vgg_16", "resnet_18"),
    "epochs": ("vgg_16",),
    "learning_rate": ("vgg_16", "resnet_18"),
    "pruning_ratio": ("vgg_16", "resnet_18"),
    "adversarial": ("vgg_16",),
    "convergence": ("vgg_16",),
    "acceleration": ("wide_resnet_34_10",),
}
# What Figure 4 needs: accuracy after the first and the fifth epoch.
EARLY_EPOCHS = 5


@dataclasses.dataclass(frozen=True)
class BoostingSettings:
    """What the studies share.

    Attributes:
      models: the networks; empty for those that the paper uses in each study.
      capacity_models: those of the capacity study, Wide ResNets.
      mnist_models: those of the MNIST study's adversarial half.
      epochs: 100% of a retraining.
      finding_epochs: length of the trainings that find masks.
      learning_rate: of retraining.
      finding_learning_rate: of the trainings that find masks, and where a warm-up begins;
        0 for the paper's, see `small_learning_rate`.
      finding_learning_rates: those that the learning-rate study compares.
      finders: regimes whose tickets the adversarial study compares.
      warmup_epochs: epochs in which retraining climbs to `learning_rate`.
      sparsity: fraction of the weights that a ticket removes.
      sparsities: those that the pruning-ratio study compares.
      score: a name in `SCORES`.
      rounds: prunings of an iterative ticket.
    """

    models: tuple[str, ...]
    capacity_models: tuple[str, ...]
    mnist_models: tuple[str, ...]
    epochs: int
    finding_epochs: int
    learning_rate: float
    finding_learning_rate: float
    finding_learning_rates: tuple[float, ...]
    finders: tuple[str, ...]
    warmup_epochs: int
    sparsity: float
    sparsities: tuple[float, ...]
    score: str
    rounds: int

    def __post_init__(self):
        for flag in ("capacity_models", "mnist_models"):
            require(len(getattr(self, flag)) > 0, flag, "", "at least one model")
        for name in (*self.models, *self.capacity_models, *self.mnist_models):
            require_model(name)
        for flag in ("epochs", "finding_epochs", "rounds"):
            require(getattr(self, flag) >= 1, flag, getattr(self, flag), "at least 1")
        require(self.warmup_epochs >= 0, "warmup_epochs", self.warmup_epochs, "at least 0")
        rates = {
            "learning_rate": (self.learning_rate,),
            "finding_learning_rate": (self.small_learning_rate(""),),
            "finding_learning_rates": self.finding_learning_rates,
        }
        for flag, values in rates.items():
            for value in values:
                require(0 < value < math.inf, flag, value, "above 0")
        for flag, values in {"sparsity": (self.sparsity,), "sparsities": self.sparsities}.items():
            for value in values:
                require(0 <= value < 1, flag, value, "in [0, 1)")
        require_choices("score", [self.score], SCORES)
        require_choices("finders", self.finders, REGIMES)
        for flag in ("finding_learning_rates", "sparsities"):
            texts = [f"{value:g}" for value in getattr(self, flag)]
            require(len(texts) > 0, flag, "", "at least one number")
            require(len(set(texts)) == len(texts), flag, ",".join(texts), "different numbers")
        for model in self.capacity_models:
            is_wide = model.startswith("wide_resnet_")
            require(is_wide, "capacity_models", model, "Wide ResNets, wide_resnet_<depth>_<width>")

    def models_of(self, study: str) -> tuple[str, ...]:
        """The networks of a study."""
        return tuple(self.models) or PAPER_MODELS[study]

    def small_learning_rate(self, model: str) -> float:
        """Of the trainings that find a model's masks, and where its warm-up begins.

        The paper's are 0.01 for VGG-16 and 0.05 for residual networks.
        """
        return self.finding_learning_rate or (0.01 if model == "vgg_16" else 0.05)

    def warmup_start(self, model: str) -> float | None:
        """The learning rate of a warm-up's first epoch; None without a warm-up."""
        return self.small_learning_rate(model) if self.warmup_epochs else None


def finding(settings: BoostingSettings, model: str, regime: str, learning_rate=None) -> Training:
    """The training of a dense network that a one-shot ticket comes from.

    It begins at a small learning rate, without warm-up (section 3.1).
    """
    rate = learning_rate or settings.small_learning_rate(model)
    return Training(
        method=f"finding_{regime}_{rate:g}",
        model=model,
        regime=regime,
        epochs=settings.finding_epochs,
        schedule_epochs=settings.finding_epochs,
        learning_rate=rate,
        selected=regime == "fast",
    )


def winning_finding(settings: BoostingSettings, model: str) -> Training:
    """The same for the winning ticket, at the high learning rate with its warm-up."""
    return dataclasses.replace(
        finding(settings, model, "natural", settings.learning_rate),
        method=f"finding_natural_{settings.learning_rate:g}_warmup",
        warmup_start=settings.warmup_start(model),
    )


def retraining(
    settings: BoostingSettings,
    name: str,
    model: str,
    regime: str,
    ticket: Pruning | None,
    percent: int = 100,
    reinitialized: bool = False,
) -> Training:
    """Training with warm-up; against an attack it ends with the weights best on validation."""
    epochs = max(1, round(settings.epochs * percent / 100))
    return Training(
        method=f"{name}_{percent}",
        model=model,
        regime=regime,
        epochs=epochs,
        schedule_epochs=epochs,
        learning_rate=settings.learning_rate,
        warmup_start=settings.warmup_start(model),
        ticket=ticket,
        reinitialized=reinitialized,
        selected=regime != "natural",
    )


def _ticket(settings, model, regime, learning_rate=None):
    return _prune(settings, finding(settings, model, regime, learning_rate))


def _prune(settings, found_by):
    return Pruning(found_by, settings.sparsity, settings.score)


def existence(settings: BoostingSettings) -> list[Training]:
    """Figures 1 and 9: boosting, winning, random and iterative tickets, and dense, naturally.

    The hypothesis of section 3.1 compares with the original network, trained as the tickets are.
    """
    trainings = []
    for model in settings.models_of("existence"):
        boosting = _ticket(settings, model, "natural")
        repeated = iterative(boosting.of, settings.sparsity, settings.score, settings.rounds)
        trainings += [
            retraining(settings, "dense", model, "natural", None),
            retraining(settings, "boosting", model, "natural", boosting),
            _winning(settings, model),
            retraining(settings, "random", model, "natural", boosting, reinitialized=True),
            retraining(settings, "iterative", model, "natural", repeated),
        ]
    return trainings


def _winning(settings, model, percent=100):
    ticket = _prune(settings, winning_finding(settings, model))
    return retraining(settings, "winning", model, "natural", ticket, percent)


def epochs(settings: BoostingSettings) -> list[Training]:
    """Figure 2 and Table 1: boosting and winning tickets trained for 20 to 100%."""
    return [
        training
        for model in settings.models_of("epochs")
        for percent in PERCENTS
        for training in (
            retraining(
                settings,
                "boosting",
                model,
                "natural",
                _ticket(settings, model, "natural"),
                percent,
            ),
            _winning(settings, model, percent),
        )
    ]


def learning_rate(settings: BoostingSettings) -> list[Training]:
    """Figure 3: tickets found at several learning rates, trained for 20 to 100%."""
    return [
        retraining(
            settings,
            f"found_at_{rate:g}",
            model,
            "natural",
            _ticket(settings, model, "natural", rate),
            percent,
        )
        for model in settings.models_of("learning_rate")
        for rate in settings.finding_learning_rates
        for percent in PERCENTS
    ]


def pruning_ratio(settings: BoostingSettings) -> list[Training]:
    """Figure 4: the first epochs of boosting and random tickets of several sparsities."""
    trainings = []
    for model in settings.models_of("pruning_ratio"):
        found_by = finding(settings, model, "natural")
        for sparsity in settings.sparsities:
            ticket = Pruning(found_by, sparsity, settings.score)
            for name, reinitialized in (("boosting", False), ("random", True)):
                whole = retraining(
                    settings, name, model, "natural", ticket, reinitialized=reinitialized
                )
                trainings.append(
                    dataclasses.replace(
                        whole,
                        method=f"{name}_sparsity_{sparsity:g}",
                        epochs=min(EARLY_EPOCHS, whole.epochs),
                    )
                )
    return trainings


def capacity(settings: BoostingSettings) -> list[Training]:
    """Figure 5: boosting tickets of Wide ResNets of several widths and depths."""
    return [
        retraining(settings, "boosting", model, "natural", _ticket(settings, model, "natural"))
        for model in settings.capacity_models
    ]


def adversarial(settings: BoostingSettings) -> list[Training]:
    """Figure 6: tickets of natural, FGSM and PGD training, retrained with PGD, and random."""
    trainings = []
    for model in settings.models_of("adversarial"):
        for regime in settings.finders:
            ticket = _ticket(settings, model, regime)
            trainings.append(retraining(settings, f"{regime}_ticket", model, "pgd", ticket))
        ticket = _ticket(settings, model, "fgsm")
        trainings.append(
            retraining(settings, "fgsm_random", model, "pgd", ticket, reinitialized=True)
        )
    return trainings


def mnist(settings: BoostingSettings) -> list[Training]:
    """Table 5, natural training of the first model; Figure 7, PGD training of all models.

    Without learning rate schedules (section C). Natural training ends with the weights of the
    smallest validation loss, as Table 5's early stopping does.
    """
    model = settings.mnist_models[0]
    boosting = _ticket(settings, model, "natural")
    naturally = [
        retraining(settings, "dense", model, "natural", None),
        _winning(settings, model),
        retraining(settings, "boosting", model, "natural", boosting),
        retraining(settings, "random", model, "natural", boosting, reinitialized=True),
    ]
    trainings = [dataclasses.replace(training, selected=True) for training in naturally]
    for model in settings.mnist_models:
        ticket = _ticket(settings, model, "pgd")
        for name, reinitialized in (("pgd_ticket", False), ("pgd_random", True)):
            trainings.append(
                retraining(settings, name, model, "pgd", ticket, reinitialized=reinitialized)
            )
    return [unscheduled(training) for training in trainings]


def convergence(settings: BoostingSettings) -> list[Training]:
    """Figure 8 and Table 2: FGSM-found tickets under PGD training for 20 to 100%, and dense."""
    return _against_dense(settings, settings.models_of("convergence"), PERCENTS)


def acceleration(settings: BoostingSettings) -> list[Training]:
    """Tables 3 and 6: Madry's training against FGSM-found tickets of 40, 70 and 100%."""
    return _against_dense(settings, settings.models_of("acceleration"), ACCELERATED_PERCENTS)


def _against_dense(settings, models, percents):
    trainings = []
    for model in models:
        ticket = _ticket(settings, model, "fgsm")
        trainings.append(retraining(settings, "dense", model, "pgd", None))
        trainings += [
            retraining(settings, "fgsm_ticket", model, "pgd", ticket, percent)
            for percent in percents
        ]
    return trainings


STUDIES: dict[str, Callable[[BoostingSettings], list[Training]]] = {
    "existence": existence,
    "epochs": epochs,
    "learning_rate": learning_rate,
    "pruning_ratio": pruning_ratio,
    "capacity": capacity,
    "adversarial": adversarial,
    "mnist": mnist,
    "convergence": convergence,
    "acceleration": acceleration,
}


def trainings_of(studies: Sequence[str], settings: BoostingSettings) -> list[Training]:
    """The trainings of several studies, each once; those of equal names are the same."""
    return list(
        dict.fromkeys(training for study in studies for training in STUDIES[study](settings))
    )
