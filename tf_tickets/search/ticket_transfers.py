"""Tickets with their pre-trained weights, trained on the targets."""

import dataclasses

import numpy as np

from tf_tickets import runtime
from tf_tickets.data.splits import stratified_fraction
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import require
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.masking.weight_masks import ConvolutionMasks
from tf_tickets.models.weights import Weights, read_weights, with_body
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import Cell
from tf_tickets.search.double_win import (
    LIMITED_PRUNINGS,
    TicketKind,
    Transfer,
    require_transferable,
    transfer_cell,
    transfers,
    unseen_models,
)
from tf_tickets.search.source_tickets import SourceTickets
from tf_tickets.search.stage import Stage, describe_data, describe_training
from tf_tickets.search.trajectory import Trajectory
from tf_tickets.search.trial_settings import steps_per_epoch
from tf_tickets.work.training_bench import TrainingBench


class TicketTransfers(Stage):
    """The third stage of a run: transfer to the targets.

    Args:
      source: the run's finished pre-trainings and searches.
    """

    def __init__(self, source: SourceTickets):
        super().__init__(source.settings, source.run, source.strategy, source.stop_if_requested)
        self._source = source
        self._benches, self._final_evaluators, self._images = {}, {}, {}

    def require_trainable(self) -> None:
        """Checks every target before any work.

        Raises:
          UserError: images that cannot be used, or too few for a batch.
        """
        for target, phases in self.settings.transferring.items():
            data_seed = self.settings.seeds[0]
            data = self.data(target, data_seed)
            require_transferable(self._source.data, data)
            parts = [
                data.with_train_fraction(percent, data_seed) for percent in self.settings.percents
            ]
            most = min(len(each.train) for each in parts)
            expected = f"at most {most}, the smallest part of the training images of {target}"
            for regime, phase in phases.items():
                size = phase.training.batch_size
                flag = "standard_batch_size" if regime == "natural" else "batch_size"
                require(size <= most, flag, size, expected)

    def transfer(self) -> None:
        """Trains all networks of the run on their targets, and attacks them from others.

        Raises:
          StopRequested: as `stop_if_requested` raises it; the run can be resumed.
          UserError: data or files that cannot be used, or a loss that diverged.
        """
        wanted = [*transfers(self.settings), *unseen_models(self.settings)]
        work = {
            each: self._work(each)
            for each in wanted
            if not self.run.is_finished(self.cell(each), each.level)
        }
        runtime.wait_for_workers(self.strategy)  # All know what is missing before it is made.
        with ProgressBar(sum(work.values()), runtime.is_chief(self.strategy)) as bar:
            for each in wanted:
                if each in work:
                    self.stop_if_requested()
                    self._train(each, work[each], bar)
        if self.run.writable:
            self.run.write_results()

    def cell(self, transfer: Transfer) -> Cell:
        """Where its results lie in the run."""
        return transfer_cell(self.settings, transfer)

    def data(self, target: str, seed: int) -> ImageData:
        """A target's images in a trial."""
        return self._loaded(target, seed)[0]

    def _loaded(self, target, seed):
        """A target's images in a trial, and what tells them from others."""
        if (target, seed) not in self._images:
            self._images.clear()  # Those that are done with need no memory.
            data = self.settings.load_target(target, seed)
            self._images[target, seed] = data, describe_data(data)
        return self._images[target, seed]

    def bench(self, transfer: Transfer) -> TrainingBench:
        """The network of a transfer, compiled."""
        key = transfer.target, transfer.seed, transfer.regime, self.cell(transfer).model
        if key not in self._benches:
            self._benches.clear()  # A network that is done with needs no memory.
            self._benches[key] = TrainingBench(
                self._phase(transfer).training,
                transfer.regime,
                self.settings.attacks_on(transfer.regime),
                self.data(transfer.target, transfer.seed),
                transfer.seed,
                self.strategy,
                ConvolutionMasks,
            )
        return self._benches[key]

    def _final_evaluator(self, bench, regime):
        """Compiled once for every network, as the network itself is."""
        if bench not in self._final_evaluators:
            self._final_evaluators.clear()
            attacks = bench.trainer.build_attacks(self.settings.final_attacks_on(regime))
            self._final_evaluators[bench] = bench.evaluator_under(attacks)
        return self._final_evaluators[bench]

    def _phase(self, transfer):
        phase = self.settings.transferring[transfer.target][transfer.regime]
        return phase.of_model(self.cell(transfer).model)

    def _train(self, transfer, work, bar):
        cell, phase = self.cell(transfer), self._phase(transfer)
        data, description = self._loaded(transfer.target, transfer.seed)
        start = self._start(transfer)
        ticket = self._ticket(transfer, start)
        examples = part(data, transfer.percent, transfer.seed)
        decisive = {
            "stage": "transfer",
            "data": description,
            "examples": arrays_sha256({"": examples}),
            "training": describe_training(
                phase,
                transfer.regime,
                self.settings.attacks_on(transfer.regime),
                self.settings.final_attacks_on(transfer.regime),
            ),
            "start": arrays_sha256(start),
            "masks": ticket.sha256,
            "seed": [transfer.seed, transfer.level],
            "trajectory": self.keeps_trajectory(transfer),
        }
        if self.is_finished(cell, transfer.level, decisive):
            bar.advance(work, f"{cell.description} level {transfer.level}: taken over")
            return
        bench = self.bench(transfer)
        bench.trainer.reset(start, ticket.masks)
        per_epoch = steps_per_epoch(len(examples), phase.training.batch_size)
        first = phase.select_from_epoch * per_epoch
        selections = self.settings.selections(transfer.regime, first)
        trajectory = Trajectory(self.run, cell, transfer.level)
        kept = self.keeps_trajectory(transfer)
        trained, progress = self.train(
            bench,
            phase,
            cell,
            transfer.level,
            data,
            examples,
            bar,
            kept_weights=bench.kept_weights(len(selections)),
            selections=selections,
            milestones=trajectory.milestones(bench.trainer, per_epoch, phase.epochs)
            if kept
            else {},
        )
        trained.history.extend(self._test(bench, progress, selections, data, transfer.regime))
        others = []
        if kept and self.run.writable:
            others = [trajectory.write(progress.iteration // per_epoch)]
        self.finish(cell, transfer.level, ticket, trained, decisive, others)

    def _test(self, bench, progress, selections, data, regime):
        """Test accuracies of the weights that each selection kept."""
        rows, measured = [], {}
        evaluator = self._final_evaluator(bench, regime)
        for number, selection in enumerate(selections):
            iteration, _ = progress.selected[selection.metric]
            if iteration not in measured:
                bench.kept_weights(len(selections))[number].put_back()
                measured[iteration] = evaluator.evaluate(data.test)
            split = "test_best_natural" if number else "test"
            rows += [(iteration, f"{split}/{m}", v) for m, v in measured[iteration].items()]
        return rows

    def _start(self, transfer) -> Weights:
        """θ_p with a head of the trial's own; new weights for a network from scratch."""
        data = self.data(transfer.target, transfer.seed)
        scratch = transfer.pretraining == "scratch"
        # The networks that others are attacked from share not even their heads with them.
        seed = np.random.SeedSequence([transfer.seed, scratch]).generate_state(1).item()
        model = self._phase(transfer).training.build_model(data, seed)
        if scratch:
            return read_weights(model)
        return with_body(model, self._source.pretrained_weights(transfer.pretraining))

    def _ticket(self, transfer, start):
        """The ticket's masks, as a ticket of the weights that it starts from here."""
        data = self.data(transfer.target, transfer.seed)
        provenance = self._phase(transfer).training.provenance(
            data, transfer.seed, f"{transfer.method} under {transfer.regime} training"
        )
        if transfer.pretraining == "scratch":
            masks, parent_sha256 = self._source.dense_masks(self.cell(transfer).model), ""
        else:
            found = self.source_ticket(transfer)
            masks, parent_sha256 = found.masks, found.provenance.parent_sha256
        return Ticket(
            masks,
            dataclasses.replace(
                provenance,
                level=transfer.level,
                initial_weights_sha256=arrays_sha256(start),
                parent_sha256=parent_sha256,
            ),
        )

    def _work(self, transfer):
        data = self.data(transfer.target, self.settings.seeds[0])
        examples = round(len(data.train) * transfer.percent / 100)
        return self.passes(self._phase(transfer), transfer.regime, examples, len(data.validation))

    def source_ticket(self, transfer: Transfer) -> Ticket:
        """The ticket that is transferred, as it was found."""
        kind = TicketKind(transfer.pretraining, transfer.pruning)
        return self._source.ticket(kind, transfer.level)

    def keeps_trajectory(self, transfer: Transfer) -> bool:
        """Whether the weights on its way are kept."""
        return (
            transfer.level in self.settings.trajectory_levels
            and transfer.seed == self.settings.seeds[0]
            and transfer.regime == "pgd"
            and transfer.pruning in LIMITED_PRUNINGS
        )


def part(data: ImageData, percent: float, seed: int) -> np.ndarray:
    """Indices of a part of a trial's training images: the same whatever is trained on it."""
    return stratified_fraction(data.train.labels, percent, seed)
