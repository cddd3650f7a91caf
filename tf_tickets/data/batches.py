"""The order in which training visits the examples, as a function of the iteration."""

import copy

import numpy as np


class BatchOrder:
    """An endless stream of batches: one freshly shuffled epoch after another.

    Batches run across the end of an epoch, so that every batch is full and every epoch holds
    each example exactly once. What an iteration sees depends on the arguments and its number
    alone, so a run that is resumed sees the batches it would have seen.
    """

    def __init__(self, num_examples, batch_size, seed):
        """Describes the stream.

        Args:
            num_examples: number of examples in an epoch.
            batch_size: examples per iteration, 1 to num_examples.
            seed: non-negative int, or tuple of them (such as a run's seed and a level).

        Raises:
            ValueError: if batch_size is outside 1 to num_examples.
        """
        if not 1 <= batch_size <= num_examples:
            raise ValueError(f"batch_size is {batch_size}, must be 1 to {num_examples} (examples)")
        self._num_examples = num_examples
        self._batch_size = batch_size
        self._seed = seed if isinstance(seed, tuple) else (seed,)
        self._examples = None
        self._epochs = {}  # The permutations that the last call used, by epoch.

    def indices(self, start, count):
        """Returns the example indices of iterations start .. start + count - 1.

        Args:
            start: first iteration, from 0.
            count: number of iterations.

        Returns:
            int32 array of shape [count, batch_size].

        Raises:
            ValueError: if start or count is negative.
        """
        if start < 0 or count < 0:
            raise ValueError(f"start and count must be at least 0, got {start} and {count}")
        size = self._num_examples
        begin, end = start * self._batch_size, (start + count) * self._batch_size
        first_epoch, last_epoch = begin // size, max(begin, end - 1) // size
        self._epochs = {
            epoch: self._epochs[epoch] if epoch in self._epochs else self._permutation(epoch)
            for epoch in range(first_epoch, last_epoch + 1)
        }
        pieces = [
            permutation[max(begin - epoch * size, 0) : end - epoch * size]
            for epoch, permutation in self._epochs.items()
        ]
        indices = np.concatenate(pieces).reshape(count, self._batch_size)
        return indices if self._examples is None else self._examples[indices]

    def among(self, examples):
        """Returns the same stream of only some examples.

        Args:
            examples: int array of shape [num_examples], indices of theirs among all examples.

        Returns:
            BatchOrder whose indices are entries of `examples`.
        """
        part = copy.copy(self)
        part._examples = np.asarray(examples, np.int32)
        return part

    def _permutation(self, epoch):
        generator = np.random.default_rng([*self._seed, epoch])
        return generator.permutation(self._num_examples).astype(np.int32)
