"""What "Data-Efficient Double-Win Lottery Tickets" trains: pre-trainings, tickets, transfers."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tf_tickets.attacks.threat_model import ThreatModel, with_margin_attack
from tf_tickets.data.image_place import ImagePlace
from tf_tickets.data.specs import require_data_set
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import UserError, require, require_choices
from tf_tickets.models.pretrained import pretrained_model
from tf_tickets.models.registry import is_convolutional, require_image_shape
from tf_tickets.runs.run_directory import Cell
from tf_tickets.training.schedules import Constant, CosineDecay, LearningRates, StepDecay
from tf_tickets.training.selection import Selection
from tf_tickets.training.trainer import TrainingSettings

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
      training: everything else.
      select_from_epoch: the first epoch after which the weights may be the ones that are kept.
    """

    epochs: int
    decay: str
    training: TrainingSettings
    select_from_epoch: int = 1

    def __post_init__(self):
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        expected = f"1 to {self.epochs}, the epochs"
        chosen = self.select_from_epoch
        require(1 <= chosen <= self.epochs, "select_from_epoch", chosen, expected)
        require_choices("decay", [self.decay], DECAYS)

    def of_model(self, model: str) -> "Phase":
        """The same for another network."""
        return dataclasses.replace(self, training=dataclasses.replace(self.training, model=model))

    def learning_rates(self, steps_per_epoch: int) -> LearningRates:
        """Of every iteration."""
        highest = self.training.learning_rate
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
      place: where both come from.
      source_examples: training images of the source; 0 for all.
      train_examples: training images of a target, its 100%; 0 for all.
      validation_examples, test_examples: of every data set; 0 for all.
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
    place: ImagePlace
    source_examples: int
    train_examples: int
    validation_examples: int
    test_examples: int
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
        for flag, names in {"source": (self.source,), "targets": self.targets}.items():
            for name in names:
                require_data_set(name, flag, self.place.source_of(name))
        expected = "embedded or tfds; image folders are named by --folders"
        require(self.place.data_source != "folder", "data_source", "folder", expected)
        for flag in ("targets", "percents", "levels"):
            _require_different(flag, getattr(self, flag))
        for name in self.place.folders:
            known = name in (self.source, *self.targets)
            require(known, "folders", name, "names that --source and --targets have")
        require(self.source not in self.targets, "targets", self.source, "other than --source")
        require_choices("tickets", self.tickets, TICKETS)
        for pretraining in self.pretrained:
            expected = f"one of {', '.join(self.pretrainings)}, which --tickets asks for"
            require(pretraining in self.pretrainings, "pretrained", pretraining, expected)
            self.model_of(pretraining)  # Refuses what cannot be weights.
        expected = "a network with convolutions, which alone are pruned"
        model = self.pretraining.training.model
        require(is_convolutional(model), "model", model, expected)
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
        require(self.place.image_size >= 0, "image_size", self.place.image_size, "at least 0")
        for flag in ("source", "train", "validation", "test"):
            examples = getattr(self, f"{flag}_examples")
            require(examples >= 0, f"{flag}_examples", examples, "at least 0")

    @property
    def source_phases(self) -> dict[str, Phase]:
        """What is trained on the source, by name."""
        return {"pretraining": self.pretraining, "retraining": self.retraining}

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
    def robust_attack(self) -> str:
        """The attack whose accuracy is the paper's RA."""
        return next(iter(self.evaluation_attacks))

    def load_source(self) -> ImageData:
        """The source's images.

        Raises:
          UserError: they are not there, damaged, too few or of a shape that the model refuses.
        """
        data, count = self.place.load(self.source, self.source_seed), self.source_examples
        expected = f"at most {len(data.train)}, the training images of {self.source}"
        require(count <= len(data.train), "source_examples", count, expected)
        return self._limited(data, self.source_seed, count)

    def load_target(self, target: str, seed: int) -> ImageData:
        """A target's images in a trial, as `load_source`."""
        return self._limited(self.place.load(target, seed), seed, self.train_examples)

    def _limited(self, data, seed, train_examples):
        require_image_shape(self.pretraining.training.model, data.image_shape, "model")
        return data.limited(
            seed,
            train_examples or None,
            self.validation_examples or None,
            self.test_examples or None,
        )

    def selections(self, regime: str, first_iteration: int = 1) -> list[Selection]:
        """Which weights a training keeps: those of the best RA, then those of the best SA.

        Args:
          regime: what it is trained against.
          first_iteration: those before it are not kept.
        """
        first = {"first_iteration": first_iteration}
        best_natural = Selection("validation/natural/accuracy", **first)
        if regime == "natural":
            return [best_natural]
        drop = STOP_AFTER_DROP if regime == "fast" else 1.0
        robust = f"validation/{self.robust_attack}/accuracy"
        return [Selection(robust, drop, **first), best_natural]

    def attacks_on(self, regime: str) -> Mapping[str, ThreatModel]:
        """What networks are measured under after every epoch of training in a regime."""
        return {} if regime == "natural" else self.evaluation_attacks

    def final_attacks_on(self, regime: str) -> Mapping[str, ThreatModel]:
        """What the weights that it ends with are measured under."""
        return with_margin_attack(self.attacks_on(regime))

    def model_of(self, pretraining: str) -> str:
        """The network that the pre-trained weights are of."""
        if pretraining not in self.pretrained:
            return self.pretraining.training.model
        with self.errors_about_pretrained(pretraining):
            return pretrained_model(self.pretrained[pretraining])

    @contextlib.contextmanager
    def errors_about_pretrained(self, pretraining: str) -> Iterator[None]:
        """Names the flag in errors about a file of weights."""
        try:
            yield
        except UserError as error:
            raise UserError(f"--pretrained={pretraining}={error}") from None

    def pretraining_cell(self, pretraining: str) -> Cell:
        """Where its weights lie in the run."""
        return Cell(
            self.source,
            PRETRAININGS[pretraining],
            f"{pretraining}_pretraining",
            self.source_seed,
            self.model_of(pretraining),
        )

    def search_cell(self, kind: TicketKind) -> Cell:
        """Where its tickets lie in the run."""
        regime = PRUNINGS[kind.pruning] or "natural"
        model = self.model_of(kind.pretraining)
        return Cell(self.source, regime, kind.name, self.source_seed, model)


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


def transfer_cell(settings: DoubleWinSettings, transfer: Transfer) -> Cell:
    """Where its results lie in the run."""
    pretraining = transfer.pretraining
    model = settings.model_of(pretraining)
    return Cell(transfer.target, transfer.regime, transfer.method, transfer.seed, model)


def require_transferable(source: ImageData, target: ImageData) -> None:
    """Checks that a network for one can take images of the other.

    Raises:
      UserError: they have another number of colours.
    """
    ours, theirs = source.image_shape[2], target.image_shape[2]
    if ours != theirs:
        raise UserError(
            f"--targets={target.name}: expected images of {ours} channel(s), as --source="
            f"{source.name} has; they have {theirs}"
        )


def _require_different(flag, names):
    require(len(names) > 0, flag, "", "at least one")
    require(len(set(names)) == len(names), flag, ",".join(map(str, names)), "different ones")
