"""What the tables and figures of "Robust Lottery Tickets" compute from a run.

A network is a `method` and a `level`, its sparsity in percent: 0 for what is not pruned.
A search for masks is told from others by its `penalty`, λ.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.robust_bert_tickets.examples import (
    ATTACK_LABELS,
    AttackedNetwork,
    read_attacked,
    table_of_texts,
)
from tf_tickets.analysis import measurements
from tf_tickets.analysis.markdown import cell
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.saved_tickets import SavedTicket
from tf_tickets.errors import UserError
from tf_tickets.evaluation.text_outcomes import Estimate, wilson_share
from tf_tickets.runs.run_directory import Cell, RunDirectory

METHOD_LABELS = {
    "fine_tune": "fine-tuning",
    "lth": "LTH",
    "free_lb": "FreeLB",
    "info_bert": "InfoBERT",
    "random": "random tickets",
    "robust": "robust tickets",
    "without_mask_learning": "without mask learning",
    "without_adversarial": "without adversarial loss",
    "without_initialization": "without initialization",
    "without_structure": "without structure",
    "without_structure_longer": "without structure, longer",
}
"""The methods of networks, in the order of the paper's tables."""

DATA_SET_LABELS = {
    "imdb": "IMDB",
    "ag_news": "AG News",
    "sst2": "SST-2",
    "qnli": "QNLI",
    "mnli": "MNLI",
    "qqp": "QQP",
    "mrpc": "MRPC",
    "movie_reviews": "movie reviews",
}

_ENCODER_LABELS = {"minilm_l6": "MiniLM-L6"}

# Columns of results.csv by which this paper tells its rows apart, beside those that all have.
_LABELS = {"encoder": str, "recipe": str, "layers": float, "penalty": float}

_REFERENCE_COLUMNS = [
    "source", "data_set", "model", "method", "sparsity_percent", "attack", "quantity", "value",
    "unit", "remark",
]  # fmt: skip


class Network(NamedTuple):
    """One network of a data set, over all its seeds."""

    method: str
    level: int


class Group(NamedTuple):
    """The results of one encoder on one data set.

    Attributes:
      name: for file names, such as "sst2_minilm_l6_2_layers".
      label: for headings, such as "MiniLM-L6 (2 layers) on SST-2".
      data_set: its name.
      rows: of results.csv, as `measurements.load_results` reads it.
      attacked: network, seed and attack → its attacked sentences.
      tickets: the saved robust tickets, in the order of seeds, then of sparsities.
    """

    name: str
    label: str
    data_set: str
    rows: pd.DataFrame
    attacked: Mapping[tuple[Network, int, str], AttackedNetwork]
    tickets: Sequence[SavedTicket]


class SeedMean(NamedTuple):
    """A network's measured number.

    Attributes:
      mean: over seeds.
      sd: the sample standard deviation over seeds, NaN for one.
      low: of one seed alone, the lower end of the 95% confidence interval over the attacked
        sentences; NaN for several seeds, and where there is none.
      high: its upper end.
      seeds: how many.
    """

    mean: float
    sd: float
    low: float
    high: float
    seeds: int

    def __str__(self):
        """ "26.7±1.2" of several seeds, "26.7 [20.5, 34.0]" of one."""
        shown = cell(self.mean, self.sd, digits=1)
        return shown if np.isnan(self.low) else f"{shown} [{self.low:,.1f}, {self.high:,.1f}]"


def load_groups(run: RunDirectory) -> list[Group]:
    """All that a run's results are of, a group per data set and encoder.

    Its folder may hold tickets and attacked sentences of what was asked for before, too, which
    are left out.

    Raises:
      UserError: results or attacked sentences do not follow their schema.
    """
    splits = ("validation", "test", "ticket", "masks")
    path = run.results_path
    frame = measurements.load_results(path, splits, _LABELS)
    if frame["encoder"].isna().any():  # Attacks whose resources a stage did not look for.
        raise UserError(
            f"{path}: some rows have no encoder, as an earlier version left them; --stage=all "
            "completes them"
        )
    # Rounds of iterative pruning under an adversarial loss are no ticket's result.
    is_round = (frame["method"] == "without_mask_learning") & (frame["regime"] != "natural")
    frame = frame[~is_round]
    keys = sorted(set(zip(frame["data_set"], frame["model"])), key=_group_order)
    return [_group(run, *key, select(frame, data_set=key[0], model=key[1])) for key in keys]


def load_reference(path: Path) -> pd.DataFrame:
    """Reads the paper's numbers; raises as `measurements.load_reference`."""
    return measurements.load_reference(path, _REFERENCE_COLUMNS)


def attacks(group: Group, split: str = "test") -> list[str]:
    """The attacks that there are results of, in the order of the paper's tables."""
    measured = set(select(group.rows, split=split, quantity="accuracy")["attack"])
    return [attack for attack in ATTACK_LABELS if attack in measured]


