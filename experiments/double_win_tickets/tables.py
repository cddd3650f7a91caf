"""The tables of "Double-Win Lottery Tickets", beside the paper's numbers.

Every table is made from one `studies.Group` and accepts whatever a run has
finished so far: "–" stands for what is not there (yet), no text for a table without rows.
"""

from collections.abc import Sequence

import pandas as pd

from experiments.double_win_tickets.pretraining import pretrained_cells
from experiments.double_win_tickets.results import (
    METRIC_LABELS,
    PRETRAINING_LABELS,
    PRUNING_LABELS,
    Network,
    largest_differences,
    networks,
    tested,
)
from experiments.double_win_tickets.transfers import TRANSFER_ATTACK
from experiments.double_win_tickets.verdicts import (
    METRICS,
    SEEDS,
    extreme_sparsity,
    false_no_probability,
)
from tf_tickets.analysis.markdown import MISSING, captioned, cell, cells, markdown_table, paragraphs
from tf_tickets.analysis.measurements import attack_label, seeds_label, select
from tf_tickets.analysis.studies import Group, group_label
from tf_tickets.attacks.threat_model import MARGIN_ATTACK

_PROVISIONAL = "†"
_ONE_TRIAL = "¹"
_NO_VERDICT = (
    f"{MISSING}: no verdict where an accuracy was not measured, or in one seed alone that the "
    "ticket and the dense network both have, which has no standard deviation."
)
_LARGEST = (
    "The largest mean difference (seed by seed, in percentage points) of any sparsity, and that "
    "sparsity in %; on test data, as in the paper, hence an upper end."
)
_PAPER = "paper"
_PAPER_DATA = "10% and 1% of the training data; after which training its SA is, it does not say."


def verdict_table(group: Group, reference: pd.DataFrame, sources: Sequence[Group] = ()) -> str:
    """Sections 4.1 and 4.2: the extreme sparsity of each kind of ticket.

    Args:
      group: of a target.
      reference: the paper's numbers.
      sources: the groups of the pre-trainings, whose accuracies stand beside.
    """
    pruned = [network for network in networks(group) if network.pruning != "dense"]
    if not pruned:
        return ""
    kinds = list(dict.fromkeys((network.pruning, network.pretraining) for network in pruned))
    columns = _kind_columns(kinds)
    extremes = []
    for percent in dict.fromkeys(network.percent for network in pruned):
        found = _extremes([network for network in pruned if network.percent == percent])
        columns.append((f"{percent:g}% of data", _extreme_cells(found, "sparsest")))
        if _has_gaps(found.values()):
            columns.append(("without gap", _extreme_cells(found, "without_gap")))
        extremes += found.values()
    columns += _paper_extremes(group, reference)
    caption = _verdict_caption(pruned, extremes, sources)
    return captioned(caption, markdown_table(columns, kinds, MISSING))


def accuracy_table(group: Group, percent: float) -> str:
    """Figures 3 to 5's numbers, of networks that have seen `percent` of the training data."""
    found = [network for network in networks(group) if network.percent == percent]
    if not found:
        return ""
    rows = select(group.rows, percent=percent)
    keys, columns = network_columns(found)
    for metric, label in METRIC_LABELS.items():
        most = max(len(getattr(network.scores, metric)) for network in found)
        shown = {key: _score(network, metric, most) for key, network in keys.items()}
        columns.append((label, shown))
    columns.append(("double-win", {key: _verdict(network) for key, network in keys.items()}))
    by = ["pruning", "pretraining", "level"]
    columns.append(_margin_column(rows, by, MARGIN_ATTACK))
    for metric, label in (("adversarial_sa", "SA"), ("adversarial_ra", "RA")):
        others = tested(rows, metric, group.attack, "test_best_natural")
        columns.append((f"{label}, best-SA weights", cells(others, by)))
    caption = _accuracy_caption(group, percent, found)
    return captioned(caption, markdown_table(columns, list(keys), MISSING))


