"""Paired tests against enumerations and scipy's, and their power against a simulation."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from experiments.robust_bert_tickets.pairs import (
    POWER,
    PairedShares,
    paired_means,
    paired_shares,
    power,
)

# Changes of texts over three seeds, of which some cancel out and some agree.
SEVERAL_SEEDS = [
    (3, 3, 2, 1, 1, -1, 0, 0),
    (-3, -2, -2, -2, -1, -1, -1, 2),
    (1, 2, 3, -3, -2, -1),
    (2, 2, 2, 2, 2),
    (3, 3, 3, 3, 3, 3, -1, -1, 1, 1),
]


def of_one_seed(texts, first_more, second_more):
    """So many texts, of which so many only one network gets right."""
    changes = [1] * first_more + [-1] * second_more
    return PairedShares(texts, tuple(changes + [0] * (texts - len(changes))))


def of_seeds(seeds, changes):
    return PairedShares(seeds * len(changes), changes)


def all_sums(changes):
    """The sums of d with all signs that it can have, each as likely as any other."""
    return [np.dot(signs, changes) for signs in product((-1, 1), repeat=len(changes))]


@pytest.mark.parametrize("counts", [(8, 1), (1, 8), (2, 2), (6, 0), (30, 12), (0, 0), (1, 0)])
def test_one_seed_has_mcnemars_exact_test(counts):
    measured = of_one_seed(150, *counts)
    expected = binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1
    assert measured.p_value == pytest.approx(expected, rel=1e-9)
    assert (measured.first_more, measured.second_more) == counts
    assert measured.difference == pytest.approx((counts[0] - counts[1]) / 1.5)


@pytest.mark.parametrize("counts", [(8, 1), (2, 2), (6, 0), (0, 7), (30, 12)])
def test_one_seed_has_clopper_and_pearsons_interval(counts):
    unequal = sum(counts)
    expected = binomtest(counts[0], unequal).proportion_ci(0.95)
    ends = [100 * (2 * end - 1) * unequal / 150 for end in (expected.low, expected.high)]
    assert of_one_seed(150, *counts).interval == pytest.approx(ends)


@pytest.mark.parametrize("changes", SEVERAL_SEEDS)
def test_the_p_value_is_the_share_of_all_sign_flips(changes):
    sums = np.abs(all_sums(changes))
    expected = np.mean(sums >= abs(sum(changes)))
    assert of_seeds(3, changes).p_value == pytest.approx(expected, rel=1e-12)
    # scipy flips the signs of a sample by exchanging it with its pair, here 0.
    scipys = permutation_test(
        (np.array(changes), np.zeros(len(changes))),
        lambda first, second, axis: np.sum(first - second, axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert of_seeds(3, changes).p_value == pytest.approx(scipys.pvalue, rel=1e-12)


@pytest.mark.parametrize("changes", SEVERAL_SEEDS)
def test_the_intervals_ends_are_where_the_sum_found_is_unlikely(changes):
    """By enumeration, with a sign's probability other than a half."""
    total = sum(map(abs, changes))
    measured = of_seeds(3, changes)
    low, high = ((1 + end * measured.pairs / 100 / total) / 2 for end in measured.interval)
    signs = np.array(list(product((-1, 1), repeat=len(changes))))
    sums = signs @ np.abs(changes)

    def chance(side, wanted):
        return np.where(signs > 0, side, 1 - side).prod(axis=1)[wanted].sum()

    if min(changes) < 0:
        assert chance(high, sums <= sum(changes)) == pytest.approx(0.025, rel=1e-6)
    else:
        assert high == pytest.approx(1)  # With all texts on one side, the highest there is.
    assert chance(low, sums >= sum(changes)) == pytest.approx(0.025, rel=1e-6)
    assert measured.interval[0] <= measured.difference <= measured.interval[1]


def test_the_interval_leaves_out_0_where_the_test_is_beyond_chance():
    random = np.random.default_rng(0)
    found = [of_one_seed(40, *counts) for counts in product(range(9), repeat=2)]
    for shift in np.linspace(-1, 1, 300):
        changes = random.integers(-2, 3, 16) + np.sign(shift) * (random.random(16) < abs(shift))
        found.append(of_seeds(3, tuple(changes.astype(int).tolist())))
    for measured in found:
        low, high = measured.interval
        assert measured.beyond_chance == (low > 0 or high < 0)  # Neither, where there is none.
    assert {True, False} == {measured.beyond_chance for measured in found}


def test_texts_that_do_not_differ_tell_nothing():
    same = of_one_seed(50, 0, 0)
    assert (same.p_value, same.difference) == (1.0, 0.0)
    assert all(np.isnan(end) for end in same.interval)  # Not (0, 0), which would be certainty.
    # Six texts of 50, all on one side, are the fewest that p < 0.05 takes: 2 / 2⁶.
    assert 2 / 2**5 > 0.05 > 2 / 2**6
    # All six must fall there with probability 0.8, each with its sixth root.
    assert same.smallest == pytest.approx(12 * (2 * 0.8 ** (1 / 6) - 1), abs=0.01)
    # In one of two seeds each, that is half as many points.
    assert of_seeds(2, (0,) * 50).smallest == pytest.approx(same.smallest / 2)
    # Two texts that differ in both seeds need four others.
    two = of_seeds(2, (2, -2) + (0,) * 48)
    assert two.smallest == pytest.approx(same.smallest / 2 * 8 / 6)


