"""How a driver's plan is carried out: the flags, and the work in this process or in several."""

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from absl import flags

from experiments import flags as common
from experiments import kinds, program
from tf_tickets import runtime
from tf_tickets.errors import require
from tf_tickets.image_work.work import ImageSetup
from tf_tickets.runs.progress import ProgressBar
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.work.nodes import Node, Platform, Training
from tf_tickets.work.overview import overview
from tf_tickets.work.performing import passes
from tf_tickets.work.places import Places
from tf_tickets.work.processes import Processes, work
from tf_tickets.work.ray_workers import RayWorkers, cluster, room
from tf_tickets.work.runner import Here, carry_out, missing
from tf_tickets.work.side_by_side import Setup, SideBySide
from tf_tickets.work.store import Store
from tf_tickets.work.view import Shown, View, label_names

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
    define.name(
        "ray_address",
        None,
        "Address of a Ray cluster whose machines train, such as 10.0.0.1:6379; `local` starts one "
        "here. The run's folder, --store and --data_dir must be on a file system that all see.",
        kinds.any_name,
    )
    define.switch("plan", False, "Only says what would be done, and how long it would take.")


def require_compatible(values: flags.FlagValues) -> None:
    """Raises a `UserError` about flags that do not go together."""
    if values.strategy == "one_device":
        return
    for flag in ("workers", "ray_address"):
        expected = f"none with --strategy={values.strategy}, where devices share a training"
        require(values[flag].value in (0, 1, None), flag, values[flag].value, expected)


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


def run(
    experiment: str,
    config: Mapping,
    values: flags.FlagValues,
    shown_on: Callable[[tf.distribute.Strategy], Sequence[Shown]],
    report_on: Callable[[RunDirectory, Store], str],
    folder_a_model: bool = True,
    kind: type[Setup] = ImageSetup,
    options: Mapping | None = None,
    only: Callable[[Sequence[Node], Store], Sequence[Node]] = lambda wanted, store: wanted,
    folders: Mapping[str, str] | None = None,
) -> None:
    """Does what a driver asks for, and prints what it leads to; or says what it would do.

    Args:
      experiment: the driver's name.
      config: of the run.
      values: the driver's flags.
      shown_on: what the run asks for, on the given devices.
      report_on: writes the finished run's report and returns what the driver ends with; "" where
        there is to be none.
      folder_a_model: see `View`.
      kind: of work.
      options: what this kind must know beside what all do, by its name.
      only: what is to be done now of what the run asks for.
      folders: data set → image folder, of those that are not in --data_dir.

    Raises:
      StopRequested, UserError: as `perform`.
    """
    strategy = runtime.make_strategy(
        config["strategy"], config["logical_cpus"], threads=values.threads
    )
    shown = tuple(shown_on(strategy))
    path = common.run_path(experiment, config, values.run_dir)
    store = open_store(values, path, strategy)
    to_do = only([node for each in shown for node in each.nodes], store)
    if values.plan:
        RunDirectory(path, config, {}, writable=False)  # Refuses a folder that the run would.
        print(plan(to_do, values, store))
        return
    with (
        runtime.stoppable() as stop_if_requested,
        common.opened_run(experiment, config, values.run_dir, strategy, label_names(shown)) as run,
    ):
        view = View(run, store, experiment, shown, kind.start_of, folder_a_model)
        places = Places(values.data_dir, folders or {})
        make_setup = functools.partial(kind, **(options or {}))
        perform(view, to_do, values, places, strategy, stop_if_requested, make_setup)
        stop_if_requested()
        if run.writable and (report := report_on(run, store)):
            print(report)


def plan(asked_for: Sequence[Node], values: flags.FlagValues, store: Store) -> str:
    """What would be done, in a few lines."""
    most = max(1, runtime.available_cores() // values.threads)
    return overview(asked_for, store, _workers(values, len(missing(asked_for, store)), most))


def perform(
    view: View,
    asked_for: Sequence[Node],
    values: flags.FlagValues,
    places: Places,
    strategy: tf.distribute.Strategy,
    stop_if_requested: Callable[[], None],
    make_setup: Callable[..., Setup],
) -> None:
    """Does what is asked for and not there, and shows it in the run's folder.

    Raises:
      StopRequested: all that is finished, and the state of what is not, is kept.
      UserError: the store cannot be written; or see `carry_out`.
    """
    view.show_finished()
    nodes = missing(asked_for, view.store)
    if nodes and view.store.writable:
        program.require_writable_folder("store", view.store.root)
    runtime.wait_for_workers(strategy)  # All see the same work before the chief does any.
    visible = runtime.is_chief(strategy)
    with _cluster(values) as most:
        workers = _workers(values, len(nodes), most)
        if visible:  # Before the bar, which has a line of its own.
            print(overview(asked_for, view.store, workers), file=sys.stderr)
        if not nodes:
            return
        knowing = _setup(make_setup, view, nodes, values, places)
        alone = [node for node in nodes if isinstance(node, knowing.alone)]
        others = [node for node in nodes if not isinstance(node, knowing.alone)]
        for of_these in filter(None, (others, alone)):
            with ProgressBar(sum(map(passes, of_these)), visible) as bar:
                told = (bar.advance, stop_if_requested)
                with _executor(knowing, values, workers, of_these is alone, strategy, told) as who:
                    carry_out(of_these, view.store, who, view.show, stop_if_requested)
    view.show_finished()


@contextlib.contextmanager
def _executor(knowing, values, workers, is_alone, strategy, told):
    """Who does the work: processes side by side, or this one."""
    if not is_alone and (workers > 1 or values.ray_address):
        kind = RayWorkers(knowing) if values.ray_address else Processes(knowing, _work)
        with SideBySide(workers, kind, *told) as executor:
            yield executor
    else:
        with contextlib.closing(knowing.work(*told, strategy)) as here:
            yield Here(here.perform)


def _work(connection, setup):
    """The life of a process that, as it finds this here, is as silent as the programs."""
    work(connection, setup)


@contextlib.contextmanager
def _cluster(values):
    """The Ray cluster, if one was asked for; yields how much can be done at once."""
    if not values.ray_address:
        yield max(1, runtime.available_cores() // values.threads)
        return
    with cluster(values.ray_address):
        yield room(values.threads)


def _setup(make_setup, view, nodes, values, places):
    events = {
        node.identity: str(view.events_path(node).absolute())
        for node in nodes
        if isinstance(node, Training)
    }
    root, seconds = str(view.store.root.absolute()), 60 * values.checkpoint_minutes
    return make_setup(root, places.absolute(), values.threads, events, seconds)


def _workers(values, pieces, most):
    """How much is done at once."""
    if values.strategy != "one_device":
        return 1
    return max(1, min(values.workers or most, pieces))
