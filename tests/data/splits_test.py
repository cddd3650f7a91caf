"""The validation split."""

import numpy as np
import pytest

from tf_tickets.data.splits import validation_split


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
