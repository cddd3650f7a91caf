"""Iterative pruning: train, prune, start again, level by level."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from tf_tickets.errors import require
from tf_tickets.masking.magnitude import Masks, counts_after_round, counts_at_level, select
from tf_tickets.masking.patterns import prune_blocks
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256
from tf_tickets.models.weights import Weights
from tf_tickets.search.level_store import LevelStore


@dataclasses.dataclass(frozen=True)
class Method:
    """How a search goes from one level to the next.

    Attributes:
      masks: what the next ticket keeps: the weights largest in `magnitude`, the `blocks` of
        four weights largest in it, a `random` choice, `all` of them, or the largest by a
        `gradual` schedule during training (Zhu and Gupta, arXiv:1710.01878).
      start: the weights a level starts from: the `initial` ones (or those they
        are rewound to), `reinitialized` ones, or the `previous` level's.
    """

    masks: str
    start: str


# The first three are the paper's strategies 1 to 3, by its names; the rest are controls, but for
# `blocks`, whose tickets a TFLite file can multiply as they are.
METHODS = {
    "original": Method("magnitude", "initial"),
    "random": Method("magnitude", "reinitialized"),
    "continued": Method("magnitude", "previous"),
    "random_pruning": Method("random", "initial"),
    "dense": Method("all", "previous"),
    "gradual": Method("gradual", "initial"),
    "blocks": Method("blocks", "initial"),
}


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """The extent of an iterative search.

    Attributes:
      rounds: number of levels, the dense one (level 0) included.
      iterations: optimizer steps a level.
      evaluate_every: optimizer steps between evaluations.
      pruning_rate: fraction of a hidden layer's remaining weights that a round removes.
      output_pruning_rate: the same for the output layer.
      rewind_iteration: iteration of level 0 whose weights count as the initial
        ones for later levels; 0 is θ₀.
    """

    rounds: int
    iterations: int
    evaluate_every: int
    pruning_rate: float
    output_pruning_rate: float
    rewind_iteration: int

    def __post_init__(self):
        require(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")
        require(self.evaluate_every >= 1, "evaluate_every", self.evaluate_every, "at least 1")
        for name in ("pruning_rate", "output_pruning_rate"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        require(
            0 <= self.rewind_iteration <= self.iterations,
            "rewind_iteration",
            self.rewind_iteration,
            f"in [0, {self.iterations}], the iterations of a level",
        )

    def rates(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
        """Weight path → fraction removed a round; the last path is the output layer's."""
        *hidden, output = shapes
        return {**dict.fromkeys(hidden, self.pruning_rate), output: self.output_pruning_rate}


class TrainedLevel(NamedTuple):
    """What training a level gives.

    Attributes:
      masks: those the level ended with.
      weights: those the level ended with.
      history: its measurements, as (iteration, metric, value).
    """

    masks: Masks
    weights: Weights
    history: list[tuple[int, str, float]]


class Network(Protocol):
    """What a search needs of the network it prunes."""

    shapes: Mapping[str, tuple[int, ...]]

    def fresh_weights(self, seed: int) -> Weights:
        """Draws weights from the initial distribution."""

    def prune_by_magnitude(
        self, weights: Weights, ticket: Ticket, keep: Mapping[str, int]
    ) -> Masks:
        """Keeps the largest weights of each layer."""

    def train(self, level: int, start: Weights, masks: Masks) -> TrainedLevel:
        """Trains from `start` under `masks`."""

    def train_gradually(self, level: int, start: Weights, keep: Mapping[str, int]) -> TrainedLevel:
        """Trains from `start`, dense at first, pruned to `keep` on the way."""


class Level(NamedTuple):
    """A finished level: 0 is dense, each further one has been pruned once more."""

    number: int
    ticket: Ticket
    weights: Weights


def iterative_search(
    method_name: str,
    settings: SearchSettings,
    seed: int,
    network: Network,
    store: LevelStore,
    provenance: Provenance,
) -> Iterator[Level]:
    """Searches for tickets, level by level; levels the store holds are not trained again.

    "The Search for Sparse, Robust Neural Networks", section 4.1: every level sets
    the weights as the strategy says, trains them under the masks, and prunes.

    Args:
      method_name: one of `METHODS`.
      settings: the extent of the search.
      seed: the trial's.
      network: trained and pruned here.
      store: the finished levels.
      provenance: of the tickets; level, parent and weights are filled in.

    Yields:
      Each level once it is trained and stored, or read back.
    """
    method = METHODS[method_name]
    _refuse_empty_layers(method, settings, network.shapes)
    initial = store.initial_weights(lambda: network.fresh_weights(seed))
    previous = None
    for number in range(settings.rounds):
        start = _start(method, number, seed, initial, previous, network, store, settings)
        level_provenance = dataclasses.replace(
            provenance,
            level=number,
            initial_weights_sha256=arrays_sha256(start),
            parent_sha256=previous.ticket.sha256 if previous else "",
        )
        if not store.is_finished(number):
            trained = _train(method, number, start, previous, network, settings, seed)
            ticket = Ticket(trained.masks, level_provenance)
            store.save(number, ticket, trained.weights, trained.history)
            previous = Level(number, ticket, trained.weights)
        else:
            previous = Level(number, *store.load(number, network.shapes, level_provenance))
        yield previous


def _refuse_empty_layers(method, settings, shapes):
    if method.masks == "all":
        return
    last = counts_at_level(shapes, settings.rates(shapes), settings.rounds - 1)
    for path, count in last.items():
        expected = f"fewer, so that the last level keeps a weight of {path}"
        require(count >= 1, "rounds", settings.rounds, expected)


def _start(method, number, seed, initial, previous, network, store, settings):
    if number == 0:
        return initial
    if method.start == "previous":
        return previous.weights
    if method.start == "reinitialized":
        return network.fresh_weights(_seed_of(seed, number))
    return store.rewind_weights() if settings.rewind_iteration else initial


def _train(method, number, start, previous, network, settings, seed):
    rates = settings.rates(network.shapes)
    if method.masks == "gradual" and number:
        keep = counts_at_level(network.shapes, rates, number)
        return network.train_gradually(number, start, keep)
    masks = _next_masks(method, number, previous, network, rates, seed)
    return network.train(number, start, masks)


def _next_masks(method, number, previous, network, rates, seed):
    if number == 0 or method.masks == "all":
        return {path: np.ones(shape, bool) for path, shape in network.shapes.items()}
    keep = counts_after_round(previous.ticket, rates)
    if method.masks == "magnitude":
        return network.prune_by_magnitude(previous.weights, previous.ticket, keep)
    if method.masks == "blocks":
        return prune_blocks(previous.weights, previous.ticket, keep)
    # The key sets this stream apart from the batch order's, which the same numbers seed.
    generator = np.random.default_rng(np.random.SeedSequence([seed, number], spawn_key=(1,)))
    scores = {path: generator.random(shape) for path, shape in network.shapes.items()}
    return select(scores, previous.ticket, keep)


def _seed_of(seed, number):
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)
