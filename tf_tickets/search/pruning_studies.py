"""The studies of "On the Effect of Pruning on Adversarial Robustness", as lists of networks."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

from tf_tickets.data.augmentation import MIXING
from tf_tickets.errors import require, require_choices
from tf_tickets.models.graph import graph_of
from tf_tickets.models.registry import build_model, is_convolutional
from tf_tickets.search.structures import Network
from tf_tickets.structured.blocks import most_removable_blocks
from tf_tickets.structured.criteria import CRITERIA
from tf_tickets.structured.selection import Cut

PAPER_MODELS = {
    "structures": ("resnet_56", "mobilenet_v2", "vgg_16"),
    "transfer": ("resnet_56", "mobilenet_v2"),
    "defenses": ("resnet_50",),
}
_OTHER_STUDIES = ("resnet_56",)
STRUCTURES = ("filters", "blocks", "both")


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
      scope: see `Cut`.
      criterion_form: see `criteria.score`.
      iterations: cuts of the iterations study.
      epochs: length of the training of unpruned networks.
      fine_tuning_epochs: length of the training after a cut.
      learning_rate: of new networks.
      fine_tuning_learning_rate: after a cut.
      rewind_epoch: of the unpruned network's training, whose weights winning tickets inherit.
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

    def cut(self, structure: str = "both", criterion: str = "") -> Cut:
        """What takes a structure out: a name in `STRUCTURES`.

        As in the paper only the first convolution of each residual block loses filters.
        """
        return Cut(
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


@functools.cache
def has_blocks(model: str) -> bool:
    """Whether residual blocks may be taken out of a network, which does not depend on its width."""
    network = build_model(model, image_shape=(32, 32, 3), num_classes=10, seed=0)
    return most_removable_blocks(graph_of(network)) > 0


def unpruned(settings: PruningSettings, model: str, regime: str = "natural") -> Network:
    """The whole network."""
    return Network("unpruned", model, regime, settings.epochs, settings.learning_rate)


def trained_on(settings: PruningSettings, model: str) -> Network:
    """The control: trained on as long as pruned networks are, with nothing taken out."""
    return dataclasses.replace(
        unpruned(settings, model),
        method="unpruned_fine_tuned",
        epochs=settings.fine_tuning_epochs,
        learning_rate=settings.fine_tuning_learning_rate,
        base=unpruned(settings, model),
    )


def pruned(
    settings: PruningSettings, model: str, structure: str, criterion: str = "", cuts: int = 1
) -> Network:
    """Algorithm 1: a network cut and fine-tuned, once or several times."""
    criterion = criterion or settings.criterion
    base = unpruned(settings, model)
    if cuts > 1:
        base = pruned(settings, model, structure, criterion, cuts - 1)
    return dataclasses.replace(
        trained_on(settings, model),
        method=f"{criterion}_{structure}",
        base=base,
        cut=settings.cut(structure, criterion),
    )


def structures(settings: PruningSettings) -> list[Network]:
    """Table 1: filters, blocks and both, and the control."""
    networks = []
    for model in settings.models_of("structures"):
        networks.append(trained_on(settings, model))
        networks += [
            pruned(settings, model, structure)
            for structure in settings.structures
            if structure == "filters" or has_blocks(model)
        ]
    return networks


def iterations(settings: PruningSettings) -> list[Network]:
    """Figure 2: one cut after another, and the control of the first."""
    networks = []
    for model in settings.models_of("iterations"):
        networks.append(trained_on(settings, model))
        for cuts in range(1, settings.iterations + 1):
            networks.append(pruned(settings, model, "filters", cuts=cuts))
    return networks


def criteria(settings: PruningSettings) -> list[Network]:
    """Table 2: filters taken out by several criteria, and the control."""
    networks = []
    for model in settings.models_of("criteria"):
        networks.append(trained_on(settings, model))
        networks += [
            pruned(settings, model, "filters", criterion) for criterion in settings.criteria
        ]
    return networks


def single_element(settings: PruningSettings) -> list[Network]:
    """Algorithm 2 and Figure 3 only need the whole networks."""
    return [unpruned(settings, model) for model in settings.models_of("single_element")]


def adjustment(settings: PruningSettings) -> list[Network]:
    """Table 3: what is left of a network, fine-tuned or trained anew, and the control.

    Raises:
      UserError: a `rewind_epoch` that unpruned networks do not have.
    """
    epoch, expected = settings.rewind_epoch, f"0 to {settings.epochs}, the --epochs"
    require(0 <= epoch <= settings.epochs, "rewind_epoch", epoch, expected)
    networks = []
    for model in settings.models_of("adjustment"):
        fine_tuned = pruned(settings, model, "filters")
        networks += [trained_on(settings, model), fine_tuned]
        for name, times, start in (
            ("scratch_1x", 1, "new"),
            ("scratch_2x", 2, "new"),
            ("winning_ticket", 1, "rewound"),
        ):
            again = dataclasses.replace(
                fine_tuned,
                method=f"{fine_tuned.method}_{name}",
                epochs=times * settings.epochs,
                learning_rate=settings.learning_rate,
                start=start,
                rewind_epoch=settings.rewind_epoch if start == "rewound" else 0,
            )
            networks.append(again)
    return networks


def transfer(settings: PruningSettings) -> list[Network]:
    """Table 4: networks and what is left of them without some filters."""
    return [
        network
        for model in settings.models_of("transfer")
        for network in (unpruned(settings, model), pruned(settings, model, "filters"))
    ]


def defenses(settings: PruningSettings) -> list[Network]:
    """Table 5: pruning beside networks trained on erased and mixed images, and the control."""
    networks = []
    for model in settings.models_of("defenses"):
        networks += [unpruned(settings, model, regime) for regime in ("natural", *MIXING)]
        networks += [trained_on(settings, model), pruned(settings, model, "filters")]
        if has_blocks(model):
            networks.append(pruned(settings, model, "blocks"))
    return networks


STUDIES: dict[str, Callable[[PruningSettings], list[Network]]] = {
    "structures": structures,
    "iterations": iterations,
    "criteria": criteria,
    "single_element": single_element,
    "adjustment": adjustment,
    "transfer": transfer,
    "defenses": defenses,
}


def networks_of(studies: Sequence[str], settings: PruningSettings) -> list[Network]:
    """The networks of several studies, each once; those of equal names are the same."""
    return list(dict.fromkeys(network for study in studies for network in STUDIES[study](settings)))
