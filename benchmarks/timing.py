"""Contestants timed in turn within one process, so that their ratios mean something."""

import statistics
import time
from collections.abc import Callable, Mapping


def time_in_turn(
    contestants: Mapping[str, Callable[[int], object]], rounds: int, units: int
) -> dict[str, float]:
    """Median seconds a unit of work, every contestant timed once a round.

    Args:
      contestants: name → does so many units of work.
      rounds: how often each is timed, after a warm-up.
      units: how much it does each time.
    """
    for contestant in contestants.values():
        contestant(2)
    times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant(units)
            times[name].append((time.perf_counter() - start) / units)
    return {name: statistics.median(values) for name, values in times.items()}
