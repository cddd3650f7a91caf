"""Trains networks, takes structures out of them, and trains what is left."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras as keras

from tf_tickets import runtime
from tf_tickets.data.batches import BatchOrder
from tf_tickets.data.splits import stratified_subset
from tf_tickets.data.vision import ImageData, ImageSplit
from tf_tickets.errors import require
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.masking.ticket import arrays_sha256
from tf_tickets.masking.weight_masks import NoMasks
from tf_tickets.models.weights import load_weights, read_weights
from tf_tickets.runs.files import save_arrays
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import Cell, RunDirectory
from tf_tickets.search.network_store import NetworkStore
from tf_tickets.search.structure_tests import EVALUATION_BATCH, AttackSettings, NetworkTests
from tf_tickets.search.structures import Network, in_order
from tf_tickets.search.training_session import TrainingSession
from tf_tickets.search.trial_settings import TrialContext, TrialSettings, steps_per_epoch
from tf_tickets.structured.cost import flops, parameters
from tf_tickets.structured.selection import choose_removal
from tf_tickets.structured.surgery import remove
from tf_tickets.training.schedules import StepDecay
from tf_tickets.training.trainer import Trainer

# Far from the seeds of trials.
_NEW_WEIGHTS = 10**6


@dataclasses.dataclass(frozen=True)
class StructureSettings(TrialSettings):
    """What all networks of a run share.

    Attributes:
      scoring_examples: training images, as many of each class, that criteria see; 0 for all.
      element_examples: test images, as many of each class, on which networks without one
        filter or block are tested; 0 for all.
      attacks: what networks are tested under.
    """

    scoring_examples: int
    element_examples: int
    attacks: AttackSettings

    def __post_init__(self):
        super().__post_init__()
        examples = self.scoring_examples
        require(examples == 0 or examples >= 2, "scoring_examples", examples, "0 or at least 2")
        require(self.element_examples >= 0, "element_examples", self.element_examples, "at least 0")

    def cell(self, network: Network, seed: int) -> Cell:
        """The network's place in the run directory."""
        return Cell(self.data_set, network.regime, network.method, seed, network.model)

    def require_usable(self, networks: Sequence[Network], data: ImageData) -> None:
        """Checks that the data suffice for all that the networks need.

        Raises:
          UserError: they do not.
        """
        self.require_trainable([network.model for network in networks], data)
        for flag, split in {"scoring_examples": data.train, "element_examples": data.test}.items():
            count, most = getattr(self, flag), len(split)
            require(count <= most, flag, count, f"at most {most}, the images there are")
        side, largest = self.attacks.occlusion_side, min(data.image_shape[:2])
        require(side <= largest, "occlusion_side", side, f"at most {largest}, the images' size")
        # Whether there is as much to take out shows before the work, by a choice at random.
        for model, *cuts in _longest({(network.model, *_cuts(network)) for network in networks}):
            smaller = self.training_of(model).build_model(data, seed=0)
            for cut in cuts:
                smaller = remove(smaller, choose_removal(smaller, cut, data.train)[0])

    def scoring_split(self, data: ImageData, seed: int) -> ImageSplit:
        """The training images that criteria see."""
        count = self.scoring_examples or len(data.train)
        return data.train.subset(stratified_subset(data.train.labels, count, seed))


def _cuts(network):
    """All cuts behind a network, with the choice left to chance."""
    if network.base is None:
        return ()
    cut = (dataclasses.replace(network.cut, criterion="random"),) if network.cut else ()
    return _cuts(network.base) + cut


def _longest(sequences):
    """Those that are not the beginning of another."""
    return [
        sequence
        for sequence in sequences
        if not any(other[: len(sequence)] == sequence != other for other in sequences)
    ]


def run_networks(
    networks: Sequence[Network],
    settings: StructureSettings,
    run: RunDirectory,
    strategy: tf.distribute.Strategy,
    stop_if_requested: Callable[[], None] = lambda: None,
) -> None:
    """Trains and tests the networks, and those that they come from, that the run does not hold.

    Raises:
      StopRequested: as `stop_if_requested` raises it; the run can be resumed.
      UserError: data or files that cannot be used, or a loss that diverged.
    """
    ordered = in_order(networks)
    data = settings.load(settings.seeds[0])  # Must be usable before any work begins.
    settings.require_usable(ordered, data)
    work = [
        network.epochs * len(data.train)
        for seed in settings.seeds
        for network in ordered
        if not run.is_finished(settings.cell(network, seed), network.level)
    ]
    chunks, visible = runtime.parallel_chunks(strategy), runtime.is_chief(strategy)
    tests = NetworkTests(settings.attacks, data.test, chunks, visible)
    rewound = {each.base: each.rewind_epoch for each in ordered if each.start == "rewound"}
    with ProgressBar(sum(work), visible) as bar:
        for seed in settings.seeds:
            trial = StructureTrial(settings, seed, run, strategy, bar, stop_if_requested)
            for network in ordered:
                trial.finish(network, tests, rewound.get(network))
    if run.writable:
        run.write_results()


