"""Trainings and measurements of image networks, done in this process."""

import dataclasses
import functools
from collections.abc import Iterable

from tf_tickets import runtime
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256
from tf_tickets.masking.weight_masks import GradualMasks, NoMasks, WeightMasks
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.registry import require_image_shape
from tf_tickets.models.weights import write_weights
from tf_tickets.training.checkpoints import Progress
from tf_tickets.training.trainer import TrainingSettings
from tf_tickets.work.cuts import build, gone, make_cut, network_of, start_of
from tf_tickets.work.image_data import read_again
from tf_tickets.work.nodes import (
    Cut,
    Data,
    Gradual,
    Masks,
    Measurement,
    Network,
    Node,
    Training,
)
from tf_tickets.work.performing import Work, passes
from tf_tickets.work.store import Record
from tf_tickets.work.structure_measurements import (
    measure_shifted,
    measure_single_elements,
    measure_size,
)
from tf_tickets.work.structure_nodes import Shifted, SingleElements, Size
from tf_tickets.work.tickets import choose, keep_at_end
from tf_tickets.work.training_bench import TrainingBench

# What masks are over, see `Training.masked`.
_MASKED = {"kernels": WeightMasks, "nothing": NoMasks}


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

    @functools.cached_property
    def shifted(self) -> dict:
        """(which test images, how they are changed) → them, changed."""
        return {}

    def bench(self, training: Training) -> TrainingBench:
        """A network of a training's kind with its step, compiled once for those alike."""
        if isinstance(training.masks, Gradual):  # Its masks' schedule is its own.
            return self._new_bench(training)
        shared = (training.network, training.data, training.seed)
        how = (training.recipe, training.against, training.attack, training.masked)
        key = (*shared, *how, training.measured)
        if key not in self._benches:
            if any(other[: len(shared)] != shared for other in self._benches):
                self._benches.clear()  # Plans go by seed and network: no later work needs these.
            self._benches[key] = self._new_bench(training)
        return self._benches[key]

    def _new_bench(self, training):
        make_masks = _MASKED[training.masked]
        if isinstance(training.masks, Gradual):
            shapes = WeightMasks(build(training.network, self.store)).shapes
            keep = keep_at_end(training.masks, shapes)
            make_masks = functools.partial(GradualMasks, keep=keep, iterations=training.iterations)
        return TrainingBench(
            _settings(training),
            training.against,
            {each.name: each.threat for each in training.measured},
            self.data(training.data),
            training.seed,
            self.strategy,
            make_masks,
            functools.partial(build, training.network, self.store, training.seed),
        )

    def _train(self, training):
        bench, start = self.bench(training), start_of(training, self.store)
        if isinstance(training.masks, Gradual):
            write_weights(bench.trainer.model, start)
            parent_sha256 = ""
        else:
            masks, parent_sha256 = choose(training.masks, self.store, bench.trainer)
            bench.trainer.reset(start, masks)
        progress = self._fit(training, bench)
        provenance = _provenance(training, self.data(training.data), start, parent_sha256)
        selected, weights = _kept(training, bench, progress)
        history = tuple(progress.history)
        if final_masks := bench.trainer.masks.read():
            ticket = Ticket(final_masks, provenance)
            record = Record(history, selected, ticket.sparsity)
            self.store.finish(training, record, ticket, weights)
            return
        network = build(training.network, self.store)
        write_weights(network, weights[0])
        record = Record(history, selected, gone(network, training.whole_network))
        self.store.finish(training, record, weights=weights, network=network)

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
        bench = self.bench(training)
        write_weights(bench.trainer.model, self.store.weights(training))
        evaluator = self._evaluator(measurement, bench)
        record = self.store.record(training)
        history = [
            (record.ended, metric, value)
            for split in measurement.splits
            for metric, value in _on(split, evaluator.evaluate(getattr(data, split))).items()
        ]
        self.end(measurement, Record(tuple(history), record.selected, record.sparsity))

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
_WAYS = {
    Training: ImageWork._train,
    Measurement: ImageWork._measure,
    Cut: make_cut,
    Size: measure_size,
    Shifted: measure_shifted,
    SingleElements: measure_single_elements,
}


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


def require_trainable(trainings: Iterable[Training]) -> None:
    """Checks that images fit the networks, and fill at least one batch.

    Raises:
      UserError: they do not.
    """
    for training in trainings:
        network = training.whole_network
        require_image_shape(network.name, network.image_shape)
        size, examples = training.recipe.batch_size, training.data.train
        require(size <= examples, "batch_size", size, f"at most {examples}, one epoch")


def prunable_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Weight path → shape of what masks may remove of a network; the output layer comes last."""
    return WeightMasks(build(network)).shapes


@passes.register
def _(measurement: Measurement) -> float:
    attacks = [*measurement.attacks, *(attack for _, attack in measurement.transferred)]
    data = measurement.of.data
    examples = {"validation": data.validation, "test": measurement.examples or data.test}
    return _evaluations(attacks) * sum(examples[split] for split in measurement.splits)


@passes.register
def _(training: Training) -> float:
    steps = 2 + training.attack.steps if training.attack else 1
    measured = sum(getattr(training.data, split) for split in training.measured_on)
    evaluations = training.iterations / training.evaluate_every * _evaluations(training.measured)
    return training.iterations * training.recipe.batch_size * steps + evaluations * measured


def _evaluations(attacks):
    """Passes that measuring an image costs; those without a way back count half."""
    return (1 + sum(1 + attack.threat.steps for attack in attacks)) / 2


def _on(split, measured):
    return {f"{split}/{metric}": value for metric, value in measured.items()}


def _settings(training):
    network = training.whole_network
    return TrainingSettings(
        model=network.name,
        learning_rate=training.rates.learning_rate,
        threat_models={training.against: training.attack} if training.attack else {},
        width_multiplier=network.width_multiplier,
        **dataclasses.asdict(training.recipe),
    )


def _provenance(training, data, start, parent_sha256):
    network = training.whole_network
    return Provenance(
        algorithm=f"{training.against} training; {_origin(training.masks)}",
        model=network.name,
        model_config={
            "image_shape": list(network.image_shape),
            "num_classes": network.classes,
            "width_multiplier": network.width_multiplier,
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
