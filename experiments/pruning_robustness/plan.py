"""The studies of "On the Effect of Pruning on Adversarial Robustness", as plans."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence

from tf_tickets.data.augmentation import MIXING
from tf_tickets.errors import require, require_choices
from tf_tickets.evaluation.shifted_images import require_severities
from tf_tickets.image_work.cuts import build, require_cuts_possible
from tf_tickets.image_work.structure_nodes import (
    Corruptions,
    MixedCorruptions,
    Occlusion,
    Shifted,
    SingleElements,
    Size,
)
from tf_tickets.image_work.work import require_trainable
from tf_tickets.models.graph import graph_of
from tf_tickets.models.registry import build_model, is_convolutional
from tf_tickets.structured import selection
from tf_tickets.structured.blocks import most_removable_blocks
from tf_tickets.structured.criteria import CRITERIA
from tf_tickets.structured.elements import VersionedNetwork
from tf_tickets.training.schedules import StepDecay, steps_per_epoch
from tf_tickets.work.nodes import (
    Attack,
    Cut,
    Data,
    Fresh,
    Inherited,
    Measurement,
    Network,
    Node,
    Platform,
    Recipe,
    Training,
    in_order,
)

PAPER_MODELS = {
    "structures": ("resnet_56", "mobilenet_v2", "vgg_16"),
    "transfer": ("resnet_56", "mobilenet_v2"),
    "defenses": ("resnet_50",),
}
_OTHER_STUDIES = ("resnet_56",)
STRUCTURES = ("filters", "blocks", "both")
# Ways to adjust what is left of a network, other than fine-tuning → how much longer than the
# whole network it trains.
_FROM_SCRATCH = {"scratch_1x": 1, "scratch_2x": 2}
_NEW_WEIGHTS = 10**6  # Far from the seeds of trials.


@dataclasses.dataclass(frozen=True)
class PruningSettings:
    """What the studies share.

    Attributes:
      models: the networks; empty for those that the paper uses in each study.
      structures: what the structures study takes out: names in `STRUCTURES`.
      criterion: that of all studies but one.
      criteria: those that the criteria study compares.
      filters: share of the filters that a cut removes.
      blocks: residual blocks that it removes: a share if below 1, else how many.
      scope: see `selection.Cut`.
      criterion_form: see `criteria.score`.
      iterations: cuts of the iterations study.
      epochs: length of the training of unpruned networks.
      fine_tuning_epochs: length of the training after a cut.
      learning_rate: of new networks.
      fine_tuning_learning_rate: after a cut.
      rewind_epoch: of the unpruned network's training, whose weights winning tickets inherit.
      scoring_examples: training images, as many of each class, that criteria see; 0 for all.
      element_examples: test images, as many of each class, on which networks without one
        filter or block are tested; 0 for all.
    """

    models: tuple[str, ...]
    structures: tuple[str, ...]
    criterion: str
    criteria: tuple[str, ...]
    filters: float
    blocks: float
    scope: str
    criterion_form: str
    iterations: int
    epochs: int
    fine_tuning_epochs: int
    learning_rate: float
    fine_tuning_learning_rate: float
    rewind_epoch: int
    scoring_examples: int
    element_examples: int

    def __post_init__(self):
        for model in self.models:
            require(is_convolutional(model), "models", model, "networks with convolutions")
        require_choices("structures", self.structures, STRUCTURES)
        require_choices("criteria", self.criteria, CRITERIA)
        self.cut()
        for flag in ("filters", "blocks"):
            require(getattr(self, flag) > 0, flag, getattr(self, flag), "more than 0")
        for flag in ("iterations", "epochs", "fine_tuning_epochs"):
            require(getattr(self, flag) >= 1, flag, getattr(self, flag), "at least 1")
        for flag in ("learning_rate", "fine_tuning_learning_rate"):
            require(0 < getattr(self, flag) < math.inf, flag, getattr(self, flag), "above 0")
        examples = self.scoring_examples
        require(examples == 0 or examples >= 2, "scoring_examples", examples, "0 or at least 2")
        require(self.element_examples >= 0, "element_examples", self.element_examples, "at least 0")

    def require_studies(self, studies: Iterable[str]) -> None:
        """Raises a `UserError` about a `rewind_epoch` that unpruned networks do not have."""
        if "adjustment" in studies:
            epoch, expected = self.rewind_epoch, f"0 to {self.epochs}, the --epochs"
            require(0 <= epoch <= self.epochs, "rewind_epoch", epoch, expected)

    def cut(self, structure: str = "both", criterion: str = "") -> selection.Cut:
        """What takes a structure out: a name in `STRUCTURES`.

        As in the paper only the first convolution of each residual block loses filters.
        """
        return selection.Cut(
            criterion or self.criterion,
            0.0 if structure == "blocks" else self.filters,
            0.0 if structure == "filters" else self.blocks,
            self.scope,
            self.criterion_form,
            free_convolutions_only=True,
        )

    def models_of(self, study: str) -> tuple[str, ...]:
        """The networks of a study."""
        return tuple(self.models) or PAPER_MODELS.get(study, _OTHER_STUDIES)


@dataclasses.dataclass(frozen=True)
class NetworkTests:
    """What networks are tested under, see section 4 of the paper.

    Attributes:
      attacks: on the network itself.
      severities: of the corruptions, 1 to 5.
      occlusion_side: of the square of zeros, in pixels.
      examples: test images; 0 for all.
    """

    attacks: tuple[Attack, ...]
    severities: tuple[int, ...]
    occlusion_side: int
    examples: int

    def __post_init__(self):
        require_severities(self.severities)
        require(self.occlusion_side >= 1, "occlusion_side", self.occlusion_side, "at least 1")


@functools.cache
def has_blocks(model: str) -> bool:
    """Whether residual blocks may be taken out of a network, which does not depend on its width."""
    network = build_model(model, image_shape=(32, 32, 3), num_classes=10, seed=0)
    return most_removable_blocks(graph_of(network)) > 0


@functools.cache
def element_groups(network: Network) -> dict[str, int]:
    """What Algorithm 2 takes out of a network, one at a time: layer, "" for blocks → how many."""
    groups = VersionedNetwork(build(network)).groups
    return {group.name: len(group.elements) for group in groups}


@dataclasses.dataclass(frozen=True)
class Studies:
    """The trainings of one seed.

    Attributes:
      settings: what the studies share.
      tests: what networks meet at their end.
      image_shape, classes, width_multiplier: of all networks, see `Network`.
      data: what they learn; its seed decides initial weights and the order of batches too.
      recipe: how weights are learned.
      platform: what else decides the numbers.
    """

    settings: PruningSettings
    tests: NetworkTests
    image_shape: tuple[int, ...]
    classes: int
    width_multiplier: float
    data: Data
    recipe: Recipe
    platform: Platform

    def trainings_of(self, studies: Iterable[str]) -> list[Training]:
        """The trainings of several studies, and those that they come from.

        Those of equal labels are the same and are there once, none before what it comes from.

        Raises:
          ValueError: two different ones have the same labels.
        """
        labelled: dict[tuple, Training] = {}
        for study in studies:
            for training in STUDIES[study](self):
                for each in _with_ancestors(training):
                    key = tuple(each.labels.values())
                    if labelled.setdefault(key, each) != each:
                        raise ValueError(f"two different trainings are called {key}")
        return list(labelled.values())

    def tested(self, training: Training) -> tuple[Node, ...]:
        """What a network meets at its end."""
        tests, labels = self.tests, training.labels
        shifts = (Occlusion(tests.occlusion_side), *map(Corruptions, tests.severities))
        return (
            Size(training, labels=labels),
            Measurement(training, tests.attacks, examples=tests.examples, labels=labels),
            *(Shifted(training, shift, tests.examples, labels) for shift in shifts),
        )

    def without_elements(self) -> list[SingleElements]:
        """Algorithm 2 and Figure 3: what whole networks do without each filter and block alone.

        Corruptions are those of the highest severity.
        """
        tests = self.tests
        shifts = (Occlusion(tests.occlusion_side), MixedCorruptions(max(tests.severities)))
        return [
            SingleElements(
                training,
                group,
                tests.attacks,
                shifts,
                tests.examples,
                self.settings.element_examples,
                elements,
                training.labels,
            )
            for training in self.single_element()
            for group, elements in element_groups(training.network).items()
        ]

    def transferred(self) -> list[Measurement]:
        """Table 4: every network under the examples that the first attack makes of the others."""
        trainings, (attack, *_) = self.transfer(), self.tests.attacks
        return [
            Measurement(
                training,
                transferred=tuple(
                    (source, Attack(f"transfer_from_{_model_and_method(source)}", attack.threat))
                    for source in trainings
                    if source != training
                ),
                examples=self.tests.examples,
                labels=training.labels,
            )
            for training in trainings
        ]

    def require_usable(self, trainings: Sequence[Training], test_examples: int) -> None:
        """Checks that the data suffice for all that the networks need.

        Args:
          trainings: of the networks.
          test_examples: how many test images are used.

        Raises:
          UserError: they do not.
        """
        require_trainable(trainings)
        there = {"scoring_examples": self.data.train, "element_examples": test_examples}
        for flag, most in there.items():
            count = getattr(self.settings, flag)
            require(count <= most, flag, count, f"at most {most}, the images there are")
        side, largest = self.tests.occlusion_side, min(self.image_shape[:2])
        require(side <= largest, "occlusion_side", side, f"at most {largest}, the images' size")
        require_cuts_possible(trainings)

    def unpruned(self, model: str, regime: str = "natural") -> Training:
        """The whole network."""
        settings, seed, per_epoch = self.settings, self.data.seed, self._steps_per_epoch
        return Training(
            network=Network(model, self.image_shape, self.classes, self.width_multiplier),
            data=self.data,
            recipe=self.recipe,
            against=regime,
            attack=None,
            iterations=settings.epochs * per_epoch,
            evaluate_every=per_epoch,
            rates=StepDecay(settings.learning_rate, settings.epochs, per_epoch),
            start=Fresh(seed),
            seed=seed,
            stream=0,
            platform=self.platform,
            masked="nothing",
            labels={
                "data_set": self.data.name,
                "model": model,
                "regime": regime,
                "method": "unpruned",
                "seed": seed,
                "level": 0,
            },
        )

    def trained_on(self, model: str) -> Training:
        """The control: trained on as long as pruned networks are, with nothing taken out."""
        return self._after(self.unpruned(model), "unpruned_fine_tuned")

    def pruned(self, model: str, structure: str, criterion: str = "", cuts: int = 1) -> Training:
        """Algorithm 1: a network cut and fine-tuned, once or several times."""
        criterion = criterion or self.settings.criterion
        base = self.unpruned(model)
        if cuts > 1:
            base = self.pruned(model, structure, criterion, cuts - 1)
        choice = self.settings.cut(structure, criterion)
        return dataclasses.replace(
            self._after(base, f"{criterion}_{structure}", cuts),
            network=Cut(base, choice, self.settings.scoring_examples, self.data.seed),
        )

    def structures(self) -> list[Training]:
        """Table 1: filters, blocks and both, and the control."""
        trainings = []
        for model in self.settings.models_of("structures"):
            trainings.append(self.trained_on(model))
            trainings += [
                self.pruned(model, structure)
                for structure in self.settings.structures
                if structure == "filters" or has_blocks(model)
            ]
        return trainings

    def iterations(self) -> list[Training]:
        """Figure 2: one cut after another, and the control of the first."""
        trainings = []
        for model in self.settings.models_of("iterations"):
            trainings.append(self.trained_on(model))
            for cuts in range(1, self.settings.iterations + 1):
                trainings.append(self.pruned(model, "filters", cuts=cuts))
        return trainings

    def criteria(self) -> list[Training]:
        """Table 2: filters taken out by several criteria, and the control."""
        trainings = []
        for model in self.settings.models_of("criteria"):
            trainings.append(self.trained_on(model))
            trainings += [
                self.pruned(model, "filters", criterion) for criterion in self.settings.criteria
            ]
        return trainings

    def single_element(self) -> list[Training]:
        """Algorithm 2 and Figure 3 only need the whole networks."""
        return [self.unpruned(model) for model in self.settings.models_of("single_element")]

    def adjustment(self) -> list[Training]:
        """Table 3: what is left of a network, fine-tuned or trained anew, and the control."""
        settings, trainings = self.settings, []
        for model in settings.models_of("adjustment"):
            fine_tuned = self.pruned(model, "filters")
            trainings += [self.trained_on(model), fine_tuned]
            for name, times in _FROM_SCRATCH.items():
                new = Fresh(self.data.seed + _NEW_WEIGHTS)
                trainings.append(self._anew(fine_tuned, name, times, new))
            rewound = self.unpruned(model).start
            if settings.rewind_epoch:
                at = settings.rewind_epoch * self._steps_per_epoch
                rewound = Inherited(self.unpruned(model), at)
            trainings.append(self._anew(fine_tuned, "winning_ticket", 1, rewound))
        return trainings

    def transfer(self) -> list[Training]:
        """Table 4: networks and what is left of them without some filters."""
        return [
            training
            for model in self.settings.models_of("transfer")
            for training in (self.unpruned(model), self.pruned(model, "filters"))
        ]

    def defenses(self) -> list[Training]:
        """Table 5: pruning beside networks trained on erased and mixed images, and the control."""
        trainings = []
        for model in self.settings.models_of("defenses"):
            trainings += [self.unpruned(model, regime) for regime in ("natural", *MIXING)]
            trainings += [self.trained_on(model), self.pruned(model, "filters")]
            if has_blocks(model):
                trainings.append(self.pruned(model, "blocks"))
        return trainings

    @property
    def _steps_per_epoch(self):
        return steps_per_epoch(self.data.train, self.recipe.batch_size)

    def _lasting(self, training, epochs, learning_rate):
        """The same training over other epochs, at another highest learning rate."""
        per_epoch = self._steps_per_epoch
        rates = StepDecay(learning_rate, epochs, per_epoch)
        return dataclasses.replace(training, iterations=epochs * per_epoch, rates=rates)

    def _after(self, base, method, level=0):
        """What a trained network becomes in fine-tuning."""
        settings = self.settings
        training = self._lasting(
            base, settings.fine_tuning_epochs, settings.fine_tuning_learning_rate
        )
        return dataclasses.replace(
            training,
            start=Inherited(base),
            stream=level,
            labels={**base.labels, "method": method, "level": level},
        )

    def _anew(self, fine_tuned, name, times, start):
        """What is left of a network, trained as long as the whole one was, or longer."""
        settings, labels = self.settings, fine_tuned.labels
        training = self._lasting(fine_tuned, times * settings.epochs, settings.learning_rate)
        method = f"{labels['method']}_{name}"
        return dataclasses.replace(training, start=start, labels={**labels, "method": method})


STUDIES: dict[str, Callable[[Studies], list[Training]]] = {
    "structures": Studies.structures,
    "iterations": Studies.iterations,
    "criteria": Studies.criteria,
    "single_element": Studies.single_element,
    "adjustment": Studies.adjustment,
    "transfer": Studies.transfer,
    "defenses": Studies.defenses,
}


def _with_ancestors(training):
    """A training and those that it comes from, none before what it comes from."""
    return [node for node in in_order([training]) if isinstance(node, Training)]


def _model_and_method(training):
    return f"{training.labels['model']}.{training.labels['method']}"
