"""Trainings and measurements of image networks, done in this process."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path

import tensorflow as tf
import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.splits import stratified_fraction
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256
from tf_tickets.masking.weight_masks import GradualMasks
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.models.registry import build_model, require_image_shape
from tf_tickets.models.weights import Weights, read_weights, with_body, write_weights
from tf_tickets.runs.events import LevelEvents
from tf_tickets.training.checkpoints import LevelCheckpoint, Progress
from tf_tickets.training.loop import train_level
from tf_tickets.training.trainer import TrainingSettings
from tf_tickets.work.attacked_images import AttackedImages
from tf_tickets.work.found_tickets import find_ticket, origin_of
from tf_tickets.work.image_data import Places, read_again
from tf_tickets.work.imported import import_network
from tf_tickets.work.nodes import (
    Data,
    FoundTicket,
    Gradual,
    Imported,
    Inherited,
    Masks,
    Measurement,
    Network,
    Node,
    Training,
)
from tf_tickets.work.store import Record, Store
from tf_tickets.work.tickets import MASKED, choose, keep_at_end, prunable
from tf_tickets.work.training_bench import NetworkBench, TrainingBench


@dataclasses.dataclass(frozen=True, eq=False)
class ImageWork:
    """Does one piece of work after the other, and keeps what several have in common.

    Attributes:
      store: holds what work comes from, and takes what it leads to.
      places: where the data are.
      strategy: the devices.
      advance: told (passes of an image through a network, description) on the way.
      events_path: training → where TensorBoard's events of it go.
      stop_if_requested: raises `StopRequested` to stop.
      seconds_unsaved: how long a training may go on without being saved; workers of a cluster
        save after every evaluation, all at once.
    """

    store: Store
    places: Places
    strategy: tf.distribute.Strategy
    advance: Callable[[float, str], None]
    events_path: Callable[[Training], Path]
    stop_if_requested: Callable[[], None]
    seconds_unsaved: float = 600.0

    def perform(self, node: Node) -> None:
        """Does the work, unless it is finished or another process is at it.

        What it needs must be finished.

        Raises:
          StopRequested: its state is kept.
          UserError: data or files that cannot be used, or a loss that diverged.
        """
        with self.store.locked(node) as is_ours:
            if is_ours and not self.store.is_finished(node):
                self.store.begin(node)
                _WAYS[type(node)](self, node)
        runtime.wait_for_workers(self.strategy)  # The others read what the chief wrote.

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

    def _bench(self, of):
        if isinstance(of, Imported):
            return self._kept_bench(of, (), self._measuring_bench)
        if isinstance(of.masks, Gradual):  # Its masks' schedule is its own.
            return self._new_bench(of)
        own = (of.recipe, of.against, of.attack, of.measured, of.masked)
        return self._kept_bench(of, own, self._new_bench)

    def _kept_bench(self, of, own, build):
        shared = (of.network, of.data.whole, of.seed)
        key = (*shared, *own)
        if key not in self._benches:
            if any(other[: len(shared)] != shared for other in self._benches):
                self._benches.clear()  # Plans go by seed and network: no later work needs these.
            self._benches[key] = build(of)
        return self._benches[key]

    def _measuring_bench(self, imported):
        with self.strategy.scope():
            model = _build(imported.network, seed=0)
        return NetworkBench(model, FoldedNetwork(model), self.strategy)

    def _new_bench(self, training):
        make_masks = MASKED[training.masked]
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
        start = training.start
        if not isinstance(start, Inherited):
            return fresh_weights(training.network, start.seed)
        weights = self.store.weights(start.of, start.at)
        if start.new_head is None:
            return weights
        return with_body(_build(training.network, start.new_head), weights)

    def _fit(self, training, bench) -> Progress:
        data, part = self.data(training.data), training.data.percent
        # Whatever is trained on a part of a trial's examples sees the same ones.
        examples = stratified_fraction(data.train.labels, part, training.data.seed)
        size, seeds = training.recipe.batch_size, (training.seed, training.stream)
        kept_weights = bench.kept_weights(len(training.selections))
        events = LevelEvents(self.events_path(training), parameters(training), self.store.writable)
        checkpoint = LevelCheckpoint(
            self.store.checkpoint_path(training),
            bench.trainer.model,
            bench.trainer.optimizer,
            bench.trainer.masks,
            kept_weights,
            self.store.writable,
            seconds=None if runtime.in_cluster(self.strategy) else self.seconds_unsaved,
        )

        def evaluate(_):
            measured = {}
            for split in training.measured_on:
                measured |= _on(split, bench.evaluator.evaluate(getattr(data, split)))
            return measured

        def keep(iteration):
            self.store.keep(training, iteration, bench.trainer.weights())

        progress = train_level(
            bench.trainer,
            BatchOrder(len(examples), size, seeds).among(examples),
            training.iterations,
            evaluate_every=training.evaluate_every,
            evaluate=evaluate,
            checkpoint=checkpoint,
            learning_rates=training.rates,
            on_progress=self._reporter(training, events),
            stop_if_requested=self.stop_if_requested,
            milestones={at: functools.partial(keep, at) for at in training.keeps},
            selections=training.selections,
            record_time=True,
        )
        events.finish(bench.trainer.masks.read(), progress.iteration)
        return progress

    def _reporter(self, training, events):
        reached, a_step = 0, passes(training) / training.iterations

        def report(progress: Progress):
            nonlocal reached
            events.add_history(progress.history)
            # Training that collapsed has nothing left to do.
            iteration = training.iterations if progress.collapsed else progress.iteration
            self.advance((iteration - reached) * a_step, description(training))
            reached = iteration

        return report

    def _measure(self, measurement):
        self.stop_if_requested()
        of, record = measurement.of, self.store.record(measurement.of)
        bench, history, measured = self._bench(of), [], {}
        for number in measurement.selections:
            at = record.selected[number]
            if at not in measured:
                write_weights(bench.model, self.store.weights(of, selection=number))
                measured[at] = self._measured(measurement, bench)
            for split, values in measured[at].items():
                named = _on(_split_name(of, split, number), values)
                history += [(at, metric, value) for metric, value in named.items()]
        self.store.finish(measurement, Record(tuple(history), record.selected, record.sparsity))
        self.advance(passes(measurement), description(measurement))

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


# How each kind of work is done.
_WAYS = {
    Training: ImageWork._train,
    Measurement: ImageWork._measure,
    FoundTicket: ImageWork._find,
    Imported: ImageWork._import,
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


def network_of(training: Training | Imported, store: Store) -> keras.Model:
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
        size, examples = training.recipe.batch_size, training.data.trained_on
        require(size <= examples, "batch_size", size, f"at most {examples}, one epoch")


def fresh_weights(network: Network, seed: int) -> Weights:
    """New random weights of a network, decided by the seed."""
    return read_weights(_build(network, seed))


def prunable_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Weight path → shape of what masks may remove of a network; the output layer comes last."""
    return prunable(network, "kernels").masks.shapes


