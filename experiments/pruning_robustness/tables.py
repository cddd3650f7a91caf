"""The tables of "On the Effect of Pruning on Adversarial Robustness", beside the paper's numbers.

Every table is made from one `results.Group` and accepts whatever a run has finished
so far: "–" stands for what is not there (yet). Differences are in percentage points.
"""

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd

from experiments.pruning_robustness.comparisons import (
    ADJUSTMENT_ROWS,
    CRITERION_ROWS,
    DEFENSE_ROWS,
    STRUCTURE_ROWS,
    TRANSFER_KEYS,
    adjustment_differences,
    chain_differences,
    chain_networks,
    clean_and_robust,
    correlation,
    criterion_differences,
    criterion_networks,
    defense_differences,
    paper_model,
    paper_rows,
    structure_differences,
    structure_networks,
    transfer_accuracies,
    transfer_rows,
)
from experiments.pruning_robustness.elements import DROPS, paper_shares, single_elements
from experiments.pruning_robustness.results import (
    ACCURACIES,
    ADJUSTMENTS,
    ATTACKS,
    CLEAR,
    CONTROL,
    STRUCTURES,
    Group,
    accuracies,
    chance_beyond,
    keyed,
    share_removed,
    standard_errors,
)
from tf_tickets.analysis.markdown import MISSING, captioned, cell, cells, markdown_table, paragraphs
from tf_tickets.analysis.measurements import seeds_label, select
from tf_tickets.analysis.studies import group_label, model_label

_WITH_AVERAGE = ACCURACIES | {"average": "Average"}


def structures_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 1, how it compares with the control, and the accuracies behind it."""
    ours = structure_differences(group)
    models = _paper_first(structure_networks(group)["model"].unique(), reference, "Table 1")
    labels = _network_labels(models, STRUCTURE_ROWS)
    paper, networks = _of_paper_networks(reference, "Table 1", models)
    measured = {*zip(ours["model"], ours["key"])}
    shown = {key: label for key, label in labels.items() if key in measured}
    caption = (
        f"Differences to the unpruned network, {seeds_label(ours)}. {_semantic(group)} Average: "
        "of the four columns before it. The control is trained as long as the others are "
        f"fine-tuned, with nothing removed. The paper's numbers: PLS, {networks}."
    )
    table = _beside(shown, ours, paper, ["model", "key"], _WITH_AVERAGE)
    return paragraphs(
        captioned(caption, table),
        _control_table(structure_differences(group, CONTROL), ["model", "key"], labels),
        _accuracy_table(group, models),
    )


def _control_table(gains, by, labels):
    """Differences to the control, and which of them are beyond the spread over seeds."""
    gains = gains[gains["attack"].isin(list(_WITH_AVERAGE))]
    if gains.empty:
        return ""
    summary = standard_errors(gains, ["attack", *by])
    columns = [
        (heading, {row.Index: _marked(row) for row in summary.loc[attack].itertuples()})
        for attack, heading in _WITH_AVERAGE.items()
        if attack in summary.index.get_level_values("attack")
    ]
    caption = (
        f"Differences to the control, {seeds_label(gains)}: what the removal adds to the training "
        f"that goes with it. {_verdict(summary)}"
    )
    return captioned(caption, _shown_table(labels, columns))


def _marked(row):
    mark = "▲" if row.errors > CLEAR else "▼" if row.errors < -CLEAR else ""
    return f"{cell(100 * row.mean, 100 * row.sd, signed=True)} {mark}".strip()


def _verdict(summary):
    """How many differences are beyond the spread over seeds, and what that is worth."""
    several = summary[summary["count"] > 1]
    if several.empty:
        return "One seed has no spread to hold them against."
    gains, losses = (int((sign * several["errors"] > CLEAR).sum()) for sign in (1, -1))
    seeds = int(several["count"].min())
    chance = chance_beyond(CLEAR, seeds)
    weak = ": with so few seeds, a mark by itself is weak evidence" if chance > 0.1 else ""
    return (
        f"▲ and ▼ mark gains and losses of more than {CLEAR} standard errors (sd/√seeds): "
        f"{gains} and {losses} of {len(several)}. Over {seeds} seeds, chance marks {chance:.0%} "
        f"of differences that are none{weak}."
    )


def _accuracy_table(group, models):
    rows = structure_networks(group)
    labels = _network_labels(models, {"unpruned": "unpruned"} | STRUCTURE_ROWS)
    tests = keyed(accuracies(rows), "removed")
    columns = _removed_columns(rows, "removed", ["model", "key"])
    for attack, heading in ACCURACIES.items():
        columns.append((heading, cells(select(tests, attack=attack), ["model", "key"])))
    caption = f"Test accuracies, and what was removed, in %; {seeds_label(tests)}."
    return captioned(caption, _shown_table(labels, columns)) if len(tests) else ""


def iterations_table(group: Group, reference: pd.DataFrame) -> str:
    """Figure 2's correlations, and the differences after every iteration."""
    points = clean_and_robust(group)
    found = {attack: correlation(points, attack) for attack in ATTACKS}
    defined = {attack: c for attack, c in found.items() if not np.isnan(c.r)}
    highest = select(reference, source="Figure 2")["value"].item()
    columns = [
        ("", ATTACKS),
        ("Pearson's r", {attack: f"{c.r:+.2f}" for attack, c in defined.items()}),
        ("paper", dict.fromkeys(ATTACKS, f"≤ {highest:g}")),
        ("p-value", {attack: f"{c.p_value:.2g}" for attack, c in defined.items()}),
        ("networks", {attack: str(c.networks) for attack, c in found.items()}),
    ]
    caption = (
        "Pearson's r of clean accuracy with robustness over the networks of all iterations and "
        f"seeds, and its two-sided p-value. {_semantic(group)} The paper gives only its highest "
        "r, without attack or network."
    )
    table = markdown_table(columns, list(ATTACKS), MISSING)
    return paragraphs(captioned(caption, table), _levels_table(group))


