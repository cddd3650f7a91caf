"""Several versions of a network, each without some filters or blocks, in one pass."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.structured.blocks import removable_blocks
from tf_tickets.structured.channels import channels_of, mixing_reads


@dataclasses.dataclass(frozen=True, eq=False)
class ElementGroup:
    """Filters of one layer, or blocks, that versions may lack.

    Attributes:
      name: the layer's; "" for the group of blocks.
      elements: a name for each: `<layer>:<index>`, or the block's.
      reads: (position of a call, which of its inputs) → for each channel read there,
        the element it belongs to, or -1; the first of several that go together.
      first: for each element the first of those that go together with it.
    """

    name: str
    elements: tuple[str, ...]
    reads: Mapping[tuple[int, int], np.ndarray]
    first: np.ndarray


class VersionedNetwork:
    """A network in inference mode with the weights it has now, and its versions.

    A version reads zeros where an element that it lacks was read, which is the same as
    taking the element out (see `surgery`). What comes before the first such place is
    computed once for all versions.

    Args:
      model: a functional or sequential model of one input and one output.
      names: of layers whose filters may go; by default the convolutions whose filters go one by
        one.

    Attributes:
      groups: those layers, then its blocks that may go.
      image_shape: (height, width, channels).
    """

    def __init__(self, model: keras.Model, names: Collection[str] | None = None):
        self.image_shape = tuple(model.input_shape[1:])
        self._folded = FoldedNetwork(model)
        channels = channels_of(model)
        self._graph = channels.graph
        names = channels.untied_convolutions if names is None else names
        self.groups = [_filter_group(channels, name) for name in names]
        blocks = removable_blocks(self._graph)
        if blocks:
            self.groups.append(_block_group(self._graph, blocks))

    def logits(
        self, group: ElementGroup, images: tf.Tensor, kept: tf.Tensor, per_version: bool = False
    ) -> tf.Tensor:
        """The logits of all versions.

        Args:
          group: what the versions may lack.
          images: `[n, ...]` in [0, 1]; with `per_version` `[versions · n, ...]`, those of
            the first version first.
          kept: float32 `[versions, len(group.elements)]`, 0 where a version lacks it, else 1.
            A version that lacks one of several that go together lacks them all.
          per_version: whether every version has images of its own.

        Returns:
          `[versions · n, classes]`, those of the first version first.
        """
        versions = tf.shape(kept)[0]
        if len(set(group.first)) < len(group.first):
            together = tf.math.unsorted_segment_min(tf.transpose(kept), group.first, kept.shape[1])
            kept = tf.ensure_shape(tf.transpose(together), kept.shape)
        expanded = {self._graph.input} if per_version else self._behind(group)

        def change_inputs(index, tensors):
            call, changed = self._graph.calls[index], []
            for position, (number, tensor) in enumerate(zip(call.inputs, tensors)):
                elements = group.reads.get((index, position))
                if not per_version and number not in expanded:
                    if elements is not None or call.output in expanded:
                        tensor = _repeated(tensor, versions)
                if elements is not None:
                    tensor *= _mask(kept, elements, tf.shape(tensor)[0] // versions, tensor)
                changed.append(tensor)
            return changed

        return self._folded.fixed_tensors()(images, change_inputs)[self._graph.output]

    def _behind(self, group):
        """The tensors that differ between versions."""
        changed = {index for index, _ in group.reads}
        behind = set()
        for index, call in enumerate(self._graph.calls):
            if index in changed or behind.intersection(call.inputs):
                behind.add(call.output)
        return behind


def without_one(elements: int, at_a_time: int) -> Iterator[np.ndarray]:
    """What `VersionedNetwork.logits` takes as `kept` for versions that lack one element each.

    Yields float32 `[at most at_a_time, elements]`, the first elements first.
    """
    kept = 1.0 - np.eye(elements, dtype=np.float32)
    for start in range(0, elements, at_a_time):
        yield kept[start : start + at_a_time]


def _filter_group(channels, name):
    reads = {
        (index, position): carried for index, position, carried in mixing_reads(channels, name)
    }
    units = channels.filters[name].tolist()
    elements = tuple(f"{name}:{index}" for index in range(len(units)))
    return ElementGroup(name, elements, reads, np.array([units.index(unit) for unit in units]))


def _block_group(graph, blocks):
    reads = {}
    calls = {call.output: (index, call) for index, call in enumerate(graph.calls)}
    for number, block in enumerate(blocks):
        index, call = calls[block.output]
        reads[index, call.inputs.index(block.branch)] = np.array([number])
    names = tuple(block.name for block in blocks)
    return ElementGroup("", names, reads, np.arange(len(names)))


def _repeated(tensor, versions):
    """`[n, ...]` → `[versions · n, ...]`."""
    return tf.tile(tensor, [versions, *[1] * (tensor.shape.rank - 1)])


def _mask(kept, elements, images, tensor):
    """What to multiply a tensor `[versions · n, ..., channels]` with."""
    always = tf.ones([tf.shape(kept)[0], 1])
    columns = elements % (kept.shape[1] + 1)  # -1 is the last one.
    of_channels = tf.gather(tf.concat([kept, always], axis=1), columns, axis=1)
    mask = tf.repeat(of_channels, images, axis=0)
    middle = [1] * (tensor.shape.rank - 2)
    return tf.reshape(mask, [-1, *middle, len(elements)])
