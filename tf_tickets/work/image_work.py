"""Trainings and measurements of image networks, done in this process."""

import dataclasses
import functools
from collections.abc import Iterable

import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256
from tf_tickets.masking.weight_masks import GradualMasks, WeightMasks
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.registry import build_model, require_image_shape
from tf_tickets.models.weights import Weights, read_weights, write_weights
from tf_tickets.training.checkpoints import Progress
from tf_tickets.training.trainer import TrainingSettings
from tf_tickets.work.image_data import read_again
from tf_tickets.work.nodes import (
    Data,
    Gradual,
    Inherited,
    Masks,
    Measurement,
    Network,
    Node,
    Training,
)
from tf_tickets.work.performing import Work, description, passes
from tf_tickets.work.store import Record, Store
from tf_tickets.work.tickets import choose, keep_at_end
from tf_tickets.work.training_bench import TrainingBench


class ImageWork(Work):
    """Work on networks of images."""

    def do(self, node: Node) -> None:
        _WAYS[type(node)](self, node)

    def close(self) -> None:
        self._benches.clear()
        self._loaded.clear()

    def data(self, data: Data) -> ImageData:
        """The examples, with all test examples.

        Raises:
          UserError: they are not those of the plan.
        """
        if data not in self._loaded:
            self._loaded.clear()
            self._loaded[data] = read_again(data, self.data_dir)
        return self._loaded[data]

    @functools.cached_property
    def _loaded(self) -> dict[Data, ImageData]:
        return {}

    @functools.cached_property
    def _benches(self) -> dict[tuple, TrainingBench]:
        """What compiles alike → the network with its step."""
        return {}

    def _bench(self, training):
        if isinstance(training.masks, Gradual):  # Its masks' schedule is its own.
            return self._new_bench(training)
        shared = (training.network, training.data, training.seed)
        key = (*shared, training.recipe, training.against, training.attack, training.measured)
        if key not in self._benches:
            if any(other[: len(shared)] != shared for other in self._benches):
                self._benches.clear()  # Plans go by seed and network: no later work needs these.
            self._benches[key] = self._new_bench(training)
        return self._benches[key]

    def _new_bench(self, training):
        make_masks = WeightMasks
        if isinstance(training.masks, Gradual):
            keep = keep_at_end(training.masks, prunable_shapes(training.network))
            make_masks = functools.partial(GradualMasks, keep=keep, iterations=training.iterations)
        return TrainingBench(
            _settings(training),
            training.against,
            {each.name: each.threat for each in training.measured},
            self.data(training.data),
            training.seed,
            self.strategy,
            make_masks,
        )

    def _train(self, training):
        bench, start = self._bench(training), self._start(training)
        if isinstance(training.masks, Gradual):
            write_weights(bench.trainer.model, start)
            parent_sha256 = ""
        else:
            masks, parent_sha256 = choose(training.masks, self.store, bench.trainer)
            bench.trainer.reset(start, masks)
        progress = self._fit(training, bench)
        provenance = _provenance(training, self.data(training.data), start, parent_sha256)
        ticket = Ticket(bench.trainer.masks.read(), provenance)
        selected, weights = _kept(training, bench, progress)
        record = Record(tuple(progress.history), selected, ticket.sparsity)
        self.store.finish(training, record, ticket, weights)

    def _start(self, training):
        """The weights that a training begins with."""
        if isinstance(training.start, Inherited):
            return self.store.weights(training.start.of, training.start.at)
        return fresh_weights(training.network, training.start.seed)

    def _fit(self, training, bench) -> Progress:
        data = self.data(training.data)

        def evaluate(_):
            measured = {}
            for split in training.measured_on:
                measured |= _on(split, bench.evaluator.evaluate(getattr(data, split)))
            return measured

        seeds = training.seed, training.stream
        order = BatchOrder(len(data.train), training.recipe.batch_size, seeds)
        kept_weights = bench.kept_weights(len(training.selections))
        return self.train(training, bench.trainer, order, kept_weights, evaluate)

    def _measure(self, measurement):
        self.stop_if_requested()
        training, examples = measurement.of, measurement.examples or None
        data = self.data(training.data).limited(training.data.seed, test=examples)
        bench = self._bench(training)
        write_weights(bench.trainer.model, self.store.weights(training))
        evaluator = self._evaluator(measurement, bench)
        record = self.store.record(training)
        history = [
            (record.ended, metric, value)
            for split in measurement.splits
            for metric, value in _on(split, evaluator.evaluate(getattr(data, split))).items()
        ]
        self.store.finish(measurement, Record(tuple(history), record.selected, record.sparsity))
        self.advance(passes(measurement), description(measurement))

    def _evaluator(self, measurement, bench):
        if not measurement.transferred:
            return bench.evaluator_of({each.name: each.threat for each in measurement.attacks})
        attacks = {
            each.name: build_attack(each.threat, bench.trainer.logits)
            for each in measurement.attacks
        }
        for source, attack in measurement.transferred:
            network = FoldedNetwork(network_of(source, self.store))
            attacks[attack.name] = build_attack(attack.threat, network)
        return bench.evaluator_under(attacks)


