"""The tables of "Boosting Ticket", beside the paper's numbers.

Every table is made from one `studies.Group` and accepts whatever a run has
finished so far: "–" stands for what is not there (yet).
"""

import functools

import pandas as pd

from experiments.boosting_tickets.cells import paper_cells, paper_network, reached_cell, uncertainty
from experiments.boosting_tickets.results import (
    ADVERSARIAL,
    FAMILY_LABELS,
    first_reaching,
    full_length,
    last_epoch,
    of_families,
    pruned_to,
    tested_accuracies,
    trained,
    validation_curves,
    with_width_and_depth,
)
from experiments.boosting_tickets.time_tables import acceleration_table
from experiments.boosting_tickets.times import fgsm_finder
from tf_tickets.analysis.markdown import MISSING, captioned, cells, markdown_table, paragraphs
from tf_tickets.analysis.measurements import attack_label, seeds_label, select
from tf_tickets.analysis.studies import Group, model_label
from tf_tickets.attacks.threat_model import MARGIN_ATTACK
from tf_tickets.data.specs import SPECS
from tf_tickets.evaluation.early_stopping import early_stopping_iteration
from tf_tickets.models.registry import build_model

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
        family: reached_cell(first_reaching(trained(curve), goal, "epoch"), 1)
        for family, curve in curves.groupby("family")
    }
    columns = [
        ("epoch 1", cells(select(curves, epoch=1), "family")),
        ("epoch 5", cells(select(curves, epoch=5), "family")),
        ("last epoch", cells(last_epoch(curves), "family")),
        ("epochs to 95%", epochs),
        ("test", cells(tested_accuracies(rows), "family")),
        ("paper", paper_cells(select(reference, percent=100), source, "family")),
    ]
    caption = (
        "Validation accuracy in % after an epoch, epochs until it is 95% of what the winning "
        f"ticket ends with, and test accuracy in % at the end; {seeds_label(rows)}. "
        f"{paper_network(reference, source)}"
    )
    return captioned(caption, _family_table(columns, families, rows))


