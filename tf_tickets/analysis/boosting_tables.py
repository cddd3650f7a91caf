"""The tables of "Boosting Ticket", beside the paper's numbers.

Every table is made from one `boosting_results.Group` and accepts whatever a run has
finished so far: "–" stands for what is not there (yet).
"""

import numpy as np
import pandas as pd

from tf_tickets.analysis.boosting_results import (
    ACCELERATED,
    FAMILY_LABELS,
    Group,
    accelerated,
    attack_label,
    best_robust_accuracy,
    finding_rates,
    finds_fgsm_ticket,
    first_reaching,
    full_length,
    last_epoch,
    pruned_to,
    tested_accuracies,
    times_to_accuracy,
    trained,
    training_times,
    validation_curves,
    with_width_and_depth,
)
from tf_tickets.analysis.markdown import MISSING, captioned, cell, cells, markdown_table, paragraphs
from tf_tickets.analysis.measurements import seeds_label, select
from tf_tickets.analysis.studies import group_label, model_label
from tf_tickets.evaluation.early_stopping import early_stopping_iteration

_DIGITS = {"%": 2, "s": 0, "1": 2, "epoch": 0}
_PERCENTS = (20, 40, 60, 80, 100)


def existence_table(group: Group, reference: pd.DataFrame) -> str:
    """How fast and how far each kind of ticket trains."""
    families = ("boosting", "winning", "random", "iterative", "dense")
    rows = full_length(group.rows, "natural", families)
    curves = validation_curves(rows)
    table_5 = select(reference, source="Table 5")["data_set"]
    source = "Table 5" if table_5.isin(rows["data_set"]).any() else "Table 1"
    goal = select(last_epoch(curves), family="winning").set_index("seed")["value"] * 0.95
    epochs = {
        family: _reached_cell(first_reaching(trained(curve), goal, "epoch"), 1)
        for family, curve in curves.groupby("family")
    }
    columns = [
        ("epoch 1", cells(select(curves, epoch=1), "family")),
        ("epoch 5", cells(select(curves, epoch=5), "family")),
        ("last epoch", cells(last_epoch(curves), "family")),
        ("epochs to 95%", epochs),
        ("test", cells(tested_accuracies(rows), "family")),
        ("paper", _paper(select(reference, percent=100), source, "family")),
    ]
    caption = (
        "Validation accuracy in % after an epoch, epochs until it is 95% of what the winning "
        f"ticket ends with, and test accuracy in % at the end; {seeds_label(rows)}. "
        f"{_paper_network(reference, source)}"
    )
    return captioned(caption, _family_table(columns, families, rows))


def epochs_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 1: final test accuracy by the length of the training."""
    tests = tested_accuracies(select(group.rows, regime="natural"))
    tests = tests[tests["family"].isin(("winning", "boosting"))]
    columns = []
    for family in ("winning", "boosting"):
        paper = _paper(select(reference, family=family), "Table 1", "percent")
        columns.append((FAMILY_LABELS[family], cells(select(tests, family=family), "percent")))
        columns.append(("paper", paper))
    caption = f"Final test accuracy in %, {seeds_label(tests)}. {_lengths(reference, 'Table 1')}"
    return captioned(caption, _percent_table(columns, tests))


def learning_rate_table(group: Group, reference: pd.DataFrame) -> str:
    """Figure 3's numbers: final test accuracy by the learning rate that found the ticket."""
    del reference  # The paper gives no numbers.
    tests = finding_rates(tested_accuracies(group.rows))
    columns = [
        (f"found at {rate:g}", cells(of_rate, "percent"))
        for rate, of_rate in tests.groupby("learning_rate")
    ]
    caption = (
        f"Final test accuracy in %, {seeds_label(tests)}. Length: of the full training. "
        "The paper gives no numbers."
    )
    return captioned(caption, _percent_table(columns, tests))


