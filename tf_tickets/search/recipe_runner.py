"""Carries out trainings and the prunings between them, inside a run directory."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.data.batches import BatchOrder
from tf_tickets.masking.magnitude import SCORES, layer_counts
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.models.weights import read_weights, write_weights
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.level_store import LevelStore
from tf_tickets.search.recipe_bench import RecipeBench, RecipeSettings
from tf_tickets.search.recipes import Training, in_order
from tf_tickets.search.training_session import TrainingSession
from tf_tickets.search.trial_settings import TrialContext, steps_per_epoch
from tf_tickets.training.schedules import StepDecay


def run_trainings(
    trainings: Sequence[Training],
    settings: RecipeSettings,
    run: RunDirectory,
    strategy: tf.distribute.Strategy,
    stop_if_requested: Callable[[], None] = lambda: None,
) -> None:
    """Runs the trainings, and those that they come from, which the run does not hold yet.

    Raises:
      StopRequested: as `stop_if_requested` raises it; the run can be resumed.
      UserError: data or files that cannot be used, or a loss that diverged.
    """
    ordered = in_order(trainings)
    data = settings.load(settings.seeds[0])  # Must be usable before any work begins.
    settings.require_trainable([training.model for training in ordered], data)
    work = [
        _passes(training, settings, data)
        for seed in settings.seeds
        for training in ordered
        if not run.is_finished(settings.cell(training, seed), training.level)
    ]
    with ProgressBar(sum(work), runtime.is_chief(strategy)) as bar:
        for seed in settings.seeds:
            trial = Trial(settings, seed, run, strategy, bar, stop_if_requested)
            for training in ordered:
                trial.finish(training)
    if run.writable:
        run.write_results()


def _passes(training, settings, data):
    """Passes of an image through the network, the measure of the progress bar."""
    attack = settings.training.threat_models.get(training.regime)
    per_image = 1 if attack is None else 2 + attack.steps
    evaluations = settings.attacks_on(training.regime).values()
    per_evaluated = (1 + sum(1 + attack.steps for attack in evaluations)) / 2
    per_epoch = per_image * len(data.train) + per_evaluated * len(data.validation)
    return training.epochs * per_epoch


class Trial(TrialContext):
    """The trainings of one seed."""

    @functools.cached_property
    def _benches(self):
        """(model, regime) → bench."""
        return {}

    def finish(self, training: Training) -> None:
        """Trains, unless the run holds it already. What it comes from must be finished."""
        cell, level = self.settings.cell(training, self.seed), training.level
        if self.run.is_finished(cell, level):
            return
        bench = self._bench(training)
        start = self._start(training)
        masks, parent_sha256 = self._masks(training, bench)
        bench.trainer.reset(start, masks)
        trained, progress = self._train(training, bench)
        provenance = self._provenance(training, start, parent_sha256)
        measured = progress.iteration
        for iteration, _ in progress.selected.values():
            measured = iteration
        test = bench.final_evaluator.evaluate(self.data.test)
        history = trained.history + [
            (measured, f"test/{metric}", value) for metric, value in test.items()
        ]
        self._store(training).save(level, Ticket(masks, provenance), trained.weights, history)
        runtime.wait_for_workers(self.strategy)  # What comes next may read it.

    def trained_network(self, training: Training) -> RecipeBench:
        """A bench of its own whose network has the weights that a finished training ended with."""
        bench = RecipeBench(self.settings, training, self.data, self.seed, self.strategy)
        _, weights = self._load(training, bench.trainer.masks.shapes)
        write_weights(bench.trainer.model, weights)
        return bench

    def _bench(self, training):
        key = training.model, training.regime
        if key not in self._benches:
            if any(model != training.model for model, _ in self._benches):
                self._benches.clear()  # A model that is done with needs no memory.
            self._benches[key] = RecipeBench(
                self.settings, training, self.data, self.seed, self.strategy
            )
        return self._benches[key]

    def _masks(self, training, bench):
        """The masks of the training's ticket, and the hash of what they were cut from."""
        masks = bench.trainer.masks
        if training.ticket is None:
            return {path: np.ones(shape, bool) for path, shape in masks.shapes.items()}, ""
        parent, weights = self._load(training.ticket.of, masks.shapes)
        scores = SCORES[training.ticket.score](weights, parent)
        keep = layer_counts(scores, parent, training.ticket.sparsity)
        write_weights(bench.trainer.model, weights)
        return masks.prune_by_magnitude(parent, keep), parent.sha256

    def _load(self, training, shapes):
        """The ticket and trained weights of a finished training."""
        expected = self._provenance(training, self._start(training), "")
        return self._store(training).load(training.level, shapes, expected)

    def _start(self, training):
        """The weights that a training begins with, before they are masked."""
        if training.reinitialized:
            return self._fresh_weights(training, training.level)
        return self._store(training).initial_weights(lambda: self._fresh_weights(training, 0))

    def _fresh_weights(self, training, level):
        """Weights from the initial distribution: those of the seed, or others for a level."""
        seed = int(np.random.SeedSequence([self.seed, level]).generate_state(1)[0] >> 1)
        model_seed = seed if level else self.seed
        settings = self.settings.training_of(training.model)
        return read_weights(settings.build_model(self.data, model_seed))

    def _store(self, training):
        cell = self.settings.cell(training, self.seed)
        return LevelStore(self.run, cell, self.settings.experiment, training.model)

    def _train(self, training, bench):
        settings, data = self.settings, self.data
        batch_size = settings.training_of(training.model).batch_size
        per_epoch = steps_per_epoch(len(data.train), batch_size)
        passes = _passes(training, settings, data) / (training.epochs * per_epoch)
        selections = settings.selections(training)
        session = TrainingSession(
            self.run,
            settings.cell(training, self.seed),
            training.level,
            {"learning_rate": training.learning_rate, "batch_size": batch_size},
            advance=lambda steps, text: self.bar.advance(steps * passes, text),
            stop_if_requested=self.stop_if_requested,
        )
        return session.train(
            bench.trainer,
            BatchOrder(len(data.train), batch_size, (self.seed, training.level)),
            training.epochs * per_epoch,
            bench.kept_weights if selections else (),
            evaluate_every=per_epoch,
            evaluate=lambda _: {
                f"validation/{metric}": value
                for metric, value in bench.evaluator.evaluate(data.validation).items()
            },
            learning_rates=_learning_rates(training, per_epoch, settings.warmup_epochs),
            selections=selections,
            record_time=True,
        )

    def _provenance(self, training, start, parent_sha256):
        ticket = training.ticket
        how = f"{ticket.score} after {ticket.of.method}" if ticket else "dense"
        settings = self.settings.training_of(training.model)
        algorithm = f"{training.method} under {training.regime} training; {how}"
        return dataclasses.replace(
            settings.provenance(self.data, self.seed, algorithm),
            level=training.level,
            initial_weights_sha256=arrays_sha256(start),
            parent_sha256=parent_sha256,
        )


def _learning_rates(training, steps_per_epoch, warmup_epochs):
    warm = training.warmup_start is not None
    return StepDecay(
        training.learning_rate,
        training.schedule_epochs,
        steps_per_epoch,
        warmup_epochs if warm else 0,
        training.warmup_start if warm else 0.0,
        **({} if training.decayed else {"milestones": ()}),
    )
