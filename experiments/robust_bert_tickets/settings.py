"""What a run of "Robust Lottery Tickets" is told, checked; fields are called as the flags are."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.attacks.text_recipes import ATTACKS, TextRecipe
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.errors import require, require_choices
from tf_tickets.work.nodes import Platform

STUDIES = (
    "main",
    "ablation",
    "importance",
    "regularization",
    "sparsity",
    "patterns",
    "convergence",
)
# Of Tables 1 and 2, by the paper's names: Fine-tune, LTH, FreeLB, InfoBERT, Rand, RobustT.
METHODS = ("fine_tune", "lth", "free_lb", "info_bert", "random", "robust")
SEARCH_OBJECTIVES = ("free_lb", "pgd")
# Which weights a training ends with: those best on validation data, or those after its last step.
WEIGHTS = ("selected", "last")
# What is cut of a search's gradients: each value of them, λ∇R included, or the norm of the rest.
SEARCH_CLIPS = ("values", "norm")


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """How weights are trained (Table 5).

    Attributes:
      epochs: passes through the training examples.
      longer_epochs: the same of "w/o Structure+Longer" in Table 4.
      batch_size: examples a step, over all replicas.
      learning_rate: the highest; it rises linearly during the warm-up, and falls linearly to 0.
      weight_decay: AdamW's, of all but biases and LayerNorm.
      dropout: rate of all dropout layers.
      clip_value: gradients are cut to [−clip_value, clip_value].
      warmup: the part of the training that is its warm-up.
      weights: one of `WEIGHTS`; with `last` all methods are trained equally long.
    """

    epochs: int
    longer_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    clip_value: float
    warmup: float
    weights: str

    def __post_init__(self):
        _require_counts(self, "epochs", "longer_epochs", "batch_size")
        _require_above_0(self, "learning_rate", "clip_value")
        _require_shares(self, "weight_decay", "dropout", "warmup")
        require_choices("weights", [self.weights], WEIGHTS)


@dataclasses.dataclass(frozen=True)
class MaskLearning:
    """How masks are learned on one data set (Table 6).

    Attributes:
      search_epochs: passes through the training examples.
      search_learning_rate: the highest; it rises linearly for a tenth of the training, and falls
        linearly to 0.
      search_weight_decay: AdamW's, of log α.
      penalty: λ of Equation 8, in the end.
      penalty_warmup: the parts of the training at which λ begins to rise from 0, and at which it
        has risen.
      granularity: what one mask stands for, see `masking.granularity`.
      objective: one of `SEARCH_OBJECTIVES`.
      attack: what its attacker may do; FreeLB and InfoBERT train against the same.
      search_clip: one of `SEARCH_CLIPS`: what `FineTuning.clip_value` is the limit of.
    """

    search_epochs: int
    search_learning_rate: float
    search_weight_decay: float
    penalty: float
    penalty_warmup: tuple[float, float]
    granularity: str
    objective: str
    attack: EmbeddingAttack
    search_clip: str

    def __post_init__(self):
        _require_counts(self, "search_epochs")
        _require_above_0(self, "search_learning_rate")
        _require_shares(self, "search_weight_decay")
        require(0 <= self.penalty < math.inf, "penalty", self.penalty, "a number of at least 0")
        begin, end = self.penalty_warmup
        expected = "two parts of the training, the first not above the second, in [0, 1]"
        require(0 <= begin <= end <= 1, "penalty_warmup", f"{begin},{end}", expected)
        require_choices("objective", [self.objective], SEARCH_OBJECTIVES)
        require_choices("search_clip", [self.search_clip], SEARCH_CLIPS)


@dataclasses.dataclass(frozen=True)
class RobustBertSettings:
    """What a run consists of.

    Attributes:
      data_sets: names in `data.text_registry`.
      seeds: one a trial.
      studies: names in `STUDIES`.
      methods: which of `METHODS` the study `main` compares.
      sparsity: data set → sparsity of the tickets in percent, but for the study `sparsity`.
      sparsities: those of the study `sparsity`, in percent.
      penalties: λ of the study `regularization`.
      fine_tuning: how weights are trained.
      mask_learning: data set → how masks are learned.
    """

    data_sets: Sequence[str]
    seeds: Sequence[int]
    studies: Sequence[str]
    methods: Sequence[str]
    sparsity: Mapping[str, int]
    sparsities: Sequence[int]
    penalties: Sequence[float]
    fine_tuning: FineTuning
    mask_learning: Mapping[str, MaskLearning]

    def __post_init__(self):
        require_choices("study", self.studies, STUDIES)
        require_choices("methods", self.methods, METHODS)
        for flag, given in (("sparsity", self.sparsity.values()), ("sparsities", self.sparsities)):
            for sparsity in given:
                require(0 < sparsity < 100, flag, sparsity, "percent, from 1 to 99")
        for penalty in self.penalties:
            require(0 <= penalty < math.inf, "penalties", penalty, "numbers of at least 0")
        for study, flag in (("sparsity", "sparsities"), ("regularization", "penalties")):
            if study in self.studies:
                names = [f"{number:g}" for number in getattr(self, flag)]  # As in `method`.
                expected = f"numbers for --study={study}, no number twice"
                require(len(names) == len(set(names)) > 0, flag, ",".join(names), expected)


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """How networks are attacked.

    Attributes:
      attacks: names in `ATTACKS`; studies but `main` have the first alone.
      attack_recipe, max_words_changed, bert_attack_candidates: see `TextRecipe`.
      attacked_examples: how many test examples are attacked, of each class its share; 0 for as
        many as the paper.
      resources: what the recipes use.
      platform: what else decides what comes of attacks.
    """

    attacks: Sequence[str]
    attack_recipe: str
    max_words_changed: float
    bert_attack_candidates: int
    attacked_examples: int
    resources: TextResources
    platform: Platform

    def __post_init__(self):
        require_choices("attacks", self.attacks, ATTACKS)
        for attack in self.attacks:
            self.recipe(attack)
        given = self.attacked_examples
        require(given >= 0, "attacked_examples", given, "at least 0")

    def recipe(self, attack: str) -> TextRecipe:
        """How an attack is made."""
        limits = self.max_words_changed, self.bert_attack_candidates
        return TextRecipe(attack, self.attack_recipe, *limits)

    def described_resources(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Attack → what it uses, as of `TextAttacked`.

        Raises:
          UserError: something is not there.
        """
        return {
            attack: tuple(self.resources.describe(self.recipe(attack).needs).items())
            for attack in self.attacks
        }


def _require_counts(settings, *flags):
    for flag in flags:
        require(getattr(settings, flag) >= 1, flag, getattr(settings, flag), "at least 1")


def _require_above_0(settings, *flags):
    for flag in flags:
        value = getattr(settings, flag)
        require(0 < value < math.inf, flag, value, "a number above 0")


def _require_shares(settings, *flags):
    for flag in flags:
        require(0 <= getattr(settings, flag) < 1, flag, getattr(settings, flag), "in [0, 1)")