def networks(group: Group, methods: Iterable[str]) -> list[Network]:
    """The tested networks of the methods, in the methods' order, then by sparsity."""
    tested = select(group.rows, split="test")
    found = sorted({(row.level, row.method) for row in tested.itertuples()})
    return [Network(method, level) for method in methods for level, name in found if name == method]


def main_levels(group: Group) -> list[int]:
    """The sparsities in percent that tickets are compared at.

    Robust tickets and LTH's may be there at many sparsities. Those that random tickets or
    ablations have are meant; where there are none (yet), all of robust tickets, or of LTH.
    """
    swept = ("robust", "lth")
    others = [method for method in METHOD_LABELS if method not in swept]
    for methods in (others, *([method] for method in swept)):
        levels = {network.level for network in networks(group, methods)} - {0}
        if levels:
            return sorted(levels)
    return []


def compared_networks(group: Group, methods: Iterable[str]) -> list[Network]:
    """Those of `networks` that are not pruned or at one of `main_levels`."""
    levels = {0, *main_levels(group)}
    return [network for network in networks(group, methods) if network.level in levels]


def swept_networks(group: Group) -> list[Network]:
    """The networks of the study of sparsities; none before there are two of them."""
    found = networks(group, ("fine_tune", "free_lb", "lth", "robust"))
    return found if len({network.level for network in found} - {0}) > 1 else []


def clean_accuracies(group: Group) -> dict[Network, SeedMean]:
    """Clean%: the accuracy on the whole test set in %."""
    return _seed_means(group, "natural", "accuracy", 100)


def accuracies_under(group: Group, attack: str) -> dict[Network, SeedMean]:
    """Aua%: the share of the attacked sentences that are still classified correctly, in %."""
    return _seed_means(group, attack, "accuracy", 100)


def accuracies_within(group: Group, attack: str, budget: float) -> dict[Network, SeedMean]:
    """Aua% at a budget, of the networks whose attacked sentences the run holds."""
    found = {}
    for (network, _, name), entry in sorted(group.attacked.items(), key=lambda item: item[0][:2]):
        if name == attack:
            found.setdefault(network, []).append(entry.metrics.accuracy_within[budget])
    return {network: _seed_mean(estimates, 100) for network, estimates in found.items()}


def success_rates(group: Group, attack: str) -> dict[Network, SeedMean]:
    """Suc%: the attack's share of the sentences that are correct without it, in %."""
    return _seed_means(group, attack, "success_rate", 100)


def query_counts(group: Group, attack: str) -> dict[Network, SeedMean]:
    """#Query: how often an attack asks the network, a sentence's mean."""
    return _seed_means(group, attack, "queries", 1)


def sentence_counts(group: Group, attack: str) -> dict[Network, int]:
    """How many sentences a seed was attacked on, the least of the seeds'."""
    rows = _under(group, attack, "examples")
    found = rows.groupby(["method", "level"])["value"].min()
    return {Network(*key): int(count) for key, count in found.items()}


def attack_description(group: Group, attack: str) -> str:
    """The recipe of the group's attack and, where its sentences are there, what it used."""
    recipes = sorted(set(select(group.rows, attack=attack)["recipe"].dropna()))
    used = {
        f"{name} {what}"
        for (_, _, name_of_attack), entry in group.attacked.items()
        if name_of_attack == attack
        for name, what in entry.made_with.items()
    }
    described = "; ".join([*(f"recipe {name}" for name in recipes), *sorted(used)])
    # Enough of a hash to tell files apart.
    return re.sub(r"(SHA-256 [0-9a-f]{8})[0-9a-f]+", r"\1", described.replace("_", " "))


def sparsities(group: Group) -> dict[Network, float]:
    """The removed share of the weights that tickets mask, in %, mean over seeds."""
    rows = select(group.rows, split="test")
    means = 100 * rows.groupby(["method", "level"])["sparsity"].mean()
    return {Network(*key): mean for key, mean in means.items()}


def model_sparsities(group: Group) -> dict[Network, float]:
    """The removed share of all weights of the model, in %, mean over seeds."""
    rows = select(group.rows, split="ticket", attack="model", quantity="sparsity")
    means = 100 * rows.groupby(["method", "level"])["value"].mean()
    return {Network(*key): mean for key, mean in means.items()}


def searches(group: Group) -> pd.DataFrame:
    """What was measured while masks were learned.

    Returns:
      A row per measurement: `regime` (of the adversarial loss, or natural), `penalty` (λ),
      `seed`, `progress` (in % of the search), `quantity` (expected_l0, share_zero, share_one,
      and their sum share_zero_or_one) and `value`.
    """
    rows = select(group.rows, split="masks", attack="all").dropna(subset="penalty")
    keys = ["regime", "penalty", "seed"]
    last = rows.groupby(keys)["iteration"].transform("max")
    rows = rows.assign(progress=100 * rows["iteration"] / last.clip(lower=1))
    shares = rows[rows["quantity"].isin(["share_zero", "share_one"])]
    both = shares.groupby([*keys, "progress"])["value"].agg(["sum", "count"]).reset_index()
    both = both[both["count"] == 2].rename(columns={"sum": "value"})
    columns = [*keys, "progress", "quantity", "value"]
    return pd.concat([rows[columns], both.assign(quantity="share_zero_or_one")[columns]])