def passes(node: Node) -> float:
    """How often an image passes through a network, there and back: the measure of work."""
    if isinstance(node, (FoundTicket, Imported)):
        return 0
    if isinstance(node, Measurement):
        attacks = [*node.attacks, *(attack for _, attack in node.transferred)]
        data = node.of.data
        examples = {"validation": data.validation, "test": node.examples or data.test}
        images = sum(examples[split] for split in node.splits)
        return _evaluations(attacks) * images * len(node.selections)
    steps = 2 + node.attack.steps if node.attack else 1
    measured = sum(getattr(node.data, split) for split in node.measured_on)
    evaluations = node.iterations / node.evaluate_every * _evaluations(node.measured)
    return node.iterations * node.recipe.batch_size * steps + evaluations * measured


def description(node: Node) -> str:
    """For people."""
    named = {**node.labels, "level": f"level {node.labels['level']}"}
    labels = " ".join(f"{value}" for value in named.values())
    return f"measuring {labels}" if isinstance(node, Measurement) else labels


def parameters(training: Training) -> dict[str, str | float | int]:
    """A training's hyper-parameters, for TensorBoard's HParams page."""
    return {
        **training.labels,
        "learning_rate": training.rates.learning_rate,
        "batch_size": training.recipe.batch_size,
    }


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
    if isinstance(masks, FoundTicket):
        return origin_of(masks)
    score = masks.score if isinstance(masks, Masks) else f"{masks.choice} in each layer"
    return f"{score} after {masks.of.against} training"