# How each kind of work is done.
_WAYS = {Training: ImageWork._train, Measurement: ImageWork._measure}


def _kept(training, bench, progress):
    """The iterations that the selections kept, or the last one, and the weights then."""
    if not training.selections:
        return (progress.iteration,), [bench.trainer.weights()]
    weights = []
    for kept in bench.kept_weights(len(training.selections)):
        kept.put_back()
        weights.append(bench.trainer.weights())
    selected = (progress.selected[each.metric][0] for each in training.selections)
    return tuple(selected), weights


def network_of(training: Training, store: Store) -> keras.Model:
    """The network of a finished training.

    Raises:
      UserError: what the store holds of it is damaged.
    """
    model = _build(training.network, seed=0)
    write_weights(model, store.weights(training))
    return model


def require_trainable(trainings: Iterable[Training]) -> None:
    """Checks that images fit the networks, and fill at least one batch.

    Raises:
      UserError: they do not.
    """
    for training in trainings:
        require_image_shape(training.network.name, training.network.image_shape)
        size, examples = training.recipe.batch_size, training.data.train
        require(size <= examples, "batch_size", size, f"at most {examples}, one epoch")


@functools.singledispatch
def fresh_weights(network: Network, seed: int) -> Weights:
    """New random weights of a network, decided by the seed; not to be changed."""
    return _fresh_weights(network, seed)


@functools.lru_cache(maxsize=1)  # Trainings of one network mostly begin alike.
def _fresh_weights(network, seed):
    weights = read_weights(_build(network, seed))
    for array in weights.values():
        array.flags.writeable = False
    return weights


def prunable_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Weight path → shape of what masks may remove of a network; the output layer comes last."""
    return WeightMasks(_build(network, seed=0)).shapes


@passes.register(Training)
@passes.register(Measurement)
def _passes(node):
    if isinstance(node, Measurement):
        attacks = [*node.attacks, *(attack for _, attack in node.transferred)]
        data = node.of.data
        examples = {"validation": data.validation, "test": node.examples or data.test}
        return _evaluations(attacks) * sum(examples[split] for split in node.splits)
    steps = 2 + node.attack.steps if node.attack else 1
    measured = sum(getattr(node.data, split) for split in node.measured_on)
    evaluations = node.iterations / node.evaluate_every * _evaluations(node.measured)
    return node.iterations * node.recipe.batch_size * steps + evaluations * measured


def _evaluations(attacks):
    """Passes that measuring an image costs; those without a way back count half."""
    return (1 + sum(1 + attack.threat.steps for attack in attacks)) / 2


def _on(split, measured):
    return {f"{split}/{metric}": value for metric, value in measured.items()}


def _build(network, seed):
    return build_model(
        network.name, network.image_shape, network.classes, seed, network.width_multiplier
    )


def _settings(training):
    return TrainingSettings(
        model=training.network.name,
        learning_rate=training.rates.learning_rate,
        threat_models={training.against: training.attack} if training.attack else {},
        width_multiplier=training.network.width_multiplier,
        **dataclasses.asdict(training.recipe),
    )


def _provenance(training, data, start, parent_sha256):
    return Provenance(
        algorithm=f"{training.against} training; {_origin(training.masks)}",
        model=training.network.name,
        model_config={
            "image_shape": list(training.network.image_shape),
            "num_classes": training.network.classes,
            "width_multiplier": training.network.width_multiplier,
        },
        data_set=data.origin,
        seed=training.seed,
        level=training.stream,
        initial_weights_sha256=arrays_sha256(start),
        parent_sha256=parent_sha256,
        versions=runtime.package_versions(),
    )


def _origin(masks):
    """Where masks come from, for people."""
    if masks is None:
        return "dense"
    if isinstance(masks, Gradual):
        return f"pruned gradually, as by {masks.rounds} rounds"
    score = masks.score if isinstance(masks, Masks) else f"{masks.choice} in each layer"
    return f"{score} after {masks.of.against} training"
