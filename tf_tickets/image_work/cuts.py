"""Networks as plans name them: built, cut, and refused where nothing is left to cut."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Protocol

import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.data.splits import stratified_subset
from tf_tickets.data.vision import ImageData
from tf_tickets.image_work.bench import NetworkBench
from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import Weights, read_weights, with_body, write_weights
from tf_tickets.structured.cost import parameters
from tf_tickets.structured.selection import choose_removal
from tf_tickets.structured.surgery import remove
from tf_tickets.work.nodes import Cut, Data, Inherited, Network, Node, Training
from tf_tickets.work.store import Record, Store


class WorkOnImages(Protocol):
    """What does work in this process, see `image_work.ImageWork`."""

    store: Store
    shifted: dict
    stop_if_requested: Callable[[], None]

    def data(self, data: Data) -> ImageData:
        """The examples, with all test examples."""

    def bench(self, of: Training) -> NetworkBench:
        """A network of that kind, with any weights."""

    def end(self, node: Node, record: Record, **results) -> None:
        """Stores what the work led to, and tells of it."""


def build(network: Network | Cut, store: Store | None = None, seed: int = 0) -> keras.Model:
    """An architecture with new random weights.

    Of a cut they are what is left of those of the whole network.

    Args:
      network: the architecture.
      store: where the cuts behind it are finished; None for a whole one.
      seed: decides the weights.

    Raises:
      UserError: what the store holds of a cut is damaged.
    """
    if isinstance(network, Cut):
        return remove(build(network.of.network, store, seed), store.removal(network))
    return build_model(
        network.name, network.image_shape, network.classes, seed, network.width_multiplier
    )


def network_of(training: Training, store: Store) -> keras.Model:
    """The network of a finished training.

    Raises:
      UserError: what the store holds of it is damaged.
    """
    model = build(training.network, store)
    write_weights(model, store.weights(training))
    return model


@functools.lru_cache(maxsize=1)  # Trainings of one network mostly begin alike.
def fresh_weights(network: Network, seed: int) -> Weights:
    """New random weights of a network, decided by the seed; not to be changed."""
    weights = read_weights(build(network, seed=seed))
    for array in weights.values():
        array.flags.writeable = False
    return weights


def start_of(training: Training, store: Store) -> Weights:
    """The weights that a training begins with, before they are masked.

    Raises:
      UserError: what they come from is damaged.
    """
    start, network = training.start, training.network
    if not isinstance(network, Cut):
        if not isinstance(start, Inherited):
            return fresh_weights(network, start.seed)
        weights = store.weights(start.of, start.at)
        if start.new_head is None:
            return weights
        return with_body(build(network, seed=start.new_head), weights)
    before = network.of.network
    if isinstance(start, Inherited):
        model = build(before, store)
        write_weights(model, store.weights(start.of, start.at))
    else:
        model = build(before, store, start.seed)
    return read_weights(remove(model, store.removal(network)))


def gone(model: keras.Model, whole: Network) -> float:
    """The share of a whole network's parameters that what is left of it lacks, in [0, 1]."""
    return 1.0 - parameters(model) / _parameters(whole)


@functools.cache
def _parameters(network):
    return parameters(build(network))


def make_cut(work: WorkOnImages, cut: Cut) -> None:
    """Chooses what goes, and stores it with the scores that decided it."""
    work.stop_if_requested()
    training, store = cut.of, work.store
    model, images = network_of(training, store), work.data(training.data).train
    examples = images.subset(
        stratified_subset(images.labels, cut.examples or len(images), cut.seed)
    )
    removal, scores = choose_removal(model, cut.choice, examples, cut.seed)
    content = {
        **removal.to_json(),
        "scores": {
            "filters": {name: values.tolist() for name, values in scores.filters.items()},
            "blocks": dict(scores.blocks),
        },
        "provenance": dataclasses.asdict(cut.choice)
        | {
            "base": f"{training.labels['method']}, level {training.labels['level']}",
            "base_weights_sha256": arrays_sha256(read_weights(model)),
            "scoring_examples": len(examples),
            "seed": cut.seed,
            "versions": runtime.package_versions(),
        },
    }
    ended = store.record(training).selected
    sparsity = gone(remove(model, removal), cut.whole)
    work.end(cut, Record((), ended, sparsity), removal=content)


def require_cuts_possible(trainings: Iterable[Training]) -> None:
    """Checks before any work that networks have as much to take out, by choices at random.

    Raises:
      UserError: one has not.
    """
    left: dict[tuple, keras.Model] = {}

    def smaller(network):
        cuts = _choices(network)
        if cuts not in left:
            if not isinstance(network, Cut):
                left[cuts] = build(network)
            else:
                model = smaller(network.of.network)
                left[cuts] = remove(model, choose_removal(model, cuts[-1], None)[0])
        return left[cuts]

    for training in trainings:
        smaller(training.network)


def _choices(network):
    """A whole network, and all that is done to it, with the choice left to chance."""
    if not isinstance(network, Cut):
        return (network,)
    return *_choices(network.of.network), dataclasses.replace(network.choice, criterion="random")
