"""Learning rates and penalties by hand."""

import numpy as np
import pytest

from tf_tickets.training.schedules import (
    Constant,
    CosineDecay,
    LinearDecay,
    LinearRamp,
    StepDecay,
)


def test_constant():
    np.testing.assert_array_equal(Constant(0.5)(7, 3), np.float32([0.5, 0.5, 0.5]))


def test_step_decay_at_a_half_and_three_quarters():
    schedule = StepDecay(0.1, epochs=4, steps_per_epoch=2)
    expected = [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    np.testing.assert_allclose(schedule(0, 8), expected, rtol=1e-6)


def test_warmup_climbs_an_epoch_at_a_time():
    """The paper's VGG-16: from 0.01 to 0.1 over ten epochs."""
    schedule = StepDecay(0.1, 100, 3, warmup_epochs=10, warmup_start=0.01)
    rates = schedule(0, 36)
    expected = [0.01 + 0.009 * epoch for epoch in range(10)] + [0.1, 0.1]
    np.testing.assert_allclose(rates[::3], expected, rtol=1e-6)
    np.testing.assert_array_equal(rates.reshape(12, 3), np.tile(rates[::3, None], 3))
    np.testing.assert_allclose(schedule(150, 1), 0.01, rtol=1e-6)
    np.testing.assert_allclose(schedule(225, 1), 0.001, rtol=1e-6)


def test_a_decay_inside_the_warmup_divides_what_it_reached():
    schedule = StepDecay(1.0, epochs=4, steps_per_epoch=1, warmup_epochs=4, warmup_start=0.2)
    np.testing.assert_allclose(schedule(0, 4), [0.2, 0.4, 0.06, 0.008], rtol=1e-6)


def test_any_part_of_the_schedule_is_the_same_as_the_whole():
    schedule = StepDecay(0.1, 10, 7, warmup_epochs=2, warmup_start=0.05)
    whole = schedule(0, 70)
    parts = [schedule(start, 1) for start in range(70)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_without_milestones_only_the_warmup_is_left():
    schedule = StepDecay(0.1, 4, 1, milestones=())
    np.testing.assert_allclose(schedule(0, 4), 0.1, rtol=1e-6)


def test_cosine_decay_once_an_epoch():
    """1 + cos(π t / 4) over two: 1, 0.8536, 0.5, 0.1464 of the highest, then nothing."""
    rates = CosineDecay(0.2, epochs=4, steps_per_epoch=3)(0, 15)
    expected = np.repeat([0.2, 0.17071068, 0.1, 0.02928932, 0.0], 3)
    np.testing.assert_allclose(rates, expected, atol=1e-8)
    assert rates.dtype == np.float32


@pytest.mark.parametrize("first", [1, 3, 7])
def test_a_part_of_the_cosine_is_the_same_as_the_whole(first):
    rates = CosineDecay(0.01, epochs=5, steps_per_epoch=2)
    np.testing.assert_array_equal(rates(first, 3), rates(0, 10)[first : first + 3])


def test_linear_decay_climbs_over_a_tenth_and_falls_over_the_rest():
    rates = LinearDecay(0.9, iterations=20)(0, 22)
    expected = [0, 0.45, *(0.9 - 0.05 * np.arange(19)), 0]
    np.testing.assert_allclose(rates, expected, atol=1e-7)
    assert rates.dtype == np.float32


def test_linear_decay_without_a_warmup_begins_at_its_highest():
    rates = LinearDecay(0.4, iterations=4, warmup=0.0)(0, 5)
    np.testing.assert_allclose(rates, [0.4, 0.3, 0.2, 0.1, 0], atol=1e-8)


def test_linear_ramp_by_hand():
    """From a tenth to four tenths of twenty iterations."""
    penalties = LinearRamp(0.6, begin=2, end=8)(0, 11)
    expected = [0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6]
    np.testing.assert_allclose(penalties, expected, atol=1e-7)
    assert penalties.dtype == np.float32


def test_a_ramp_without_a_climb_is_a_step():
    np.testing.assert_allclose(LinearRamp(0.5, 0, 0)(0, 2), 0.5)
    np.testing.assert_allclose(LinearRamp(0.5, 3, 3)(0, 5), [0, 0, 0, 0.5, 0.5])


@pytest.mark.parametrize("schedule", [LinearDecay(0.3, 20, 0.15), LinearRamp(0.3, 2.5, 8.5)])
def test_a_part_of_a_line_is_the_same_as_the_whole(schedule):
    parts = [schedule(start, 1)[0] for start in range(20)]
    np.testing.assert_array_equal(schedule(0, 20), parts)
