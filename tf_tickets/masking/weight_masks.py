"""Masks held by TF-MOT's pruning wrappers beside a plain model.

The model is trained and attacked as it is; the wrappers share its layers and only
own the masks. Calling a wrapper instead would mask again at every forward pass of
an attack, count those passes as training steps, and fail under MirroredStrategy.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras

from tf_tickets.masking.magnitude import Masks, select
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.graph import graph_of, norms_after_products
from tf_tickets.models.weights import weight_path

_sparsity = tfmot.sparsity.keras


class OnDemandSparsity(_sparsity.PruningSchedule):
    """A TF-MOT schedule that prunes whenever it is asked, to the sparsity last set."""

    def __init__(self):
        self.sparsity = tf.Variable(0.0, trainable=False, name="sparsity")

    def __call__(self, step):
        return tf.constant(True), self.sparsity

    def get_config(self):
        return {"class_name": type(self).__name__, "config": {}}


class WeightMasks(tf.Module):
    """The masks over a model's kernels.

    A channel whose filter is empty is nothing but the BatchNorm's shift after it, so
    that goes too: the scale and shift of a BatchNorm that alone reads a convolution
    are zero where the filter is (as in the published code of "Boosting Ticket").

    Build it in the scope of the model's distribution strategy.

    Args:
      model: a built functional or sequential model; every layer with a `kernel` is masked.
    """

    def __init__(self, model: keras.Model):
        super().__init__()
        self._strategy = tf.distribute.get_strategy()
        self._wrappers = [
            _wrap(layer, self._make_schedule(layer.kernel)) for layer in self._masked_layers(model)
        ]
        self._channels = self._norm_channels(model)

    def _masked_layers(self, model: keras.Model) -> list[keras.layers.Layer]:
        return [layer for layer in model.layers if hasattr(layer, "kernel")]

    def _make_schedule(self, kernel: tf.Variable) -> _sparsity.PruningSchedule:
        return OnDemandSparsity()

    def _norm_channels(self, model: keras.Model) -> list[tuple]:
        """(mask, channels alive, BatchNorm weights) of every BatchNorm after a masked layer."""
        norms = norms_after_products(graph_of(model))
        channels = []
        for wrapper in self._wrappers:
            norm = norms.get(wrapper.layer.name)
            if norm is not None:
                ((_, mask, _),) = wrapper.pruning_vars
                alive = tf.Variable(tf.ones(mask.shape[-1]), trainable=False)
                channels.append((mask, alive, norm.trainable_weights))
        return channels

    @property
    def weights(self) -> dict[str, tf.Variable]:
        """Weight path → masked variable."""
        return {weight_path(weight): weight for weight, _ in self._pairs()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weight path → shape."""
        return {path: tuple(weight.shape) for path, weight in self.weights.items()}

    def read(self) -> Masks:
        """Copies the masks: weight path → boolean array."""
        return {weight_path(weight): mask.numpy() > 0 for weight, mask in self._pairs()}

    def assign(self, masks: Mapping[str, np.ndarray]) -> None:
        """Sets the masks and zeroes the weights outside them."""
        for weight, mask in self._pairs():
            mask.assign(masks[weight_path(weight)].astype(np.float32))
            weight.assign(weight * mask)
        for mask, alive, norm_weights in self._channels:
            alive.assign(_channels_alive(mask))
            for weight in norm_weights:
                weight.assign(weight * alive)

    def apply(self) -> None:
        """Zeroes masked weights. Call it in replica context, after the optimizer's step."""
        for wrapper in self._wrappers:
            wrapper.pruning_obj.weight_mask_op()
        for _, alive, norm_weights in self._channels:
            for weight in norm_weights:
                weight.assign(weight * alive)

    def prune_by_magnitude(self, ticket: Ticket, keep: Mapping[str, int]) -> Masks:
        """Lets TF-MOT keep the largest weights of each layer.

        Args:
          ticket: what remains; the model holds its trained weights.
          keep: weight path → number of weights to keep.

        Returns:
          New masks with exactly those counts, nested in `ticket`. The model's
          weights and masks are those of `ticket` again.
        """
        self.assign(ticket.masks)
        with self._strategy.scope():  # Outside it TF-MOT cannot assign mirrored masks.
            for wrapper in self._wrappers:
                (weight,) = wrapper.prunable_weights
                fraction = keep[weight_path(weight)] / weight.shape.num_elements()
                wrapper.pruning_schedule.sparsity.assign(1.0 - fraction)
                wrapper.pruning_obj.conditional_mask_update()
        masks = self.read()
        magnitudes = {path: np.abs(weight.numpy()) for path, weight in self.weights.items()}
        self.assign(ticket.masks)
        if _counts(masks) == keep and all(
            not np.any(masks[path] & ~ticket.masks[path]) for path in masks
        ):
            return masks
        # TF-MOT keeps every weight that ties with its threshold; settle ties exactly.
        return select(magnitudes, ticket, keep)

    def _pairs(self):
        return [
            (weight, mask) for wrapper in self._wrappers for weight, mask, _ in wrapper.pruning_vars
        ]


class NoMasks(WeightMasks):
    """Masks over nothing, for networks that are pruned in another way than by masking weights."""

    def _masked_layers(self, model):
        return []

    def _norm_channels(self, model):
        return []


class ConvolutionMasks(WeightMasks):
    """Masks over the kernels of convolutions alone: never over BatchNorm or dense layers.

    As "Data-Efficient Double-Win Lottery Tickets" prunes, the stem and the convolutions of
    shortcuts included, so that a ticket fits the same network with another head.
    """

    def _masked_layers(self, model):
        return [layer for layer in super()._masked_layers(model) if layer.kernel.shape.rank == 4]

    def _norm_channels(self, model):
        return []


class GradualMasks(WeightMasks):
    """Masks that TF-MOT's `PolynomialDecay` tightens while the network trains.

    Zhu and Gupta (arXiv:1710.01878): from dense to the final sparsity over the
    first three quarters of training, updated every 100 steps. Weights that tie
    with the last one kept are all kept, as TF-MOT does.

    Args:
      model: as for `WeightMasks`.
      keep: weight path → number of weights left at the end.
      iterations: length of the training, at least 2.
    """

    def __init__(self, model: keras.Model, keep: Mapping[str, int], iterations: int):
        self._keep = keep
        self._end_step = max(1, iterations * 3 // 4)
        super().__init__(model)

    def _make_schedule(self, kernel):
        frequency = min(100, self._end_step)
        return _sparsity.PolynomialDecay(
            initial_sparsity=0.0,
            final_sparsity=1.0 - self._keep[weight_path(kernel)] / kernel.shape.num_elements(),
            # The last update falls on the end step only if it is a whole number of updates away.
            begin_step=self._end_step % frequency,
            end_step=self._end_step,
            frequency=frequency,
        )

    def apply(self) -> None:
        """Counts a step, tightens the masks when the schedule says so, and applies them."""
        super().apply()  # What the optimizer moved outside the masks must not compete for a place.
        for wrapper in self._wrappers:
            wrapper.pruning_step.assign_add(1)
            wrapper.pruning_obj.conditional_mask_update()
        super().apply()


def _channels_alive(mask):
    return tf.reduce_max(mask, axis=list(range(mask.shape.rank - 1)))


def _wrap(layer, schedule):
    wrapper = _sparsity.prune_low_magnitude(layer, pruning_schedule=schedule)
    wrapper.build(None)  # The layer is built already; this makes the masks.
    return wrapper


def _counts(masks):
    return {path: int(np.count_nonzero(mask)) for path, mask in masks.items()}
