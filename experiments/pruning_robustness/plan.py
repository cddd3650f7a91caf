"""The studies of "On the Effect of Pruning on Adversarial Robustness", as plans.

Networks are told apart by the labels `removed`: what pruning took out, nothing or a name in
`STRUCTURES`; `criterion`: what it chose by; and `adjustment`: how what is left was trained,
fine_tuned, scratch_1x, scratch_2x or winning_ticket.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

from experiments.pruning_robustness.network_tests import NetworkTests
from experiments.pruning_robustness.settings import PruningSettings
from tf_tickets.data.augmentation import MIXING
from tf_tickets.errors import require
from tf_tickets.image_work.cuts import require_cuts_possible
from tf_tickets.image_work.structure_measurements import dotted
from tf_tickets.image_work.work import require_trainable
from tf_tickets.models.graph import graph_of
from tf_tickets.models.registry import build_model
from tf_tickets.structured.blocks import most_removable_blocks
from tf_tickets.training.schedules import StepDecay, steps_per_epoch
from tf_tickets.work.nodes import (
    Cut,
    Data,
    Fresh,
    Inherited,
    Network,
    Platform,
    Recipe,
    Training,
    in_order,
)
from tf_tickets.work.view import Shown

_NEW_WEIGHTS = 10**6  # Far from the seeds of trials.


@functools.cache
def has_blocks(model: str) -> bool:
    """Whether residual blocks may be taken out of a network, which does not depend on its width."""
    network = build_model(model, image_shape=(32, 32, 3), num_classes=10, seed=0)
    return most_removable_blocks(graph_of(network)) > 0


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

    def study(self, name: str) -> list[Training]:
        """The trainings that a study compares, of all of its networks."""
        models = self.settings.models_of(name)
        return [training for model in models for training in STUDIES[name](self, model)]

    def trainings_of(self, studies: Iterable[str]) -> list[Training]:
        """The trainings of several studies, and those that they come from.

        Those of equal labels are the same and are there once, none before what it comes from.

        Raises:
          ValueError: two different ones have the same labels.
        """
        wanted = [training for study in studies for training in self.study(study)]
        labelled: dict[tuple, Training] = {}
        for node in (node for training in wanted for node in in_order([training])):
            if isinstance(node, Training):
                key = tuple(node.labels.values())
                if labelled.setdefault(key, node) != node:
                    raise ValueError(f"two different trainings are called {key}")
        return list(labelled.values())

    def shown(self, studies: Iterable[str]) -> list[Shown]:
        """All measurements of several studies."""
        tests = self.tests
        shown = [Shown(tests.of(training)) for training in self.trainings_of(studies)]
        if "single_element" in studies:
            shown += [
                Shown((node,), f"without_{dotted(node.group) or 'blocks'}")
                for training in self.study("single_element")
                for node in tests.without_elements(training)
            ]
        if "transfer" in studies:
            trainings = self.study("transfer")
            shown += [Shown((node,), "transfer") for node in tests.transferred(trainings)]
        return shown

    def require_usable(self, trainings: Sequence[Training], test_examples: int) -> None:
        """Checks that the data suffice for all that the networks need.

        Args:
          trainings: of the networks.
          test_examples: how many test images are used.

        Raises:
          UserError: they do not.
        """
        require_trainable(trainings)
        for flag, count, most in (
            ("scoring_examples", self.settings.scoring_examples, self.data.train),
            ("element_examples", self.tests.element_examples, test_examples),
        ):
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
                "criterion": None,
                "removed": "nothing",
                "adjustment": None,
            },
        )

    def trained_on(self, model: str) -> Training:
        """The control: trained on as long as pruned networks are, with nothing taken out."""
        return self._fine_tuned(self.unpruned(model), method="unpruned_fine_tuned")

    def pruned(self, model: str, structure: str, criterion: str = "", cuts: int = 1) -> Training:
        """Algorithm 1: a network cut and fine-tuned, once or several times."""
        settings, base = self.settings, self.unpruned(model)
        criterion = criterion or settings.criterion
        if cuts > 1:
            base = self.pruned(model, structure, criterion, cuts - 1)
        choice = settings.cut(structure, criterion)
        labels = {"level": cuts, "criterion": criterion, "removed": structure}
        return dataclasses.replace(
            self._fine_tuned(base, method=f"{criterion}_{structure}", **labels),
            network=Cut(base, choice, settings.scoring_examples, self.data.seed),
            stream=cuts,
        )

    def structures(self, model: str) -> list[Training]:
        """Table 1: filters, blocks and both, and the control."""
        structures = self.settings.structures
        possible = [each for each in structures if each == "filters" or has_blocks(model)]
        return [self.trained_on(model), *(self.pruned(model, each) for each in possible)]

    def iterations(self, model: str) -> list[Training]:
        """Figure 2: one cut after another, and the control of the first."""
        every = range(1, self.settings.iterations + 1)
        chain = [self.pruned(model, "filters", cuts=cuts) for cuts in every]
        return [self.trained_on(model), *chain]

    def criteria(self, model: str) -> list[Training]:
        """Table 2: filters taken out by several criteria, and the control."""
        criteria = self.settings.criteria
        return [self.trained_on(model), *(self.pruned(model, "filters", each) for each in criteria)]

    def single_element(self, model: str) -> list[Training]:
        """Algorithm 2 and Figure 3 only need the whole network."""
        return [self.unpruned(model)]

    def adjustment(self, model: str) -> list[Training]:
        """Table 3: what is left of a network, fine-tuned or trained anew, and the control."""
        fine_tuned, whole = self.pruned(model, "filters"), self.unpruned(model)
        new, rewound = Fresh(self.data.seed + _NEW_WEIGHTS), whole.start
        if self.settings.rewind_epoch:
            rewound = Inherited(whole, self.settings.rewind_epoch * self._steps_per_epoch)
        return [
            self.trained_on(model),
            fine_tuned,
            self._anew(fine_tuned, "scratch_1x", 1, new),
            self._anew(fine_tuned, "scratch_2x", 2, new),
            self._anew(fine_tuned, "winning_ticket", 1, rewound),
        ]

    def transfer(self, model: str) -> list[Training]:
        """Table 4: a network and what is left of it without some filters."""
        return [self.unpruned(model), self.pruned(model, "filters")]

    def defenses(self, model: str) -> list[Training]:
        """Table 5: pruning beside networks trained on erased and mixed images, and the control."""
        structures = ["filters", "blocks"] if has_blocks(model) else ["filters"]
        return [
            *(self.unpruned(model, regime) for regime in ("natural", *MIXING)),
            self.trained_on(model),
            *(self.pruned(model, structure) for structure in structures),
        ]

    @property
    def _steps_per_epoch(self):
        return steps_per_epoch(self.data.train, self.recipe.batch_size)

    def _fine_tuned(self, base, **labels):
        """What a trained network becomes in fine-tuning."""
        settings = self.settings
        return self._lasting(
            base,
            settings.fine_tuning_epochs,
            settings.fine_tuning_learning_rate,
            Inherited(base),
            adjustment="fine_tuned",
            **labels,
        )

    def _anew(self, fine_tuned, name, times, start):
        """What is left of a network, trained as long as the whole one was, or longer."""
        epochs, rate = times * self.settings.epochs, self.settings.learning_rate
        method = f"{fine_tuned.labels['method']}_{name}"
        return self._lasting(fine_tuned, epochs, rate, start, adjustment=name, method=method)

    def _lasting(self, training, epochs, learning_rate, start, **labels):
        """The same over other epochs, at another highest learning rate, from another start."""
        per_epoch = self._steps_per_epoch
        return dataclasses.replace(
            training,
            iterations=epochs * per_epoch,
            rates=StepDecay(learning_rate, epochs, per_epoch),
            start=start,
            labels={**training.labels, **labels},
        )


# What each study trains of a model.
STUDIES: dict[str, Callable[[Studies, str], list[Training]]] = {
    "structures": Studies.structures,
    "iterations": Studies.iterations,
    "criteria": Studies.criteria,
    "single_element": Studies.single_element,
    "adjustment": Studies.adjustment,
    "transfer": Studies.transfer,
    "defenses": Studies.defenses,
}
