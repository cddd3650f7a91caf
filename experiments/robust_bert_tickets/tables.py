"""The tables of "Robust Lottery Tickets", beside the paper's numbers.

Every table is made from one `results.Group` and accepts whatever a run has
finished so far: "–" stands for what is not there (yet), no text for a table without rows.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from experiments.robust_bert_tickets.comparisons import comparison_table
from experiments.robust_bert_tickets.examples import ATTACK_LABELS
from experiments.robust_bert_tickets.plan import ABLATIONS, CONVERGENCE, IMPORTANCE
from experiments.robust_bert_tickets.results import (
    METHOD_LABELS,
    Group,
    Network,
    SeedMean,
    accuracies_under,
    accuracies_within,
    attack_description,
    attacks,
    clean_accuracies,
    compared_networks,
    model_sparsities,
    query_counts,
    searches,
    sentence_counts,
    sparsities,
    success_rates,
    swept_networks,
    training_curves,
)
from experiments.robust_bert_tickets.settings import METHODS
from tf_tickets.analysis.markdown import MISSING, captioned, cell, markdown_table, paragraphs
from tf_tickets.analysis.measurements import select
from tf_tickets.evaluation.text_outcomes import WORD_BUDGETS

REGIME_LABELS = {"free_lb": "FreeLB", "pgd": "PGD", "natural": "natural"}
"""The losses that masks are learned under."""

# Of its best validation accuracy, a training has converged (nearly) at this share.
_NEARLY = 0.95

_PAPER = "paper"


def main_table(group: Group, reference: pd.DataFrame) -> str:
    """Tables 1 and 2: clean accuracy, a table per attack, and the methods beside each other."""
    compared = compared_networks(group, METHODS)
    if not compared:
        return ""
    paper = select(reference, data_set=group.data_set)
    paper = paper[paper["source"].isin(["Table 1", "Table 2"])]
    of_attacks = [_attack_table(group, attack, compared, paper) for attack in attacks(group)]
    return paragraphs(
        _accuracy_table(group, compared, paper, ()),
        *of_attacks,
        _comparisons(group, METHODS, paper),
    )


def ablation_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 3: robust tickets without the parts of their search."""
    return _part_table(group, reference, "Table 3", ABLATIONS)


def importance_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 4: robust tickets without their initialization, or without their structure."""
    return _part_table(group, reference, "Table 4", IMPORTANCE)


def sparsity_table(group: Group) -> str:
    """Figure 2's numbers, once there is a ticket of more than one sparsity."""
    found = swept_networks(group)
    return _accuracy_table(group, found, None, attacks(group)) if found else ""


def regularization_table(group: Group, reference: pd.DataFrame) -> str:
    """Figures 1 and 5's numbers: where each search begins and ends."""
    measured = searches(group)
    if measured.empty:
        return ""
    by = ["penalty", "regime"]
    first, last = _ends(measured, "min"), _ends(measured, "max")
    keys = sorted(set(zip(measured["penalty"], measured["regime"])))
    columns = [
        ("λ", {key: f"{key[0]:g}" for key in keys}),
        ("loss", {key: REGIME_LABELS.get(key[1], key[1]) for key in keys}),
        ("seeds", {key: str(n) for key, n in measured.groupby(by)["seed"].nunique().items()}),
        ("R(m), first", _end_cells(first, "expected_l0", 1, 3)),
        ("R(m), last", _end_cells(last, "expected_l0", 1, 3)),
        ("exactly 0", _end_cells(last, "share_zero", 100, 1)),
        ("exactly 1", _end_cells(last, "share_one", 100, 1)),
        ("0 or 1, first", _end_cells(first, "share_zero_or_one", 100, 1)),
        ("0 or 1, last", _end_cells(last, "share_zero_or_one", 100, 1)),
    ]
    caption = (
        "The expected share of masks that are not zero, R(m) of Equation 4, and the share of "
        "deterministic masks (Equation 5) at exactly 0 and 1 in %, where each search was first and "
        f"last measured. {_settled_sentence(last, by, reference)}"
    )
    return captioned(caption, markdown_table(columns, keys, MISSING))


def convergence_table(group: Group) -> str:
    """Figure 4's numbers: how soon each training is near its best."""
    keys = compared_networks(group, CONVERGENCE)
    columns = _network_columns(group, keys)
    drawn = set()
    for attack in ("natural", *attacks(group, "validation")):
        curves = {
            key: curve[curve.index > 0] for key, curve in training_curves(group, attack).items()
        }
        label = "Clean" if attack == "natural" else _aua(attack)
        best = {key: f"{curve['mean'].max():.1f}" for key, curve in curves.items()}
        columns += [(label, best), ("steps", {k: _near_best(c) for k, c in curves.items()})]
        drawn |= set(curves)
    keys = [network for network in keys if network in drawn]
    if not keys:
        return ""
    caption = (
        "The best validation accuracy in % of each training, mean over seeds, and the optimizer "
        f"steps after which it first measured {100 * _NEARLY:g}% of that."
    )
    caption = _joined(caption, _descriptions(group, attacks(group, "validation")))
    return captioned(caption, markdown_table(columns, keys, MISSING))


def _part_table(group, reference, source, methods):
    compared = compared_networks(group, methods)
    if not {network.method for network in compared} - {"robust"}:
        return ""
    paper = select(reference, data_set=group.data_set, source=source)
    return paragraphs(
        _accuracy_table(group, compared, paper, attacks(group)),
        _comparisons(group, methods, paper),
    )


