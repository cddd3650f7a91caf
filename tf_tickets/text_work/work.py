"""Trainings of text classifiers, searches of masks, and attacks on texts, done in this process."""

import dataclasses
import functools
import tempfile
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.data.length_grouped import LengthGroupedOrder
from tf_tickets.data.text import SPLIT_NAMES, TextData, TextSplit
from tf_tickets.data.tokens import Tokenizer, TokenSplit, tokenize_split
from tf_tickets.errors import UserError
from tf_tickets.evaluation.text_accuracy import TextEvaluator
from tf_tickets.evaluation.text_attacks import attack_examples
from tf_tickets.evaluation.text_outcomes import TextAttackMetrics
from tf_tickets.evaluation.text_victim import save_victim
from tf_tickets.evaluation.text_workers import TextAttackWorkers
from tf_tickets.masking.drawing import magnitude_ticket, one_shot_ticket, random_ticket
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256, dense_ticket
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.models.weights import Weights, read_weights, write_weights
from tf_tickets.text_work.data import read_again, read_encoder_again
from tf_tickets.text_work.nodes import (
    MaskSearch,
    Redrawn,
    Scattered,
    TextAttacked,
    TextNetwork,
    Texts,
    TextTraining,
)
from tf_tickets.training.selection import KeptWeights
from tf_tickets.training.text_step import TextTask
from tf_tickets.training.text_trainer import MaskTrainer, TextTrainer
from tf_tickets.work.nodes import Inherited, Masks, Measurement, Node
from tf_tickets.work.performing import Work, description, passes
from tf_tickets.work.side_by_side import Setup
from tf_tickets.work.store import Record