def training_curves(group: Group, attack: str) -> dict[Network, pd.DataFrame]:
    """Validation accuracy in % as training proceeds, of what is measured more than once.

    Returns:
      Network → `mean` and `sd` over seeds by optimizer step.
    """
    rows = select(group.rows, split="validation", attack=attack, quantity="accuracy")
    found = {}
    for key, of_network in rows.groupby(["method", "level"]):
        curve = 100 * measurements.mean_and_sd(of_network, "iteration")[["mean", "sd"]]
        if len(curve) > 1:
            found[Network(*key)] = curve
    return found


def network_label(group: Group, network: Network) -> str:
    """ "robust tickets, 30%"."""
    sparsity = f", {sparsities(group)[network]:.0f}%" if network.level else ""
    return METHOD_LABELS[network.method] + sparsity


def seed_count(rows: pd.DataFrame) -> str:
    """ "1 seed", or "2 seeds"."""
    count = rows["seed"].nunique()
    return "1 seed" if count == 1 else f"{count} seeds"


def _group_order(key):
    data_set, model = key
    names = list(DATA_SET_LABELS)
    return names.index(data_set) if data_set in names else len(names), data_set, model


def _group(run, data_set, model, rows):
    return Group(
        name=f"{data_set}_{model}",
        label=_group_label(data_set, *rows[["encoder", "layers"]].iloc[0]),
        data_set=data_set,
        rows=rows,
        attacked=_attacked(run, rows),
        tickets=_robust_tickets(run, rows),
    )


def _group_label(data_set, encoder, layers):
    depth = "1 layer" if layers == 1 else f"{layers:g} layers"
    on = DATA_SET_LABELS.get(data_set, data_set)
    return f"{_ENCODER_LABELS.get(encoder, encoder)} ({depth}) on {on}"


def _attacked(run, rows):
    """Network, seed and attack → its sentences, of the tests whose tables are there."""
    tests = select(rows, split="test", quantity="accuracy")
    found = {}
    for row in tests[tests["attack"].isin(list(ATTACK_LABELS))].itertuples():
        table = table_of_texts(_cell(row), row.level, row.split, row.attack, row.recipe)
        if (run.path / table).exists():
            key = Network(row.method, row.level), row.seed, row.attack
            found[key] = read_attacked(run.path / table)
    return found


def _robust_tickets(run, rows):
    measured = select(rows, method="robust", attack="natural")
    measured = measured[measured["level"] > 0].drop_duplicates(["regime", "seed", "level"])
    places = (
        SavedTicket(_cell(row), row.level, run.ticket_path(_cell(row), row.level))
        for row in measured.sort_values(["seed", "level"]).itertuples()
    )
    return [ticket for ticket in places if ticket.path.exists()]


def _cell(row):
    return Cell(*(getattr(row, name) for name in Cell._fields))


def _under(group, attack, quantity):
    return select(group.rows, split="test", attack=attack, quantity=quantity)


def _seed_means(group, attack, quantity, factor):
    """Of each tested network the quantity, times `factor`."""
    rows = _under(group, attack, quantity).dropna(subset="value")
    found = {}
    for key, of_network in rows.groupby(["method", "level"]):
        network = Network(*key)
        of_seeds = zip(of_network["seed"], of_network["value"], strict=True)
        estimates = [_estimate(group, attack, quantity, network, *pair) for pair in of_seeds]
        found[network] = _seed_mean(estimates, factor)
    return found


def _seed_mean(estimates, factor):
    """Over one estimate a seed."""
    values = factor * pd.Series([estimate.value for estimate in estimates])
    low = high = np.nan
    if len(values) == 1:
        low, high = factor * estimates[0].low, factor * estimates[0].high
    return SeedMean(values.mean(), values.std(), low, high, len(values))


def _estimate(group, attack, quantity, network, seed, value):
    """One seed's value with its confidence interval, NaN where nothing is known of one."""
    measured = select(group.rows, split="test", attack=attack, seed=seed, **network._asdict())
    known = dict(zip(measured["quantity"], measured["value"], strict=True))
    attacked = group.attacked.get((network, seed, attack))
    if quantity == "queries" and attacked:
        return attacked.metrics.queries
    totals = {"accuracy": 1.0, "success_rate": known.get("clean_accuracy", np.nan)}
    total = known.get("examples", np.nan) * totals.get(quantity, np.nan)
    if np.isnan(total):
        return Estimate(value, np.nan, np.nan)
    return wilson_share(round(value * total), round(total))