def gains_table(group: Group, reference: pd.DataFrame) -> str:
    """Section 5: on little data, sparse networks beside dense ones and FAT's beside AT's."""
    tickets = select(group.rows, pruning="imp_st")
    little = group._replace(rows=tickets[tickets["percent"] < 100])
    dense = select(group.rows, pruning="dense")
    return paragraphs(
        _gains_over_dense(little, dense, reference), _gains_over_at(little, reference)
    )


def _pretrained_sentence(sources):
    """What the weights that the tickets start from reach on the source."""
    found = {
        heading: {
            label: cells_of[kind] for kind, label in PRETRAINING_LABELS.items() if kind in cells_of
        }
        for source in sources
        for heading, cells_of in pretrained_cells(source).items()
    }
    parts = [
        f"{heading} {', '.join(f'{kind} {shown}' for kind, shown in of_kinds.items())}"
        for heading, of_kinds in found.items()
    ]
    return f"θ_p on the source, test: {'; '.join(parts)}." if parts else ""


def _margin_column(rows, by, attack):
    tests = tested(rows, "adversarial_ra", attack)
    return f"RA, {attack_label(attack)}", cells(tests, by)


def transfer_attack_table(
    group: Group, reference: pd.DataFrame, unseen: Group | None = None
) -> str:
    """Table A2: accuracy on the adversarial examples of a network that was never seen.

    Args:
      group: of a target.
      reference: the paper's numbers.
      unseen: that network's.
    """
    attacked = select(group.rows, split="test", attack=TRANSFER_ATTACK, quantity="accuracy")
    if attacked.empty:
        return ""
    by = ["pruning", "pretraining", "percent", "sparsity_percent"]
    paper = select(reference, source="Table A2")
    theirs, their_robust = (
        _paper(select(paper, quantity=f"test/{attack}/accuracy"), by)
        for attack in (TRANSFER_ATTACK, "pgd_20")
    )
    ours = cells(attacked, by)
    keys = sorted({*ours, *theirs}, key=_network_order)
    columns = [
        *_kind_columns(keys),
        ("data", {key: f"{key[2]:g}%" for key in keys}),
        ("sparsity", {key: f"{key[3]:.2f}" for key in keys}),
        ("transfer attack", ours),
        (_PAPER, theirs),
        (
            f"RA ({attack_label(group.attack)})",
            cells(tested(group.rows, "adversarial_ra", group.attack), by),
        ),
        (_PAPER, their_robust),
    ]
    caption = (
        f"Test accuracy in % after adversarial training, {seeds_label(attacked)}. The images of "
        f"the transfer attack are made on {_named(unseen)}. The paper's numbers: "
        f"{group_label('cifar10', 'resnet_50')}."
    )
    return captioned(caption, markdown_table(columns, keys, MISSING))


def network_columns(found: Sequence[Network]) -> tuple[dict, list]:
    """The rows of a table, key → network, and the columns that say what each is."""
    keys = {(network.pruning, network.pretraining, network.level): network for network in found}
    sparsities = {key: f"{network.sparsity_percent:.2f}" for key, network in keys.items()}
    return keys, [*_kind_columns(keys), ("sparsity", sparsities)]


def _kind_columns(keys):
    """The columns that say what a network is; keys begin with pruning and pre-training."""
    return [
        ("pre-training", {key: PRETRAINING_LABELS[key[1]] for key in keys}),
        ("pruning", {key: PRUNING_LABELS[key[0]] for key in keys}),
    ]


def _extremes(pruned):
    """(pruning, pretraining) → the extreme sparsity in %, None without a verdict."""
    verdicts = {}
    for network in pruned:
        of_kind = verdicts.setdefault((network.pruning, network.pretraining), {})
        of_kind[network.sparsity_percent] = network.verdict
    return {kind: extreme_sparsity(of_kind) for kind, of_kind in verdicts.items()}


def _extreme_cells(extremes, which):
    return {
        kind: f"{getattr(extreme, which):.2f}{_mark(extreme)}"
        for kind, extreme in extremes.items()
        if extreme
    }


