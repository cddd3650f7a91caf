"""What the studies of "On the Effect of Pruning on Adversarial Robustness" vary and share."""

import dataclasses
import math
from collections.abc import Iterable

from tf_tickets.errors import require, require_choices
from tf_tickets.models.registry import is_convolutional
from tf_tickets.structured import selection
from tf_tickets.structured.criteria import CRITERIA

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
      scope: see `selection.Cut`.
      criterion_form: see `criteria.score`.
      iterations: cuts of the iterations study.
      epochs: length of the training of unpruned networks.
      fine_tuning_epochs: length of the training after a cut.
      learning_rate: of new networks.
      fine_tuning_learning_rate: after a cut.
      rewind_epoch: of the unpruned network's training, whose weights winning tickets inherit.
      scoring_examples: training images, as many of each class, that criteria see; 0 for all.
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
