"""Early stopping, by hand."""

import math

import pytest

from tf_tickets.evaluation.early_stopping import early_stopping_iteration


def test_takes_the_smallest_loss():
    assert early_stopping_iteration([0, 500, 1000, 1500], [2.3, 0.4, 0.2, 0.3]) == 1000


def test_takes_the_first_of_equal_losses():
    assert early_stopping_iteration([0, 500, 1000, 1500], [2.3, 0.2, 0.4, 0.2]) == 500


def test_may_stop_before_the_first_step():
    assert early_stopping_iteration([0, 500], [0.1, 0.2]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_refuses_losses_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="not finite"):
        early_stopping_iteration([0, 500, 1000], [1.0, bad, 0.5])


def test_refuses_nothing():
    with pytest.raises(ValueError, match="no validation losses"):
        early_stopping_iteration([], [])


def test_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="2 iterations, but 1"):
        early_stopping_iteration([0, 500], [1.0])
