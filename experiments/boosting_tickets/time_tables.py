"""Tables 3 and 6 of "Boosting Ticket": accuracy and time, and when Madry's accuracy is reached."""

import textwrap

import pandas as pd

from experiments.boosting_tickets.cells import paper_cells, paper_network, reached_cell, uncertainty
from experiments.boosting_tickets.results import ACCELERATED, accelerated, tested_accuracies
from experiments.boosting_tickets.times import (
    FINDER,
    TIMED,
    robust_goals,
    times_to_accuracy,
    training_times,
)
from tf_tickets.analysis.markdown import MISSING, captioned, cell, cells, markdown_table, paragraphs
from tf_tickets.analysis.measurements import attack_label, seeds_label, select
from tf_tickets.analysis.studies import Group
from tf_tickets.attacks.threat_model import MARGIN_ATTACK


def acceleration_table(group: Group, reference: pd.DataFrame) -> str:
    """Tables 3 and 6, and how soon ours is as robust as Madry's gets."""
    rows = accelerated(group.rows)
    lines = ["natural", *_attacks(rows, group.attack)]
    lines = {f"test/{attack}/accuracy": attack_label(attack) for attack in lines}
    for method, label in ACCELERATED.items():
        lines[f"test/transfer_from_{method}/accuracy"] = f"from {label}"
    ours, theirs = {}, {}
    for row, label in lines.items():
        ours[label] = cells(tested_accuracies(rows, row.split("/")[1]), "method")
        theirs[label] = paper_cells(reference, "Table 6", "method", row)
    wall, cpu = (training_times(group.rows, quantity) for quantity in ("seconds", "cpu_seconds"))
    for column, label in _TIMES.items():
        ours[label] = _time_cells(wall, column)
        quantity = "ratio" if column == "ratio" else "seconds"
        theirs[label] = paper_cells(reference, "Table 6", "method", f"time/{column}/{quantity}")
    theirs[_TIMES["ratio"]] = paper_cells(reference, "Table 6", "method", "time/total/ratio")
    ours["total (CPU s)"] = _time_cells(cpu, "total")
    ours["ratio, CPU s"] = _time_cells(cpu, "ratio")
    columns = [("", {label: label for label in ours})]
    for method, heading in ACCELERATED.items():
        for name, numbers in ((heading, ours), ("paper", theirs)):
            filled = {label: row[method] for label, row in numbers.items() if method in row}
            columns.append((name, filled))
    caption = (
        f"Test accuracy in %, {seeds_label(rows)}, of the epoch with the best validation robust "
        f"accuracy; 'from' another: on its {attack_label(group.attack)} examples. Times are of "
        "whole trainings, without evaluations; pruning is finding the ticket; the ratio, to "
        f"Madry's, is taken seed by seed. Madry's: dense. {uncertainty(rows, group.attack)} "
        f"{paper_network(reference, 'Table 6')}"
    )
    table = captioned(caption, markdown_table(columns, list(ours), MISSING))
    return paragraphs(table, _time_to_accuracy(group))


_TIMES = {
    "pruning": "pruning (s)",
    "training": "training (s)",
    "total": "total (s)",
    "ratio": "ratio to Madry's",
}


def _attacks(rows, evaluation):
    """The attacks on the networks themselves: ours and the paper's, weaker ones first."""
    tested = select(rows, split="test", quantity="accuracy")["attack"].astype("str")
    steps = {"pgd_100", evaluation, *tested[tested.str.fullmatch(r"pgd_\d+")]}
    return [*sorted(steps, key=lambda attack: int(attack.removeprefix("pgd_"))), MARGIN_ATTACK]


def _time_cells(times, column):
    rows = times.assign(value=times[column]).dropna(subset="value")
    seconds = column != "ratio"
    short = seconds and (rows["value"] < 100).all()
    return cells(rows, "method", factor=1, digits=1 if short else 0 if seconds else 2)


def _time_to_accuracy(group):
    """Sentences and a table; empty before there are results of Madry's and ours."""
    wall, cpu = (times_to_accuracy(group, quantity) for quantity in ("seconds", "cpu_seconds"))
    if not wall["method"].isin(set(ACCELERATED)).any():
        return ""
    goals = robust_goals(group)
    if not goals.above_chance:
        return textwrap.fill(
            f"{_goal(goals)} A network that guesses has {100 * goals.chance:.1f}%: Madry's has not "
            "learned to resist, so that nothing can be said of how soon ours does.",
            100,
        )
    cpu_label = {method: f"{label}, in CPU s" for method, label in TIMED.items()}
    both = pd.concat(
        [
            times.assign(label=times["method"].map(labels))
            for times, labels in ((wall, TIMED), (cpu, cpu_label))
        ]
    )
    labels = [*TIMED.values(), *cpu_label.values()]
    columns = [
        ("", dict(zip(labels, labels))),
        ("after (s)", _reached_cells(both, "seconds", 1)),
        ("of Madry's whole time", _reached_cells(both, "of_whole", 2)),
        ("of Madry's time to it", _reached_cells(both, "of_own", 2)),
    ]
    shown = [label for label in labels if (both["label"] == label).any()]
    table = markdown_table(columns, shown, MISSING)
    sentences = f"{_goal(goals)} {_first_to_reach(wall)} {_finder_too(wall)}".strip()
    return captioned(sentences, table)


def _goal(goals):
    shown, ends = (
        cell(100 * values.mean(), 100 * values.std()) for values in (goals.accuracies, goals.ends)
    )
    return (
        f"Goal: the validation robust accuracy that Madry's ends with ({ends}%), less one standard "
        f"error, as there are {goals.images:,} images: {shown}%."
    )


def _first_to_reach(times):
    reached = times[times["method"] != FINDER].dropna(subset="seconds")
    if reached.empty:
        return "None of ours reaches it."
    # The fastest of those that get there with the most seeds.
    ranking = reached.groupby("method")["seconds"].agg(["count", "mean"])
    first = ranking.sort_values(["count", "mean"], ascending=[False, True]).index[0]
    of_first = select(reached, method=first)
    after, of_whole, of_own = (
        cell(of_first[column].mean(), of_first[column].std(), digits)
        for column, digits in (("seconds", 1), ("of_whole", 2), ("of_own", 2))
    )
    seeds = len(select(times, method=first))
    which = f" with {len(of_first)} of {seeds} seeds" if len(of_first) < seeds else ""
    return (
        f"It is first reached by {ACCELERATED[first]}{which}: after {after} s, finding the "
        f"ticket included; that is {of_whole} of the time of Madry's whole training and {of_own} "
        "of the time after which Madry's gets there."
    )


def _finder_too(times):
    finder = select(times, method=FINDER)
    if not finder["seconds"].notna().any():
        return ""
    return (
        "The FGSM training that finds the tickets reaches it by itself, "
        f"with {finder['seconds'].count()} of {len(finder)} seeds: it is not as weak as the "
        "paper's was, and leaves a ticket little to save."
    )


def _reached_cells(rows, column, digits):
    return {
        label: reached_cell(of_label[column], digits) for label, of_label in rows.groupby("label")
    }