def _levels_table(group):
    rows = chain_networks(group)
    ours = chain_differences(group)
    ours = ours.assign(level=ours["level"].where(ours["key"] != "control", "control"))
    gone = share_removed(rows, "parameters")
    columns = [("parameters gone (%)", cells(gone[gone["level"] > 0], "level", digits=1))]
    for attack, heading in _WITH_AVERAGE.items():
        columns.append((heading, cells(select(ours, attack=attack), "level", signed=True)))
    levels = [level for level in ours["level"].unique() if level != "control"]
    labels = {level: str(level) for level in sorted(levels)} | {"control": "control"}
    caption = (
        f"Differences to the unpruned network by iteration, {seeds_label(ours)}. The control is "
        "trained as long as after one cut, with nothing removed."
    )
    return captioned(caption, _shown_table(labels, columns)) if len(ours) else ""


def criteria_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 2: filters removed by different criteria."""
    ours = criterion_differences(group)
    paper = paper_rows(reference, "Table 2")
    caption = (
        f"Differences to the unpruned network, {seeds_label(ours)}. {_semantic(group)} Average: "
        f"of the four columns before it. {_paper_network(paper)}"
    )
    return paragraphs(
        captioned(caption, _beside(CRITERION_ROWS, ours, paper, "key", _WITH_AVERAGE)),
        _control_table(criterion_differences(group, CONTROL), ["key"], CRITERION_ROWS),
        _removed_table(group),
    )


def _removed_table(group):
    """How much each criterion took: where it differs, criteria took from different layers."""
    rows = criterion_networks(group)
    columns = _removed_columns(rows, "criterion", "key")
    if not any(of_key for _, of_key in columns):
        return ""
    caption = (
        f"What was removed, in %, {seeds_label(rows)}. Criteria that take the same number of "
        "filters but not the same share of parameters and FLOPs take from different layers, and "
        "the tables above then compare layers as much as criteria."
    )
    return captioned(caption, _shown_table(CRITERION_ROWS, columns))


def _removed_columns(rows, label, by):
    """The shares of parameters and FLOPs that are gone, by what tells networks apart."""
    columns = []
    for quantity, heading in (("parameters", "parameters gone"), ("flops", "FLOPs gone")):
        gone = keyed(share_removed(rows, quantity), label)
        columns.append((heading, cells(gone[gone["level"] > 0], by, digits=1)))
    return columns


def adjustment_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 3: the pruned network trained from scratch, rewound or fine-tuned."""
    ours = adjustment_differences(group)
    paper = paper_rows(reference, "Table 3")
    text = select(reference, quantity="behind_fine_tuning", attack="natural")
    behind = ", ".join(
        f"{ADJUSTMENTS[adjustment]} {value:.2f}"
        for adjustment, value in zip(text["adjustment"], text["value"])
    )
    caption = (
        f"Differences to the unpruned network, {seeds_label(ours)}. {_semantic(group)} Avg.: of "
        f"the three attacks. {_paper_network(paper)} The names are the paper's text's; Liu et "
        "al., whom it cites, call twice the epochs Scratch-B. On clean images they are behind "
        f"fine-tuning there, in points: {behind}."
    )
    attacks = ATTACKS | {"attack_average": "Avg.", "natural": "Clean"}
    return captioned(caption, _beside(ADJUSTMENT_ROWS, ours, paper, "key", attacks))