class StructureTrial(TrialContext):
    """The networks of one seed."""

    def load(self, network: Network) -> keras.Model:
        """A finished network."""
        return self._store(network).load_network(network.level)

    def finish(self, network: Network, tests: NetworkTests, keep_epoch: int | None = None) -> None:
        """Cuts, trains and tests, unless the run holds it. What it comes from must be finished.

        Args:
          network: what to make.
          tests: what it is tested on.
          keep_epoch: the epoch of its training whose weights others start from.
        """
        cell, level = self.settings.cell(network, self.seed), network.level
        if self.run.is_finished(cell, level):
            return
        removal = self._removal(network)
        trainer = Trainer(
            self.settings.training_of(network.model),
            network.regime,
            self.data,
            self.strategy,
            self.seed,
            NoMasks,
            lambda: self._start(network, removal),
        )
        history = self._train(network, trainer, keep_epoch)
        size = {
            "model/size/parameters": float(parameters(trainer.model)),
            "model/size/flops": float(flops(trainer.model)),
        }
        last = history[-1][0]
        measured = size | tests.measure(trainer.model)
        history += [(last, metric, value) for metric, value in measured.items()]
        self._store(network).save_network(level, trainer.model)
        sparsity = 1.0 - size["model/size/parameters"] / self._whole_parameters(network)
        rows = cell.results(self.settings.experiment, level, sparsity, history)
        self.run.finish_level(cell, level, rows)
        runtime.wait_for_workers(self.strategy)  # What comes next may read it.

    def _store(self, network):
        return NetworkStore(self.run, self.settings.cell(network, self.seed))

    def _removal(self, network):
        """What is taken out of the network's base; None for nothing."""
        if network.cut is None:
            return None
        store = self._store(network)
        if store.removal_path(network.level).exists():
            return store.load_removal(network.level)
        base = self.load(network.base)
        examples = self.settings.scoring_split(self.data, self.seed)
        removal, scores = choose_removal(base, network.cut, examples, self.seed)
        store.save_removal(
            network.level,
            removal,
            scores,
            dataclasses.asdict(network.cut)
            | {
                "base": f"{network.base.method}, level {network.base.level}",
                "base_weights_sha256": arrays_sha256(read_weights(base)),
                "scoring_examples": len(examples),
                "seed": self.seed,
                "versions": runtime.package_versions(),
            },
        )
        return removal

    def _start(self, network, removal):
        """The network to train, with the weights that it starts from."""
        settings = self.settings.training_of(network.model)
        if network.base is None:
            return settings.build_model(self.data, self.seed)
        if network.start == "base":
            whole = self.load(network.base)
        elif network.start == "new":
            whole = settings.build_model(self.data, self.seed + _NEW_WEIGHTS)
        else:
            whole = settings.build_model(self.data, self.seed)
            load_weights(whole, self._rewind_path(network.base))
        return whole if removal is None else remove(whole, removal)

    def _rewind_path(self, network):
        return self.run.rewind_weights_path(self.settings.cell(network, self.seed))

    def _whole_parameters(self, network):
        training = self.settings.training_of(network.model)
        return parameters(training.build_model(self.data, self.seed))

    def _train(self, network, trainer, keep_epoch):
        """The history of the training."""
        data, settings = self.data, self.settings
        batch_size = settings.training_of(network.model).batch_size
        per_epoch = steps_per_epoch(len(data.train), batch_size)
        images_per_step = len(data.train) / per_epoch
        session = TrainingSession(
            self.run,
            settings.cell(network, self.seed),
            network.level,
            {"learning_rate": network.learning_rate, "batch_size": batch_size},
            advance=lambda steps, text: self.bar.advance(steps * images_per_step, text),
            stop_if_requested=self.stop_if_requested,
        )
        chunks = runtime.parallel_chunks(self.strategy)
        evaluator = Evaluator(trainer.model, {}, chunks, EVALUATION_BATCH)
        milestones = {}
        if keep_epoch is not None:
            milestones[keep_epoch * per_epoch] = self._keeper(network, trainer)
        trained, _ = session.train(
            trainer,
            BatchOrder(len(data.train), batch_size, (self.seed, network.level)),
            network.epochs * per_epoch,
            evaluate_every=per_epoch,
            evaluate=lambda _: {
                f"validation/{metric}": value
                for metric, value in evaluator.evaluate(data.validation).items()
            },
            learning_rates=StepDecay(network.learning_rate, network.epochs, per_epoch),
            milestones=milestones,
            record_time=True,
        )
        return trained.history

    def _keeper(self, network, trainer):
        """A function that writes the weights as they are then."""

        def keep():
            weights = trainer.weights()  # All workers average BatchNorm's statistics together.
            if self.run.writable:
                save_arrays(self._rewind_path(network), weights)

        return keep
