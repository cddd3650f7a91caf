"""Every method beside fine-tuning and beside robust tickets, on the same sentences."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.robust_bert_tickets.examples import ATTACK_LABELS, SharedAttempt, shared_attempts
from experiments.robust_bert_tickets.pairs import (
    POWER,
    SIGNIFICANCE,
    PairedMeans,
    PairedShares,
    paired_means,
    paired_shares,
)
from experiments.robust_bert_tickets.results import (
    Group,
    Network,
    compared_networks,
    network_label,
)
from tf_tickets.analysis.markdown import MISSING, captioned, cell, markdown_table
from tf_tickets.analysis.measurements import select
from tf_tickets.evaluation.text_outcomes import WORD_BUDGETS

CONFIRMED, CONTRADICTED, UNDECIDED = "confirmed", "contradicted", "cannot be told"

_BASELINES = ("fine_tune", "robust")


class Comparison(NamedTuple):
    """Two networks under one attack, sentence by sentence over all seeds that both have.

    A sentence that both were attacked on in some of these seeds only is compared in those.

    Attributes:
      seeds: how many.
      accuracy: who withstands the attack.
      within: budget → the same of the attack within it.
      queries: of the sentences that both classify correctly without the attack, in the seeds in
        which they do.
      needed: the share of words that the attack must change, see `AttackedText.needed_change`.
      clean: who is correct without the attack.
    """

    seeds: int
    accuracy: PairedShares
    within: dict[float, PairedShares]
    queries: PairedMeans | None
    needed: PairedMeans | None
    clean: PairedShares


def comparison_table(
    group: Group, attack: str, methods: Sequence[str], paper: pd.DataFrame | None
) -> str:
    """A row for each method beside fine-tuning and beside robust tickets, under one attack.

    Args:
      group: with its attacked sentences.
      attack: its name.
      methods: names in `METHOD_LABELS`.
      paper: the paper's numbers of this data set, as `load_reference` reads them; verdicts are
        on these.

    Returns:
      The table; no text where no two networks were attacked on the same sentences.
    """
    found = {}
    for pair in _pairs_of_networks(group, methods):
        compared = compare(group, attack, *pair)
        if compared:
            found[pair] = compared
    if not found:
        return ""
    expected = {pair: _paper_difference(paper, attack, *pair) for pair in found}
    return captioned(
        f"{ATTACK_LABELS[attack]}, each method less another, in points.",
        markdown_table(_columns(group, found, expected), list(found), MISSING),
    )


def compare(group: Group, attack: str, first: Network, second: Network) -> Comparison | None:
    """Compares two networks on what both were attacked on; None without any."""
    seeds = [
        seed
        for network, seed, name in sorted(group.attacked)
        if (network, name) == (first, attack) and (second, seed, attack) in group.attacked
    ]
    pairs = [
        pair
        for seed in seeds
        for pair in shared_attempts(*(group.attacked[n, seed, attack] for n in (first, second)))
    ]
    if not pairs:
        return None
    attacked = [pair for pair in pairs if pair.first.correct and pair.second.correct]
    return Comparison(
        seeds=len(seeds),
        accuracy=_shares(pairs, lambda attempt: attempt.held[None]),
        within={
            budget: _shares(pairs, lambda attempt, budget=budget: attempt.held[budget])
            for budget in WORD_BUDGETS
        },
        queries=paired_means(*_both(attacked, lambda attempt: attempt.queries)),
        needed=paired_means(*_both(pairs, lambda attempt: 100 * attempt.needed)),
        clean=_shares(pairs, lambda attempt: attempt.correct),
    )


def verdict(measured: PairedShares, expected: float | None) -> str:
    """What a comparison says of the paper's.

    Args:
      measured: of accuracies under attack.
      expected: the paper's difference in points, None where it has none.

    Returns:
      `CONFIRMED` or `CONTRADICTED` where the difference is beyond chance and of the paper's sign
      or the other, "higher" or "lower" where the paper has none, else `UNDECIDED`.
    """
    if not measured.beyond_chance:
        return UNDECIDED
    if not expected:
        return "higher" if measured.difference > 0 else "lower"
    return CONFIRMED if np.sign(measured.difference) == np.sign(expected) else CONTRADICTED


def explanation() -> str:
    """How to read the tables."""
    budgets = " and ".join(f"{budget:.0%}" for budget in WORD_BUDGETS)
    return (
        "Comparisons are sentence by sentence. All seeds attack the same sentences, so that each "
        "counts once: by d, in how many more seeds the first network is right than the second. "
        "Differences of accuracies, in points, are the sum of d over sentences times seeds, which "
        "is the mean over seeds. They have the exact test in which each d has either sign like a "
        "coin (of one seed: McNemar's), and its 95% interval. "
        '"withstands more" counts the sentences with d above 0 and below; "seen from" is the '
        "smallest difference of Aua that "
        f"the test finds with {POWER:.0%} probability, given the sizes of d. #Query, of the "
        "sentences that both classify correctly, and words, the share of words that must change (0 "
        "of a sentence that is wrong as it is, all of one that withstands), have Wilcoxon's "
        "signed-rank test of each sentence's mean over the seeds. A sentence that both were "
        "attacked on in some of the seeds only is compared in those. "
        f"Aua at {budgets} counts an attack as failed that changed more of the words. Verdicts are "
        f"on Aua alone: a difference with p < {SIGNIFICANCE:g} confirms or contradicts the "
        "paper's, or is higher or lower where the paper has none; any other cannot be told. No p "
        "is corrected for the number of comparisons, and all speak of the sentences and of these "
        "seeds, not of other seeds."
    )


def _pairs_of_networks(group, methods):
    baselines = compared_networks(group, _BASELINES)
    pairs = []
    for place, against in enumerate(baselines):
        for network in compared_networks(group, methods):
            done = network in baselines[: place + 1]
            other_sparsity = 0 not in (network.level, against.level, network.level - against.level)
            if not done and not other_sparsity:
                pairs.append((network, against))
    return pairs


def _shares(pairs, is_right) -> PairedShares:
    return paired_shares(*_both(pairs, is_right))


def _both(pairs: Sequence[SharedAttempt], value):
    """Of each pair the sentence, and the value under either network."""
    found = [(pair.index, value(pair.first), value(pair.second)) for pair in pairs]
    return list(zip(*found, strict=True)) or ([], [], [])


def _paper_difference(paper, attack, first, second):
    if paper is None:
        return None
    rows = select(paper, attack=attack, quantity="accuracy").set_index("method")["value"]
    if first.method not in rows or second.method not in rows:
        return None
    return round(rows[first.method] - rows[second.method], 1)


def _columns(group, found, expected):
    def of_all(write):
        return {pair: write(compared) for pair, compared in found.items()}

    budgets = [
        (f"Aua at {budget:.0%}", of_all(lambda c, budget=budget: _points(c.within[budget])))
        for budget in WORD_BUDGETS
    ]
    return [
        ("method", {pair: network_label(group, pair[0]) for pair in found}),
        ("less", {pair: network_label(group, pair[1]) for pair in found}),
        ("seeds", of_all(lambda c: str(c.seeds))),
        ("sentences", of_all(lambda c: str(len(c.accuracy.changes)))),
        ("withstands more", of_all(lambda c: _counts(c.accuracy))),
        ("Aua", of_all(lambda c: _points(c.accuracy))),
        ("seen from", of_all(lambda c: _smallest(c.accuracy))),
        *budgets,
        ("#Query", of_all(lambda c: _mean(c.queries))),
        ("words (%)", of_all(lambda c: _mean(c.needed))),
        ("Clean", of_all(lambda c: _points(c.clean))),
        ("paper: Aua", {p: _signed(value) for p, value in expected.items() if value is not None}),
        ("verdict", {pair: verdict(c.accuracy, expected[pair]) for pair, c in found.items()}),
    ]


def _counts(shares):
    return f"{shares.first_more} : {shares.second_more}"


def _smallest(shares):
    return MISSING if np.isnan(shares.smallest) else f"{shares.smallest:.1f}"


def _points(shares):
    low, high = shares.interval
    shown = "" if math.isnan(low) else f" [{low:z.1f}, {high:z.1f}]"
    return f"{_signed(shares.difference)}{shown}, {_p(shares.p_value)}"


def _mean(means):
    return f"{_signed(means.difference)}, {_p(means.p_value)}" if means else MISSING


def _signed(value):
    return cell(value, np.nan, digits=1, signed=True)


def _p(p_value):
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