def _has_gaps(extremes):
    return any(extreme and extreme.sparsest != extreme.without_gap for extreme in extremes)


def _paper_extremes(group, reference):
    """The paper's column for the group's data set; for all of its own where it is another."""
    extremes = select(reference, quantity="extreme_sparsity", percent=100)
    by = ["pruning", "pretraining"]
    same = extremes[extremes["data_set"].isin(group.rows["data_set"])]
    if not same.empty:
        return [(_PAPER, _paper(same, by))]
    return [
        (f"{_PAPER}, {group_label(data_set)}", _paper(rows, by))
        for data_set, rows in extremes.groupby("data_set", sort=False)
    ]


def _paper(rows, by, signed=False):
    """`by` → the paper's number."""
    sign = "+" if signed else ""
    return {
        group.Index: f"{group.value:{sign}.2f}"
        for group in rows.groupby(by)[["value"]].first().itertuples()
    }


def _verdict_caption(pruned, extremes, sources):
    sparsities = sorted({network.sparsity_percent for network in pruned})
    judged = [extreme for extreme in extremes if extreme]
    return _sentences(
        "The sparsest double-win ticket, as sparsity in %: at most one standard deviation below "
        "the dense network of the same pre-training and data, in SA after standard training and in "
        "SA and RA after adversarial training. 0.00: no pruned one.",
        f"Measured: {', '.join(f'{sparsity:.2f}' for sparsity in sparsities)}.",
        "Without gap: before the first that is not double-win." if _has_gaps(judged) else "",
        _pretrained_sentence(sources),
        _control_sentence(pruned),
        _false_no_sentence(judged),
        _provisional_sentence(judged),
        _NO_VERDICT if len(judged) < len(extremes) else "",
    )


def _accuracy_caption(group, percent, found):
    verdicts = [network.verdict for network in found if network.pruning != "dense"]
    judged = [verdict for verdict in verdicts if verdict.double_win is not None]
    return _sentences(
        f"{percent:g}% of the training data: test accuracy in %, "
        f"{seeds_label(select(group.rows, percent=percent))}; RA is under "
        f"{attack_label(group.attack)}. Bold: matches the dense network of the same pre-training. "
        "After adversarial training these are the weights with the best validation RA, in the last "
        f"columns those with the best validation SA. {_ONE_TRIAL}: of one trial where others are "
        "of more.",
        _provisional_sentence(judged),
        _NO_VERDICT if len(judged) < len(verdicts) else "",
    )


def _sentences(*parts):
    return " ".join(filter(None, parts))


def _control_sentence(pruned):
    if any(network.pruning == "random" for network in pruned):
        return ""
    return "The paper's control, random masks, was not measured here."


def _false_no_sentence(judged):
    """How little the rule says at the trials at hand."""
    counts = sorted({verdict.seeds for verdict in judged} | {SEEDS})
    shares = [f"{false_no_probability(n):.0%} of {n} trials" for n in counts if n > 1]
    return (
        "By chance alone, a ticket that is exactly as good as the dense network is no double-win "
        f"in {', '.join(shares)} (independent normal accuracies)."
    )


def _provisional_sentence(judged):
    fewest = min((verdict.seeds for verdict in judged), default=SEEDS)
    if fewest >= SEEDS:
        return ""
    count = "one seed" if fewest == 1 else f"{fewest} seeds"
    return f"{_PROVISIONAL}: provisional, of {count} where the paper's definition has {SEEDS}."


def _mark(verdict):
    return _PROVISIONAL if verdict.provisional else ""


def _score(network, metric, most):
    values = 100 * pd.Series(getattr(network.scores, metric), dtype=float)
    if values.empty:
        return MISSING
    shown = cell(values.mean(), values.std())
    shown += _ONE_TRIAL if len(values) == 1 < most else ""
    bold = network.pruning != "dense" and network.verdict.matching[metric]
    return f"**{shown}**" if bold else shown