def transfer_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 4: accuracies on FGSM examples that were made for another network."""
    ours = transfer_accuracies(group)
    paper = select(reference, source="Table 4")
    caption = (
        f"Test accuracy in %, {seeds_label(ours)}, on FGSM examples made for the network of the "
        "row, of the network of the column."
    )
    where = group_label(paper["data_set"].iloc[0])
    return paragraphs(
        captioned(caption, _matrix(cells(ours, TRANSFER_KEYS))),
        captioned(f"The paper's, on {where}.", _matrix(cells(paper, TRANSFER_KEYS, factor=1))),
    )


def _matrix(texts):
    """A row for each network that examples were made for, a column for each that they attack.

    Args:
      texts: the values of `TRANSFER_KEYS` → cell.
    """
    labels = transfer_rows({network for keys in texts for network in (keys[:2], keys[2:])})
    columns = [("examples of ↓", labels)]
    for target, label in labels.items():
        columns.append(
            (label, {keys[:2]: text for keys, text in texts.items() if keys[2:] == target})
        )
    return markdown_table(columns, list(labels), MISSING)


def defenses_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 5: pruning beside data augmentations that defend."""
    ours = defense_differences(group)
    paper = paper_rows(reference, "Table 5")
    attacks = {
        "semantic": "Robustness",
        "natural": "Generalization",
        "semantic_clean_average": "Average",
    }
    caption = (
        f"Differences to the unpruned network, {seeds_label(ours)}. Robustness: the mean over "
        f"the corruptions{_at_severity(group)}, in the paper on ImageNet-C. "
        f"{_paper_network(paper)} It measured those of pruning and cites Stylized and "
        "Shape-Texture from Li et al., MixUp, Cutout and CutMix from Chun et al."
    )
    return captioned(caption, _beside(DEFENSE_ROWS, ours, paper, "key", attacks))