def pruning_ratio_table(group: Group, reference: pd.DataFrame) -> str:
    """Figure 4's numbers: validation accuracy after epochs 1 and 5 by sparsity."""
    rows = pruned_to(group.rows)
    columns = [
        (
            f"{label}, epoch {epoch}",
            cells(select(rows, pruned=family, epoch=epoch), "sparsity_percent"),
        )
        for family, label in (("boosting", "boosting"), ("random", "new weights"))
        for epoch in (1, 5)
    ]
    sparsities = sorted(rows["sparsity_percent"].unique())
    columns.insert(0, ("pruned (%)", {value: f"{value:g}" for value in sparsities}))
    text = select(reference, source="Section 3.3")
    paper = "; ".join(
        f"{model_label(model)} about {' and '.join(f'{value:g}' for value in of_model['value'])}"
        for model, of_model in text.groupby("model", sort=False)
    )
    caption = (
        f"Validation accuracy in %, {seeds_label(rows)}. Paper, boosting tickets pruned by 60% to "
        f"90%, CIFAR-10, epochs 1 and 5: {paper}."
    )
    return captioned(caption, markdown_table(columns, sparsities, MISSING))


def capacity_table(group: Group, reference: pd.DataFrame) -> str:
    """Figure 5's numbers: how fast the tickets of wider and deeper networks train."""
    rows = with_width_and_depth(group.rows)
    curves = validation_curves(rows)
    parameters = select(reference, source="Table 4", metric="model/parameters")
    text = select(reference, source="Section 1", method="boosting_100")
    validation, test = (
        select(text, metric=f"{split}/natural/accuracy").iloc[0] for split in ("validation", "test")
    )
    models = list(rows.sort_values(["depth", "width"])["model"].unique())
    sizes = {row.model: f"{row.value:,.0f}" for row in parameters.itertuples()}
    columns = [
        ("network", {model: model_label(model) for model in models}),
        ("parameters, paper", sizes),
        ("epoch 1", cells(select(curves, epoch=1), "model")),
        ("paper", {validation["model"]: f"{validation['value']:.2f}"}),
        ("epoch 5", cells(select(curves, epoch=5), "model")),
        ("last epoch", cells(last_epoch(curves), "model")),
        ("test", cells(tested_accuracies(rows), "model")),
    ]  # fmt: skip
    caption = (
        f"Boosting tickets: validation accuracy in % after an epoch and test accuracy in % at the "
        f"end, {seeds_label(rows)}. The paper's {validation['value']:.2f} (and {test['value']:.2f} "
        f"on test) after one epoch: {validation['remark']}."
    )
    return captioned(caption, markdown_table(columns, models, MISSING))


def adversarial_table(group: Group, reference: pd.DataFrame) -> str:
    """Figure 6's numbers: PGD training of tickets from three kinds of training."""
    families = ("natural_ticket", "fgsm_ticket", "pgd_ticket", "fgsm_random")
    rows = full_length(group.rows, "pgd", families)
    finding = group.rows[finds_fgsm_ticket(group.rows)].assign(family="finding_fgsm")
    rows = pd.concat([rows, finding])
    natural, robust, *others = _robust_columns(rows, "family", group.attack)
    text = select(reference, source="Section 4.1", method="finding_fgsm").set_index("metric")
    under_fgsm, under_pgd = (
        text["value"][f"test/{attack}/accuracy"] for attack in ("fgsm", "pgd_20")
    )
    columns = [natural, robust, ("paper", {"finding_fgsm": f"{under_pgd:.2f}"}), *others]
    caption = (
        f"Accuracies in %, {seeds_label(rows)}; test accuracies are of the epoch with the best "
        "validation robust accuracy, of FGSM training of the last one. The paper's FGSM-trained "
        f"network has {under_fgsm:g} under FGSM and {under_pgd:g} under PGD-20."
    )
    return captioned(caption, _family_table(columns, (*families, "finding_fgsm"), rows))


def _robust_columns(rows, by, attack):
    """Selected epoch, its test accuracies, and the best robust validation accuracy."""
    robust = attack_label(attack)
    selected = tested_accuracies(rows)
    selected = selected.assign(value=selected["epoch"]).dropna(subset="value")
    curves = trained(validation_curves(rows, attack))
    best = curves.groupby([by, "seed"])["value"].max().reset_index()
    return [
        ("test, natural", cells(tested_accuracies(rows), by)),
        (f"test, {robust}", cells(tested_accuracies(rows, attack), by)),
        ("of epoch", cells(selected, by, factor=1, digits=1)),
        (f"best validation, {robust}", cells(best, by)),
    ]


