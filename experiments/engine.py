"""How a driver's plan is carried out: the flags, and the work in this process or in several."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from absl import flags

from experiments import kinds
from tf_tickets import runtime
from tf_tickets.errors import require
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.work.image_work import ImageWork, passes
from tf_tickets.work.nodes import Node, Platform, Training
from tf_tickets.work.overview import overview
from tf_tickets.work.runner import Here, carry_out, missing
from tf_tickets.work.side_by_side import Setup, SideBySide
from tf_tickets.work.store import Store
from tf_tickets.work.view import View

flags.disclaim_key_flags()

# What the store is called, beside the runs that share it.
_STORE = "tf_tickets_store"


def add_to(define: kinds.Definitions) -> None:
    """Defines the flags."""
    define.integer(
        "workers",
        0,
        "Trainings that run side by side, each in a process of its own; results do not depend on "
        "it. 0: one for each --threads cores of this machine, or as many as there is work for.",
        "[0, 1000]",
    )
    define.integer(
        "threads",
        1,
        "CPU threads of each training. Decides the last bits of its numbers, and so is part of "
        "what it is known by.",
        "[1, 1000]",
    )
    define.path(
        "store",
        None,
        "Folder of finished trainings, which runs can share. Default: tf_tickets_store, beside "
        "the run's folder.",
    )
    define.number(
        "checkpoint_minutes",
        10,
        "How long a training goes on between two saves of its state, which a kill then loses. A "
        "stop by Ctrl-C or SIGTERM saves it.",
        "[0, 10000]",
    )
    define.switch("plan", False, "Only says what would be done, and how long it would take.")


def platform(values: flags.FlagValues, strategy: tf.distribute.Strategy) -> Platform:
    """What decides the bits of a number beside settings and data."""
    return Platform(values.threads, strategy.num_replicas_in_sync, runtime.deciding_versions())


def open_store(values: flags.FlagValues, run_path: Path, strategy) -> Store:
    """The store that the flags ask for."""
    root = Path(values.store) if values.store else run_path.parent / _STORE
    return Store(root, runtime.is_chief(strategy))


def plan(wanted: Sequence[Node], values: flags.FlagValues, store: Store) -> str:
    """What would be done, in a few lines."""
    return overview(wanted, store, _workers(values, len(missing(wanted, store))))


def perform(
    view: View,
    values: flags.FlagValues,
    data_dir: str | None,
    strategy: tf.distribute.Strategy,
    stop_if_requested: Callable[[], None],
) -> None:
    """Does what the run asked for and is not there, and shows it in the run's folder.

    Raises:
      StopRequested: all that is finished, and the state of what is not, is kept.
      UserError: see `carry_out`.
    """
    view.show_finished()
    nodes = missing(view.wanted, view.store)
    runtime.wait_for_workers(strategy)  # All see the same work before the chief does any.
    workers, visible = _workers(values, len(nodes)), runtime.is_chief(strategy)
    if visible:
        print(overview(view.wanted, view.store, workers), file=sys.stderr)
    with ProgressBar(sum(map(passes, nodes)), visible) as bar:
        seconds = 60 * values.checkpoint_minutes
        if workers > 1:
            events = {
                node.identity: str(view.events_path(node))
                for node in nodes
                if isinstance(node, Training)
            }
            setup = Setup(str(view.store.root), data_dir, values.threads, events, seconds)
            with SideBySide(workers, setup, bar.advance, stop_if_requested) as executor:
                carry_out(nodes, view.store, executor, view.show, stop_if_requested)
        elif nodes:
            work = ImageWork(
                view.store,
                data_dir,
                strategy,
                bar.advance,
                view.events_path,
                stop_if_requested,
                seconds,
            )
            carry_out(nodes, view.store, Here(work.perform), view.show, stop_if_requested)
    view.show_finished()


def _workers(values, pieces):
    """How much is done at once."""
    if values.strategy != "one_device":
        expected = f"0 or 1 with --strategy={values.strategy}, where devices share a training"
        require(values.workers < 2, "workers", values.workers, expected)
        return 1
    most = values.workers or max(1, runtime.available_cores() // values.threads)
    return max(1, min(most, pieces))
