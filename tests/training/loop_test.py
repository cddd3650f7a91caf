"""The loop: what it evaluates, and that interruptions change nothing."""

import errno

import numpy as np
import pytest
import tensorflow as tf

from tests.noise import BATCH, LEARNING_RATE, make_data, make_trainer, run, stop_at_call
from tf_tickets.data.batches import BatchOrder
from tf_tickets.errors import Diverged, StopRequested, UserError
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.training import loop
from tf_tickets.training.checkpoints import LevelCheckpoint, Progress
from tf_tickets.training.loop import train_level
from tf_tickets.training.schedules import Constant
from tf_tickets.training.selection import KeptWeights, Selection


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains 10 iterations in calls of at most 3 steps, evaluating every 4."""
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 3)

    def train(trainer, **arguments):
        checkpoint = LevelCheckpoint(
            tmp_path / "level", trainer.model, trainer.optimizer, trainer.masks
        )
        arguments = {
            "iterations": 10,
            "evaluate_every": 4,
            "evaluate": lambda _: {"first": float(trainer.weights()["logits/kernel"][0, 0])},
            **arguments,
        }
        order = BatchOrder(48, BATCH, (4, 0))
        arguments.setdefault("learning_rates", Constant(LEARNING_RATE))
        return train_level(trainer, order, checkpoint=checkpoint, **arguments).history

    return train


def timeless(history):
    """All but times, which no two trainings share."""
    return [entry for entry in history if not entry[1].endswith("seconds")]


def test_evaluates_at_the_start_at_every_multiple_and_at_the_end(train):
    history = train(make_trainer("natural"), evaluate=lambda iteration: {"a": iteration, "b": 0.0})
    assert [(i, v) for i, name, v in history if name == "a"] == [(0, 0), (4, 4), (8, 8), (10, 10)]
    assert [i for i, name, _ in history if name == "b"] == [0, 4, 8, 10]
    assert [i for i, name, _ in history if name == "train/natural/loss"] == [4, 8, 10]


def test_training_loss_is_the_mean_since_the_evaluation_before(train):
    history = train(make_trainer("natural"))
    reference = make_trainer("natural")
    order = BatchOrder(48, BATCH, (4, 0)).indices(0, 10)
    losses = np.asarray(run(reference, order), np.float64)
    means = [value for _, name, value in history if name == "train/natural/loss"]
    np.testing.assert_allclose(means, [losses[:4].mean(), losses[4:8].mean(), losses[8:].mean()])


@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_stopped_and_resumed_equals_uninterrupted_to_the_last_bit(train, tmp_path, stop):
    interrupted = make_trainer("pgd")
    with pytest.raises(StopRequested):
        train(interrupted, stop_if_requested=stop_at_call(stop))
    resumed = make_trainer("pgd")
    history = train(resumed)
    (tmp_path / "level").rename(tmp_path / "done")
    uninterrupted = make_trainer("pgd")
    assert timeless(train(uninterrupted)) == timeless(history)
    for path, weight in uninterrupted.weights().items():
        np.testing.assert_array_equal(resumed.weights()[path], weight)


def test_milestones_are_met_exactly(train):
    met = []
    trainer = make_trainer("natural")

    def meet():
        met.append(int(trainer.optimizer.iterations))

    train(trainer, milestones={5: meet, 7: meet})
    assert met == [5, 7]


def test_progress_is_reported_up_to_the_end(train):
    reached = []
    train(make_trainer("natural"), on_progress=lambda progress: reached.append(progress.iteration))
    assert reached == [0, 3, 4, 7, 8, 10]


def test_a_diverged_loss_is_one_line_and_what_was_measured_is_kept(train):
    trainer = make_trainer("natural")
    with pytest.raises(Diverged, match="natural training loss became .* at iteration"):
        train(trainer, learning_rates=Constant(1e38))
    reached = []
    with pytest.raises(UserError):
        train(
            make_trainer("natural"),
            learning_rates=Constant(1e38),
            on_progress=lambda progress: reached.append(list(progress.history)),
        )
    assert timeless(reached[0])[0][:2] == (0, "first")


def test_weights_that_break_in_the_last_step_are_not_called_trained(train):
    """The loss before that step was finite; what is measured after it is not."""
    trainer = make_trainer("natural")
    evaluator = Evaluator(trainer.model, {}, 1)

    def rates(first, count):
        return np.where(np.arange(first, first + count) == 9, np.inf, 1e-3).astype(np.float32)

    message = r"^natural/loss of the natural training became nan at iteration 10; try a smaller"
    with pytest.raises(Diverged, match=message):
        train(
            trainer,
            learning_rates=rates,
            evaluate=lambda _: evaluator.evaluate(make_data().validation),
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_selection_by_what_is_not_finite_is_refused(tmp_path, value):
    """Nothing would be better than another, and the weights kept would all be zero."""
    message = f"^accuracy of the natural training became {value} at iteration 8; "
    with pytest.raises(Diverged, match=message):
        train_selected(make_trainer("natural"), tmp_path, accuracy=[0.1, 0.2, value, *[value] * 3])


def test_a_damaged_checkpoint_is_one_line(train, tmp_path):
    with pytest.raises(StopRequested):
        train(make_trainer("natural"), stop_if_requested=stop_at_call(2))
    (data,) = (tmp_path / "level").glob("*.data-*")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)
    with pytest.raises(UserError, match="damaged checkpoint") as error:
        train(make_trainer("natural"))
    assert "\n" not in str(error.value) and str(tmp_path / "level") in str(error.value)


def test_a_full_disk_is_an_os_error_that_names_the_folder(train, tmp_path, monkeypatch):
    def no_space(self):
        raise tf.errors.ResourceExhaustedError(None, None, "part-0; No space left on device")

    monkeypatch.setattr(tf.train.CheckpointManager, "save", no_space)
    with pytest.raises(OSError) as error:
        train(make_trainer("natural"))
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / "level")


def train_selected(trainer, tmp_path, iterations=20, stop=lambda: None, first=1, **values):
    """Trains with a selection for each metric, of these values every 4 iterations."""
    kept = [KeptWeights(trainer.model) for _ in values]
    checkpoint = LevelCheckpoint(
        tmp_path / "level", trainer.model, trainer.optimizer, trainer.masks, kept
    )
    progress = train_level(
        trainer,
        BatchOrder(48, BATCH, (4, 0)),
        iterations,
        4,
        lambda iteration: {metric: found[iteration // 4] for metric, found in values.items()},
        checkpoint,
        Constant(LEARNING_RATE),
        stop_if_requested=stop,
        selections=[Selection(metric, 0.2, first_iteration=first) for metric in values],
    )
    return progress, kept


def weights_after(iterations, tmp_path):
    trainer = make_trainer("natural")
    checkpoint = LevelCheckpoint(
        tmp_path / f"after_{iterations}", trainer.model, trainer.optimizer, trainer.masks
    )
    order = BatchOrder(48, BATCH, (4, 0))
    rates = Constant(LEARNING_RATE)
    train_level(trainer, order, iterations, 99, lambda _: {}, checkpoint, rates)
    return trainer.weights()


def assert_equal_weights(found, expected):
    for path, weight in expected.items():
        np.testing.assert_array_equal(found[path], weight)


def test_a_selection_ends_with_the_first_of_the_best_weights(tmp_path):
    trainer = make_trainer("natural")
    progress, _ = train_selected(trainer, tmp_path, accuracy=[0.1, 0.3, 0.5, 0.4, 0.5, 0.45])
    assert (progress.iteration, progress.collapsed) == (20, False)
    assert progress.selected == {"accuracy": (8, 0.5)}
    assert_equal_weights(trainer.weights(), weights_after(8, tmp_path))


def test_training_that_collapses_is_stopped_and_taken_back(tmp_path):
    trainer = make_trainer("natural")
    progress, _ = train_selected(trainer, tmp_path, accuracy=[0.1, 0.3, 0.35, 0.0, 0.9, 0.9])
    assert (progress.iteration, progress.collapsed) == (12, True)
    assert progress.selected == {"accuracy": (8, 0.35)}
    assert_equal_weights(trainer.weights(), weights_after(8, tmp_path))
    again = make_trainer("natural")  # As after a kill between the collapse and its record.
    assert train_selected(again, tmp_path, accuracy=[None] * 6)[0].iteration == 12
    assert_equal_weights(again.weights(), trainer.weights())


def test_a_selection_survives_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 3)
    values = [0.1, 0.5, 0.4, 0.45, 0.4, 0.35]
    with pytest.raises(StopRequested):
        train_selected(make_trainer("natural"), tmp_path, stop=stop_at_call(5), accuracy=values)
    trainer = make_trainer("natural")
    progress, _ = train_selected(trainer, tmp_path, accuracy=values)
    assert progress.selected == {"accuracy": (4, 0.5)}
    assert_equal_weights(trainer.weights(), weights_after(4, tmp_path))


def test_two_selections_keep_weights_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "STEPS_PER_CALL", 3)
    values = {
        "robust": [0.1, 0.3, 0.35, 0.3, 0.35, 0.34],
        "natural": [0.1, 0.4, 0.5, 0.6, 0.7, 0.65],
    }
    with pytest.raises(StopRequested):
        train_selected(make_trainer("natural"), tmp_path, stop=stop_at_call(7), **values)
    trainer = make_trainer("natural")
    progress, kept = train_selected(trainer, tmp_path, **values)
    assert progress.selected == {"robust": (8, 0.35), "natural": (16, 0.7)}
    assert_equal_weights(trainer.weights(), weights_after(8, tmp_path))
    kept[1].put_back()
    assert_equal_weights(trainer.weights(), weights_after(16, tmp_path))


def test_recorded_time_grows_with_training_alone(train):
    history = train(make_trainer("natural"))
    for quantity in ("seconds", "cpu_seconds"):
        times = [value for _, name, value in history if name == f"train/natural/{quantity}"]
        assert times[0] == 0 and len(times) == 4 and np.all(np.diff(times) > 0)


def test_calls_are_shortened_where_steps_are_slow():
    progress = Progress(iteration=10, seconds=20.0)  # Two seconds a step.
    assert loop._steps_per_call(progress) == 1
    assert loop._steps_per_call(Progress(iteration=100, seconds=0.1)) == loop.STEPS_PER_CALL


def test_weights_before_the_first_iteration_are_neither_kept_nor_missed(tmp_path):
    values = {"accuracy": [0.1, 0.9, 0.5, 0.4, 0.6, 0.45]}
    progress, _ = train_selected(make_trainer("natural"), tmp_path, first=8, **values)
    assert (progress.iteration, progress.collapsed) == (20, False)
    assert progress.selected == {"accuracy": (16, 0.6)}
