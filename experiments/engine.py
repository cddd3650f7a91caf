"""How a driver's plan is carried out: the flags, and the work in this process or in several."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from absl import flags

from experiments import kinds, program
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
    define.switch("plan", False, "Only says what would be done, and how long it would take.")


def require_possible(values: flags.FlagValues) -> None:
    """Raises a `UserError` about flags that do not go together."""
    expected = f"0 or 1 with --strategy={values.strategy}, where devices share a training"
    is_possible = values.workers < 2 or values.strategy == "one_device"
    require(is_possible, "workers", values.workers, expected)


def platform(values: flags.FlagValues, strategy: tf.distribute.Strategy) -> Platform:
    """What decides the bits of a number beside settings and data."""
    return Platform(values.threads, strategy.num_replicas_in_sync, runtime.deciding_versions())


def open_store(values: flags.FlagValues, run_path: Path, strategy) -> Store:
    """The store that the flags ask for.

    Raises:
      UserError: a file is in its place, or it is within the run's folder, which may be deleted.
    """
    root = Path(values.store) if values.store else run_path.parent / _STORE
    require(root.is_dir() or not root.exists(), "store", root, "a folder, not a file")
    is_apart = not root.resolve().is_relative_to(run_path.resolve())
    require(is_apart, "store", root, f"a folder outside of the run's, {run_path}")
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
      UserError: the store cannot be written; or see `carry_out`.
    """
    view.show_finished()
    nodes = missing(view.wanted, view.store)
    if nodes and view.store.writable:
        program.require_writable_folder("store", view.store.root)
    runtime.wait_for_workers(strategy)  # All see the same work before the chief does any.
    workers, visible = _workers(values, len(nodes)), runtime.is_chief(strategy)
    if visible:
        print(overview(view.wanted, view.store, workers), file=sys.stderr)
    with ProgressBar(sum(map(passes, nodes)), visible) as bar:
        common = (bar.advance, stop_if_requested)
        if workers > 1:
            events = {
                node.identity: str(view.events_path(node))
                for node in nodes
                if isinstance(node, Training)
            }
            setup = Setup(str(view.store.root), data_dir, values.threads, events)
            with SideBySide(workers, setup, *common) as executor:
                carry_out(nodes, view.store, executor, view.show, stop_if_requested)
        elif nodes:
            work = ImageWork(
                view.store, data_dir, strategy, bar.advance, view.events_path, stop_if_requested
            )
            carry_out(nodes, view.store, Here(work.perform), view.show, stop_if_requested)
    view.show_finished()


def _workers(values, pieces):
    """How much is done at once."""
    if values.strategy != "one_device":
        return 1
    most = values.workers or max(1, runtime.available_cores() // values.threads)
    return max(1, min(most, pieces))
