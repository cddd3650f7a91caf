"""The trained networks of a run under text attacks."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_tickets.attacks.text_recipes import ATTACKS, TextRecipe
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.errors import UserError, require, require_choices
from tf_tickets.evaluation.text_attacks import attack_examples
from tf_tickets.evaluation.text_outcomes import TextAttackMetrics
from tf_tickets.evaluation.text_victim import save_victim
from tf_tickets.evaluation.text_workers import TextAttackWorkers
from tf_tickets.models.weights import Weights
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.search.bert_tickets import BertTickets
from tf_tickets.search.robust_bert import EXPERIMENT, Network

# How many test examples the paper attacks (appendix B.2); of all other data sets 1000.
PAPER_EXAMPLES = {"sst2": 872, "imdb": 500}
OTHER_EXAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class JudgeSettings:
    """How networks are attacked.

    Attributes:
      attacks: names in `ATTACKS`; studies but `main` have the first alone.
      preset, max_words_changed, bert_attack_candidates: see `TextRecipe`.
      examples: how many test examples are attacked, of each class its share; 0 for as many as
        the paper.
      resources: what the recipes use.
    """

    attacks: Sequence[str]
    preset: str
    max_words_changed: float
    bert_attack_candidates: int
    examples: int
    resources: TextResources

    def __post_init__(self):
        require_choices("attacks", self.attacks, ATTACKS)
        for attack in self.attacks:
            self.recipe(attack)
        require(self.examples >= 0, "attacked_examples", self.examples, "at least 0")

    def recipe(self, attack: str) -> TextRecipe:
        """How an attack is made."""
        limits = self.max_words_changed, self.bert_attack_candidates
        return TextRecipe(attack, self.preset, *limits)

    def require_resources(self) -> None:
        """Checks that all resources are there.

        Raises:
          UserError: one is not.
        """
        for attack in self.attacks:
            self.resources.describe(self.recipe(attack).needs)


class _Job(NamedTuple):
    """One attack on a trained network, or on what it was after an epoch of its training."""

    network: Network
    attack: str
    split: str
    epoch: int | None = None

    @property
    def record(self) -> str:
        """The name of its results among the cell's."""
        epoch = "" if self.epoch is None else f"_epoch_{self.epoch:03d}"
        return f"level_{self.network.level:02d}{epoch}_{self.split}_{self.attack}"


def attack_networks(
    tickets: BertTickets, judge: JudgeSettings, studies: Sequence[str], processes: int
) -> None:
    """Attacks all trained networks of some studies, each once, and records what comes of it.

    Args:
      tickets: the run's trainings; networks that are not trained yet are left out.
      judge: how they are attacked.
      studies: names in `STUDIES`.
      processes: how many attack side by side.

    Raises:
      StopRequested: as it is asked to stop; every attacked example is kept.
      UserError: nothing is trained, a file of weights is damaged, or a resource is missing.
    """
    if not tickets.run.writable:
        return  # The chief alone attacks.
    jobs = _jobs(tickets, judge, studies)
    trained = [job for job in jobs if tickets.is_finished(job.network)]
    if jobs and not trained:
        raise UserError("--stage=attack: nothing is trained yet; run --stage=train first")
    missing = [
        job
        for job in trained
        if not tickets.run.extra_record_path(tickets.cell(job.network), job.record).exists()
    ]
    with TextAttackWorkers(processes) as workers, ProgressBar(len(missing)) as bar:
        for job in missing:
            tickets.stop_if_requested()
            _attack(tickets, judge, job, workers, bar)
    tickets.run.write_results()


def _jobs(tickets, judge, studies):
    """All attacks of some studies, each once, a trial's together."""
    settings = tickets.settings
    jobs = {}
    for data_set in settings.data_sets:
        for seed in settings.seeds:
            for study in studies:
                for network in settings.judged(data_set, seed, study):
                    for job in _jobs_of(settings, judge, study, network):
                        jobs[job] = None
    return list(jobs)


def _jobs_of(settings, judge, study, network):
    first = judge.attacks[0]
    if study == "convergence":
        epochs = range(1, settings.epochs_of(network) + 1)
        return [_Job(network, first, "validation", epoch) for epoch in epochs]
    attacks = judge.attacks if study == "main" else [first]
    return [_Job(network, attack, "test") for attack in attacks]


def _attack(tickets, judge, job, workers, bar):
    network, cell = job.network, tickets.cell(job.network)
    bench = tickets.bench(network.data_set, network.seed)
    wanted = judge.examples or PAPER_EXAMPLES.get(network.data_set, OTHER_EXAMPLES)
    whole = getattr(bench.data, job.split)
    data = bench.data.limited(network.seed, **{job.split: min(wanted, len(whole))})
    split = getattr(data, job.split)
    description = f"{job.attack} on {cell.description} level {network.level}"
    done = 0.0

    def report(finished, total):
        nonlocal done
        bar.advance(finished / total - done, description)
        done = finished / total

    with tempfile.TemporaryDirectory() as folder:
        _save_victim(tickets, job, Path(folder))
        result = attack_examples(
            folder,
            bench.data.parts,
            split.texts,
            split.labels,
            recipe=judge.recipe(job.attack),
            resources=judge.resources,
            table_path=_table_path(tickets, judge, job),
            workers=workers,
            stop_if_requested=tickets.stop_if_requested,
            on_progress=report,
        )
    rows = _rows(tickets, job, result.metrics)
    tickets.run.add_record(cell, job.record, rows)


def _save_victim(tickets, job, folder):
    """A folder that attacks ask for answers."""
    model = tickets.classifier(job.network, _weights(tickets, job)).model
    encoder, bench = tickets.encoder, tickets.bench(job.network.data_set, job.network.seed)
    save_victim(folder, model, encoder.vocabulary, encoder.lowercase, bench.tokenizer.length)


def _weights(tickets, job) -> Weights:
    run, cell, level = tickets.run, tickets.cell(job.network), job.network.level
    if job.epoch is None:
        return load_arrays(run.trained_weights_path(cell, level))
    prefix = f"{job.epoch:03d}/"
    return {
        path.removeprefix(prefix): array
        for path, array in load_arrays(run.trajectory_path(cell, level)).items()
        if path.startswith(prefix)
    }


def _table_path(tickets, judge, job):
    epoch = "" if job.epoch is None else f"_epoch_{job.epoch:03d}"
    folder = Path("attacks", tickets.cell(job.network).path, f"level_{job.network.level:02d}")
    return tickets.run.path / folder / f"{job.split}_{job.attack}_{judge.preset}{epoch}.csv"


def _rows(tickets, job, metrics: TextAttackMetrics):
    """The results of an attack, beside the sparsity and the iteration of what was attacked."""
    run, cell, level = tickets.run, tickets.cell(job.network), job.network.level
    trained = run.finished_results(cell, level)
    if job.epoch is None:
        iteration = next(row.iteration for row in trained if row.metric == "test/natural/accuracy")
    else:
        epochs = sorted({row.iteration for row in trained})
        iteration = epochs[job.epoch]
    measured = {"examples": float(metrics.examples)}
    for name in ("clean_accuracy", "accuracy", "success_rate", "queries"):
        value = getattr(metrics, name).value
        if np.isfinite(value):
            measured[name] = value
    entries = [
        (iteration, f"{job.split}/{job.attack}/{name}", value) for name, value in measured.items()
    ]
    return cell.results(EXPERIMENT, level, trained[0].sparsity, entries)
