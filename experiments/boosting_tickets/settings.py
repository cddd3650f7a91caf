"""What the studies of "Boosting Ticket" vary, and what they share."""

import dataclasses
import math
from collections.abc import Mapping

from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.errors import require, require_choices
from tf_tickets.masking.magnitude import SCORES
from tf_tickets.models.registry import require_model, wide_resnet_size
from tf_tickets.training.schedules import steps_per_epoch
from tf_tickets.work.nodes import Attack, Data, Platform, Recipe

REGIMES = ("natural", "fgsm", "fast", "pgd")

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
            texts = [f"{value:.10g}" for value in getattr(self, flag)]
            require(len(texts) > 0, flag, "", "at least one number")
            require(len(set(texts)) == len(texts), flag, ",".join(texts), "different numbers")
        for model in self.capacity_models:
            expected = "Wide ResNets, wide_resnet_<depth>_<width>"
            require(wide_resnet_size(model) is not None, "capacity_models", model, expected)

    def models_of(self, study: str) -> tuple[str, ...]:
        """The networks of a study."""
        own = {"capacity": self.capacity_models, "mnist": self.mnist_models}
        return own.get(study) or self.models or PAPER_MODELS[study]

    def small_learning_rate(self, model: str) -> float:
        """Of the trainings that find a model's masks, and where its warm-up begins.

        The paper's are 0.01 for VGG-16 and 0.05 for residual networks.
        """
        return self.finding_learning_rate or (0.01 if model == "vgg_16" else 0.05)

    def warmup(self, model: str) -> tuple[int, float] | tuple[()]:
        """How many epochs retraining climbs, and from what learning rate; () for no warm-up."""
        climbs = self.warmup_epochs > 0
        return (self.warmup_epochs, self.small_learning_rate(model)) if climbs else ()


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What all trainings of a seed share, whatever the study.

    Attributes:
      data: what they learn from; its seed decides initial weights and the order of batches too.
      image_shape, classes: of the data.
      width_multiplier: of the networks.
      recipe: how weights are learned.
      batch_sizes: model → batch size, where it is not the recipe's.
      attacks: regime → what is trained against.
      evaluation_attack: what adversarially trained networks meet after every epoch, which decides
        the weights that they end with.
      fast_stop_after_drop: what stops fast adversarial training, see `Selection`.
      test_examples: how many each network is measured on at its end.
      platform: what else decides the numbers.
    """

    data: Data
    image_shape: tuple[int, ...]
    classes: int
    width_multiplier: float
    recipe: Recipe
    batch_sizes: Mapping[str, int]
    attacks: Mapping[str, ThreatModel]
    evaluation_attack: Attack
    fast_stop_after_drop: float
    test_examples: int
    platform: Platform

    def batch_size(self, model: str) -> int:
        """Examples a step of that model's trainings."""
        return self.batch_sizes.get(model, self.recipe.batch_size)

    def steps_per_epoch(self, model: str) -> int:
        """Iterations that come closest to one pass through the training examples."""
        return steps_per_epoch(self.data.train, self.batch_size(model))


def transfer_attack(method: str) -> str:
    """The name in results of adversarial examples that were made for another network."""
    return f"transfer_from_{method}"
