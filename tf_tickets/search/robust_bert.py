"""What "Robust Lottery Tickets for Pre-trained Language Models" trains: settings and networks."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.errors import require, require_choices
from tf_tickets.runs.run_directory import Cell

EXPERIMENT = "robust_bert_tickets"
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


class Network(NamedTuple):
    """One training of a run: of a network's weights, or of the masks over it.

    Attributes:
      data_set: what it is trained on.
      seed: the trial's.
      method: one of `METHODS`, `ABLATIONS` and `IMPORTANCE`, or `SEARCH`.
      regime: what it is trained against, or `natural`.
      level: its sparsity in percent; 0 is dense.
      penalty: λ of a search; 0 of all others.
    """

    data_set: str
    seed: int
    method: str
    regime: str
    level: int = 0
    penalty: float = 0.0

    def cell(self, model: str) -> Cell:
        """Where it belongs in a run whose encoder is called `model`."""
        method = f"{SEARCH}_{self.penalty:g}" if self.method == SEARCH else self.method
        return Cell(self.data_set, self.regime, method, self.seed, model)


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

    def networks(self, data_set: str, seed: int) -> list[Network]:
        """All trainings of a trial, each after those that it needs."""
        ordered = {}
        for wanted in self._wanted(data_set, seed):
            for network in self._with_needs(wanted):
                ordered[network] = None
        return list(ordered)

    def judged(self, data_set: str, seed: int, study: str) -> list[Network]:
        """The networks that a study shows under text attacks."""
        by_study = {
            "main": self.methods,
            "ablation": ABLATIONS,
            "importance": IMPORTANCE,
            "convergence": CONVERGENCE,
        }
        if study == "sparsity":
            names = ((method, level) for level in self.sparsities for method in ("robust", "lth"))
            dense = (self.network(data_set, seed, name) for name in ("fine_tune", "free_lb"))
            return [*dense, *(self.network(data_set, seed, *name) for name in names)]
        return [self.network(data_set, seed, method) for method in by_study.get(study, ())]

    def network(self, data_set: str, seed: int, method: str, level: int = 0) -> Network:
        """A network of a method, at the data set's sparsity if no level is given."""
        if method in DENSE_METHODS:
            return Network(data_set, seed, method, DENSE_METHODS[method])
        return Network(data_set, seed, method, "natural", level or self.sparsity[data_set])

    def search(self, data_set: str, seed: int, penalty: float | None = None) -> Network:
        """The search of masks, with the data set's own λ if none is given."""
        learning = self.mask_learning[data_set]
        penalty = learning.penalty if penalty is None else penalty
        return Network(data_set, seed, SEARCH, learning.objective, penalty=penalty)

    def epochs_of(self, network: Network) -> int:
        """How long it is trained."""
        if network.method == SEARCH:
            return self.mask_learning[network.data_set].epochs
        longer = network.method == "without_structure_longer"
        return self.fine_tuning.longer_epochs if longer else self.fine_tuning.epochs

    def ticket_source(self, network: Network) -> Network:
        """The training whose result decides a sparse network's masks."""
        search = self.search(network.data_set, network.seed)
        if network.method == "without_adversarial":
            return search._replace(regime="natural")
        if network.method in ("lth", "without_mask_learning"):
            return self._round_before(network)
        return search

    def _round_before(self, network):
        """Of iterative magnitude pruning; the dense network comes before the first round."""
        before = (network.level - 1) // PRUNING_ROUND * PRUNING_ROUND
        adversarial = network.method == "without_mask_learning"
        if not before:
            dense = "free_lb" if adversarial else "fine_tune"
            return self.network(network.data_set, network.seed, dense)
        regime = "free_lb" if adversarial else "natural"
        return network._replace(level=before, regime=regime)

    def _wanted(self, data_set: str, seed: int) -> Iterator[Network]:
        for study in self.studies:
            yield from self.judged(data_set, seed, study)
            if study == "patterns":
                yield self.network(data_set, seed, "robust")
            if study == "regularization":
                for penalty in self.penalties:
                    yield self.search(data_set, seed, penalty)

    def _with_needs(self, network: Network) -> Iterable[Network]:
        """A network after all that it needs."""
        need = self._need(network)
        return [network] if need is None else [*self._with_needs(need), network]

    def _need(self, network):
        if network.method == SEARCH:
            return self.network(network.data_set, network.seed, "fine_tune")
        return self.ticket_source(network) if network.level else None