def _comparisons(group, methods, paper):
    """The methods beside each other under each attack, or why there is no such table."""
    names = attacks(group)
    tables = [comparison_table(group, attack, methods, paper) for attack in names]
    if names and not any(tables):
        return (
            "No comparison: no two networks have their attacked sentences in the run's `attacks`."
        )
    return paragraphs(*tables)


def _accuracy_table(group, keys, paper, of_attacks):
    """Clean accuracy, and that under each of the attacks."""
    clean = clean_accuracies(group)
    of_model = {network: f"{removed:.1f}" for network, removed in model_sparsities(group).items()}
    columns = [
        *_network_columns(group, keys),
        ("of the model", of_model),
        ("seeds", {network: str(mean.seeds) for network, mean in clean.items()}),
        *_beside_paper("Clean", clean, paper, "natural", "accuracy"),
    ]
    for attack in of_attacks:
        ours = accuracies_under(group, attack)
        columns += _beside_paper(_aua(attack), ours, paper, attack, "accuracy")
    under_attack = " (Clean) and under attack (Aua)" if of_attacks else ""
    caption = (
        f"Accuracy on the whole test set{under_attack} in %. Sparsity: the removed share of the "
        "weights that tickets mask, and of all weights of the model, in %."
    )
    caption = _joined(caption, _paper_sentence(paper), _descriptions(group, of_attacks))
    return captioned(caption, markdown_table(columns, keys, MISSING))


def _joined(*sentences):
    return " ".join(filter(None, sentences))


def _descriptions(group, of_attacks):
    """What each attack was made with."""
    described = {attack: attack_description(group, attack) for attack in of_attacks}
    return " ".join(f"{ATTACK_LABELS[name]}: {text}." for name, text in described.items() if text)


def _attack_table(group, attack, keys, paper):
    """Accuracy under one attack, its success rate and its queries."""
    counts = sentence_counts(group, attack)
    ours = accuracies_under(group, attack)
    keys = [network for network in keys if network in ours]
    if not keys:
        return ""
    columns = [
        *_network_columns(group, keys),
        ("seeds", {network: str(ours[network].seeds) for network in keys}),
        ("sentences", {network: str(count) for network, count in counts.items()}),
        *_beside_paper("Aua", ours, paper, attack, "accuracy"),
        *_budget_columns(group, attack, keys),
        *_beside_paper("Suc", success_rates(group, attack), paper, attack, "success_rate"),
        *_beside_paper("#Query", query_counts(group, attack), paper, attack, "queries"),
    ]
    described = attack_description(group, attack)
    caption = f"{ATTACK_LABELS[attack]}{described and f' ({described})'}: Aua and Suc in %."
    return captioned(caption, markdown_table(columns, keys, MISSING))


def _budget_columns(group, attack, keys):
    """Aua at each budget, once the attacked sentences of any network are there."""
    columns = []
    for budget in WORD_BUDGETS:
        found = accuracies_within(group, attack, budget)
        if any(network in found for network in keys):
            columns.append((f"Aua at {budget:.0%}", _shown(found)))
    return columns


def _aua(attack):
    return f"Aua, {ATTACK_LABELS[attack]}"


def _network_columns(group, keys):
    """The columns that say what a network is."""
    removed = sparsities(group)
    return [
        ("method", {network: METHOD_LABELS[network.method] for network in keys}),
        ("sparsity", {network: f"{removed[network]:.1f}" for network in keys}),
    ]


def _beside_paper(
    label: str,
    ours: Mapping[Network, SeedMean],
    paper: pd.DataFrame | None,
    attack: str,
    quantity: str,
) -> Sequence[tuple[str, Mapping]]:
    """Our column and, if the paper has any of its numbers, the paper's."""
    columns = [(label, _shown(ours))]
    if paper is not None:
        theirs = select(paper, attack=attack, quantity=quantity).set_index("method")["value"]
        cells = {net: f"{theirs[net.method]:,.1f}" for net in ours if net.method in theirs}
        columns += [(_PAPER, cells)] if cells else []
    return columns


def _shown(means):
    return {network: str(mean) for network, mean in means.items()}


def _paper_sentence(paper):
    if paper is None or paper.empty:
        return ""
    levels = sorted(set(paper["sparsity_percent"]) - {0})
    tickets = " and ".join(f"{level:g}%" for level in levels)
    return (
        f"The paper's: BERT-base, mean of 5 seeds, tickets of {tickets} sparsity, which is the one "
        "of 10% to 90% with the most robust tickets."
    )


def _ends(measured, which):
    """The rows at the beginning ("min") or end ("max") of each search."""
    keys = ["regime", "penalty", "seed", "quantity"]
    return measured[measured["progress"] == measured.groupby(keys)["progress"].transform(which)]


def _end_cells(ends, quantity, factor, digits):
    of_quantity = select(ends, quantity=quantity).groupby(["penalty", "regime"])["value"]
    found = factor * of_quantity.agg(["mean", "std"])
    return {row.Index: cell(row.mean, row.std, digits) for row in found.itertuples()}


def _settled_sentence(last, by, reference):
    """How many searches end as Section 3.2.2 says."""
    shares = 100 * select(last, quantity="share_zero_or_one").groupby(by)["value"].mean()
    if shares.empty:
        return ""
    (claimed,) = select(reference, quantity="share_zero_or_one")["value"]
    settled = int((shares > claimed).sum())
    return (
        f"The paper's claim, more than {claimed:g}% at 0 or 1 in the end, holds for {settled} of "
        f"{len(shares)}."
    )


def _near_best(curve):
    near = curve.index[curve["mean"] >= _NEARLY * curve["mean"].max()]
    return f"{near[0]:,}"