def test_no_difference_of_fewer_than_six_texts_can_be_seen():
    assert np.isnan(of_one_seed(5, 5, 0).smallest) and np.isnan(of_seeds(5, (5,) * 5).smallest)
    assert of_one_seed(6, 0, 0).smallest == pytest.approx(100 * (2 * 0.8 ** (1 / 6) - 1))
    assert power([5] * 5, 1.0) == 0.0


def test_seeds_that_say_the_same_are_as_one():
    """A text is no more than one text, however many seeds face it."""
    seed = of_one_seed(150, 9, 3)
    for seeds in (2, 5):
        changes = tuple(seeds * change for change in seed.changes)
        together = of_seeds(seeds, changes)
        assert together.p_value == seed.p_value > 0.05
        assert together.difference == seed.difference
        assert together.interval == pytest.approx(seed.interval)
        assert together.smallest == pytest.approx(seed.smallest)


def test_seeds_that_differ_on_texts_of_their_own_find_what_one_does_not():
    seed = of_one_seed(150, 4, 0)
    together = of_seeds(2, (1,) * 8 + (0,) * 142)
    assert not seed.beyond_chance and together.beyond_chance
    assert together.difference == seed.difference


def test_the_smallest_differences_that_150_texts_can_show():
    """Six texts, all to one side: 4 points of one seed, 2 of two seeds, and no fewer."""
    assert of_one_seed(150, 6, 0).beyond_chance and of_one_seed(150, 6, 0).difference == 4
    of_two = of_seeds(2, (1,) * 6 + (0,) * 144)
    assert of_two.beyond_chance and of_two.difference == 2
    for ones, lost_ones, twos, lost_twos in product(range(9), repeat=4):
        if ones + 2 * twos - lost_ones - 2 * lost_twos == 5:
            changes = (1,) * ones + (-1,) * lost_ones + (2,) * twos + (-2,) * lost_twos
            assert not of_seeds(2, changes).beyond_chance


def test_texts_are_summed_over_their_pairs():
    # Text 7 thrice, text 2 twice, text 5 once.
    texts, first, second = [7, 2, 5, 7, 2, 7], [1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 1, 1]
    assert paired_shares(texts, first, second) == PairedShares(6, (0, 0, 2))


@pytest.mark.parametrize("sizes", [[1] * 110, [2] * 40 + [1] * 60])
def test_power_against_a_simulation(sizes):
    """Networks that differ by the smallest difference are told apart four times in five."""
    measured = of_seeds(2, tuple(sizes) + (0,) * (872 - len(sizes)))
    side = (1 + measured.smallest / 100 * 1744 / sum(sizes)) / 2
    assert power(sizes, side) == pytest.approx(POWER, abs=1e-6)
    random = np.random.default_rng(0)
    found = 0
    for _ in range(600):
        signs = np.where(random.random(len(sizes)) < side, 1, -1)
        found += of_seeds(2, tuple((signs * sizes).tolist())).beyond_chance
    # Two and a half standard deviations of 600 tries.
    assert found / 600 == pytest.approx(POWER, abs=0.041)


@pytest.mark.parametrize("sizes", [(109,), (60, 49)])
def test_the_smallest_difference_is_the_normal_tests(sizes):
    """With many texts, (1.960 + 0.842) standard deviations of the difference under chance."""
    changes = [size * sign for size, n in enumerate(sizes, 1) for sign in (1, -1) for _ in range(n)]
    measured = of_seeds(len(sizes), tuple(changes + [0] * (872 - len(changes))))
    deviation = np.sum(np.square(changes)) ** 0.5 / measured.pairs
    # The deviation is less the farther the side's probability is from a half.
    assert measured.smallest == pytest.approx(100 * (1.95996 + 0.84162) * deviation, rel=0.02)


def test_wilcoxons_signed_rank_test():
    found = paired_means(range(5), [5, 9, 3, 16, 7], [4, 7, 6, 12, 2])
    # Ranks 1, 2, 3, 4, 5 of 1, 2, -3, 4, 5: those of losses sum to 3, as 5 of 32 ways do or less.
    ways = sum(
        sum(rank for rank, lost in zip(range(1, 6), signs) if lost) <= 3
        for signs in product((0, 1), repeat=5)
    )
    assert found.p_value == pytest.approx(2 * ways / 32)
    assert (found.texts, found.difference) == (5, pytest.approx(9 / 5))


def test_ranks_are_of_each_texts_mean_over_seeds():
    once = paired_means(range(5), [5, 9, 3, 16, 7], [4, 7, 6, 12, 2])
    # The same five changes, 2 thrice and 4 as the mean of 0 and 8.
    texts = [0, 1, 1, 1, 2, 3, 3, 4]
    first, second = [1, 2, 2, 2, 0, 0, 8, 5], [0, 0, 0, 0, 3, 0, 0, 0]
    assert paired_means(texts, first, second) == once


def test_means_that_are_equal_but_for_rounding_tie():
    # Their sum is 0, but for rounding.
    changes = [0.1, 0.2, -0.3]
    assert sum(changes) != 0
    assert paired_means([0] * 3, changes, [0] * 3) == (1, 0.0, 1.0)


def test_means_that_do_not_differ_or_are_not_there():
    same = paired_means([0, 1], [1, 2], [1, 2])
    assert (same.p_value, same.difference) == (1.0, 0.0)
    assert paired_means([], [], []) is None
