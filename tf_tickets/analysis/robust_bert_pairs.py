"""Two networks on the same texts: exact tests, rank tests and what they could have seen."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, wilcoxon

SIGNIFICANCE = 0.05
"""What p is below where a difference is beyond chance."""

POWER = 0.8
"""How likely a difference as small as `PairedShares.smallest` is found beyond chance."""

# With fewer texts that differ, not even all on one side are beyond chance.
_FEWEST = next(n for n in range(1, 99) if 2 * 0.5**n < SIGNIFICANCE)


class PairedShares(NamedTuple):
    """How many texts each of two networks gets right, seeds summed.

    Attributes:
      texts: how many pairs, N.
      first_only: how many of them only the first network gets right.
      second_only: only the second.
    """

    texts: int
    first_only: int
    second_only: int

    @property
    def unequal(self) -> int:
        """The texts that tell the networks apart, n."""
        return self.first_only + self.second_only

    @property
    def difference(self) -> float:
        """By how many points the first network's share is above the second's."""
        return 100 * (self.first_only - self.second_only) / self.texts

    @property
    def interval(self) -> tuple[float, float]:
        """The difference's 95% confidence interval.

        Clopper and Pearson's of the first network's share among the n unequal texts, as points
        of N, which leaves 0 out where the exact test is beyond chance and nowhere else. NaN where
        none is unequal: one of no width would rule out every difference.
        """
        if not self.unequal:
            return math.nan, math.nan
        found = binomtest(self.first_only, self.unequal).proportion_ci(1 - SIGNIFICANCE)
        scale = 100 * self.unequal / self.texts
        return (2 * found.low - 1) * scale, (2 * found.high - 1) * scale

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided.

        How likely counts at least as unequal are if neither network is the better one: each of
        the n unequal texts falls on either side like a coin.
        """
        return float(binomtest(self.first_only, self.unequal).pvalue) if self.unequal else 1.0

    @property
    def beyond_chance(self) -> bool:
        return self.p_value < SIGNIFICANCE

    @property
    def smallest(self) -> float:
        """The smallest difference, in points, that is beyond chance with probability `POWER`.

        Given that n texts are unequal; where n is too few for any difference, the fewest that
        could show one are put in its place.
        """
        unequal = max(self.unequal, _FEWEST)
        side = brentq(lambda side: power(unequal, side) - POWER, 0.5, 1.0)
        return 100 * (2 * side - 1) * unequal / self.texts


class PairedMeans(NamedTuple):
    """A number of each text under each of two networks, seeds together.

    Attributes:
      texts: how many pairs.
      difference: the first network's mean less the second's.
      p_value: of Wilcoxon's signed-rank test, two-sided; pairs without a difference are left out.
    """

    texts: int
    difference: float
    p_value: float

    @property
    def beyond_chance(self) -> bool:
        return self.p_value < SIGNIFICANCE


def power(unequal: int, side: float) -> float:
    """The probability that the exact test is below `SIGNIFICANCE`.

    Args:
      unequal: how many texts tell the networks apart.
      side: the probability of each to be on the first network's side.
    """
    # The highest count that is significant from below; by symmetry, n less it from above.
    last = binom.ppf(SIGNIFICANCE / 2, unequal, 0.5) - 1
    return float(binom.cdf(last, unequal, side) + binom.sf(unequal - last - 1, unequal, side))


def paired_shares(first: Sequence[bool], second: Sequence[bool]) -> PairedShares:
    """Counts; both of the same texts in the same order."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    return PairedShares(len(first), int(np.sum(first & ~second)), int(np.sum(second & ~first)))


def paired_means(first: Sequence[float], second: Sequence[float]) -> PairedMeans | None:
    """Compares; both of the same texts in the same order. None without any."""
    changes = np.asarray(first, float) - np.asarray(second, float)
    if not len(changes):
        return None
    p_value = float(wilcoxon(changes).pvalue) if np.any(changes) else 1.0
    return PairedMeans(len(changes), float(changes.mean()), p_value)
