"""What goes with a filter, and where it is read, as disturbances show it."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.models.graph import graph_of

layers = keras.layers

# Layers that make of zeros in one channel something that depends on the others.
MIXING = (
    layers.Conv1D,
    layers.Conv2D,
    layers.SeparableConv2D,
    layers.Conv2DTranspose,
    layers.Dense,
)


class Disturbed:
    """A network whose filters are disturbed one by one, with all others held.

    Args:
      model: any functional or sequential model.
      inputs: images.
      by_group: names of grouped convolutions that lose whole groups.
      by_share: names of those that lose the same of each group.
      apart: names of layers that do not go with what they are multiplied with.
    """

    def __init__(self, model: keras.Model, inputs: tf.Tensor, by_group=(), by_share=(), apart=()):
        self._graph, self._inputs = graph_of(model), inputs
        self._by_group, self._by_share, self._apart = by_group, by_share, apart
        self._makers = [
            index for index, call in enumerate(self._graph.calls) if type(call.layer) in MIXING
        ]
        self._held = {}
        self._run(self._hold_input, self._hold_output)
        self._touched = {
            (self._graph.calls[index].name, filter_): self._touches(index, filter_)
            for index in self._makers
            for filter_ in range(self._held["made", index].shape[-1])
        }

    def together(self, some: set) -> set:
        """Those filters, as (layer, index), and all that share a channel that is read with them."""
        gone = set(some)
        while True:
            touched = set().union(*(self._touched[each] for each in gone))
            touched = set().union(*map(self._alike, touched))
            more = {each for each, reads in self._touched.items() if reads & touched}
            more = set().union(*map(self._alike, more))
            more = {each for each in more if each[0] not in self._apart}
            if more <= gone:
                return gone
            gone |= more

    def zeroed(self, gone: set) -> np.ndarray:
        """The outputs with zeros in all channels that are read of these filters."""
        touched = set().union(*(self._touched[each] for each in gone))

        def change(index, tensor):
            zeros = [channel for call, channel in touched if call == index]
            return tensor * (1.0 - np.isin(np.arange(tensor.shape[-1]), zeros))

        return self._run(change, lambda index, made: made)

    def _alike(self, place):
        """What has the place of a (call's position or name, channel) in the other groups."""
        call, channel = place
        for index in self._makers:
            name, layer = self._graph.calls[index].name, self._graph.calls[index].layer
            if name in self._by_share and call in (index, name):
                size = layer.kernel.shape[-2] if call == index else layer.filters // layer.groups
                return {(call, channel % size + size * group) for group in range(layer.groups)}
        return {place}

    def _touches(self, maker, filter_):
        """The (position of a call, channel) at which a filter is read."""
        touched, generator = set(), np.random.default_rng(7)

        def compare(index, tensor):
            changed = tensor.numpy() != self._held["read", index]
            axes = tuple(range(changed.ndim - 1))
            touched.update((index, channel) for channel in np.flatnonzero(changed.any(axis=axes)))
            return tensor

        def disturb(index, made):
            if index in self._split:
                return made + noise(made) if index == maker else made
            held = self._held["made", index]
            return tf.constant(held + noise(held)) if index == maker else tf.constant(held)

        def noise(made):
            values = np.zeros(made.shape, np.float32)
            sizes = 10 ** generator.uniform(-1, 1, made.shape[:-1])
            values[..., filter_] = generator.normal(0, sizes)
            return values

        outputs = self._run(compare, disturb)
        changed = (outputs != self._held["outputs"]).any(axis=tuple(range(outputs.ndim - 1)))
        return touched | {(None, channel) for channel in np.flatnonzero(changed)}

    @property
    def _split(self):
        calls = self._graph.calls
        return {index for index in self._makers if calls[index].name in self._by_group}

    def _hold_input(self, index, tensor):
        self._held["read", index] = tensor.numpy()
        return tensor

    def _hold_output(self, index, made):
        self._held["made", index] = made.numpy()
        return made

    def _run(self, change_read, change_made):
        tensors = {self._graph.input: self._inputs}
        for index, call in enumerate(self._graph.calls):
            read = [tensors[tensor] for tensor in call.inputs]
            if index in self._makers and index not in self._split:
                read = [change_read(index, read[0])]
            made = call.repeat(call.layer, read, training=False)
            if index in self._makers:
                made = change_made(index, made)
            tensors.update(zip(call.outputs, tf.nest.flatten(made), strict=True))
        outputs = tensors[self._graph.output].numpy()
        self._held.setdefault("outputs", outputs)
        return outputs
