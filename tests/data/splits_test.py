"""The validation split, and parts of a split."""

import hashlib

import numpy as np
import pytest

from tf_tickets.data.splits import stratified_subset, validation_split

LABELS = np.array([2, 0, 1, 0, 2, 1, 0, 2, 1, 0, 0, 3])  # 5, 3, 3 and 1 of each class.


@pytest.mark.parametrize(
    "num_examples, validation_size", [(60_000, 10_000), (10_000, 1_667), (7, 1)]
)
@pytest.mark.parametrize("seed", [0, 1, 2024])
def test_parts_are_sorted_disjoint_and_cover_everything(num_examples, validation_size, seed):
    train, validation = validation_split(num_examples, seed)
    assert len(validation) == validation_size
    assert np.all(np.diff(train) > 0) and np.all(np.diff(validation) > 0)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([train, validation])), np.arange(num_examples)
    )


def test_the_seed_alone_decides():
    first, again, other = (validation_split(1_000, seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_split_of_a_seed_stays_what_it_was():
    _, validation = validation_split(60_000, 3)
    found = hashlib.sha256(validation.tobytes()).hexdigest()
    assert found == "ebf9334090750dcc098bfd1f35d744bcde2e6b46c21949b70bec6984697fcc84"


def test_every_part_of_the_range_is_drawn_from():
    _, validation = validation_split(60_000, 0)
    per_tenth = np.bincount(validation // 6_000, minlength=10)
    assert per_tenth.min() > 850 and per_tenth.max() < 1_150  # 1,000 ± 5 standard deviations.


def test_fraction():
    train, validation = validation_split(10, 0, fraction=0.3)
    assert (len(train), len(validation)) == (7, 3)


@pytest.mark.parametrize("num_examples, fraction", [(10, 0.0), (10, 1.0), (10, -0.5), (2, 1 / 6)])
def test_an_empty_part_is_refused(num_examples, fraction):
    with pytest.raises(ValueError, match=f"{num_examples} examples empty"):
        validation_split(num_examples, 0, fraction)


@pytest.mark.parametrize(
    "count, of_each_class",
    [
        (0, {(0, 0, 0, 0)}),
        (1, {(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)}),
        (4, {(1, 1, 1, 1)}),
        (5, {(2, 1, 1, 1), (1, 2, 1, 1), (1, 1, 2, 1)}),
        (7, {(2, 2, 2, 1)}),
        (11, {(4, 3, 3, 1)}),
        (12, {(5, 3, 3, 1)}),
    ],
)
def test_a_subset_has_as_equal_numbers_of_each_class_as_there_are(count, of_each_class):
    drawn = set()
    for seed in range(40):
        indices = stratified_subset(LABELS, count, seed)
        assert indices.dtype == np.int64 and len(indices) == count
        assert np.all(np.diff(indices) > 0)
        drawn.add(tuple(np.bincount(LABELS[indices], minlength=4).tolist()))
    assert drawn == of_each_class


def test_a_smaller_subset_is_part_of_a_larger_one():
    subsets = [set(stratified_subset(LABELS, count, 5).tolist()) for count in range(13)]
    assert all(small < large for small, large in zip(subsets, subsets[1:], strict=False))


def test_every_example_is_equally_likely():
    labels = np.repeat([0, 1], [6, 4])
    draws = np.concatenate([stratified_subset(labels, 4, seed) for seed in range(1_200)])
    expected = 1_200 * np.repeat([2 / 6, 2 / 4], [6, 4])
    assert np.all(np.abs(np.bincount(draws) - expected) < 5 * np.sqrt(expected))


@pytest.mark.parametrize("count", [-1, 13])
def test_an_impossible_subset_is_refused(count):
    with pytest.raises(ValueError, match=f"count is {count}, must be 0 to 12"):
        stratified_subset(LABELS, count, 0)