def epochs_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 1: final test accuracy by the length of the training."""
    families = ("winning", "boosting")
    tests = tested_accuracies(of_families(group.rows, "natural", families))
    columns = []
    for family in families:
        paper = paper_cells(select(reference, family=family), "Table 1", "percent")
        columns.append((FAMILY_LABELS[family], cells(select(tests, family=family), "percent")))
        columns.append(("paper", paper))
    caption = f"Final test accuracy in %, {seeds_label(tests)}. {_lengths(reference, 'Table 1')}"
    return captioned(caption, _percent_table(columns, tests))


def learning_rate_table(group: Group, reference: pd.DataFrame) -> str:
    """Figure 3's numbers: final test accuracy by the learning rate that found the ticket."""
    del reference  # The paper gives no numbers.
    tests = tested_accuracies(group.rows).dropna(subset="finding_rate")
    columns = [
        (f"found at {rate:g}", cells(of_rate, "percent"))
        for rate, of_rate in tests.groupby("finding_rate")
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
            cells(select(rows, family=family, epoch=epoch), "sparsity_percent"),
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
    """Figure 5's numbers: how fast the tickets of wider and deeper networks train; Table 4."""
    rows = with_width_and_depth(group.rows)
    curves = validation_curves(rows)
    text = select(reference, source="Section 1", family="boosting")
    validation, test = (
        select(text, metric=f"{split}/natural/accuracy").iloc[0] for split in ("validation", "test")
    )
    models = list(rows.sort_values(["depth", "width"])["model"].unique())
    columns = [
        ("network", {model: model_label(model) for model in models}),
        ("epoch 1", cells(select(curves, epoch=1), "model")),
        ("epoch 5", cells(select(curves, epoch=5), "model")),
        ("last epoch", cells(last_epoch(curves), "model")),
        ("test", cells(tested_accuracies(rows), "model")),
    ]  # fmt: skip
    caption = (
        f"Boosting tickets: validation accuracy in % after an epoch and test accuracy in % at the "
        f"end, {seeds_label(rows)}. The paper has {validation['value']:.2f} (and "
        f"{test['value']:.2f} on test) of {model_label(validation['model'])} after one epoch, to "
        f"which nothing here is the counterpart: {validation['remark']}; here test images are met "
        "once, at the end."
    )
    table = captioned(caption, markdown_table(columns, models, MISSING))
    return paragraphs(table, _table_4(models, reference))


def _table_4(models, reference):
    theirs = select(reference, source="Table 4", metric="model/parameters")
    paper = {row.model: f"{row.value:,.0f}" for row in theirs.itertuples()}
    names = list(dict.fromkeys([*models, *paper]))
    columns = [
        ("network", {name: model_label(name) for name in names}),
        ("parameters", {name: f"{parameter_count(name):,}" for name in names}),
        ("paper", paper),
    ]
    caption = "Trainable parameters of networks of full width for CIFAR-10, as in Table 4."
    return captioned(caption, markdown_table(columns, names, MISSING))


@functools.cache
def parameter_count(model: str) -> int:
    """The trainable parameters of a network of full width for CIFAR-10."""
    network = build_model(model, (32, 32, 3), len(SPECS["cifar10"].class_names), seed=0)
    return sum(weight.shape.num_elements() for weight in network.trainable_weights)


def adversarial_table(group: Group, reference: pd.DataFrame) -> str:
    """Figure 6's numbers: PGD training of tickets from three kinds of training."""
    rows = full_length(group.rows, "pgd", ADVERSARIAL)
    rows = pd.concat([rows, fgsm_finder(group.rows)])
    natural, robust, margin, *others = _robust_columns(rows, "family", group.attack)
    text = select(reference, source="Section 4.1", family="finding").set_index("metric")
    under_fgsm, under_pgd = (
        text["value"][f"test/{attack}/accuracy"] for attack in ("fgsm", "pgd_20")
    )
    columns = [
        natural,
        ("test, FGSM", cells(tested_accuracies(rows, "fgsm"), "family")),
        ("paper", {"finding": f"{under_fgsm:.2f}"}),
        robust,
        ("paper", {"finding": f"{under_pgd:.2f}"}),
        margin,
        *others,
    ]
    caption = (
        f"Accuracies in %, {seeds_label(rows)}; test accuracies are of the epoch with the best "
        "validation robust accuracy, of FGSM training of the last one. "
        f"{uncertainty(rows, group.attack)} The paper's numbers are of its FGSM training, which "
        "masks its gradients, so that a ticket of it needs PGD training."
    )
    return captioned(caption, _family_table(columns, (*ADVERSARIAL, "finding"), rows))


def _robust_columns(rows, by, attack):
    """Test accuracies, the epoch they are of, and the best robust validation accuracy."""
    robust, margin = attack_label(attack), attack_label(MARGIN_ATTACK)
    selected = tested_accuracies(rows)
    selected = selected.assign(value=selected["epoch"]).dropna(subset="value")
    curves = trained(validation_curves(rows, attack))
    best = curves.groupby([by, "seed"])["value"].max().reset_index()
    return [
        ("test, natural", cells(tested_accuracies(rows), by)),
        (f"test, {robust}", cells(tested_accuracies(rows, attack), by)),
        (f"test, {margin}", cells(tested_accuracies(rows, MARGIN_ATTACK), by)),
        ("of epoch", cells(selected, by, factor=1, digits=1)),
        (f"best validation, {robust}", cells(best, by)),
    ]


def mnist_table(group: Group, reference: pd.DataFrame) -> str:
    """Table 5, of each network trained naturally, and Figure 7's numbers."""
    families = ("dense", "winning", "boosting", "random")
    rows = full_length(group.rows, "natural", families)
    tables = [_table_5(model, of_model, reference) for model, of_model in rows.groupby("model")]
    return paragraphs(*tables, _small_robust_table(group, reference))


def _table_5(model, rows, reference):
    reference = select(reference, source="Table 5")
    theirs = select(reference, model=model)
    metric = "validation/natural/stopping_epoch"
    stops = stopping_epochs(rows)
    # Of weights that are not the early-stopped ones the paper has no numbers.
    tests = tested_accuracies(rows).merge(stops[["family", "seed", "epoch"]])
    columns = [
        ("early stopping", cells(stops.assign(value=stops["epoch"]), "family", 1, 1)),
        ("paper", paper_cells(theirs, "Table 5", "family", metric)),
        ("test", cells(tests, "family")),
        ("paper", paper_cells(theirs, "Table 5", "family")),
    ]
    caption = (
        f"Natural training, {model_label(model)}: epoch of the smallest validation loss, and test "
        f"accuracy in % of the weights of that epoch; {seeds_label(rows)}. "
        f"{paper_network(reference, 'Table 5')}"
    )
    return captioned(caption, _family_table(columns, ("dense", "winning", "boosting", "random")))


def stopping_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """`family`, `seed` and the `epoch` of the smallest validation loss."""
    losses = trained(select(rows, split="validation", attack="natural", quantity="loss"))
    stops = [
        (*keys, early_stopping_iteration(of_seed["epoch"].to_list(), of_seed["value"].to_list()))
        for keys, of_seed in losses.dropna(subset="epoch")
        .sort_values("epoch")
        .groupby(["family", "seed"])
    ]
    frame = pd.DataFrame(stops, columns=["family", "seed", "epoch"])
    return frame.astype({"family": "str", "seed": int, "epoch": float})


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
    rows = of_families(group.rows, "pgd", ("fgsm_ticket", "dense"))
    rows = rows.assign(length=_lengths_or_baseline(rows))
    paper = reference.assign(length=_lengths_or_baseline(reference))
    columns = []
    for attack, paper_attack in ((group.attack, "pgd_20"), ("natural", "natural")):
        metric = f"test/{paper_attack}/accuracy"
        columns.append((attack_label(attack), cells(tested_accuracies(rows, attack), "length")))
        columns.append(("paper", paper_cells(paper, "Table 2", "length", metric)))
    margin = cells(tested_accuracies(rows, MARGIN_ATTACK), "length")
    columns.append((attack_label(MARGIN_ATTACK), margin))
    caption = (
        f"Test accuracy in % of the epoch with the best validation robust accuracy, "
        f"{seeds_label(rows)}. {_lengths(reference, 'Table 2')} Its attack is not named. "
        f"{uncertainty(rows, group.attack)} baseline: dense, the full training."
    )
    tickets = select(rows, family="fgsm_ticket")
    return captioned(caption, _percent_table(columns, tickets, ["baseline"]))


def _lengths_or_baseline(rows):
    return rows["percent"].astype(object).where(rows["family"] != "dense", "baseline")


def _lengths(reference, source):
    return (
        "Length: of the full training, which is 100 epochs in the paper. "
        f"{paper_network(reference, source)}"
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
