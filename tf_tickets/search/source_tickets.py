"""Pre-trained weights on the source, and the tickets found there."""

import dataclasses
import functools

import numpy as np

from tf_tickets import runtime
from tf_tickets.attacks.threat_model import with_margin_attack
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import UserError, require
from tf_tickets.masking.magnitude import (
    Masks,
    layer_counts,
    magnitude,
    random_scores,
    select,
    sparsity_after_rounds,
)
from tf_tickets.masking.ticket import Ticket, arrays_sha256, dense_ticket, load_for
from tf_tickets.masking.weight_masks import ConvolutionMasks
from tf_tickets.models.pretrained import load_pretrained
from tf_tickets.models.weights import Weights, with_body, write_weights
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.search.double_win import PRETRAININGS, PRUNINGS, Phase, TicketKind
from tf_tickets.search.stage import Stage, all_of, describe_data, describe_training
from tf_tickets.search.training_session import TrainedLevel
from tf_tickets.work.training_bench import TrainingBench


class SourceTickets(Stage):
    """The first two stages of a run: pre-training and search, on the source."""

    def __init__(self, *args):
        super().__init__(*args)
        self._benches, self._dense_tickets, self._pruned_models = {}, {}, {}

    @functools.cached_property
    def data(self) -> ImageData:
        """The source's images."""
        return self.settings.load_source()

    @functools.cached_property
    def _description(self):
        return describe_data(self.data)

    @property
    def _final_attacks(self):
        """Naturally pre-trained networks are attacked too: the table shows their RA."""
        return with_margin_attack(self.settings.evaluation_attacks)

    def require_trainable(self) -> None:
        """Checks the source before any work.

        Raises:
          UserError: images that cannot be used, or too few for a batch.
        """
        most = len(self.data.train)
        for name, phase in self.settings.source_phases.items():
            size = phase.training.batch_size
            expected = f"at most {most}, the training images of {self.data.name}"
            require(size <= most, f"{name}_batch_size", size, expected)

    def pretrain(self) -> None:
        """Trains, or reads, the pre-trained weights that the run's tickets need.

        Raises:
          StopRequested: as `stop_if_requested` raises it; the run can be resumed.
          UserError: data or files that cannot be used, or a loss that diverged.
        """
        settings, phase = self.settings, self.settings.pretraining
        missing = [
            each
            # Files first, as they may be unusable.
            for each in sorted(
                settings.pretrainings, key=lambda each: each not in settings.pretrained
            )
            if not self.run.is_finished(settings.pretraining_cell(each), 0)
        ]
        work = {
            each: self.passes(
                phase, PRETRAININGS[each], len(self.data.train), len(self.data.validation)
            )
            for each in missing
            if each not in settings.pretrained
        }
        runtime.wait_for_workers(self.strategy)  # All know what is missing before it is made.
        with ProgressBar(sum(work.values()), runtime.is_chief(self.strategy)) as bar:
            for each in missing:
                if each in settings.pretrained:
                    self._take_over(each)
                else:
                    self._train_from_scratch(each, work[each], bar)
        if self.run.writable:
            self.run.write_results()

    def search(self) -> None:
        """Finds the tickets of all kinds and levels of the run. Pre-training must be finished.

        Raises:
          StopRequested: as `stop_if_requested` raises it; the run can be resumed.
          UserError: data or files that cannot be used, or a loss that diverged.
        """
        last = max(self.settings.levels)
        iterative = [kind for kind in self.settings.ticket_kinds if PRUNINGS[kind.pruning]]
        per_level = {
            kind: self.passes(
                self.settings.retraining, PRUNINGS[kind.pruning], len(self.data.train)
            )
            for kind in iterative
        }
        missing = {
            (kind, level): per_level[kind]
            for kind in iterative
            for level in range(1, last)
            if not self.run.is_finished(self.settings.search_cell(kind), level)
        }
        runtime.wait_for_workers(self.strategy)  # All know what is missing before it is made.
        with ProgressBar(sum(missing.values()), runtime.is_chief(self.strategy)) as bar:
            for kind in self.settings.ticket_kinds:
                for level in range(1, last + 1):
                    self.stop_if_requested()
                    ticket = self._find(kind, level)
                    if (kind, level) in missing:
                        self._retrain(kind, level, ticket, missing[kind, level], bar)
        if self.run.writable:
            self.run.write_results()

    def pretrained_weights(self, pretraining: str) -> Weights:
        """θ_p, head included.

        Raises:
          UserError: that pre-training is not finished, or its file is damaged.
        """
        cell = self.settings.pretraining_cell(pretraining)
        if not self.run.is_finished(cell, 0):
            raise UserError(
                f"--stage: the {pretraining} pre-training is missing in {self.run.path}; run "
                "--stage=pretrain, or all, first"
            )
        return self._trained_weights(cell, 0)

    def ticket(self, kind: TicketKind, level: int) -> Ticket:
        """A ticket that was found; of level 0 the dense one.

        Raises:
          UserError: it was not found yet, or its file is damaged or belongs to other weights.
        """
        if level == 0:
            return self._dense(kind.pretraining)
        path = self.run.ticket_path(self.settings.search_cell(kind), level)
        if not path.exists():
            raise UserError(
                f"--stage: the ticket {path} is missing; run --stage=search, or all, first"
            )
        expected = self._dense(kind.pretraining)
        shapes = {name: mask.shape for name, mask in expected.masks.items()}
        try:
            return load_for(path, shapes, expected.provenance.initial_weights_sha256)
        except UserError as error:
            raise UserError(f"{error}; to find this ticket anew, delete its file") from None

    def dense_masks(self, model_name: str) -> Masks:
        """Masks that keep every weight of a network."""
        _, masks = self._prunable(model_name)
        return {path: np.ones(shape, bool) for path, shape in masks.shapes.items()}

    def _train_from_scratch(self, pretraining, work, bar):
        settings, phase = self.settings, self.settings.pretraining
        cell = settings.pretraining_cell(pretraining)
        decisive = {
            "stage": "pretraining",
            "data": self._description,
            "training": describe_training(
                phase, cell.regime, settings.attacks_on(cell.regime), self._final_attacks
            ),
            "seed": cell.seed,
        }
        if self.is_finished(cell, 0, decisive):
            bar.advance(work, f"{cell.description}: taken over")
            return
        bench = self._bench("pretraining", phase, cell.regime)
        selections = settings.selections(cell.regime)[:1]
        trained, progress = self.train(
            bench,
            phase,
            cell,
            0,
            self.data,
            all_of(self.data),
            bar,
            kept_weights=bench.kept_weights(1),
            selections=selections,
        )
        iteration, _ = progress.selected[selections[0].metric]
        trained = self._measured(bench, trained, iteration)
        self.finish(cell, 0, self._dense_of(trained.weights, pretraining), trained, decisive)

    def _take_over(self, pretraining):
        """The weights of a file, with a new head if theirs is for another number of classes."""
        settings, cell = self.settings, self.settings.pretraining_cell(pretraining)
        phase = settings.pretraining.of_model(cell.model)
        model = phase.training.build_model(self.data, cell.seed)
        with settings.errors_about_pretrained(pretraining):
            pretrained = load_pretrained(settings.pretrained[pretraining], model)
        weights = with_body(model, pretrained.body)
        has_head = pretrained.num_classes == self.data.num_classes
        if has_head:
            weights |= pretrained.head
        bench = self._bench("pretraining", phase, cell.regime)
        write_weights(bench.trainer.model, weights)
        trained = TrainedLevel({}, weights, [])
        if has_head:  # A new one knows nothing, and its accuracy says nothing of the weights.
            trained = self._measured(bench, trained, 0)
        decisive = {"stage": "pretraining", "data": self._description} | {
            "measured": describe_training(phase, cell.regime, {}, self._final_attacks),
            "weights": arrays_sha256(weights),
        }
        self.finish(cell, 0, self._dense_of(weights, pretraining), trained, decisive)

    def _measured(self, bench, trained, iteration):
        """Adds what the network does on the source's test images, attacked ones included."""
        attacks = bench.trainer.build_attacks(self._final_attacks)
        measured = bench.evaluator_under(attacks).evaluate(self.data.test)
        rows = [(iteration, f"test/{metric}", value) for metric, value in measured.items()]
        return trained._replace(history=trained.history + rows)

    def _find(self, kind, level):
        path = self.run.ticket_path(self.settings.search_cell(kind), level)
        if self.run.writable and not path.exists():
            self._prune(kind, level).save(path)
        runtime.wait_for_workers(self.strategy)
        return self.ticket(kind, level)

    def _prune(self, kind, level):
        """Masks of the weights that remain after `level` rounds.

        The first prune of IMP happens before any retraining.
        """
        dense = self._dense(kind.pretraining)
        sparsity = sparsity_after_rounds(level)
        if kind.pruning == "random":
            scores = random_scores(dense, self.settings.source_seed)
            masks, parent = select(scores, dense, layer_counts(scores, dense, sparsity)), dense
        else:
            parent, weights = self._before_pruning(kind, level)
            keep = layer_counts(magnitude(weights, parent), parent, sparsity)
            model, model_masks = self._prunable(self.settings.model_of(kind.pretraining))
            write_weights(model, weights)
            masks = model_masks.prune_by_magnitude(parent, keep)
        provenance = dataclasses.replace(
            dense.provenance,
            algorithm=f"{kind.pruning} from {kind.pretraining} pre-training",
            level=level,
            parent_sha256=parent.sha256,
        )
        return Ticket(masks, provenance)

    def _before_pruning(self, kind, level):
        """The ticket to prune, and the weights that decide what goes."""
        if PRUNINGS[kind.pruning] and level > 1:
            cell = self.settings.search_cell(kind)
            return self.ticket(kind, level - 1), self._trained_weights(cell, level - 1)
        return self._dense(kind.pretraining), self.pretrained_weights(kind.pretraining)

    def _retrain(self, kind, level, ticket, work, bar):
        """Trains the ticket's network on the source from θ_p, so that it can be pruned again."""
        settings, model = self.settings, self.settings.model_of(kind.pretraining)
        phase = settings.retraining.of_model(model)
        cell = settings.search_cell(kind)
        decisive = {
            "stage": "retraining",
            "data": self._description,
            "training": describe_training(phase, cell.regime, settings.attacks_on(cell.regime)),
            "start": ticket.provenance.initial_weights_sha256,
            "masks": ticket.sha256,
            "seed": [cell.seed, level],
        }
        if self.is_finished(cell, level, decisive):
            bar.advance(work, f"{cell.description} level {level}: taken over")
            return
        bench = self._bench("retraining", phase, cell.regime)
        bench.trainer.reset(self.pretrained_weights(kind.pretraining), ticket.masks)
        trained, _ = self.train(
            bench,
            phase,
            cell,
            level,
            self.data,
            all_of(self.data),
            bar,
            every_epoch=False,
        )
        self.finish(cell, level, ticket, trained, decisive)

    def _trained_weights(self, cell, level):
        try:
            return load_arrays(self.run.trained_weights_path(cell, level))
        except UserError as error:
            record = self.run.record_path(cell, level)
            raise UserError(f"{error}; to train it anew, delete {record}") from None

    def _dense(self, pretraining):
        """The ticket of all weights that can be pruned."""
        if pretraining not in self._dense_tickets:
            weights = self.pretrained_weights(pretraining)
            self._dense_tickets[pretraining] = self._dense_of(weights, pretraining)
        return self._dense_tickets[pretraining]

    def _dense_of(self, weights, pretraining):
        model_name = self.settings.model_of(pretraining)
        phase = self.settings.pretraining.of_model(model_name)
        seed, algorithm = self.settings.source_seed, f"{pretraining} pre-training"
        provenance = dataclasses.replace(
            phase.training.provenance(self.data, seed, algorithm),
            initial_weights_sha256=arrays_sha256(weights),
        )
        _, masks = self._prunable(model_name)
        return dense_ticket(masks.shapes, provenance)

    def _prunable(self, model_name):
        """A network that only serves to be pruned, and its masks."""
        if model_name not in self._pruned_models:
            phase = self.settings.pretraining.of_model(model_name)
            model = phase.training.build_model(self.data, self.settings.source_seed)
            self._pruned_models[model_name] = model, ConvolutionMasks(model)
        return self._pruned_models[model_name]

    def _bench(self, role: str, phase: Phase, regime: str) -> TrainingBench:
        key = role, phase.training.model, regime
        if key not in self._benches:
            self._benches.clear()  # A network that is done with needs no memory.
            attacks, seed = self.settings.attacks_on(regime), self.settings.source_seed
            self._benches[key] = TrainingBench(
                phase.training, regime, attacks, self.data, seed, self.strategy, ConvolutionMasks
            )
        return self._benches[key]
