"""The networks of "Robust Lottery Tickets for Pre-trained Language Models", as a plan."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.attacks.text_recipes import ATTACKS, TextRecipe
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.errors import UserError, require, require_choices
from tf_tickets.runs.run_directory import Cell
from tf_tickets.text_work.nodes import (
    Drawn,
    MaskSearch,
    MaskTuning,
    Pretrained,
    Redrawn,
    Scattered,
    TextAttacked,
    TextNetwork,
    Texts,
    TextTraining,
    Tuning,
)
from tf_tickets.training.schedules import LinearDecay, LinearRamp, steps_per_epoch
from tf_tickets.training.selection import Selection
from tf_tickets.work.nodes import Inherited, Masks, Measurement, Node, Platform
from tf_tickets.work.store import Store
from tf_tickets.work.view import Shown

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
# Of the dense ones, the regime that they are trained in.
DENSE_METHODS = {"fine_tune": "natural", "free_lb": "free_lb", "info_bert": "info_bert"}
ABLATIONS = ("robust", "without_mask_learning", "without_adversarial")
IMPORTANCE = (
    "robust",
    "without_initialization",
    "without_structure",
    "without_structure_longer",
)
CONVERGENCE = ("fine_tune", "free_lb", "lth", "robust")
SEARCH = "search"
SEARCH_OBJECTIVES = ("free_lb", "pgd")
# Which weights a training ends with: those best on validation data, or those after its last step.
WEIGHTS = ("selected", "last")
# What is cut of a search's gradients: each value of them, λ∇R included, or the norm of the rest.
SEARCH_CLIPS = ("values", "norm")
# Iterative magnitude pruning removes this share of all masked weights a round (Chen et al.,
# NeurIPS 2020, whom the paper follows), in percent.
PRUNING_ROUND = 10
SELECTED_BY = "validation/natural/accuracy"
# How often masks are measured in an epoch of their training.
MASK_MEASUREMENTS = 4
# How many test examples the paper attacks (appendix B.2); of all other data sets 1000.
PAPER_EXAMPLES = {"sst2": 872, "imdb": 500}
OTHER_EXAMPLES = 1000


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
        for flag in ("epochs", "longer_epochs", "batch_size"):
            require(getattr(self, flag) >= 1, flag, getattr(self, flag), "at least 1")
        for flag in ("learning_rate", "clip_value"):
            value = getattr(self, flag)
            require(0 < value < math.inf, flag, value, "a number above 0")
        for flag in ("weight_decay", "dropout", "warmup"):
            require(0 <= getattr(self, flag) < 1, flag, getattr(self, flag), "in [0, 1)")
        require_choices("weights", [self.weights], WEIGHTS)


@dataclasses.dataclass(frozen=True)
class MaskLearning:
    """How masks are learned on one data set (Table 6).

    Attributes:
      epochs: passes through the training examples.
      learning_rate: the highest; it rises linearly for a tenth of the training, and falls
        linearly to 0.
      weight_decay: AdamW's, of log α.
      penalty: λ of Equation 8, in the end.
      penalty_warmup: the parts of the training at which λ begins to rise from 0, and at which it
        has risen.
      granularity: what one mask stands for, see `masking.granularity`.
      objective: one of `SEARCH_OBJECTIVES`.
      attack: what its attacker may do; FreeLB and InfoBERT train against the same.
      clip: one of `SEARCH_CLIPS`: what `FineTuning.clip_value` is the limit of.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    penalty: float
    penalty_warmup: tuple[float, float]
    granularity: str
    objective: str
    attack: EmbeddingAttack
    clip: str

    def __post_init__(self):
        require(self.epochs >= 1, "search_epochs", self.epochs, "at least 1")
        rate, penalty = self.learning_rate, self.penalty
        require(0 < rate < math.inf, "search_learning_rate", rate, "a number above 0")
        decay = self.weight_decay
        require(0 <= decay < 1, "search_weight_decay", decay, "in [0, 1)")
        require(0 <= penalty < math.inf, "penalty", penalty, "a number of at least 0")
        begin, end = self.penalty_warmup
        expected = "two parts of the training, the first not above the second, in [0, 1]"
        require(0 <= begin <= end <= 1, "penalty_warmup", f"{begin},{end}", expected)
        require_choices("objective", [self.objective], SEARCH_OBJECTIVES)
        require_choices("search_clip", [self.clip], SEARCH_CLIPS)


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
                given = getattr(self, flag)
                expected = f"numbers for --study={study}, no number twice"
                shown = ",".join(f"{number:g}" for number in given)
                require(len(given) == len(set(given)) > 0, flag, shown, expected)


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """How networks are attacked.

    Attributes:
      attacks: names in `ATTACKS`; studies but `main` have the first alone.
      preset, max_words_changed, bert_attack_candidates: see `TextRecipe`.
      examples: how many test examples are attacked, of each class its share; 0 for as many as
        the paper.
      resources: what the recipes use.
      platform: what else decides what comes of attacks.
    """

    attacks: Sequence[str]
    preset: str
    max_words_changed: float
    bert_attack_candidates: int
    examples: int
    resources: TextResources
    platform: Platform

    def __post_init__(self):
        require_choices("attacks", self.attacks, ATTACKS)
        for attack in self.attacks:
            self.recipe(attack)
        require(self.examples >= 0, "attacked_examples", self.examples, "at least 0")

    def recipe(self, attack: str) -> TextRecipe:
        """How an attack is made."""
        limits = self.max_words_changed, self.bert_attack_candidates
        return TextRecipe(attack, self.preset, *limits)

    def described_resources(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Attack → what it uses, as of `TextAttacked`.

        Raises:
          UserError: something is not there.
        """
        return {
            attack: tuple(self.resources.describe(self.recipe(attack).needs).items())
            for attack in self.attacks
        }


@dataclasses.dataclass(frozen=True)
class Trial:
    """The networks of one data set and seed.

    Attributes:
      settings: of the run.
      network: what is trained.
      texts: what it learns; their seed is the trial's.
      test_examples: how many networks are tested on, and attacks choose from; 0 for all.
      platform: what else decides the numbers.
    """

    settings: RobustBertSettings
    network: TextNetwork
    texts: Texts
    test_examples: int
    platform: Platform

    @property
    def steps(self) -> int:
        """Optimizer steps an epoch."""
        return steps_per_epoch(self.texts.train, self.settings.fine_tuning.batch_size)

    def training(self, method: str, level: int = 0) -> TextTraining:
        """A network of a method, at the data set's sparsity if no level is given."""
        if method in DENSE_METHODS:
            return self._dense(method)
        level = level or self.settings.sparsity[self.texts.name]
        start, masks = self._ticket(method, level)
        return self._sparse(method, "natural", level, start, masks)

    def search(self, penalty: float | None = None, regime: str | None = None) -> MaskSearch:
        """The search of masks over the fine-tuned network, with the data set's own λ by default."""
        tuning, learning = self.settings.fine_tuning, self._learning
        penalty = learning.penalty if penalty is None else penalty
        regime = regime or learning.objective
        iterations = self.steps * learning.epochs
        begin, end = (round(part * iterations) for part in learning.penalty_warmup)
        return MaskSearch(
            network=self.network,
            data=self.texts,
            recipe=MaskTuning(
                tuning.batch_size,
                learning.weight_decay,
                tuning.dropout,
                tuning.clip_value,
                learning.granularity,
                learning.clip,
            ),
            against=regime,
            attack=self._attack(regime),
            iterations=iterations,
            evaluate_every=max(1, self.steps // MASK_MEASUREMENTS),
            rates=LinearDecay(learning.learning_rate, iterations),
            start=Inherited(self.training("fine_tune")),
            seed=self.texts.seed,
            stream=0,
            platform=self.platform,
            penalties=LinearRamp(penalty, begin, end),
            labels=self._labels(f"{SEARCH}_{penalty:g}", regime, 0),
        )

    def judged(self, study: str) -> list[TextTraining]:
        """The networks that a study shows under text attacks."""
        by_study = {
            "main": self.settings.methods,
            "ablation": ABLATIONS,
            "importance": IMPORTANCE,
            "convergence": CONVERGENCE,
        }
        if study == "sparsity":
            levels = self.settings.sparsities
            sparse = [self.training(name, at) for at in levels for name in ("robust", "lth")]
            return [self.training("fine_tune"), self.training("free_lb"), *sparse]
        return [self.training(method) for method in by_study.get(study, ())]

    def trainings(self) -> list[TextTraining]:
        """All trainings of the trial, each under each of its names, after those that it needs."""
        ordered = {}
        for wanted in self._wanted():
            for training in _with_needs(wanted):
                ordered[tuple(training.labels.values())] = training
        return list(ordered.values())

    def shown(self) -> list[Shown]:
        """All trainings with what is measured of them."""
        return [
            Shown((training,))
            if isinstance(training, MaskSearch)
            else Shown(
                (Measurement(training, examples=self.test_examples, labels=training.labels),)
            )
            for training in self.trainings()
        ]

    def attacks(
        self, how: AttackSettings, resources: Mapping[str, tuple[tuple[str, str], ...]]
    ) -> list[Shown]:
        """The attacks of all studies, each once.

        Args:
          how: networks are attacked.
          resources: attack → what it uses, as `AttackSettings.described_resources`.
        """
        shown = {}
        for study in self.settings.studies:
            for training in self.judged(study):
                for attack, split, epoch in self._attacks_of(study, training, how):
                    attacked = TextAttacked(
                        of=training,
                        at=epoch and epoch * self.steps,
                        recipe=how.recipe(attack),
                        split=split,
                        examples=self._attacked_examples(how, split),
                        among=self.test_examples,
                        resources=resources[attack],
                        platform=how.platform,
                        places=how.resources,
                        labels=training.labels,
                    )
                    one = _shown(attacked, epoch)
                    shown[one.files] = one
        return list(shown.values())

    @property
    def _learning(self):
        return self.settings.mask_learning[self.texts.name]

    def _attack(self, regime):
        return None if regime == "natural" else self._learning.attack

    def _labels(self, method, regime, level):
        return {
            "data_set": self.texts.name,
            "model": self.network.name,
            "regime": regime,
            "method": method,
            "seed": self.texts.seed,
            "level": level,
        }

    def _dense(self, method):
        return self._sparse(method, DENSE_METHODS[method], 0, Pretrained(self.texts.seed), None)

    def _sparse(self, method, regime, level, start, masks):
        tuning = self.settings.fine_tuning
        is_longer = method == "without_structure_longer"
        iterations = self.steps * (tuning.longer_epochs if is_longer else tuning.epochs)
        selects = tuning.weights == "selected"
        return TextTraining(
            network=self.network,
            data=self.texts,
            recipe=Tuning(
                tuning.batch_size, tuning.weight_decay, tuning.dropout, tuning.clip_value
            ),
            against=regime,
            attack=self._attack(regime),
            iterations=iterations,
            evaluate_every=self.steps,
            rates=LinearDecay(tuning.learning_rate, iterations, tuning.warmup),
            start=start,
            seed=self.texts.seed,
            stream=level,
            platform=self.platform,
            masks=masks,
            selections=(Selection(SELECTED_BY),) if selects else (),
            labels=self._labels(method, regime, level),
        )

    def _ticket(self, method, level):
        """What a sparse network starts from, and its masks."""
        start, seed = Pretrained(self.texts.seed), self.texts.seed
        if method in ("lth", "without_mask_learning"):
            return start, Masks(self._round_before(method, level), level / 100, "magnitude")
        regime = "natural" if method == "without_adversarial" else None
        drawn = Drawn(self.search(regime=regime), level / 100)
        if method == "random":
            return start, Scattered(drawn, seed)
        if method == "without_initialization":
            return Redrawn(seed), drawn
        if method.startswith("without_structure"):
            return Redrawn(seed, outside=drawn), None
        return start, drawn

    def _round_before(self, method, level):
        """Of iterative magnitude pruning; the dense network comes before the first round."""
        before = (level - 1) // PRUNING_ROUND * PRUNING_ROUND
        adversarial = method == "without_mask_learning"
        if not before:
            return self.training("free_lb" if adversarial else "fine_tune")
        regime = "free_lb" if adversarial else "natural"
        return self._sparse(method, regime, before, *self._ticket(method, before))

    def _wanted(self) -> Iterator[TextTraining]:
        for study in self.settings.studies:
            yield from self.judged(study)
            if study == "patterns":
                yield self.training("robust")
            if study == "regularization":
                for penalty in self.settings.penalties:
                    yield self.search(penalty)

    def _attacks_of(self, study, training, how):
        """(attack, split, epoch or None for the last weights)."""
        first = how.attacks[0]
        if study == "convergence":
            epochs = training.iterations // self.steps
            return [(first, "validation", epoch) for epoch in range(1, epochs + 1)]
        return [(attack, "test", None) for attack in (how.attacks if study == "main" else [first])]

    def _attacked_examples(self, how, split):
        wanted = how.examples or PAPER_EXAMPLES.get(self.texts.name, OTHER_EXAMPLES)
        tested = self.test_examples or self.texts.test
        return min(wanted, tested if split == "test" else self.texts.validation)


def of_stage(stage: str, wanted: Sequence[Node], store: Store) -> list[Node]:
    """What a stage does of what a run asks for.

    Args:
      stage: `train`, `attack` (what is trained), `report` (nothing), or `all`.
      wanted: all of it.
      store: what there is.

    Raises:
      UserError: there is nothing to attack.
    """
    if stage == "all":
        return list(wanted)
    attacks = [node for node in wanted if isinstance(node, TextAttacked)]
    if stage == "train":  # And keep weights that will be attacked.
        others = [node for node in wanted if not isinstance(node, TextAttacked)]
        return [*others, *(node.of for node in attacks)]
    trained = [node for node in attacks if store.is_finished(node.of)]
    if stage == "attack" and attacks and not trained:
        raise UserError("--stage=attack: nothing is trained yet; run --stage=train first")
    return trained if stage == "attack" else []


def _with_needs(training):
    """A training after all trainings that it needs."""
    return [each for need in training.needs for each in _with_needs(need)] + [training]


def _shown(attacked, epoch):
    """The names of an attack's numbers, and of its table of texts."""
    labels, recipe = attacked.labels, attacked.recipe
    after = "" if epoch is None else f"_epoch_{epoch:03d}"
    level = f"level_{labels['level']:02d}"
    names = ("data_set", "regime", "method", "seed", "model")
    folder = Path("attacks", Cell(*(labels[name] for name in names)).path, level)
    table = folder / f"{attacked.split}_{recipe.attack}_{recipe.preset}{after}"
    files = tuple((f"texts{kind}", f"{table}{kind}") for kind in (".csv", ".json"))
    return Shown((attacked,), f"{level}{after}_{attacked.split}_{recipe.attack}", files)
