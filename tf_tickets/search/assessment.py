"""Finished networks under attacks of all kinds: white-box ones, and each other's."""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from tf_tickets import runtime
from tf_tickets.attacks.gradient import build_attack
from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.search.recipe_bench import RecipeSettings
from tf_tickets.search.recipe_runner import Trial
from tf_tickets.search.recipes import Training

RECORD = "assessment"


def assess(
    trainings: Sequence[Training],
    settings: RecipeSettings,
    attacks: Mapping[str, ThreatModel],
    run: RunDirectory,
    strategy: tf.distribute.Strategy,
    stop_if_requested: Callable[[], None] = lambda: None,
) -> None:
    """Attacks every network, and every network with every other's examples, on test data.

    "Boosting Ticket", Table 6. Records `test/<attack>/accuracy` and
    `test/transfer_from_<method>/accuracy`, which the run keeps apart from the training's
    records; what it holds is not measured again.

    Args:
      trainings: finished ones.
      settings: of the run they belong to.
      attacks: name → white-box attack. The settings' first evaluation attack makes the
        examples that are given to the other networks of a model.
      run: the run directory.
      strategy: where it runs.
      stop_if_requested: raises `StopRequested` to stop, between two networks.
    """
    missing = [
        (seed, model)
        for seed in settings.seeds
        for model, group in _by_model(trainings).items()
        if not all(
            run.extra_record_path(settings.cell(each, seed), RECORD).exists() for each in group
        )
    ]
    size = sum(len(_by_model(trainings)[model]) for _, model in missing)
    with ProgressBar(size, runtime.is_chief(strategy)) as bar:
        for seed, model in missing:
            trial = Trial(settings, seed, run, strategy, bar, stop_if_requested)
            group = _by_model(trainings)[model]
            benches = {training: trial.trained_network(training) for training in group}
            for training in group:
                stop_if_requested()
                cell = settings.cell(training, seed)
                measured = _attack(training, benches, settings, attacks, trial.data.test)
                run.add_record(cell, RECORD, _results(settings, training, cell, run, measured))
                runtime.wait_for_workers(strategy)
                bar.advance(1, f"attacking {cell.description}")
    if run.writable:
        run.write_results()


def _by_model(trainings):
    groups = {}
    for training in trainings:
        groups.setdefault(training.model, []).append(training)
    return groups


def _attack(training, benches, settings, attacks, test):
    """`<attack>/<quantity>` → value, of one network among the others of its model."""
    transferred = next(iter(settings.evaluation_attacks.values()))
    from_others = {
        f"transfer_from_{other.method}": build_attack(transferred, bench.trainer.logits)
        for other, bench in benches.items()
        if other != training
    }
    own = benches[training].trainer.build_attacks(attacks)
    return benches[training].evaluator_under(own | from_others).evaluate(test)


def _results(settings, training, cell, run, measured):
    """Accuracies at the iteration whose weights the training ended with."""
    iteration = next(
        row.iteration
        for row in run.finished_results(cell, training.level)
        if row.metric == "test/natural/accuracy"
    )
    ticket = Ticket.load(run.ticket_path(cell, training.level))
    accuracies = [
        (iteration, f"test/{metric}", value)
        for metric, value in measured.items()
        # Natural accuracy was recorded at the end of the training.
        if metric.endswith("/accuracy") and not metric.startswith("natural/")
    ]
    return cell.results(settings.experiment, training.level, ticket.sparsity, accuracies)
