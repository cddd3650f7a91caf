"""The networks of "Robust Lottery Tickets for Pre-trained Language Models", as a plan."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from experiments.robust_bert_tickets.examples import table_of_texts
from experiments.robust_bert_tickets.settings import AttackSettings, RobustBertSettings
from tf_tickets.errors import UserError
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

# Methods whose networks are not pruned, and the regime that they are trained in.
DENSE_METHODS = {"fine_tune": "natural", "free_lb": "free_lb", "info_bert": "info_bert"}
ABLATIONS = ("robust", "without_mask_learning", "without_adversarial")
IMPORTANCE = ("robust", "without_initialization", "without_structure", "without_structure_longer")
CONVERGENCE = ("fine_tune", "free_lb", "lth", "robust")
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
            return self._tuned(method, DENSE_METHODS[method], 0)
        return self._tuned(method, "natural", level or self.settings.sparsity[self.texts.name])

    def search(self, penalty: float | None = None, regime: str | None = None) -> MaskSearch:
        """The search of masks over the fine-tuned network, with the data set's own λ by default."""
        tuning, learning = self.settings.fine_tuning, self._learning
        penalty = learning.penalty if penalty is None else penalty
        regime = regime or learning.objective
        iterations = self.steps * learning.search_epochs
        begin, end = (round(part * iterations) for part in learning.penalty_warmup)
        return MaskSearch(
            **self._shared(regime),
            recipe=MaskTuning(
                tuning.batch_size,
                learning.search_weight_decay,
                tuning.dropout,
                tuning.clip_value,
                learning.granularity,
                learning.search_clip,
            ),
            iterations=iterations,
            evaluate_every=max(1, self.steps // MASK_MEASUREMENTS),
            rates=LinearDecay(learning.search_learning_rate, iterations),
            start=Inherited(self.training("fine_tune")),
            stream=0,
            penalties=LinearRamp(penalty, begin, end),
            labels=self._labels(f"search_{penalty:g}", regime, 0, float(penalty)),
        )

    def judged(self, study: str) -> list[TextTraining]:
        """The networks that a study shows under text attacks."""
        by_study = {
            "main": self.settings.methods,
            "ablation": ABLATIONS,
            "importance": IMPORTANCE,
            "convergence": CONVERGENCE,
            "sparsity": ("fine_tune", "free_lb"),
        }
        levels = self.settings.sparsities if study == "sparsity" else ()
        swept = [self.training(method, at) for at in levels for method in ("robust", "lth")]
        return [self.training(method) for method in by_study.get(study, ())] + swept

    def trainings(self) -> list[TextTraining]:
        """All trainings of the trial, each under each of its names, after those that it needs."""
        ordered = {}
        for wanted in self._wanted():
            for training in _with_needs(wanted):
                ordered[tuple(training.labels.values())] = training
        return list(ordered.values())

    def shown(self) -> list[Shown]:
        """All trainings with what is measured of them; of searches, that is nothing."""
        return [
            Shown((training if isinstance(training, MaskSearch) else self._tested(training),))
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
                        labels={**training.labels, "recipe": how.attack_recipe},
                    )
                    one = _shown(attacked, epoch)
                    shown[one.files] = one
        return list(shown.values())

    @property
    def _learning(self):
        return self.settings.mask_learning[self.texts.name]

    def _shared(self, regime):
        """What all trainings of the trial have in common that meet the same attacker."""
        return {
            "network": self.network,
            "data": self.texts,
            "against": regime,
            "attack": None if regime == "natural" else self._learning.attack,
            "seed": self.texts.seed,
            "platform": self.platform,
        }

    def _labels(self, method, regime, level, penalty=None):
        encoder = self.network.encoder
        return {
            "data_set": self.texts.name,
            "model": self.network.name,
            "regime": regime,
            "method": method,
            "seed": self.texts.seed,
            "level": level,
            "encoder": encoder.name,
            "layers": encoder.config.num_layers,
            "penalty": penalty,
        }

    def _tuned(self, method, regime, level):
        tuning = self.settings.fine_tuning
        is_longer = method == "without_structure_longer"
        iterations = self.steps * (tuning.longer_epochs if is_longer else tuning.epochs)
        selects = tuning.weights == "selected"
        start, masks = self._ticket(method, level)
        return TextTraining(
            **self._shared(regime),
            recipe=Tuning(
                tuning.batch_size, tuning.weight_decay, tuning.dropout, tuning.clip_value
            ),
            iterations=iterations,
            evaluate_every=self.steps,
            rates=LinearDecay(tuning.learning_rate, iterations, tuning.warmup),
            start=start,
            stream=level,
            masks=masks,
            selections=(Selection(SELECTED_BY),) if selects else (),
            labels=self._labels(method, regime, level),
        )

    def _ticket(self, method, level):
        """What a network starts from, and its masks."""
        start, seed = Pretrained(self.texts.seed), self.texts.seed
        if method in DENSE_METHODS:
            return start, None
        if method in ("lth", "without_mask_learning"):
            return start, Masks(self._round_before(method, level), level / 100, "magnitude")
        regime = "natural" if method == "without_adversarial" else None
        drawn = Drawn(self.search(regime=regime), level / 100)
        if method == "random":
            return start, Scattered(drawn, seed)
        if method == "without_initialization":
            return Redrawn(seed), drawn
        if method in ("without_structure", "without_structure_longer"):
            return Redrawn(seed, outside=drawn), None
        return start, drawn

    def _round_before(self, method, level):
        """Of iterative magnitude pruning; the dense network comes before the first round."""
        dense = "free_lb" if method == "without_mask_learning" else "fine_tune"
        before = (level - 1) // PRUNING_ROUND * PRUNING_ROUND
        return self._tuned(method if before else dense, DENSE_METHODS[dense], before)

    def _tested(self, training):
        return Measurement(training, examples=self.test_examples, labels=training.labels)

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
        wanted = how.attacked_examples or PAPER_EXAMPLES.get(self.texts.name, OTHER_EXAMPLES)
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
    labels, attack = attacked.labels, attacked.recipe.attack
    cell, level = Cell(*(labels[name] for name in Cell._fields)), labels["level"]
    after = "" if epoch is None else f"_epoch_{epoch:03d}"
    table = table_of_texts(cell, level, attacked.split, attack, f"{labels['recipe']}{after}")
    files = tuple((f"texts{kind}", f"{table.with_suffix(kind)}") for kind in (".csv", ".json"))
    return Shown((attacked,), f"level_{level:02d}{after}_{attacked.split}_{attack}", files)
