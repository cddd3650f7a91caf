"""From a plan's masks to arrays: what stays of a trained network."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tf_keras as keras

from tf_tickets.errors import require
from tf_tickets.masking.magnitude import (
    SCORES,
    counts_after_round,
    counts_at_level,
    layer_counts,
    random_scores,
    select,
)
from tf_tickets.masking.magnitude import Masks as MaskArrays
from tf_tickets.masking.patterns import prune_blocks
from tf_tickets.masking.ticket import Ticket
from tf_tickets.masking.weight_masks import ConvolutionMasks, NoMasks, WeightMasks
from tf_tickets.models.registry import build_model
from tf_tickets.models.weights import write_weights
from tf_tickets.training.trainer import Trainer
from tf_tickets.work.nodes import FoundTicket, Gradual, LayerMasks, Masks, Network, RandomMasks
from tf_tickets.work.store import Store

# What masks are over.
MASKED = {"kernels": WeightMasks, "convolutions": ConvolutionMasks, "nothing": NoMasks}


class Prunable(NamedTuple):
    """A network that only serves to be pruned, and its masks."""

    model: keras.Model
    masks: WeightMasks


class Chosen(NamedTuple):
    """A ticket's masks.

    Attributes:
      masks: weight path → boolean array.
      parent_sha256: of the ticket that they were chosen among; "" for none.
    """

    masks: MaskArrays
    parent_sha256: str = ""


def prunable(network: Network, masked: str) -> Prunable:
    """A network with some weights, and masks over what `Training.masked` says."""
    model = build_model(
        network.name, network.image_shape, network.classes, 0, network.width_multiplier
    )
    return Prunable(model, MASKED[masked](model))


def choose(
    masks: Masks | RandomMasks | LayerMasks | FoundTicket | None,
    store: Store,
    trainer: Trainer | Prunable,
) -> Chosen:
    """The masks that a training is held to.

    Args:
      masks: what a plan says of them; None for all weights.
      store: where what they come from is finished.
      trainer: has a network of that kind, whose weights are lost.

    Raises:
      UserError: what they come from is damaged.
    """
    if masks is None:
        return Chosen({path: np.ones(shape, bool) for path, shape in trainer.masks.shapes.items()})
    return _CHOICES[type(masks)](masks, store, trainer)


def keep_at_end(gradual: Gradual, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """How many weights gradual pruning leaves of each layer."""
    return counts_at_level(shapes, _rates(gradual, shapes), gradual.rounds)


def require_rounds(masks: LayerMasks | Gradual, rounds: int, shapes: Mapping) -> None:
    """Checks that so many rounds leave something of every layer.

    Raises:
      UserError: they do not.
    """
    for path, count in counts_at_level(shapes, _rates(masks, shapes), rounds - 1).items():
        expected = f"fewer, so that the last level keeps a weight of {path}"
        require(count >= 1, "rounds", rounds, expected)


def _of_network(masks, store, trainer):
    parent, weights = store.ticket(masks.of), store.weights(masks.of)
    keep = layer_counts(SCORES[masks.score](weights, parent), parent, masks.sparsity)
    write_weights(trainer.model, weights)
    return Chosen(trainer.masks.prune_by_magnitude(parent, keep), parent.sha256)


def _of_layers(masks, store, trainer):
    parent = store.ticket(masks.of)
    keep = counts_after_round(parent, _rates(masks, trainer.masks.shapes))
    if masks.choice == "random":
        generator = np.random.default_rng(_apart_from_batches(masks.seeds))
        scores = {path: generator.random(mask.shape) for path, mask in parent.masks.items()}
        return Chosen(select(scores, parent, keep), parent.sha256)
    weights = store.weights(masks.of)
    if masks.choice == "blocks":
        return Chosen(prune_blocks(weights, parent, keep), parent.sha256)
    write_weights(trainer.model, weights)
    return Chosen(trainer.masks.prune_by_magnitude(parent, keep), parent.sha256)


def _at_random(masks, store, trainer):
    parent = store.ticket(masks.of)
    # Drawn in the network's order, which a file does not keep.
    in_order = {path: parent.masks[path] for path in trainer.masks.shapes}
    parent = Ticket(in_order, parent.provenance)
    scores = random_scores(parent, masks.seed)
    keep = layer_counts(scores, parent, masks.sparsity)
    return Chosen(select(scores, parent, keep), parent.sha256)


def _found(ticket, store, trainer):
    found = store.ticket(ticket)
    return Chosen(found.masks, found.provenance.parent_sha256)


_CHOICES = {
    Masks: _of_network,
    RandomMasks: _at_random,
    LayerMasks: _of_layers,
    FoundTicket: _found,
}


def _rates(masks, shapes):
    """Weight path → fraction removed a round; the last path is the output layer's."""
    *hidden, output = shapes
    return {**dict.fromkeys(hidden, masks.rate), output: masks.output_rate}


def _apart_from_batches(seeds):
    """`BatchOrder` has the same seeds; the key gives a stream of its own."""
    return np.random.SeedSequence(seeds, spawn_key=(1,))
