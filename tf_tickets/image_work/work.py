"""Trainings and measurements of image networks, done in this process."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import ClassVar

from tf_tickets import runtime
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.splits import stratified_fraction
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require
from tf_tickets.image_work.attacked import AttackedImages
from tf_tickets.image_work.bench import NetworkBench, TrainingBench
from tf_tickets.image_work.cuts import (
    build,
    gone,
    make_cut,
    network_of,
    start_of,
)
from tf_tickets.image_work.data import read_again
from tf_tickets.image_work.found_tickets import find_ticket, origin_of
from tf_tickets.image_work.imported import import_network
from tf_tickets.image_work.structure_measurements import (
    measure_shifted,
    measure_single_elements,
    measure_size,
)
from tf_tickets.image_work.structure_nodes import (
    Shifted,
    SingleElements,
    Size,
)
from tf_tickets.image_work.tickets import (
    MASKED,
    choose,
    keep_at_end,
    prunable,
)
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256
from tf_tickets.masking.weight_masks import GradualMasks, WeightMasks
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.registry import require_image_shape
from tf_tickets.models.weights import write_weights
from tf_tickets.training.checkpoints import Progress
from tf_tickets.training.trainer import TrainingSettings
from tf_tickets.work.nodes import (
    Cut,
    Data,
    FoundTicket,
    Gradual,
    Imported,
    Masks,
    Measurement,
    Network,
    Node,
    Training,
)
from tf_tickets.work.performing import Work
from tf_tickets.work.side_by_side import Setup
from tf_tickets.work.store import Record


class ImageWork(Work):
    """Work on networks of images."""

    def do(self, node: Node) -> None:
        _WAYS[type(node)](self, node)

    def close(self) -> None:
        self._benches.clear()
        self._loaded.clear()

    def data(self, data: Data) -> ImageData:
        """The examples, with all test examples, and all to train on.

        Raises:
          UserError: they are not those of the plan.
        """
        if data.whole not in self._loaded:
            self._loaded.clear()
            self._loaded[data.whole] = read_again(data, self.places)
        return self._loaded[data.whole]

    @functools.cached_property
    def _loaded(self) -> dict[Data, ImageData]:
        return {}

    @functools.cached_property
    def _benches(self) -> dict[tuple, NetworkBench]:
        """What compiles alike → the network, with its step if it is trained."""
        return {}

    @functools.cached_property
    def _attacked(self) -> AttackedImages:
        return AttackedImages()

    @functools.cached_property
    def shifted(self) -> dict:
        """(which test images, how they are changed) → them, changed."""
        return {}

    def bench(self, of: Training | Imported) -> NetworkBench:
        """A network of that kind, with its step if it is trained; compiled once for those alike."""
        if isinstance(of, Imported):
            return self._kept_bench(of, (), self._measuring_bench)
        if isinstance(of.masks, Gradual):  # Its masks' schedule is its own.
            return self._new_bench(of)
        own = (of.recipe, of.against, of.attack, of.measured, of.masked)
        return self._kept_bench(of, own, self._new_bench)

    def _kept_bench(self, of, own, make):
        shared = (of.network, of.data.whole, of.seed)
        key = (*shared, *own)
        if key not in self._benches:
            if any(other[: len(shared)] != shared for other in self._benches):
                self._benches.clear()  # Plans go by seed and network: no later work needs these.
            self._benches[key] = make(of)
        return self._benches[key]

    def _measuring_bench(self, imported):
        with self.strategy.scope():
            model = build(imported.network)
        return NetworkBench(model, FoldedNetwork(model), self.strategy)

    def _new_bench(self, training):
        make_masks = MASKED[training.masked]
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
        data, part = self.data(training.data), training.data.percent
        # Whatever is trained on a part of a trial's examples sees the same ones.
        examples = stratified_fraction(data.train.labels, part, training.data.seed)

        def evaluate(_):
            measured = {}
            for split in training.measured_on:
                measured |= _on(split, bench.evaluator.evaluate(getattr(data, split)))
            return measured

        seeds = training.seed, training.stream
        order = BatchOrder(len(examples), training.recipe.batch_size, seeds).among(examples)
        kept_weights = bench.kept_weights(len(training.selections))
        return self.train(training, bench.trainer, order, kept_weights, evaluate)

    def _measure(self, measurement):
        self.stop_if_requested()
        of, record = measurement.of, self.store.record(measurement.of)
        bench, history, measured = self.bench(of), [], {}
        for number in measurement.selections:
            at = record.selected[number]
            if at not in measured:
                write_weights(bench.model, self.store.weights(of, selection=number))
                measured[at] = self._measured(measurement, bench)
            for split, values in measured[at].items():
                named = _on(_split_name(of, split, number), values)
                history += [(at, metric, value) for metric, value in named.items()]
        self.end(measurement, Record(tuple(history), record.selected, record.sparsity))

    def _measured(self, measurement, bench):
        """Split → metric → value, of the bench's network."""
        known = measurement.of.data
        data = self.data(known).limited(known.seed, test=measurement.examples or None)
        evaluator = bench.evaluator_of({each.name: each.threat for each in measurement.attacks})
        found = {}
        for name in measurement.splits:
            split = getattr(data, name)
            found[name] = evaluator.evaluate(split)
            for source, attack in measurement.transferred:
                key = (source.identity, attack.threat, known.whole, name, measurement.examples)
                network = functools.partial(network_of, source, self.store)
                images = self._attacked.of(key, network, attack.threat, split, self.strategy)
                found[name] |= _on(attack.name, images.measure(bench.model))
        return found

    def _find(self, found):
        self.stop_if_requested()
        find_ticket(found, self.store)

    def _import(self, imported):
        shapes = prunable(imported.network, imported.masked).masks.shapes
        import_network(imported, self.store, shapes, self.data(imported.data).origin)


@dataclasses.dataclass(frozen=True)
class ImageSetup(Setup):
    """What somebody who works on images must know; see `Setup`."""

    kind: ClassVar[type[Work]] = ImageWork
    start_of: ClassVar = staticmethod(start_of)


# How each kind of work is done.
_WAYS = {
    Training: ImageWork._train,
    Measurement: ImageWork._measure,
    FoundTicket: ImageWork._find,
    Imported: ImageWork._import,
    Cut: make_cut,
    Size: measure_size,
    Shifted: measure_shifted,
    SingleElements: measure_single_elements,
}


def _split_name(of, split, number):
    """What results call a split that weights of another selection than the first one met."""
    if not number:
        return split
    _, attack, _ = of.selections[number].metric.split("/")
    return f"{split}_best_{attack}"


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
        size, examples = training.recipe.batch_size, training.data.trained_on
        require(size <= examples, "batch_size", size, f"at most {examples}, one epoch")


def prunable_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Weight path → shape of what masks may remove of a network; the output layer comes last."""
    return prunable(network, "kernels").masks.shapes


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
    if isinstance(masks, FoundTicket):
        return origin_of(masks)
    if isinstance(masks, Gradual):
        return f"pruned gradually, as by {masks.rounds} rounds"
    score = masks.score if isinstance(masks, Masks) else f"{masks.choice} in each layer"
    return f"{score} after {masks.of.against} training"
