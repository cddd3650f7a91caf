"""The network a search trains: measured, checkpointed and shown in TensorBoard as it learns."""

import functools
from collections.abc import Callable, Mapping

import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.attacks.threat_model import with_margin_attack
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.vision import ImageData
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.masking.magnitude import Masks
from tf_tickets.masking.ticket import Provenance, Ticket
from tf_tickets.masking.weight_masks import GradualMasks, WeightMasks
from tf_tickets.models.weights import Weights, read_weights, write_weights
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.search.iterative import SearchSettings, TrainedLevel
from tf_tickets.search.level_store import LevelStore
from tf_tickets.search.training_session import TrainingSession
from tf_tickets.training.schedules import constant
from tf_tickets.training.trainer import Trainer, TrainingSettings


class Laboratory:
    """What searches on one data set, regime and seed share: data and compiled graphs.

    Args:
      training: how to train.
      data: what to train and measure on.
      regime: `natural`, or the attack to train against.
      seed: the trial's.
      strategy: where it runs.
    """

    def __init__(
        self,
        training: TrainingSettings,
        data: ImageData,
        regime: str,
        seed: int,
        strategy: tf.distribute.Strategy,
    ):
        self.training = training
        self.data = data
        self.regime = regime
        self.seed = seed
        self.strategy = strategy

    @functools.cached_property
    def bench(self) -> "Bench":
        """The trainer and evaluators with ordinary masks, compiled once."""
        return self.make_bench(WeightMasks)

    def make_bench(self, make_masks: Callable[..., WeightMasks]) -> "Bench":
        """A trainer with masks of another kind."""
        return Bench(self, make_masks)

    def fresh_weights(self, seed: int) -> Weights:
        """Draws initial weights."""
        return read_weights(self.training.build_model(self.data, seed))

    def provenance(self, cell: Cell) -> Provenance:
        """What is common to the tickets of a search here; the search fills in the rest."""
        algorithm = f"{cell.method} under {cell.regime} training"
        return self.training.provenance(self.data, cell.seed, algorithm)


class Bench:
    """A trainer and the measurements made on its network.

    Args:
      laboratory: where it stands.
      make_masks: builds the masks over the network.
    """

    def __init__(self, laboratory: Laboratory, make_masks: Callable[..., WeightMasks]):
        training, regime = laboratory.training, laboratory.regime
        self._data = laboratory.data
        self.trainer = Trainer(
            training, regime, laboratory.data, laboratory.strategy, laboratory.seed, make_masks
        )
        # While it learns, an adversarially trained network meets its own attack only; the others
        # and the margin loss, at the end, show whether it merely masks that attack's gradients.
        own = {
            name: threat_model
            for name, threat_model in training.threat_models.items()
            if regime in ("natural", name)
        }
        chunks = runtime.parallel_chunks(laboratory.strategy)
        model = self.trainer.model
        self._periodic = Evaluator(model, self.trainer.build_attacks(own), chunks)
        final = with_margin_attack(training.threat_models)
        self._final = Evaluator(model, self.trainer.build_attacks(final), chunks)

    def evaluate(self, final: bool) -> dict[str, float]:
        """Measures the network on all of validation and test.

        Returns:
          `<split>/<attack>/<quantity>` → value.
        """
        evaluator = self._final if final else self._periodic
        splits = {"validation": self._data.validation, "test": self._data.test}
        return {
            f"{split}/{metric}": value
            for split, examples in splits.items()
            for metric, value in evaluator.evaluate(examples).items()
        }


class CellNetwork:
    """`iterative.Network` for one search.

    Args:
      laboratory: where it is trained.
      settings: the search's extent.
      store: where rewinding weights go.
      run: the run directory, for checkpoints and events.
      cell: the search.
      advance: told (steps, description) as training proceeds.
      stop_if_requested: raises `StopRequested` to stop.
    """

    def __init__(
        self,
        laboratory: Laboratory,
        settings: SearchSettings,
        store: LevelStore,
        run: RunDirectory,
        cell: Cell,
        advance: Callable[[int, str], None],
        stop_if_requested: Callable[[], None],
    ):
        self._laboratory = laboratory
        self._settings = settings
        self._store = store
        self._run = run
        self._cell = cell
        self._advance = advance
        self._stop_if_requested = stop_if_requested

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weight path → shape, of the prunable weights."""
        return self._laboratory.bench.trainer.masks.shapes

    def fresh_weights(self, seed: int) -> Weights:
        """Draws weights from the initial distribution."""
        return self._laboratory.fresh_weights(seed)

    def prune_by_magnitude(
        self, weights: Weights, ticket: Ticket, keep: Mapping[str, int]
    ) -> Masks:
        """Keeps the largest weights of each layer."""
        trainer = self._laboratory.bench.trainer
        write_weights(trainer.model, weights)
        return trainer.masks.prune_by_magnitude(ticket, keep)

    def train(self, level: int, start: Weights, masks: Masks) -> TrainedLevel:
        """Trains a level under fixed masks."""
        bench = self._laboratory.bench
        bench.trainer.reset(start, masks)
        return self._train(bench, level)

    def train_gradually(self, level: int, start: Weights, keep: Mapping[str, int]) -> TrainedLevel:
        """Trains a level under masks that tighten on the way."""
        bench = self._laboratory.make_bench(
            functools.partial(GradualMasks, keep=keep, iterations=self._settings.iterations)
        )
        write_weights(bench.trainer.model, start)
        return self._train(bench, level)

    def _train(self, bench, level):
        laboratory, settings, cell = self._laboratory, self._settings, self._cell
        training = laboratory.training
        session = TrainingSession(
            self._run,
            cell,
            level,
            {"learning_rate": training.learning_rate, "batch_size": training.batch_size},
            self._advance,
            self._stop_if_requested,
        )
        order = BatchOrder(len(laboratory.data.train), training.batch_size, (cell.seed, level))
        level_trained, _ = session.train(
            bench.trainer,
            order,
            settings.iterations,
            evaluate_every=settings.evaluate_every,
            evaluate=lambda iteration: bench.evaluate(final=iteration == settings.iterations),
            learning_rates=constant(training.learning_rate),
            milestones=self._milestones(bench.trainer, level),
        )
        return level_trained

    def _milestones(self, trainer, level):
        rewind = self._settings.rewind_iteration
        if level or not rewind:
            return {}
        return {rewind: lambda: self._store.save_rewind_weights(trainer.weights())}
