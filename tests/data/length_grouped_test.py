"""Batches of examples of similar length."""

import numpy as np
import pytest

from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.length_grouped import LengthGroupedOrder


def lengths(count, seed=0):
    return np.random.default_rng(seed).integers(3, 129, count)


@pytest.mark.parametrize("count, batch_size", [(64, 8), (100, 7), (61, 61), (7, 4), (5_003, 32)])
def test_every_epoch_holds_each_example_once(count, batch_size):
    order = LengthGroupedOrder(lengths(count), batch_size, 3)
    epochs = 5
    stream = order.indices(0, epochs * count // batch_size).ravel()
    for epoch in range(epochs - 1):
        part = stream[epoch * count : (epoch + 1) * count]
        assert sorted(part) == list(range(count))
    assert stream.dtype == np.int32


def test_a_function_of_the_arguments_alone():
    whole = LengthGroupedOrder(lengths(100), 7, (3, 1)).indices(0, 60)
    resumed = LengthGroupedOrder(lengths(100), 7, (3, 1))
    np.testing.assert_array_equal(resumed.indices(33, 27), whole[33:])
    np.testing.assert_array_equal(resumed.indices(2, 5), whole[2:7])
    assert not np.array_equal(LengthGroupedOrder(lengths(100), 7, (3, 2)).indices(0, 60), whole)
    assert not np.array_equal(whole[:14], whole[15:29])  # Another epoch.


def test_little_of_a_batch_is_padding():
    sizes = lengths(3_200)

    def padding(order):
        batches = sizes[order(sizes).indices(0, 300)]
        return (batches.max(axis=1, keepdims=True) - batches).mean()

    assert padding(lambda s: LengthGroupedOrder(s, 32, 0)) < 3
    assert padding(lambda s: BatchOrder(len(s), 32, 0)) > 50


def test_long_batches_come_at_any_time():
    order = LengthGroupedOrder(lengths(6_400), 32, 0)
    means = lengths(6_400)[order.indices(0, 200)].mean(axis=1)
    correlation = np.corrcoef(means, np.arange(200))[0, 1]
    assert abs(correlation) < 0.2


def test_a_batch_across_the_end_of_an_epoch_is_any_batch():
    sizes = lengths(1_000)
    batches = sizes[LengthGroupedOrder(sizes, 32, 0).indices(0, 120)]
    spread = np.ptp(batches, axis=1)
    across = [31, 62, 93]  # The batches that hold examples 1000, 2000, 3000 of the stream.
    assert spread[across].min() > 60 > np.delete(spread, across).max()


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batches_that_do_not_fit(batch_size):
    with pytest.raises(ValueError, match=rf"batch_size is {batch_size}, must be 1 to 10"):
        LengthGroupedOrder(lengths(10), batch_size, 0)
