"""A study: one search for every data set, regime, seed and pruning strategy."""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.data.registry import load_images
from tf_tickets.data.specs import DATA_SETS, SPECS
from tf_tickets.errors import require, require_choices
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.search.iterative import METHODS, SearchSettings, iterative_search
from tf_tickets.search.level_store import LevelStore
from tf_tickets.search.network import CellNetwork, Laboratory
from tf_tickets.training.trainer import TrainingSettings


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Everything that decides a study's numbers.

    Attributes:
      experiment: its name in the results.
      data_sets: names in `tf_tickets.data.registry`.
      data_source: `embedded` or `tfds`.
      data_dir: where prepared TFDS data lie; None for TFDS's own choice.
      regimes: `natural`, or names of the attacks to train against.
      methods: names in `METHODS`.
      seeds: one a trial.
      search: extent of each search.
      training: how networks are trained.
    """

    experiment: str
    data_sets: tuple[str, ...]
    data_source: str
    data_dir: str | None
    regimes: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    search: SearchSettings
    training: TrainingSettings

    def __post_init__(self):
        one_size = [name for name in DATA_SETS if SPECS[name].one_size]
        require_choices("data_sets", self.data_sets, one_size)
        require(
            self.data_source in ("embedded", "tfds"),
            "data_source",
            self.data_source,
            "embedded or tfds",
        )
        require_choices("regimes", self.regimes, ("natural", *self.training.threat_models))
        require_choices("pruning_strategies", self.methods, METHODS)
        iterations = self.search.iterations
        gradual = "gradual" in self.methods
        require(not gradual or iterations >= 2, "iterations", iterations, "at least 2 for gradual")

    def cells(self) -> list[Cell]:
        """The study's searches, in the order they run: one trial after the other."""
        return [
            Cell(data_set, regime, method, seed)
            for seed, data_set, regime, method in itertools.product(
                self.seeds, self.data_sets, self.regimes, self.methods
            )
        ]

    def passes(self, cell: Cell, evaluated: int) -> float:
        """Passes through the network per iteration, the measure of the progress bar.

        Args:
          cell: the search.
          evaluated: how many images each evaluation measures.
        """
        attacks = self.training.threat_models
        own = attacks.get(cell.regime)
        training = 1 if own is None else 2 + own.steps
        met = attacks.values() if own is None else [own]
        evaluation = 1 + sum(1 + attack.steps for attack in met)
        batches = evaluated / self.training.batch_size
        return training + evaluation * batches / self.search.evaluate_every


def run_study(
    settings: StudySettings,
    run: RunDirectory,
    strategy: tf.distribute.Strategy,
    stop_if_requested: Callable[[], None] = lambda: None,
) -> None:
    """Runs the searches that the run directory does not hold yet.

    Raises:
      StopRequested: as `stop_if_requested` raises it; the run can be resumed.
      UserError: data or files that cannot be used, or a loss that diverged.
    """

    @functools.lru_cache(maxsize=len(settings.data_sets))
    def load(data_set, seed):
        return load_images(data_set, settings.data_source, settings.data_dir, seed)

    evaluated = {}
    for data_set in settings.data_sets:  # All must be there before the work on one begins.
        data = load(data_set, settings.seeds[0])
        examples, batch_size = len(data.train), settings.training.batch_size
        require(batch_size <= examples, "batch_size", batch_size, f"at most {examples}, one epoch")
        evaluated[data_set] = len(data.validation) + len(data.test)
    passes = {cell: settings.passes(cell, evaluated[cell.data_set]) for cell in settings.cells()}
    with ProgressBar(_passes_left(settings, run, passes), runtime.is_chief(strategy)) as bar:
        for (data_set, regime, seed), cells in itertools.groupby(
            settings.cells(), key=lambda cell: (cell.data_set, cell.regime, cell.seed)
        ):
            laboratory = Laboratory(settings.training, load(data_set, seed), regime, seed, strategy)
            for cell in cells:
                store = LevelStore(run, cell, settings.experiment, settings.training.model)
                network = CellNetwork(
                    laboratory,
                    settings.search,
                    store,
                    run,
                    cell,
                    advance=lambda steps, text, cell=cell: bar.advance(steps * passes[cell], text),
                    stop_if_requested=stop_if_requested,
                )
                levels = iterative_search(
                    cell.method,
                    settings.search,
                    seed,
                    network,
                    store,
                    laboratory.provenance(cell),
                )
                for _ in levels:  # A level is stored as soon as the search has come to it.
                    pass
    if run.writable:
        run.write_results()


def _passes_left(settings, run, passes):
    return sum(
        settings.search.iterations * passes[cell]
        for cell in settings.cells()
        for level in range(settings.search.rounds)
        if not run.is_finished(cell, level)
    )
