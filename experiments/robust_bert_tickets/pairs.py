"""Two networks on the same texts: exact tests, rank tests and what they could have seen.

The unit is the text. All seeds face the same texts, so that what a text shows under several seeds
is one observation, not several.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binom, wilcoxon

SIGNIFICANCE = 0.05
"""What p is below where a difference is beyond chance."""

POWER = 0.8
"""How likely a difference as small as `PairedShares.smallest` is found beyond chance."""

# With fewer texts that differ, not even all on one side are beyond chance.
_FEWEST = next(n for n in range(1, 99) if 2 * 0.5**n < SIGNIFICANCE)
# Means over seeds that are equal but for rounding are made equal, so that ranks tie.
_DECIMALS = 9


class PairedShares(NamedTuple):
    """Which texts each of two networks gets right, over one or more seeds.

    A text's change d is how many more seeds the first network gets it right in than the second.
    Test, interval and `smallest` take the sizes |d| as they are and ask on which side each text
    is: it adds its whole size to the first network's side with a probability that is the same for
    all of them, or to the second's. Of one seed that is McNemar's exact test.

    Attributes:
      pairs: N, the texts times the seeds; of a text that only some seeds have, these alone.
      changes: d of each text.
    """

    pairs: int
    changes: tuple[int, ...]

    @property
    def first_more(self) -> int:
        """How many texts the first network gets right in more seeds than the second."""
        return sum(change > 0 for change in self.changes)

    @property
    def second_more(self) -> int:
        """The reverse."""
        return sum(change < 0 for change in self.changes)

    @property
    def difference(self) -> float:
        """By how many points the first network's share of the N is above the second's."""
        return 100 * sum(self.changes) / self.pairs

    @property
    def p_value(self) -> float:
        """The exact sign-flip test of the sum of d, two-sided.

        How likely the sum is at least as far from 0 if neither network is the better one: the
        sign of each d falls like a coin.
        """
        first, second = self._sides
        return min(1.0, 2 * float(_upper_tails(self._sizes, 0.5)[max(first, second)]))

    @property
    def beyond_chance(self) -> bool:
        return self.p_value < SIGNIFICANCE

    @property
    def interval(self) -> tuple[float, float]:
        """The difference's 95% confidence interval.

        Of the probability that a text is on the first network's side, as points of N: from where
        a sum as high as the one found is 2.5% likely to where one as low is. Of one seed that is
        Clopper and Pearson's. It leaves 0 out where the exact test is beyond chance and nowhere
        else. NaN where no text differs: one of no width would rule out every difference.
        """
        if not self._sizes:
            return math.nan, math.nan
        first, second = self._sides
        low, high = _lowest_side(self._sizes, first), 1 - _lowest_side(self._sizes, second)
        return self._points(self._sizes, low), self._points(self._sizes, high)

    @property
    def smallest(self) -> float:
        """The smallest difference, in points, that is beyond chance with probability `POWER`.

        Given the sizes of d. Where too few texts differ for any difference to show, texts that
        differ in one seed are added until there are enough; NaN where there are not so many.
        """
        if len(self.changes) < _FEWEST:
            return math.nan
        sizes = self._sizes + [1] * (_FEWEST - len(self._sizes))
        side = brentq(lambda side: power(sizes, side) - POWER, 0.5, 1.0)
        return self._points(sizes, side)

    @property
    def _sizes(self):
        """|d| of the texts that differ."""
        return [abs(change) for change in self.changes if change]

    @property
    def _sides(self):
        """The sums of the sizes on the first network's side and on the second's."""
        changes = np.array(self.changes)
        return int(changes[changes > 0].sum()), -int(changes[changes < 0].sum())

    def _points(self, sizes, side):
        """The difference that is to be expected of a probability of the first's side."""
        return 100 * (2 * side - 1) * sum(sizes) / self.pairs


class PairedMeans(NamedTuple):
    """A number of each text under each of two networks, its mean over the seeds.

    Attributes:
      texts: how many.
      difference: the mean over texts of the first network's number less the second's.
      p_value: of Wilcoxon's signed-rank test, two-sided; texts without a difference are left out.
    """

    texts: int
    difference: float
    p_value: float

    @property
    def beyond_chance(self) -> bool:
        return self.p_value < SIGNIFICANCE


def paired_shares(
    texts: Sequence[int], first: Sequence[bool], second: Sequence[bool]
) -> PairedShares:
    """Counts.

    Args:
      texts: of each pair, which text it is of; more than one seed may have it.
      first: of each pair, whether the first network gets it right.
      second: whether the second does.
    """
    changes = _changes(texts, first, second).sum()
    return PairedShares(len(texts), tuple(changes.astype(int).tolist()))


def paired_means(
    texts: Sequence[int], first: Sequence[float], second: Sequence[float]
) -> PairedMeans | None:
    """Compares numbers; arguments as of `paired_shares`. None without any."""
    changes = _changes(texts, first, second).mean().round(_DECIMALS)
    if changes.empty:
        return None
    p_value = float(wilcoxon(changes).pvalue) if changes.any() else 1.0
    return PairedMeans(len(changes), float(changes.mean()), p_value)


def power(sizes: Sequence[int], side: float) -> float:
    """The probability that the exact test is below `SIGNIFICANCE`.

    Args:
      sizes: |d| of the texts that differ.
      side: the probability of each to be on the first network's side.
    """
    beyond = np.flatnonzero(2 * _upper_tails(sizes, 0.5) < SIGNIFICANCE)
    if not beyond.size:
        return 0.0
    # A sum that is beyond chance on the first network's side, or as high a one on the second's.
    return float(sum(_upper_tails(sizes, of_side)[beyond[0]] for of_side in (side, 1 - side)))


def _changes(texts, first, second):
    """The first's less the second's of all pairs, by text."""
    changes = np.asarray(first, float) - np.asarray(second, float)
    return pd.Series(changes).groupby(np.asarray(texts, int))


def _lowest_side(sizes, reached):
    """The probability of a side at which its sum reaches what it did with probability 2.5%."""
    if not reached:
        return 0.0
    return brentq(lambda side: _upper_tails(sizes, side)[reached] - SIGNIFICANCE / 2, 0.0, 1.0)


def _upper_tails(sizes, side):
    """Of s = 0, 1, ..., Σ sizes, how likely it is that a side's sum is at least s.

    Every size is on that side with probability `side`, independently. Those of equal size are
    binomial; their sums are convolved.
    """
    chances = np.ones(1)
    for size, count in zip(*np.unique(np.asarray(sizes, int), return_counts=True), strict=True):
        of_size = np.zeros(size * count + 1)
        of_size[::size] = binom.pmf(np.arange(count + 1), count, side)
        chances = np.convolve(chances, of_size)
    return np.cumsum(chances[::-1])[::-1]
