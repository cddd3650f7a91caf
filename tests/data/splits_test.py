"""The validation split, and parts of a split."""

import hashlib
import itertools

import numpy as np
import pytest

from tf_tickets.data.splits import (
    stratified_fraction,
    stratified_subset,
    validation_split,
    validation_split_of_classes,
)

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


@pytest.mark.parametrize("sizes", [[50, 50, 2], [2, 2, 2, 2], [30, 5, 3], [400, 300, 20]])
@pytest.mark.parametrize("seed", range(6))
def test_no_class_is_without_examples_to_train_or_to_validate_on(sizes, seed):
    labels = np.random.default_rng(9).permutation(np.repeat(np.arange(len(sizes)), sizes))
    train, validation = validation_split_of_classes(labels, seed)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([train, validation])), np.arange(len(labels))
    )
    assert np.all(np.diff(train) > 0) and np.all(np.diff(validation) > 0)
    assert len(validation) == max(round(len(labels) / 6), len(sizes))
    held = np.bincount(labels[validation], minlength=len(sizes))
    assert held.min() >= 1 and np.all(held < sizes)
    plain = validation_split(len(labels), seed)
    if all(len(set(labels[part])) == len(sizes) for part in plain):
        np.testing.assert_array_equal(validation, plain[1])
    else:
        assert np.all(np.abs(held - np.array(sizes) / 6) <= 1.5)


@pytest.mark.parametrize("sizes", [[9, 4, 2], [2, 2, 2], [7, 3, 3, 2], [12, 2]])
@pytest.mark.parametrize("fraction", [0.05, 1 / 6, 0.5, 0.55, 0.7, 0.8, 0.9, 0.95])
def test_classes_give_the_part_asked_for_as_nearly_as_possible(sizes, fraction):
    """The least Σ n (held / n − fraction)² of all ways that leave no class empty on a side."""
    labels, count = np.repeat(np.arange(len(sizes)), sizes), sum(sizes)
    size = min(max(round(count * fraction), len(sizes)), count - len(sizes))
    if round(count * fraction) in (0, count):
        with pytest.raises(ValueError, match="examples empty"):
            validation_split_of_classes(labels, 0, fraction)
        return
    possible = [
        held for held in itertools.product(*(range(1, each) for each in sizes)) if sum(held) == size
    ]

    def error(held):
        return sum(each * (part / each - fraction) ** 2 for part, each in zip(held, sizes))

    least = min(map(error, possible))
    for seed in range(6):
        train, validation = validation_split_of_classes(labels, seed, fraction)
        held = np.bincount(labels[validation], minlength=len(sizes))
        plain = validation_split(count, seed, fraction)
        if all(len(set(labels[part])) == len(sizes) for part in plain):
            np.testing.assert_array_equal(validation, plain[1])
        else:
            assert error(held) == pytest.approx(least)
            assert np.all(held >= 1) and np.all(held < sizes)
        assert sorted([*train, *validation]) == list(range(count))


def test_a_class_of_one_example_cannot_be_split():
    with pytest.raises(ValueError, match="class 3 has one example only"):
        validation_split_of_classes(LABELS, 0)


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


PROPORTIONS = np.repeat([0, 1, 2], [600, 300, 100])


@pytest.mark.parametrize(
    "labels, percent, of_each_class",
    [
        (PROPORTIONS, 100, [600, 300, 100]),
        (PROPORTIONS, 10, [60, 30, 10]),
        (PROPORTIONS, 1, [6, 3, 1]),
        (np.repeat([0, 1, 2, 3], 450), 10, [45, 45, 45, 45]),
        # 10% of 100 examples; 0.4 of an example of the rare class becomes a whole one, and so
        # nine are left for 65 and 31 of the others: 6 and 3.
        (np.repeat([0, 1, 2], [65, 31, 4]), 10, [6, 3, 1]),
        (np.repeat([0, 1], [50, 50]), 2, [1, 1]),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fraction_keeps_the_shares_of_the_classes(labels, percent, of_each_class, seed):
    labels = np.random.default_rng(7).permutation(labels)
    indices = stratified_fraction(labels, percent, seed)
    assert indices.dtype == np.int64 and np.all(np.diff(indices) > 0)
    assert np.bincount(labels[indices]).tolist() == of_each_class


def test_a_fraction_has_the_nearest_whole_number_of_examples_of_all_and_of_each_class():
    sizes = np.random.default_rng(3).integers(20, 900, 12)
    labels = np.random.default_rng(4).permutation(np.repeat(np.arange(12), sizes))
    for percent in (5, 10, 33.3, 50, 80, 99):
        kept = np.bincount(labels[stratified_fraction(labels, percent, 0)], minlength=12)
        assert abs(kept.sum() - percent / 100 * len(labels)) <= 0.5
        assert np.all(np.abs(kept - percent / 100 * sizes) <= 1.5)


def test_a_smaller_fraction_is_part_of_a_larger_one():
    percents = (0, 0.5, 1, 3, 10, 33, 90, 100)
    parts = [set(stratified_fraction(PROPORTIONS, percent, 5).tolist()) for percent in percents]
    assert all(small < large for small, large in zip(parts, parts[1:], strict=False))


def test_labels_percent_and_seed_decide_the_fraction():
    one = stratified_fraction(PROPORTIONS, 10, 1)
    np.random.default_rng(5).random(3)  # Draws from elsewhere do not count,
    np.random.seed(99)
    np.testing.assert_array_equal(one, stratified_fraction(PROPORTIONS.copy(), 10.0, 1))
    # and neither does what the classes are called.
    np.testing.assert_array_equal(one, stratified_fraction(PROPORTIONS * 7 + 2, 10, 1))
    assert not np.array_equal(one, stratified_fraction(PROPORTIONS, 10, 2))


def test_every_example_of_a_class_is_equally_likely_in_a_fraction():
    labels = np.repeat([0, 1], [20, 10])
    draws = np.concatenate([stratified_fraction(labels, 30, seed) for seed in range(1_500)])
    counts, expected = np.bincount(draws, minlength=30), 1_500 * 9 / 30
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_an_impossible_fraction_is_refused(percent):
    with pytest.raises(ValueError, match="must be 0 to 100"):
        stratified_fraction(PROPORTIONS, percent, 0)
