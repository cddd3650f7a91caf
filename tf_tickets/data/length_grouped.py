"""An order of training in which the examples of a batch have similar lengths."""

import numpy as np

from tf_tickets.data.batches import BatchOrder

# Batches of this many are sorted together: enough for similar lengths, few enough that which
# examples meet in a batch differs from epoch to epoch.
_POOL = 50


class LengthGroupedOrder(BatchOrder):
    """An endless stream of batches of similar length, so that little of a batch is padding.

    Each epoch is shuffled, cut into pools of 50 batches, sorted by length within each pool, cut
    into batches, and these are shuffled. As in BatchOrder, every epoch holds each example exactly
    once, every batch is full, and what an iteration sees depends on the arguments and its number
    alone. Where a batch runs across the end of an epoch, its examples are of any length.
    """

    def __init__(self, lengths, batch_size, seed):
        """Describes the stream.

        Args:
            lengths: int array of shape [n], the length of each example.
            batch_size: examples per iteration, 1 to n.
            seed: non-negative int, or tuple of them (such as a run's seed and a level).

        Raises:
            ValueError: if batch_size is outside 1 to n.
        """
        super().__init__(len(lengths), batch_size, seed)
        self._lengths = np.asarray(lengths)

    def _permutation(self, epoch):
        generator = np.random.default_rng([*self._seed, epoch])
        order = generator.permutation(self._num_examples).astype(np.int32)
        size = self._batch_size
        # The first ones fill the last batch of the epoch before, the last ones begin the next's.
        begin = -epoch * self._num_examples % size
        end = self._num_examples - (self._num_examples - begin) % size
        middle = order[begin:end]
        pools = [
            pool[np.argsort(self._lengths[pool], kind="stable")]
            for pool in np.split(middle, range(_POOL * size, len(middle), _POOL * size))
        ]
        batches = np.concatenate(pools).reshape(-1, size)
        grouped = batches[generator.permutation(len(batches))].ravel()
        return np.concatenate([order[:begin], grouped, order[end:]])
