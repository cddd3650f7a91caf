"""Trains what a run of the robust BERT tickets consists of, each network once."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.data.length_grouped import LengthGroupedOrder
from tf_tickets.errors import UserError
from tf_tickets.evaluation.text_accuracy import TextEvaluator
from tf_tickets.masking.drawing import magnitude_ticket, one_shot_ticket, random_ticket
from tf_tickets.masking.ticket import Provenance, Ticket, arrays_sha256, dense_ticket
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.models.bert_encoder import BertEncoder
from tf_tickets.models.weights import Weights, write_weights
from tf_tickets.runs.files import load_arrays, save_arrays
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.search.level_store import LevelStore
from tf_tickets.search.robust_bert import EXPERIMENT, SEARCH, Network, RobustBertSettings
from tf_tickets.search.text_bench import TextBench, TextPlace
from tf_tickets.search.training_session import TrainingSession
from tf_tickets.search.trajectory import Trajectory
from tf_tickets.search.trial_settings import steps_per_epoch
from tf_tickets.training.schedules import LinearDecay, LinearRamp
from tf_tickets.training.selection import Selection
from tf_tickets.training.text_step import require_divisible

SELECTED_BY = "validation/natural/accuracy"
# How often masks are measured in an epoch of their training.
MASK_MEASUREMENTS = 4


class BertTickets:
    """The trainings of a run.

    Args:
      settings: the run's.
      encoder: the pre-trained encoder.
      place: where the texts come from.
      run: the run directory.
      strategy: where it runs.
      stop_if_requested: raises `StopRequested` to stop.

    Attributes:
      settings, run, encoder, stop_if_requested: as given.
      model_name: the encoder's name and depth, by which results know it.
    """

    def __init__(
        self,
        settings: RobustBertSettings,
        encoder: BertEncoder,
        place: TextPlace,
        run: RunDirectory,
        strategy: tf.distribute.Strategy,
        stop_if_requested: Callable[[], None],
    ):
        self.settings = settings
        self.run = run
        self.model_name = f"{encoder.name}_{encoder.config.num_layers}_layers"
        self.encoder = encoder
        self._place = place
        self._strategy = strategy
        self.stop_if_requested = stop_if_requested
        self._benches = {}

    def require_trainable(self) -> None:
        """Checks every data set before any work.

        Raises:
          UserError: texts that cannot be used.
        """
        require_divisible(self.settings.fine_tuning.batch_size, self._strategy)
        for data_set in self.settings.data_sets:
            self.bench(data_set, self.settings.seeds[0])

    def train(self) -> None:
        """Trains what the run does not hold yet.

        Raises:
          StopRequested: as `stop_if_requested` raises it; the run can be resumed.
          UserError: files that cannot be used, or a loss that diverged.
        """
        wanted = [
            network
            for data_set in self.settings.data_sets
            for seed in self.settings.seeds
            for network in self.settings.networks(data_set, seed)
        ]
        missing = [network for network in wanted if not self.is_finished(network)]
        work = sum(self._passes(network) for network in missing)
        runtime.wait_for_workers(self._strategy)  # All know what is missing before it is made.
        with ProgressBar(work, runtime.is_chief(self._strategy)) as bar:
            for network in missing:
                self.stop_if_requested()
                if network.method == SEARCH:
                    self._learn_masks(network, bar)
                else:
                    self._fine_tune(network, bar)
                runtime.wait_for_workers(self._strategy)  # What comes next may read it.
        if self.run.writable:
            self.run.write_results()

    def bench(self, data_set: str, seed: int) -> TextBench:
        """A trial's data and networks."""
        if (data_set, seed) not in self._benches:
            self._benches.clear()  # Networks that are done with need no memory.
            self._benches[data_set, seed] = TextBench(
                self.encoder,
                self._place,
                data_set,
                seed,
                self.settings.fine_tuning,
                self.settings.mask_learning[data_set],
                self._strategy,
            )
        return self._benches[data_set, seed]

    def classifier(self, network: Network, weights: Weights) -> BertClassifier:
        """A network of its own with the given weights, for use without training."""
        classes = self.bench(network.data_set, network.seed).data.num_classes
        classifier = BertClassifier(self.encoder, classes, dropout=0.0, seed=network.seed)
        write_weights(classifier.model, weights)
        return classifier

    def cell(self, network: Network) -> Cell:
        """Where a network's files lie in the run."""
        return network.cell(self.model_name)

    def is_finished(self, network: Network) -> bool:
        """Whether it is trained, and all of it kept that the run's studies show."""
        cell = self.cell(network)
        if self._keeps_trajectory(network):
            if not self.run.trajectory_path(cell, network.level).exists():
                return False
        return self.run.is_finished(cell, network.level)

    def _keeps_trajectory(self, network):
        settings = self.settings
        return "convergence" in settings.studies and network in settings.judged(
            network.data_set, network.seed, "convergence"
        )

    # Training of weights

    def _fine_tune(self, network, bar):
        bench = self.bench(network.data_set, network.seed)
        trainer = bench.trainer(network.regime)
        start = self._start(network)
        ticket = self._ticket(network, arrays_sha256(start))
        trainer.reset(start, ticket.masks, network.seed)
        tuning = self.settings.fine_tuning
        steps = steps_per_epoch(len(bench.data.train), tuning.batch_size)
        epochs = self.settings.epochs_of(network)
        selects = tuning.weights == "selected"
        cell, evaluator = self.cell(network), TextEvaluator(trainer.model)
        trajectory = Trajectory(self.run, cell, network.level)
        keeps = self._keeps_trajectory(network)
        trained, progress = self._session(network, bar, steps * epochs).train(
            trainer,
            self._order(bench, network),
            steps * epochs,
            [bench.kept_weights(network.regime)] if selects else [],
            evaluate_every=steps,
            evaluate=_on_validation(evaluator, bench.tokens["validation"]),
            learning_rates=LinearDecay(tuning.learning_rate, steps * epochs, tuning.warmup),
            milestones=trajectory.milestones(trainer, steps, epochs) if keeps else None,
            selections=[Selection(SELECTED_BY)] if selects else [],
        )
        if keeps:
            trajectory.write(epochs)
        iteration = progress.selected[SELECTED_BY][0] if selects else steps * epochs
        accuracy = evaluator.evaluate(bench.tokens["test"])["natural/accuracy"]
        judged = [
            (iteration, "test/natural/accuracy", accuracy),
            (iteration, "ticket/model/sparsity", _sparsity_of_all(ticket, trained.weights)),
        ]
        store = LevelStore(self.run, cell, EXPERIMENT, self.model_name)
        store.save(network.level, ticket, trained.weights, [*trained.history, *judged])

    def _start(self, network) -> Weights:
        """The pre-trained weights, or what an ablation puts in their place."""
        initial = self.initial_weights(network)
        if network.method == "without_initialization":
            return initial | self._redrawn(initial, network)
        if network.method.startswith("without_structure"):
            search = self.settings.ticket_source(network)
            masks = self._drawn(network, search).masks
            redrawn = self._redrawn(initial, network)
            return initial | {
                path: np.where(mask, initial[path], redrawn[path]) for path, mask in masks.items()
            }
        return initial

    def initial_weights(self, network: Network) -> Weights:
        """The pre-trained weights with the trial's new classifier, θ₀.

        Raises:
          UserError: the run began with another encoder.
        """
        trainer = self.bench(network.data_set, network.seed).trainer("natural")
        store = LevelStore(self.run, self.cell(network), EXPERIMENT, self.model_name)
        weights = store.initial_weights(lambda: trainer.initial_weights)
        if arrays_sha256(weights) != arrays_sha256(trainer.initial_weights):
            path = self.run.initial_weights_path(self.cell(network))
            raise UserError(
                f"{path}: not the weights of the encoder {self.encoder.name} as it is now; go on "
                "with the encoder that the run began with, or give another --run_dir"
            )
        return weights

    def _redrawn(self, initial, network):
        """New weights in the place of all that tickets prune, as BERT's own before pre-training."""
        random = np.random.default_rng(network.seed)
        scale = self.encoder.config.initializer_range
        return {
            path: random.normal(0.0, scale, initial[path].shape).astype(np.float32)
            for path in self._shapes(network)
        }

    def _shapes(self, network):
        return self.bench(network.data_set, network.seed).trainer("natural").masks.shapes

    def _ticket(self, network, start_sha256) -> Ticket:
        """The masks that a network is trained under."""
        provenance = self._provenance(network, start_sha256)
        if not network.level or network.method.startswith("without_structure"):
            return dense_ticket(self._shapes(network), provenance)
        found = self._found(network)
        parent = found.provenance.parent_sha256
        return Ticket(found.masks, dataclasses.replace(provenance, parent_sha256=parent))

    def _found(self, network):
        """The ticket of a sparse network, by how its masks were chosen."""
        source = self.settings.ticket_source(network)
        if source.method == SEARCH:
            drawn = self._drawn(network, source)
            return random_ticket(drawn, network.seed) if network.method == "random" else drawn
        cell = self.cell(source)
        parent = Ticket.load(self.run.ticket_path(cell, source.level))
        weights = load_arrays(self.run.trained_weights_path(cell, source.level))
        return magnitude_ticket(weights, parent, network.level / 100)

    def _drawn(self, network, search):
        """The ticket of the highest log α of a search."""
        log_alphas = load_arrays(self.run.trained_weights_path(self.cell(search), 0))
        dense = dense_ticket(self._shapes(network), self._provenance(network, ""))
        return one_shot_ticket(log_alphas, dense, network.level / 100)

    def _provenance(self, network, start_sha256):
        bench = self.bench(network.data_set, network.seed)
        return Provenance(
            algorithm=network.method,
            model=self.model_name,
            model_config={
                "classes": bench.data.num_classes,
                "encoder_sha256": self.encoder.sha256,
                "length": bench.tokenizer.length,
            },
            data_set=bench.data.origin,
            seed=network.seed,
            level=network.level,
            initial_weights_sha256=start_sha256,
            parent_sha256="",
            versions=runtime.package_versions() | runtime.text_package_versions(),
        )

    # Training of masks

    def _learn_masks(self, network, bar):
        bench = self.bench(network.data_set, network.seed)
        learning = self.settings.mask_learning[network.data_set]
        trainer = bench.mask_trainer(network.regime)
        batch_size = self.settings.fine_tuning.batch_size
        steps = steps_per_epoch(len(bench.data.train), batch_size)
        iterations = steps * learning.epochs
        begin, end = (round(part * iterations) for part in learning.penalty_warmup)
        penalties = LinearRamp(network.penalty, begin, end)
        fine_tuned = self.settings.network(network.data_set, network.seed, "fine_tune")
        weights = load_arrays(self.run.trained_weights_path(self.cell(fine_tuned), 0))
        trainer.reset(weights, network.seed, penalties)
        trained, _ = self._session(network, bar, iterations).train(
            trainer,
            self._order(bench, network),
            iterations,
            evaluate_every=max(1, steps // MASK_MEASUREMENTS),
            evaluate=self._on_masks(trainer, bench),
            learning_rates=LinearDecay(learning.learning_rate, iterations),
        )
        if self.run.writable:
            cell = self.cell(network)
            save_arrays(self.run.trained_weights_path(cell, 0), trained.weights)
            rows = cell.results(EXPERIMENT, 0, 0.0, trained.history)
            self.run.finish_level(cell, 0, rows)

    def _on_masks(self, trainer, bench):
        on_validation = _on_validation(TextEvaluator(trainer.model), bench.tokens["validation"])

        def measure(iteration):
            penalty = float(trainer.penalties(iteration, 1)[0])
            measured = trainer.measure() | {"penalty": penalty}
            on_masks = {f"masks/all/{name}": value for name, value in measured.items()}
            return on_masks | on_validation(iteration)

        return measure

    # Both

    def _session(self, network, bar, iterations):
        passes = self._passes(network) / iterations
        tuning = self.settings.fine_tuning
        return TrainingSession(
            self.run,
            self.cell(network),
            network.level,
            {"learning_rate": tuning.learning_rate, "batch_size": tuning.batch_size},
            advance=lambda steps, text: bar.advance(steps * passes, text),
            stop_if_requested=self.stop_if_requested,
        )

    def _order(self, bench, network):
        lengths, size = bench.tokens["train"].lengths, self.settings.fine_tuning.batch_size
        return LengthGroupedOrder(lengths, size, (network.seed, network.level))

    def _passes(self, network):
        """How often an epoch's examples go through the network, forth and back."""
        learning = self.settings.mask_learning[network.data_set]
        epochs = self.settings.epochs_of(network)
        passes = {"natural": 1, "pgd": learning.attack.steps + 1}
        return epochs * passes.get(network.regime, learning.attack.steps)


def _on_validation(evaluator, split):
    def measure(_):
        measured = evaluator.evaluate(split)
        return {f"validation/{metric}": value for metric, value in measured.items()}

    return measure


def _sparsity_of_all(ticket, weights):
    """The removed share of all of a model's weights, embeddings and all that is never masked."""
    removed = sum(int(np.count_nonzero(~mask)) for mask in ticket.masks.values())
    return removed / sum(array.size for array in weights.values())
