"""Tables 3 and 6 of "Boosting Ticket": accuracy and time, and when Madry's accuracy is reached."""

import textwrap

import pandas as pd

from experiments.boosting_tickets.cells import paper_cells, paper_network, reached_cell, uncertainty
from experiments.boosting_tickets.results import ACCELERATED, accelerated, tested_accuracies
from experiments.boosting_tickets.settings import transfer_attack
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
    rows, paper = accelerated(group.rows), accelerated(reference)
    ours, theirs = {}, {}
    for attack in dict.fromkeys(("natural", group.attack, "pgd_100", MARGIN_ATTACK)):
        label = attack_label(attack)
        ours[label] = cells(tested_accuracies(rows, attack), "network")
        theirs[label] = paper_cells(paper, "Table 6", "network", f"test/{attack}/accuracy")
    for network in ACCELERATED.values():
        label = f"from {network}"
        ours[label] = cells(tested_accuracies(rows, _transferred(rows, network)), "network")
        metric = f"test/{_transferred(paper, network)}/accuracy"
        theirs[label] = paper_cells(paper, "Table 6", "network", metric)
    wall, cpu = (training_times(group.rows, quantity) for quantity in ("seconds", "cpu_seconds"))
    for column, label in _TIMES.items():
        ours[label] = _time_cells(wall, column)
        metric = "time/total/ratio" if column == "ratio" else f"time/{column}/seconds"
        theirs[label] = paper_cells(paper, "Table 6", "network", metric)
    ours["total (CPU s)"] = _time_cells(cpu, "total")
    ours["ratio, CPU s"] = _time_cells(cpu, "ratio")
    columns = [("", {label: label for label in ours})]
    for network in ACCELERATED.values():
        for heading, numbers in ((network, ours), ("paper", theirs)):
            filled = {label: row[network] for label, row in numbers.items() if network in row}
            columns.append((heading, filled))
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


def _transferred(rows, network):
    """What others meet that is made for a network; None before there is such a network."""
    methods = select(rows, network=network)["method"]
    return None if methods.empty else transfer_attack(methods.iloc[0])


def _time_cells(times, column):
    rows = times.assign(value=times[column]).dropna(subset="value")
    seconds = column != "ratio"
    short = seconds and (rows["value"] < 100).all()
    return cells(rows, "network", factor=1, digits=1 if short else 0 if seconds else 2)


def _time_to_accuracy(group):
    """Sentences and a table; empty before there are results of Madry's and ours."""
    wall, cpu = (times_to_accuracy(group, quantity) for quantity in ("seconds", "cpu_seconds"))
    if not wall["network"].isin(ACCELERATED.values()).any():
        return ""
    goals = robust_goals(group)
    if not goals.above_chance:
        return textwrap.fill(
            f"{_goal(goals)} A network that guesses has {100 * goals.chance:.1f}%: Madry's has not "
            "learned to resist, so that nothing can be said of how soon ours does.",
            100,
        )
    in_cpu = ", in CPU s"
    both = pd.concat(
        [wall.assign(label=wall["network"]), cpu.assign(label=cpu["network"] + in_cpu)]
    )
    labels = [*TIMED, *(network + in_cpu for network in TIMED)]
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
    reached = times[times["network"] != FINDER].dropna(subset="seconds")
    if reached.empty:
        return "None of ours reaches it."
    # The fastest of those that get there with the most seeds.
    ranking = reached.groupby("network")["seconds"].agg(["count", "mean"])
    first = ranking.sort_values(["count", "mean"], ascending=[False, True]).index[0]
    of_first = select(reached, network=first)
    after, of_whole, of_own = (
        cell(of_first[column].mean(), of_first[column].std(), digits)
        for column, digits in (("seconds", 1), ("of_whole", 2), ("of_own", 2))
    )
    seeds = len(select(times, network=first))
    which = f" with {len(of_first)} of {seeds} seeds" if len(of_first) < seeds else ""
    return (
        f"It is first reached by {first}{which}: after {after} s, finding the "
        f"ticket included; that is {of_whole} of the time of Madry's whole training and {of_own} "
        "of the time after which Madry's gets there."
    )


def _finder_too(times):
    finder = select(times, network=FINDER)
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
