"""Transferred tickets under the examples of a robust network that shares nothing with them."""

from tf_tickets import runtime
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.evaluation.crafted import CraftedImages
from tf_tickets.masking.ticket import Ticket
from tf_tickets.models.weights import load_weights
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.search.double_win import Transfer, transfers, unseen_models
from tf_tickets.search.stage import EXPERIMENT
from tf_tickets.search.ticket_transfers import TicketTransfers
from tf_tickets.work.training_bench import EVALUATION_BATCH

METRIC = "test/transfer_attack/accuracy"


def attack_from_unseen_models(finished: TicketTransfers) -> None:
    """Gives every adversarially trained network the unseen model's adversarial test images.

    "Double-Win Lottery Tickets", Table A2: accuracy there above that under an attack of their
    own says that tickets do not owe it to masked gradients. Records `METRIC`; what the run holds
    is not measured again.

    Args:
      finished: the run's transfers, all trained with all training images.

    Raises:
      StopRequested: as it is asked to stop, between two networks.
      UserError: a file of weights is damaged.
    """
    run = finished.run
    attacked = [each for each in transfers(finished.settings) if _is_attacked(each)]
    missing = [each for each in attacked if not _record_path(finished, each).exists()]
    runtime.wait_for_workers(finished.strategy)  # All know what is missing before it is made.
    with ProgressBar(len(missing), runtime.is_chief(finished.strategy)) as bar:
        for unseen in unseen_models(finished.settings):
            group = [
                each for each in missing if (each.target, each.seed) == (unseen.target, unseen.seed)
            ]
            crafted = _craft(finished, unseen) if group else None
            for transfer in group:
                finished.stop_if_requested()
                model = _load_network(finished, transfer)
                _record(finished, transfer, crafted.accuracy(model))
                runtime.wait_for_workers(finished.strategy)
                cell = finished.cell(transfer)
                bar.advance(1, f"transfer attack on {cell.description} level {transfer.level}")
    if run.writable:
        run.write_results()


def _is_attacked(transfer: Transfer) -> bool:
    return transfer.regime == "pgd" and transfer.percent == 100


def _craft(finished, unseen):
    """Test images attacked through the unseen model."""
    bench = finished.bench(unseen)
    _load_network(finished, unseen)
    settings = finished.settings
    attack = build_attack(
        settings.evaluation_attacks[settings.robust_attack],
        bench.trainer.logits,
        runtime.parallel_chunks(finished.strategy),
    )
    test = finished.data(unseen.target, unseen.seed).test
    return CraftedImages(attack, test, EVALUATION_BATCH)


def _load_network(finished, transfer):
    """The network with the weights that a finished transfer ended with."""
    model = finished.bench(transfer).trainer.model
    path = finished.run.trained_weights_path(finished.cell(transfer), transfer.level)
    load_weights(model, path)
    return model


def _record_path(finished, transfer):
    return finished.run.extra_record_path(finished.cell(transfer), _record_name(transfer))


def _record_name(transfer):
    return f"transfer_attack_{transfer.level:02d}"


def _record(finished, transfer, accuracy):
    run, cell = finished.run, finished.cell(transfer)
    iteration = next(
        row.iteration
        for row in run.finished_results(cell, transfer.level)
        if row.metric == "test/natural/accuracy"
    )
    sparsity = Ticket.load(run.ticket_path(cell, transfer.level)).sparsity
    measured = [(iteration, METRIC, accuracy)]
    rows = cell.results(EXPERIMENT, transfer.level, sparsity, measured)
    run.add_record(cell, _record_name(transfer), rows)
