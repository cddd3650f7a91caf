"""Which tickets are double-win: "Data-Efficient Double-Win Lottery Tickets", Section 3.

The paper's Equation 3 compares a ticket with the dense network; its Section 4.1 takes
"no lower" with one standard deviation of the dense network's accuracy as slack, over
three seeds. Verdicts are on test accuracies, as the paper's, and nothing is chosen by them.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

# The columns of the paper's Table 1.
METRICS = ("standard_sa", "adversarial_sa", "adversarial_ra")

# "All experiments have three independent replicates".
SEEDS = 3

# For rounding alone: a mean of accuracies on fewer than a hundred million images that
# differs from another one differs by more.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Scores:
    """Test accuracies of one network in [0, 1], one per seed; none where not measured.

    Attributes:
      standard_sa: standard accuracy (SA) after standard training.
      adversarial_sa: standard accuracy after adversarial training.
      adversarial_ra: robust accuracy (RA) after adversarial training.
    """

    standard_sa: Sequence[float] = ()
    adversarial_sa: Sequence[float] = ()
    adversarial_ra: Sequence[float] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a ticket compares with the dense network.

    Attributes:
      matching: by metric, whether the ticket matches; None where that cannot be said.
      seeds: the fewest that one of those comparisons has; 0 if there is none.
    """

    matching: Mapping[str, bool | None]
    seeds: int

    @property
    def double_win(self) -> bool | None:
        """Whether it matches in all metrics; None if that is open."""
        if False in self.matching.values():
            return False
        return None if None in self.matching.values() else True

    @property
    def provisional(self) -> bool:
        """Whether it rests on fewer seeds than the definition's three."""
        return self.seeds < SEEDS


@dataclasses.dataclass(frozen=True)
class ExtremeSparsity:
    """How sparse double-win tickets get; 0 if only the dense network is left.

    Attributes:
      sparsest: the sparsest double-win ticket.
      without_gap: the sparsest one with no losing ticket before it.
      seeds: the fewest of a verdict.
    """

    sparsest: float
    without_gap: float
    seeds: int

    @property
    def provisional(self) -> bool:
        """Whether a verdict is."""
        return self.seeds < SEEDS


def matches(ticket: Sequence[float], dense: Sequence[float]) -> bool | None:
    """Equation 3: whether the ticket's mean is within one standard deviation of dense.

    Args:
      ticket: accuracies of the ticket, one per seed.
      dense: those of the dense network, from the same pre-trained weights and trained in
        the same way on the same data.

    Returns:
      Whether mean(ticket) ≥ mean(dense) − sd(dense), the sample standard deviation. None
      if the ticket has no seed or the dense network fewer than two, hence no deviation.
    """
    if not ticket or len(dense) < 2:
        return None
    slack = statistics.stdev(dense) + _ROUNDING
    return statistics.fmean(ticket) >= statistics.fmean(dense) - slack


class PairedDifference(NamedTuple):
    """How much better a network is than another one in the same trials.

    Attributes:
      mean: over the trials that both have.
      half_width: of the two-sided interval of Student's t around it; NaN of one trial, and of
        several whose differences are equal: their deviation of 0 says nothing of other trials'.
      trials: how many there are.
    """

    mean: float
    half_width: float
    trials: int


def paired_difference(
    ticket: Mapping[int, float], dense: Mapping[int, float], confidence: float = 0.95
) -> PairedDifference | None:
    """Compares accuracies seed by seed, so that what a trial's draw does to both cancels.

    Args:
      ticket: seed → accuracy.
      dense: seed → accuracy of what it is compared with.
      confidence: of the interval, in (0, 1).

    Returns:
      Of the seeds that both have; None without any.
    """
    differences = [ticket[seed] - dense[seed] for seed in ticket if seed in dense]
    if not differences:
        return None
    count, half_width = len(differences), math.nan
    deviation = statistics.stdev(differences) if count > 1 else 0.0
    if deviation > _ROUNDING:
        quantile = float(stats.t.ppf((1 + confidence) / 2, count - 1))
        half_width = quantile * deviation / math.sqrt(count)
    return PairedDifference(statistics.fmean(differences), half_width, count)


def false_no_probability(trials: int, metrics: int = len(METRICS)) -> float:
    """How often `matches` fails a ticket that is exactly as good as the dense network.

    Of n trials each, with independent normal accuracies of one deviation σ, the difference of
    the means has the deviation σ √(2/n) and is independent of the dense network's sample
    deviation, so that a metric fails with P(T > √(n/2)), T of Student's distribution with n − 1
    degrees of freedom.

    Args:
      trials: n, at least 2.
      metrics: how many independent metrics have to match.
    """
    fails = float(stats.t.sf(math.sqrt(trials / 2), trials - 1))
    return 1 - (1 - fails) ** metrics


def judge(ticket: Scores, dense: Scores) -> Verdict:
    """Table 1: in which metrics a ticket matches the dense network.

    A matching ticket is a winning one if its weights are the pre-trained θ_p, which they
    are: every ticket starts its transfer from them, under its masks.
    """
    pairs = {name: (getattr(ticket, name), getattr(dense, name)) for name in METRICS}
    matching = {name: matches(*pair) for name, pair in pairs.items()}
    counts = [min(map(len, pairs[name])) for name in METRICS if matching[name] is not None]
    return Verdict(matching, min(counts, default=0))


def extreme_sparsity(verdicts: Mapping[float, Verdict]) -> ExtremeSparsity | None:
    """How sparse one kind of ticket gets and still is double-win.

    The paper says to which sparsity double-win tickets are found, not that all less
    sparse ones win, hence the sparsest one that does, whatever lies before it.

    Args:
      verdicts: sparsity → verdict, of pruned networks; levels without a verdict count for
        nothing.

    Returns:
      In the unit of the keys; None if no level has a verdict.
    """
    judged = {
        sparsity: verdict
        for sparsity, verdict in sorted(verdicts.items())
        if verdict.double_win is not None
    }
    if not judged:
        return None
    winning = [sparsity for sparsity, verdict in judged.items() if verdict.double_win]
    losing = [sparsity for sparsity, verdict in judged.items() if not verdict.double_win]
    before = [sparsity for sparsity in winning if not losing or sparsity < losing[0]]
    seeds = min(verdict.seeds for verdict in judged.values())
    return ExtremeSparsity(max(winning, default=0.0), max(before, default=0.0), seeds)