# Natural training looks at no attack; what it would be decides nothing.
_NO_ATTACK = EmbeddingAttack(0.0, 0.0, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class TextWork(Work):
    """Work on classifiers of texts.

    Attributes:
      processes: that attack texts side by side.
    """

    processes: int = 1

    def do(self, node: Node) -> None:
        _WAYS[type(node)](self, node)

    def close(self) -> None:
        self._attackers.stop()
        self._benches.clear()

    @functools.cached_property
    def _attackers(self) -> TextAttackWorkers:
        return TextAttackWorkers(self.processes)

    @functools.cached_property
    def _benches(self) -> dict[tuple, "TextBench"]:
        return {}

    def _bench(self, training):
        key = training.network, training.data
        if key not in self._benches:
            self._benches.clear()  # Plans go by data: no later work needs the others.
            data = read_again(training.data, self.places.of(training.data.name))
            self._benches[key] = TextBench(*key, data, self.strategy)
        return self._benches[key]

    def _tune(self, training):
        bench = self._bench(training)
        trainer = bench.trainer(training)
        start = self._start(training, trainer)
        ticket = self._ticket(training, trainer, arrays_sha256(start))
        trainer.reset(start, ticket.masks, training.seed)
        selections = training.selections
        kept_weights = bench.kept_weights(training) if selections else []
        on_validation = _on_validation(bench, trainer)
        progress = self.train(
            training, trainer, _order(bench, training), kept_weights, on_validation
        )
        ended = progress.selected[selections[0].metric][0] if selections else progress.iteration
        record = Record(tuple(progress.history), (ended,), ticket.sparsity)
        self.store.finish(training, record, ticket, [trainer.weights()])

    def _search(self, search):
        bench = self._bench(search)
        trainer = bench.trainer(search)
        weights = self.store.weights(search.start.of, search.start.at)
        trainer.reset(weights, search.seed, search.penalties)
        on_validation = _on_validation(bench, trainer)

        def measure(iteration):
            penalty = float(trainer.penalties(iteration, 1)[0])
            measured = trainer.measure() | {"penalty": penalty}
            on_masks = {f"masks/all/{name}": value for name, value in measured.items()}
            return on_masks | on_validation(iteration)

        progress = self.train(search, trainer, _order(bench, search), [], measure)
        record = Record(tuple(progress.history), (progress.iteration,), 0.0)
        self.store.finish(search, record, weights=[trainer.weights()])

    def _measure(self, measurement):
        self.stop_if_requested()
        training, record = measurement.of, self.store.record(measurement.of)
        bench = self._bench(training)
        trainer, weights = bench.trainer(training), self.store.weights(training)
        write_weights(trainer.model, weights)
        evaluator = bench.evaluator(trainer)
        measured = {
            f"{split}/natural/accuracy": evaluator.evaluate(
                bench.tokens(split, measurement.examples)
            )["natural/accuracy"]
            for split in measurement.splits
        }
        measured["ticket/model/sparsity"] = sparsity_of_all(self.store.ticket(training), weights)
        history = [(record.ended, metric, value) for metric, value in measured.items()]
        self.end(measurement, Record(tuple(history), record.selected, record.sparsity))

    def _attack(self, attacked):
        if not self.store.writable:
            return  # The chief alone attacks.
        self.stop_if_requested()
        _require_same_resources(attacked)
        training, record = attacked.of, self.store.record(attacked.of)
        bench = self._bench(training)
        split = attacked_part(bench.data, attacked)
        done, whole = 0.0, passes(attacked)

        def report(finished, total):
            nonlocal done
            self.advance(whole * finished / total - done, description(attacked))
            done = whole * finished / total

        with tempfile.TemporaryDirectory() as folder:
            model = network_of(training, self.store.weights(training, attacked.at)).model
            encoder, length = bench.encoder, training.data.length
            save_victim(folder, model, encoder.vocabulary, encoder.lowercase, length)
            result = attack_examples(
                folder,
                bench.data.parts,
                split.texts,
                split.labels,
                recipe=attacked.recipe,
                resources=attacked.places,
                table_path=self.store.table_path(attacked),
                workers=self._attackers,
                stop_if_requested=self.stop_if_requested,
                on_progress=report,
            )
        at = record.ended if attacked.at is None else attacked.at
        history = [
            (at, f"{attacked.split}/{attacked.recipe.attack}/{name}", value)
            for name, value in _numbers(result.metrics).items()
        ]
        self.store.finish(attacked, Record(tuple(history), (at,), record.sparsity))

    def _start(self, training, trainer) -> Weights:
        """The weights that a training begins with."""
        start, initial = training.start, trainer.initial_weights
        if isinstance(start, Inherited):
            return self.store.weights(start.of, start.at)
        if not isinstance(start, Redrawn):
            return initial
        random = np.random.default_rng(start.seed)
        scale = training.network.encoder.config.initializer_range
        redrawn = {
            path: random.normal(0.0, scale, shape).astype(np.float32)
            for path, shape in trainer.masks.shapes.items()
        }
        if start.outside is None:
            return initial | redrawn
        masks = self._found(start.outside, self._dense(training, trainer)).masks
        return initial | {
            path: np.where(mask, initial[path], redrawn[path]) for path, mask in masks.items()
        }

    def _ticket(self, training, trainer, start_sha256) -> Ticket:
        """The masks that a training is held to."""
        dense = self._dense(training, trainer, start_sha256)
        if training.masks is None:
            return dense
        found = self._found(training.masks, dense)
        parent = found.provenance.parent_sha256
        return Ticket(found.masks, dataclasses.replace(dense.provenance, parent_sha256=parent))

    def _found(self, masks, dense) -> Ticket:
        """The ticket of masks by how they were chosen."""
        if isinstance(masks, Masks):
            parent, weights = self.store.ticket(masks.of), self.store.weights(masks.of)
            return magnitude_ticket(weights, parent, masks.sparsity)
        if isinstance(masks, Scattered):
            return random_ticket(self._found(masks.like, dense), masks.seed)
        return one_shot_ticket(self.store.weights(masks.of), dense, masks.sparsity)

    def _dense(self, training, trainer, start_sha256="") -> Ticket:
        data = self._bench(training).data
        provenance = Provenance(
            algorithm=training.labels["method"],
            model=training.network.name,
            model_config={
                "classes": training.network.classes,
                "encoder_sha256": training.network.encoder.sha256,
                "length": training.data.length,
            },
            data_set=data.origin,
            seed=training.seed,
            level=training.stream,
            initial_weights_sha256=start_sha256,
            parent_sha256="",
            versions=runtime.package_versions() | runtime.text_package_versions(),
        )
        return dense_ticket(trainer.masks.shapes, provenance)


# How each kind of work is done.
_WAYS = {
    TextTraining: TextWork._tune,
    MaskSearch: TextWork._search,
    Measurement: TextWork._measure,
    TextAttacked: TextWork._attack,
}


@dataclasses.dataclass(frozen=True)
class TextSetup(Setup):
    """What somebody who works on texts must know.

    Attributes: as of `Setup`, and
      processes: that attack texts side by side, in the first process' stead.
    """

    kind: ClassVar[type[Work]] = TextWork
    start_of: ClassVar = staticmethod(
        lambda training, store: fresh_weights(training.network, training.start.seed)
    )
    # An attack has as many processes as it may; others beside it would take their cores.
    alone: ClassVar[tuple[type[Node], ...]] = (TextAttacked,)

    processes: int = 1

    def more(self) -> dict:
        return {"processes": self.processes}


class TextBench:
    """A network and its texts; each kind of training is compiled once.

    Args:
      network: what is trained.
      texts: what a plan knows the data by.
      data: the texts, with all test examples.
      strategy: the devices.

    Attributes:
      data: as given.
      encoder: what was pre-trained.
    """

    def __init__(
        self, network: TextNetwork, texts: Texts, data: TextData, strategy: tf.distribute.Strategy
    ):
        self.data = data
        self.encoder = read_encoder_again(network.encoder)
        self._network, self._texts, self._strategy = network, texts, strategy
        encoder = self.encoder
        self._tokenizer = Tokenizer(encoder.vocabulary, encoder.lowercase, texts.length)
        self._tokens: dict[tuple[str, int], TokenSplit] = {}
        self._trainers: dict[tuple, TextTrainer | MaskTrainer] = {}
        self._evaluators: dict[TextTrainer | MaskTrainer, TextEvaluator] = {}
        self._kept_weights: dict[TextTrainer | MaskTrainer, KeptWeights] = {}

    def tokens(self, split: str, examples: int = 0) -> TokenSplit:
        """A split as tokens; of test examples so many, 0 for all."""
        if (split, examples) not in self._tokens:
            found = tokenize_split(self._tokenizer, _part(self.data, self._texts, split, examples))
            self._tokens[split, examples] = found
        return self._tokens[split, examples]

    def trainer(self, training: TextTraining) -> TextTrainer | MaskTrainer:
        """Trains weights, or masks."""
        key = type(training), training.recipe, training.against, training.attack, training.seed
        if key not in self._trainers:
            self._trainers[key] = self._new_trainer(training)
        return self._trainers[key]

    def evaluator(self, trainer: TextTrainer | MaskTrainer) -> TextEvaluator:
        """Measures a trainer's network."""
        if trainer not in self._evaluators:
            self._evaluators[trainer] = TextEvaluator(trainer.model)
        return self._evaluators[trainer]

    def kept_weights(self, training: TextTraining) -> list[KeptWeights]:
        """Where each selection of a training keeps weights; there is one."""
        trainer = self.trainer(training)
        if trainer not in self._kept_weights:
            with self._strategy.scope():
                self._kept_weights[trainer] = KeptWeights(trainer.model)
        return [self._kept_weights[trainer]]

    def _new_trainer(self, training):
        recipe = training.recipe
        task = TextTask(
            encoder=self.encoder,
            classes=self._network.classes,
            tokens=self.tokens("train"),
            attack=training.attack or _NO_ATTACK,
            batch_size=recipe.batch_size,
            dropout=recipe.dropout,
            clip_value=recipe.clip_value,
            strategy=self._strategy,
            seed=training.seed,
        )
        if not isinstance(training, MaskSearch):
            return TextTrainer(task, training.against, recipe.weight_decay)
        clips_norm = recipe.clip == "norm"
        return MaskTrainer(
            task, training.against, recipe.weight_decay, recipe.granularity, clips_norm
        )


def network_of(training: TextTraining, weights: Weights) -> BertClassifier:
    """A classifier of its own with the given weights, for use without training."""
    classifier = _build(training.network, training.seed)
    write_weights(classifier.model, weights)
    return classifier


def attacked_part(data: TextData, attacked: TextAttacked) -> TextSplit:
    """The texts that an attack changes.

    Args:
      data: with all test examples.
      attacked: the attack.
    """
    split, seed = attacked.split, attacked.of.data.seed
    part = _part(data, attacked.of.data, split, attacked.among if split == "test" else 0)
    chosen = dataclasses.replace(data, **{split: part}).limited(seed, **{split: attacked.examples})
    return getattr(chosen, split)


def sparsity_of_all(ticket: Ticket, weights: Weights) -> float:
    """The removed share of all of a model's weights, embeddings and all that is never masked."""
    removed = sum(int(np.count_nonzero(~mask)) for mask in ticket.masks.values())
    return removed / sum(array.size for array in weights.values())


def fresh_weights(network: TextNetwork, seed: int) -> Weights:
    """The pre-trained weights, below a classifier that the seed decides."""
    return read_weights(_build(network, seed).model)


def _build(network, seed):
    encoder = read_encoder_again(network.encoder)
    return BertClassifier(encoder, network.classes, dropout=0.0, seed=seed)


def _part(data, texts, split, examples):
    """A split, of which only test examples are limited here."""
    limits = dict.fromkeys(SPLIT_NAMES) | {split: examples or None}
    return getattr(data.limited(texts.seed, **limits), split)


def _order(bench, training):
    lengths, seeds = bench.tokens("train").lengths, (training.seed, training.stream)
    return LengthGroupedOrder(lengths, training.recipe.batch_size, seeds)


def _on_validation(bench, trainer):
    def measure(_):
        measured = bench.evaluator(trainer).evaluate(bench.tokens("validation"))
        return {f"validation/{metric}": value for metric, value in measured.items()}

    return measure


def _require_same_resources(attacked):
    """Raises a `UserError` if what an attack uses is no longer what it was."""
    found = tuple(attacked.places.describe(attacked.recipe.needs).items())
    for (name, described), (_, now) in zip(attacked.resources, found, strict=True):
        if described != now:
            raise UserError(
                f"--{name}: {now}, not {described} as when the run began; start the run again, "
                "which takes it for another attack"
            )


def _numbers(metrics: TextAttackMetrics):
    measured = {"examples": float(metrics.examples)}
    for name in ("clean_accuracy", "accuracy", "success_rate", "queries"):
        value = getattr(metrics, name).value
        if np.isfinite(value):
            measured[name] = value
    return measured
