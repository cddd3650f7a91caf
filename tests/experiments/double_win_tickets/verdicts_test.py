"""Verdicts against what was worked out by hand."""

import numpy as np
import pytest
from scipy import stats

from experiments.double_win_tickets.verdicts import (
    METRICS,
    ExtremeSparsity,
    Scores,
    Verdict,
    extreme_sparsity,
    false_no_probability,
    judge,
    matches,
    paired_difference,
)

# Means 0.90, 0.80 and 0.50, standard deviations 0.01, 0.02 and 0.10.
DENSE = Scores((0.89, 0.90, 0.91), (0.78, 0.80, 0.82), (0.40, 0.50, 0.60))


@pytest.mark.parametrize(
    "ticket, dense, expected",
    [
        # Mean 0.8; the sample deviation is 0.1, the population's only 0.0816.
        ([0.71], [0.7, 0.8, 0.9], True),
        ([0.69], [0.7, 0.8, 0.9], False),
        # Exactly on the boundary, though 0.8 − 0.1 is 0.7000000000000001 in floats.
        ([0.7], [0.7, 0.8, 0.9], True),
        ([0.7, 0.7, 0.7], [0.7, 0.8, 0.9], True),
        ([0.6999], [0.7, 0.8, 0.9], False),
        # The ticket's own spread counts for nothing: its mean is 0.6.
        ([0.2, 1.0], [0.7, 0.8, 0.9], False),
        ([1.0], [0.7, 0.8, 0.9], True),
        # Two seeds: mean 0.6, deviation 0.1414.
        ([0.46], [0.5, 0.7], True),
        ([0.45], [0.5, 0.7], False),
        # Without any spread nothing below the mean matches.
        ([0.5], [0.5, 0.5], True),
        ([0.4999], [0.5, 0.5], False),
        # One seed of dense has no deviation; a ticket without seeds has no mean.
        ([0.9], [0.5], None),
        ([0.9], [], None),
        ([], [0.5, 0.7], None),
    ],
)
def test_matches(ticket, dense, expected):
    assert matches(ticket, dense) is expected


def test_a_ticket_that_matches_in_all_three_is_double_win():
    verdict = judge(Scores((0.891,) * 3, (0.781,) * 3, (0.401,) * 3), DENSE)
    assert verdict == Verdict(dict.fromkeys(METRICS, True), 3)
    assert verdict.double_win is True and not verdict.provisional


@pytest.mark.parametrize("failing, value", zip(METRICS, (0.889, 0.779, 0.399)))
def test_one_metric_that_fails_is_enough_to_lose(failing, value):
    scores = dict.fromkeys(METRICS, (1.0,) * 3) | {failing: (value,) * 3}
    verdict = judge(Scores(**scores), DENSE)
    assert verdict.matching == dict.fromkeys(METRICS, True) | {failing: False}
    assert verdict.double_win is False


def test_what_is_not_measured_leaves_the_verdict_open_unless_another_metric_fails():
    good = judge(Scores((0.9,) * 3, (0.9,) * 3), DENSE)
    assert good.matching["adversarial_ra"] is None and good.double_win is None
    assert judge(Scores((0.1,) * 3, (0.9,) * 3), DENSE).double_win is False
    assert judge(Scores(), DENSE) == Verdict(dict.fromkeys(METRICS, None), 0)


def test_dense_of_one_seed_gives_no_verdict():
    one = Scores((0.9,), (0.9,), (0.9,))
    assert judge(one, one).double_win is None
    # A ticket's only seed can be judged beside three of the dense network's.
    verdict = judge(one, DENSE)
    assert verdict.double_win is True and verdict.seeds == 1 and verdict.provisional


@pytest.mark.parametrize("count, provisional", [(2, True), (3, False), (4, False)])
def test_fewer_than_three_seeds_are_provisional(count, provisional):
    ticket = Scores((0.9,) * 5, (0.9,) * count, (0.9,) * 5)
    dense = Scores(*([(0.89, 0.91) * 2] * 3))
    verdict = judge(ticket, dense)
    assert verdict.seeds == count and verdict.provisional is provisional


def verdicts(*double_win, seeds=3):
    """Verdicts at sparsities 10, 20, ..., sparsest first."""
    return {
        10 * (index + 1): Verdict(dict.fromkeys(METRICS, value), seeds)
        for index, value in reversed(list(enumerate(double_win)))
    }


@pytest.mark.parametrize(
    "wins, sparsest, without_gap",
    [
        ((True, True, False), 20, 20),
        ((True, True, True), 30, 30),
        ((False, False), 0, 0),
        ((True, False, True, False), 30, 10),
        ((False, True), 20, 0),
        # Nothing is known of the second level, which is no loss.
        ((True, None, True, False), 30, 30),
        ((None, False), 0, 0),
    ],
)
def test_extreme_sparsity(wins, sparsest, without_gap):
    assert extreme_sparsity(verdicts(*wins)) == ExtremeSparsity(sparsest, without_gap, 3)


def test_no_verdict_no_extreme_sparsity():
    assert extreme_sparsity({}) is None
    assert extreme_sparsity(verdicts(None, None)) is None


def test_an_extreme_sparsity_is_as_provisional_as_its_verdicts():
    found = verdicts(True, True) | {30: Verdict(dict.fromkeys(METRICS, False), 2)}
    assert extreme_sparsity(found) == ExtremeSparsity(20, 20, 2)
    assert extreme_sparsity(found).provisional
    # A level that nothing is known of takes nothing away.
    found[30] = Verdict(dict.fromkeys(METRICS, None), 0)
    assert not extreme_sparsity(found).provisional


def test_a_paired_difference_is_that_of_the_t_test():
    random = np.random.default_rng(3)
    ticket, dense = (dict(enumerate(random.normal(0.5, 0.1, 5).tolist())) for _ in "ab")
    found = paired_difference(ticket | {7: 0.0}, {9: 1.0} | dense)
    both = stats.ttest_rel(list(ticket.values()), list(dense.values()))
    low, high = both.confidence_interval(0.95)
    assert found.trials == 5
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(
        (low, high)
    )
    assert paired_difference({0: 0.5}, {1: 0.5}) is None


def test_equal_differences_have_no_interval():
    """Though floats say that 0.4 − 0.3, 0.6 − 0.5 and 0.8 − 0.7 are three numbers."""
    found = paired_difference({0: 0.4, 1: 0.6, 2: 0.8}, {0: 0.3, 1: 0.5, 2: 0.7})
    assert found.mean == pytest.approx(0.1) and np.isnan(found.half_width) and found.trials == 3


@pytest.mark.parametrize("trials", [2, 3, 10])
def test_how_often_an_equal_ticket_is_called_worse(trials):
    random = np.random.default_rng(0)
    ticket, dense = random.normal(size=(2, 20_000, 3, trials))
    slack = dense.std(axis=-1, ddof=1)
    loses = np.any(ticket.mean(axis=-1) < dense.mean(axis=-1) - slack, axis=1)
    assert false_no_probability(trials) == pytest.approx(loses.mean(), abs=0.015)