def _verdict(network):
    verdict = network.verdict
    if network.pruning == "dense" or verdict.double_win is None:
        return MISSING
    return ("yes" if verdict.double_win else "no") + _mark(verdict)


def _gains_over_dense(group, dense, reference):
    by = ["percent", "pretraining"]
    gains = _gains(group, group.rows, dense, by, [*by, "seed"])
    keys = sorted(
        _rows_of(gains), key=lambda key: (-key[0], list(PRETRAINING_LABELS).index(key[1]))
    )
    if not keys:
        return ""
    for metric, of_metric in _paper_gains(reference, "over_dense", "pretraining").items():
        gains[metric] |= {(_PAPER, pretraining): gain for pretraining, gain in of_metric.items()}
    keys += [(_PAPER, pretraining) for pretraining in ("fat", "at")]
    columns = [
        ("data", {key: key[0] if key[0] == _PAPER else f"{key[0]:g}%" for key in keys}),
        ("pre-training", {key: PRETRAINING_LABELS[key[1]] for key in keys}),
        *_metric_columns(gains),
    ]
    caption = (
        f"Tickets of IMP (standard) over the dense network. {_LARGEST} The paper's numbers: of all "
        f"its data sets, {_PAPER_DATA}"
    )
    return captioned(caption, markdown_table(columns, keys, MISSING))


def _gains_over_at(group, reference):
    fat, at = (select(group.rows, pretraining=pretraining) for pretraining in ("fat", "at"))
    gains = _gains(group, fat, at, ["percent"], ["percent", "level", "seed"])
    keys = sorted(_rows_of(gains), reverse=True)
    if not keys:
        return ""
    paper = _paper_gains(reference, "over_at", "data_set")
    names = {key: f"{key:g}%" for key in keys}
    names |= {key: f"{_PAPER}, {group_label(key)}" for key in _rows_of(paper)}
    for metric, of_metric in paper.items():
        gains[metric] |= of_metric
    caption = (
        f"FAT's tickets of IMP (standard) over AT's of the same sparsity. {_LARGEST} The paper's "
        f"numbers: {_PAPER_DATA}"
    )
    columns = [("data", names), *_metric_columns(gains)]
    return captioned(caption, markdown_table(columns, list(names), MISSING))


def _gains(group, rows, others, by, on):
    """Metric → `by` → the cell of the largest difference, of what `on` pairs."""
    gains = {}
    for metric in METRICS:
        ours, theirs = (tested(side, metric, group.attack) for side in (rows, others))
        gains[metric] = {
            key: f"{cell(100 * mean, 100 * sd, signed=True)} at {sparsity:.2f}"
            for key, (mean, sd, sparsity) in largest_differences(ours, theirs, by, on).items()
        }
    return gains


def _paper_gains(reference, over, by):
    """Metric → `by` → the paper's largest gain."""
    return {
        metric: _paper(select(reference, quantity=f"largest_{kind}_gain_{over}"), by, signed=True)
        for metric, kind in (("adversarial_sa", "sa"), ("adversarial_ra", "ra"))
    }


def _rows_of(gains):
    """The rows that any metric has, in order."""
    return dict.fromkeys(key for of_metric in gains.values() for key in of_metric)


def _metric_columns(cells_of):
    return [(label, cells_of[metric]) for metric, label in METRIC_LABELS.items()]


def _named(unseen):
    name = "a network trained adversarially from scratch"
    if unseen is None:
        return name
    robust = 100 * tested(unseen.rows, "adversarial_ra", unseen.attack)["value"]
    return name if robust.empty else f"{name} (RA {cell(robust.mean(), robust.std())})"


def _network_order(key):
    pruning, pretraining, percent, sparsity = key
    # The dense network comes first, before the tickets of its pre-training.
    return (
        list(PRETRAINING_LABELS).index(pretraining),
        -percent,
        list(PRUNING_LABELS).index(pruning),
        sparsity,
    )