def mnist_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 5, and Figure 7's numbers."""
    return paragraphs(_table_5(group, reference), _small_robust_table(group, reference))


def _table_5(group, reference):
    families = ("dense", "winning", "boosting", "random")
    rows = full_length(select(group.rows, model="lenet_conv"), "natural", families)
    if rows.empty:
        return ""
    metric = "validation/natural/stopping_epoch"
    columns = [
        ("early stopping", cells(_stopping_epochs(rows), "family", factor=1, digits=1)),
        ("paper", _paper(reference, "Table 5", "family", metric)),
        ("test", cells(tested_accuracies(rows), "family")),
        ("paper", _paper(reference, "Table 5", "family")),
    ]
    caption = (
        f"Natural training, {model_label('lenet_conv')}: epoch of the smallest validation loss, "
        f"and test accuracy in % at the end; {seeds_label(rows)}. "
        f"{_paper_network(reference, 'Table 5')}"
    )
    return captioned(caption, _family_table(columns, families))


def _stopping_epochs(rows):
    losses = trained(select(rows, split="validation", attack="natural", quantity="loss"))
    stops = [
        (*keys, early_stopping_iteration(of_seed["epoch"].to_list(), of_seed["value"].to_list()))
        for keys, of_seed in losses.dropna(subset="epoch")
        .sort_values("epoch")
        .groupby(["family", "seed"])
    ]
    return pd.DataFrame(stops, columns=["family", "seed", "value"])


def _small_robust_table(group, reference):
    rows = full_length(group.rows, "pgd", ("pgd_ticket", "pgd_random"))
    if rows.empty:
        return ""
    keys = sorted(set(zip(rows["model"], rows["family"])), key=_model_then_family)
    networks = pd.Series(list(zip(rows["model"], rows["family"])), index=rows.index)
    natural, *others = _robust_columns(rows.assign(network=networks), "network", group.attack)
    text = select(reference, source="Section 4.1", metric="test/natural/accuracy")
    paper = {(row.model, row.family): f"{row.value:.2f}" for row in text.itertuples()}
    columns = [
        ("network", {key: model_label(key[0]) for key in keys}),
        ("training", {key: FAMILY_LABELS[key[1]] for key in keys}),
        natural,
        ("paper", paper),
        *others,
    ]
    caption = (
        f"PGD training: accuracies in %, {seeds_label(rows)}; test accuracies are of the epoch "
        "with the best validation robust accuracy. Paper: MNIST; with LeNet, "
        f"{text['remark'].iloc[0]}."
    )
    return captioned(caption, markdown_table(columns, keys, MISSING))


def _model_then_family(key):
    return key[0], list(FAMILY_LABELS).index(key[1])


