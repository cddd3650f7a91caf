"""Whether robust tickets beat fine-tuning, in words."""

import textwrap

import numpy as np
import pandas as pd

from tf_tickets.analysis.markdown import cell
from tf_tickets.analysis.robust_bert_examples import ATTACK_LABELS, Pairs, paired
from tf_tickets.analysis.robust_bert_results import (
    Group,
    Network,
    attacks,
    differences,
    main_levels,
    sparsities,
)

SIGNIFICANCE = 0.05
"""What p is below where a difference is beyond chance."""

_BASELINE = Network("fine_tune", 0)


def comparison_list(group: Group) -> str:
    """A Markdown list: the tickets' gain under each attack, and their cost without one.

    Only seeds that both networks have are compared; empty where there are none.
    """
    lines = []
    for level in main_levels(group):
        ticket = Network("robust", level)
        for attack in attacks(group):
            lines.append(_attack_sentence(group, attack, ticket))
        lines.append(_clean_sentence(group, ticket))
    bullet = {"initial_indent": "- ", "subsequent_indent": "  "}
    return "\n".join(textwrap.fill(line, 100, **bullet) for line in lines if line)


def beyond_chance(pairs: list[Pairs], difference: float) -> bool:
    """Whether every seed by itself shows a difference of this one's sign, p below 0.05."""
    return bool(pairs) and all(
        pair.p_value < SIGNIFICANCE
        and np.sign(pair.first_only - pair.second_only) == np.sign(difference)
        for pair in pairs
    )


def _attack_sentence(group, attack, ticket):
    gains = differences(group, attack, ticket, _BASELINE)
    if gains.empty:
        return ""
    pairs = _pairs(group, attack, ticket, gains.index)
    return (
        f"{ATTACK_LABELS[attack]}, {sparsities(group)[ticket]:.0f}% sparsity: "
        f"{_verdict(gains.mean(), pairs)}: Aua {_points(gains)}. {_pairs_sentence(pairs)}"
    )


def _pairs(group, attack, ticket, seeds):
    found = []
    for seed in seeds:
        both = [group.attacked.get((network, seed, attack)) for network in (ticket, _BASELINE)]
        if all(both):
            found.append(paired(*both))
    return found


def _verdict(gain, pairs):
    # Sums of floats that stand for equal counts may differ in their last bits.
    if abs(gain) < 1e-9:
        return "robust tickets equal fine-tuning"
    proven = beyond_chance(pairs, gain)
    if not pairs:
        certainty = ", chance not tested"
    else:
        certainty = ", beyond chance" if proven else ", but not beyond chance"
    word = ("beat" if proven else "are above") if gain > 0 else "are below"
    return f"robust tickets {word} fine-tuning{certainty}"


def _pairs_sentence(pairs):
    if not pairs:
        return "There are no results of both on the same sentences."
    counts = "; ".join(
        f"seed {pair.seed}: {pair.first_only} and {pair.second_only} of {pair.sentences} "
        f"({_p(pair.p_value)})"
        for pair in pairs
    )
    return f"Sentences that only the tickets and only fine-tuning withstand: {counts}."


def _clean_sentence(group, ticket):
    gains = differences(group, "natural", ticket, _BASELINE)
    if gains.empty:
        return ""
    return (
        f"Without an attack, {sparsities(group)[ticket]:.0f}% sparsity: clean accuracy "
        f"{_points(gains)} against fine-tuning."
    )


def _points(gains: pd.Series) -> str:
    count = "one seed" if len(gains) == 1 else f"{len(gains)} seeds"
    return f"{cell(gains.mean(), gains.std(), digits=1, signed=True)} points ({count})"


def _p(p_value):
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
