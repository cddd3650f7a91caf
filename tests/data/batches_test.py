"""The order of batches, against the stream written out in full."""

import numpy as np
import pytest

from tf_tickets.data.batches import BatchOrder

SIZES = [(10, 3), (10, 10), (7, 1), (12, 4), (5, 4)]


def full_stream(num_examples, seed, epochs):
    return np.concatenate(
        [np.random.default_rng([*seed, e]).permutation(num_examples) for e in range(epochs)]
    )


@pytest.mark.parametrize("num_examples, batch_size", SIZES)
def test_equals_the_concatenated_permutations(num_examples, batch_size):
    stream = full_stream(num_examples, (5,), epochs=batch_size)
    batches = BatchOrder(num_examples, batch_size, seed=5).indices(0, num_examples)
    assert batches.dtype == np.int32
    np.testing.assert_array_equal(batches, stream.reshape(num_examples, batch_size))


@pytest.mark.parametrize("num_examples, batch_size", SIZES)
def test_every_epoch_holds_each_example_once(num_examples, batch_size):
    stream = BatchOrder(num_examples, batch_size, seed=1).indices(0, 3 * num_examples).ravel()
    epochs = stream.reshape(-1, num_examples)
    assert np.all(np.sort(epochs, axis=1) == np.arange(num_examples))
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize("num_examples, batch_size", SIZES)
def test_any_slice_in_any_order_of_calls_is_the_same_stream(num_examples, batch_size):
    whole = BatchOrder(num_examples, batch_size, seed=2).indices(0, 40)
    order = BatchOrder(num_examples, batch_size, seed=2)
    for start, count in [(0, 1), (1, 1), (2, 9), (30, 10), (4, 0), (4, 20), (0, 40), (39, 1)]:
        batches = order.indices(start, count)
        assert batches.shape == (count, batch_size)
        np.testing.assert_array_equal(batches, whole[start : start + count])


def test_a_resumed_run_far_into_training_does_not_replay_the_epochs_before(monkeypatch):
    drawn = []
    original = BatchOrder._permutation

    def counted(self, epoch):
        drawn.append(epoch)
        return original(self, epoch)

    monkeypatch.setattr(BatchOrder, "_permutation", counted)
    order = BatchOrder(100, 10, seed=0)
    for start in range(1_000, 1_020, 2):
        order.indices(start, 2)
    assert drawn == [100, 101]


def test_seeds():
    by_seed = {seed: BatchOrder(50, 50, seed).indices(0, 1) for seed in (0, 1, (1, 2), (2, 1))}
    np.testing.assert_array_equal(by_seed[1, 2].ravel(), full_stream(50, (1, 2), epochs=1))
    assert len({batches.tobytes() for batches in by_seed.values()}) == 4


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_an_impossible_batch_size_is_refused(batch_size):
    with pytest.raises(ValueError, match=rf"batch_size is {batch_size}, must be 1 to 10"):
        BatchOrder(10, batch_size, seed=0)


@pytest.mark.parametrize("start, count", [(-1, 1), (0, -1)])
def test_negative_iterations_are_refused(start, count):
    with pytest.raises(ValueError, match=f"got {start} and {count}"):
        BatchOrder(10, 2, seed=0).indices(start, count)


def test_among_some_examples_it_is_the_stream_of_these():
    examples = np.array([40, 7, 19, 3, 22])
    order = BatchOrder(5, 2, 6)
    part = order.among(examples)
    np.testing.assert_array_equal(part.indices(0, 9), examples[order.indices(0, 9)])
    assert part.indices(0, 5).dtype == np.int32
    assert set(order.indices(0, 5).ravel()) == set(range(5))  # Itself it stays what it was.