def single_element_table(group: Group, reference: pd.DataFrame) -> str:
    """Figure 3's numbers, of filters and of layers."""
    shares = single_elements(group.rows)
    caption = (
        f"Share of the elements, in %, {seeds_label(shares)}, without which, one at a time and "
        "without fine-tuning, the network is more robust than whole and its clean accuracy is "
        "above the whole network's less i percentage points. Strictly so, as in Algorithm 2: "
        "what counts at i = 0 raises the clean accuracy, where the paper's text speaks of 'zero "
        f"loss'. Semantic: each image under one of the 15 corruptions{_at_severity(group)}. The "
        "paper does not name its network; its shares of filters are whole numbers of 1,008, as "
        "many as ResNet-56 has."
    )
    parts = [textwrap.fill(caption, 100)]
    for kind in ("filters", "blocks"):
        of_kind = select(shares, element_kind=kind)
        paper = select(reference, source="Figure 3", element_kind=kind)
        columns = [("i", {drop: str(drop) for drop in DROPS})]
        for attack, heading in ATTACKS.items():
            columns.append((heading, cells(select(of_kind, attack=attack), "drop")))
            columns.append(("paper", _paper_shares(select(paper, attack=attack))))
        if len(of_kind):
            count = f"{of_kind['elements'].max():,} {STRUCTURES[kind]}:"
            parts += [count, markdown_table(columns, DROPS, MISSING)]
    return paragraphs(*parts)


def _paper_shares(paper):
    """Drop → "39.88", or "< 20" where the paper's text says no more."""
    exact = {drop: f"{share:.2f}" for drop, share in paper_shares(paper).items()}
    return exact | {drop: f"< {share:g}" for drop, share in paper_shares(paper, "_below").items()}


def _beside(
    labels: Mapping,
    ours: pd.DataFrame,
    paper: pd.DataFrame,
    by: str | list[str],
    attacks: Mapping[str, str],
) -> str:
    """Our differences and the paper's, two columns per attack.

    Args:
      labels: key → its row's first cell, in order; keys that nobody has are left out.
      ours: differences in [-1, 1], with the columns `by`.
      paper: differences in percentage points, likewise.
      by: the columns that make a key.
      attacks: name → heading.
    """
    columns = []
    for attack, heading in attacks.items():
        columns.append((heading, cells(select(ours, attack=attack), by, signed=True)))
        papers = cells(select(paper, attack=attack), by, factor=1, signed=True)
        columns += [("paper", papers)] if papers else []
    return _shown_table(labels, columns)


def _shown_table(labels, columns):
    """A row for each of the labels that any column has a cell for."""
    shown = [key for key in labels if any(key in of_key for _, of_key in columns)]
    return markdown_table([("", labels), *columns], shown, MISSING)


def _network_labels(models, rows):
    """(model, key) → "ResNet-56, filters"."""
    return {
        (model, key): f"{model_label(model)}, {label}"
        for model in models
        for key, label in rows.items()
    }


def _paper_first(models, reference, source):
    """The models in the order of the paper's table, others last."""
    papers = list(select(reference, source=source)["model"].unique())
    return sorted(models, key=lambda m: (papers.index(m) if m in papers else len(papers), m))


def _of_paper_networks(reference, source, models):
    """The paper's rows under the names of our models, and a phrase that says whose they are."""
    rows = paper_rows(reference, source)
    papers = {model: paper_model(rows["model"].unique(), model) for model in models}
    renamed = [select(rows, model=paper).assign(model=model) for model, paper in papers.items()]
    networks = ", ".join(
        model_label(paper) + ("" if paper == model else f" (beside {model_label(model)})")
        for model, paper in papers.items()
        if paper
    )
    data_set = group_label(rows["data_set"].iloc[0])
    return pd.concat([rows[:0], *renamed]), f"{networks or 'none'} on {data_set}"


def _paper_network(paper):
    row = paper.iloc[0]
    return f"The paper's numbers: {group_label(row['data_set'], row['model'])}."


def _semantic(group):
    return f"Semantic: the mean over 15 corruptions{_at_severity(group)}."


def _at_severity(group):
    return f" at severity {group.severity}" if group.severity else ""


TABLES = {
    "structures": structures_table,
    "iterations": iterations_table,
    "criteria": criteria_table,
    "single_element": single_element_table,
    "adjustment": adjustment_table,
    "transfer": transfer_table,
    "defenses": defenses_table,
}