def convergence_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 2: adversarial training of FGSM tickets by its length, and the dense baseline."""
    rows = select(group.rows, regime="pgd")
    rows = rows[(rows["family"] == "fgsm_ticket") | (rows["method"] == "dense_100")]
    rows = rows.assign(length=_lengths_or_baseline(rows))
    paper = reference.assign(length=_lengths_or_baseline(reference))
    columns = []
    for attack, paper_attack in ((group.attack, "pgd_20"), ("natural", "natural")):
        metric = f"test/{paper_attack}/accuracy"
        columns.append((attack_label(attack), cells(tested_accuracies(rows, attack), "length")))
        columns.append(("paper", _paper(paper, "Table 2", "length", metric)))
    caption = (
        f"Test accuracy in % of the epoch with the best validation robust accuracy, "
        f"{seeds_label(rows)}. {_lengths(reference, 'Table 2')} Its attack is not named. "
        "baseline: dense, the full training."
    )
    tickets = select(rows, family="fgsm_ticket")
    return captioned(caption, _percent_table(columns, tickets, ["baseline"]))


def _lengths_or_baseline(rows):
    return rows["percent"].astype(object).where(rows["family"] != "dense", "baseline")


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
        theirs[label] = _paper(reference, "Table 6", "method", row)
    wall, cpu = (training_times(group.rows, quantity) for quantity in ("seconds", "cpu_seconds"))
    for column, label in _TIMES.items():
        ours[label] = _time_cells(wall, column)
        quantity = "ratio" if column == "ratio" else "seconds"
        theirs[label] = _paper(reference, "Table 6", "method", f"time/{column}/{quantity}")
    theirs[_TIMES["ratio"]] = _paper(reference, "Table 6", "method", "time/total/ratio")
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
        f"Madry's, is taken seed by seed. Madry's: dense. {_paper_network(reference, 'Table 6')}"
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
    return [*sorted(steps, key=lambda attack: int(attack.removeprefix("pgd_"))), "cw"]


def _time_cells(times, column):
    rows = times.assign(value=times[column]).dropna(subset="value")
    seconds = column != "ratio"
    short = seconds and (rows["value"] < 100).all()
    return cells(rows, "method", factor=1, digits=1 if short else 0 if seconds else 2)


def _time_to_accuracy(group):
    """A sentence and a table; empty before there are results of Madry's and ours."""
    wall, cpu = (times_to_accuracy(group, quantity) for quantity in ("seconds", "cpu_seconds"))
    if wall.empty:
        return ""
    columns = [
        ("", ACCELERATED),
        ("after (s)", _reached_cells(wall, "seconds", 1)),
        ("of Madry's whole time", _reached_cells(wall, "of_whole", 2)),
        ("of Madry's time to it", _reached_cells(wall, "of_own", 2)),
        ("of Madry's whole CPU time", _reached_cells(cpu, "of_whole", 2)),
    ]
    methods = [method for method in ACCELERATED if (wall["method"] == method).any()]
    table = markdown_table(columns, methods, MISSING)
    return captioned(_time_to_accuracy_sentence(group, wall), table)


def _time_to_accuracy_sentence(group, times):
    best = best_robust_accuracy(group)
    best = cell(100 * best.mean(), 100 * best.std())
    beginning = f"Madry's best validation robust accuracy ({best}%) is"
    reached = times.dropna(subset="seconds")
    if reached.empty:
        return f"{beginning} never reached by ours."
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
        f"{beginning} first reached by {ACCELERATED[first]}{which}: after {after} s, finding the "
        f"ticket included; that is {of_whole} of the time of Madry's whole training and {of_own} "
        "of the time after which Madry's gets there."
    )


def _reached_cells(rows, column, digits):
    return {
        method: _reached_cell(of_method[column], digits)
        for method, of_method in rows.groupby("method")
    }


def _reached_cell(values, digits):
    """Mean and sd of the seeds that get there, which NaN does not; "never" if none does."""
    count = values.count()
    if not count:
        return "never" if len(values) else MISSING
    shown = cell(values.mean(), values.std(), digits)
    return shown if count == len(values) else f"{shown} ({count} of {len(values)} seeds)"


def _paper(reference, source, by, metric="test/natural/accuracy"):
    """`by` → the paper's cell, of one metric of one table."""
    rows = select(reference, source=source, metric=metric)
    return {
        key: cell(value, np.nan, _DIGITS[unit])
        for key, value, unit in zip(rows[by], rows["value"], rows["unit"])
    }


def _paper_network(reference, source):
    row = select(reference, source=source).iloc[0]
    return f"The paper's numbers: {group_label(row['data_set'], row['model'])}."


def _lengths(reference, source):
    return (
        "Length: of the full training, which is 100 epochs in the paper. "
        f"{_paper_network(reference, source)}"
    )


def _family_table(columns, families, rows=None):
    """A row per family; of those that `rows` have, if given."""
    shown = [f for f in families if rows is None or (rows["family"] == f).any()]
    return markdown_table([("", FAMILY_LABELS), *columns], shown, MISSING)


def _percent_table(columns, rows, more=()):
    percents = sorted({*_PERCENTS, *rows["percent"].dropna().astype(int)})
    keys = [*percents, *more]
    lengths = {key: f"{key}%" if key in percents else key for key in keys}
    return markdown_table([("length", lengths), *columns], keys, MISSING)


TABLES = {
    "existence": existence_table,
    "epochs": epochs_table,
    "learning_rate": learning_rate_table,
    "pruning_ratio": pruning_ratio_table,
    "capacity": capacity_table,
    "adversarial": adversarial_table,
    "mnist": mnist_table,
    "convergence": convergence_table,
    "acceleration": acceleration_table,
}
