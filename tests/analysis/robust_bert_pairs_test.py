"""Paired tests against what was counted by hand, and their power against a simulation."""

from itertools import product
from math import comb

import numpy as np
import pytest

from tf_tickets.analysis.robust_bert_pairs import (
    POWER,
    PairedShares,
    paired_means,
    paired_shares,
    power,
)


def coins(unequal, heads):
    """Of n coins, in how many of all ways do they fall at least as unequally?"""
    ways = sum(comb(unequal, k) for k in range(unequal + 1) if abs(2 * k - unequal) >= heads)
    return ways / 2**unequal


@pytest.mark.parametrize("first_only, second_only", [(8, 1), (1, 8), (2, 2), (6, 0), (30, 12)])
def test_mcnemars_exact_test(first_only, second_only):
    measured = PairedShares(150, first_only, second_only)
    expected = coins(first_only + second_only, abs(first_only - second_only))
    assert measured.p_value == pytest.approx(expected)
    assert measured.difference == pytest.approx((first_only - second_only) / 1.5)


def test_counts_of_texts():
    first, second = [1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]
    assert paired_shares(first, second) == PairedShares(6, 2, 1)


def test_texts_that_do_not_differ_tell_nothing():
    same = PairedShares(50, 0, 0)
    assert (same.p_value, same.difference) == (1.0, 0.0)
    assert all(np.isnan(end) for end in same.interval)  # Not (0, 0), which would be certainty.
    # Six texts of 50, all on one side, are the fewest that p < 0.05 takes: 2 / 2⁶.
    assert 2 / 2**5 > 0.05 > 2 / 2**6
    # All six must fall there with probability 0.8, each with its sixth root.
    assert same.smallest == pytest.approx(12 * (2 * 0.8 ** (1 / 6) - 1), abs=0.01)


def test_the_interval_is_where_the_exact_test_finds_no_contradiction():
    """Clopper and Pearson's ends are the shares at which the counts seen are 2.5% unlikely."""
    low, high = (end / 100 * 100 / 12 for end in PairedShares(100, 9, 3).interval)
    low, high = (1 + low) / 2, (1 + high) / 2

    def at_least(count, share):
        return sum(comb(12, k) * share**k * (1 - share) ** (12 - k) for k in range(count, 13))

    assert at_least(9, low) == pytest.approx(0.025, rel=1e-6)
    assert 1 - at_least(10, high) == pytest.approx(0.025, rel=1e-6)
    for first_only, second_only in product(range(9), repeat=2):
        if first_only + second_only == 0:
            continue  # Without an interval.
        measured = PairedShares(40, first_only, second_only)
        low, high = measured.interval
        assert measured.beyond_chance == (not low <= 0 <= high)


def test_power_against_a_simulation():
    """Networks that differ by the smallest difference are told apart four times in five."""
    measured = PairedShares(872, 70, 40)
    side = (1 + measured.smallest / 100 * 872 / 110) / 2
    assert power(110, side) == pytest.approx(POWER, abs=1e-6)
    random = np.random.default_rng(0)
    found = 0
    for _ in range(600):
        on_first = random.random(110) < side
        first = np.concatenate([on_first, np.zeros(762, bool)])
        second = np.concatenate([~on_first, np.zeros(762, bool)])
        found += paired_shares(first, second).beyond_chance
    # Two and a half standard deviations of 600 tries.
    assert found / 600 == pytest.approx(POWER, abs=0.041)


def test_pooled_seeds_find_what_one_seed_by_itself_does_not():
    seed = PairedShares(150, 9, 3)
    pooled = PairedShares(5 * 150, 5 * 9, 5 * 3)
    assert not seed.beyond_chance and pooled.beyond_chance
    assert pooled.difference == seed.difference and pooled.smallest < seed.smallest


def test_the_smallest_difference_is_the_normal_tests():
    """With many texts, (1.960 + 0.842) standard deviations of the difference under chance."""
    expected = 100 * (1.95996 + 0.84162) * (218 / 872**2) ** 0.5
    assert PairedShares(872, 109, 109).smallest == pytest.approx(expected, rel=0.02)


def test_wilcoxons_signed_rank_test():
    found = paired_means([5, 9, 3, 16, 7], [4, 7, 6, 12, 2])
    # Ranks 1, 2, 3, 4, 5 of 1, 2, -3, 4, 5: those of losses sum to 3, as 5 of 32 ways do or less.
    ways = sum(
        sum(rank for rank, lost in zip(range(1, 6), signs) if lost) <= 3
        for signs in product((0, 1), repeat=5)
    )
    assert found.p_value == pytest.approx(2 * ways / 32)
    assert (found.texts, found.difference) == (5, pytest.approx(9 / 5))


def test_means_that_do_not_differ_or_are_not_there():
    same = paired_means([1, 2], [1, 2])
    assert (same.p_value, same.difference) == (1.0, 0.0)
    assert paired_means([], []) is None
