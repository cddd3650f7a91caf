"""Work in several processes: the same bytes, and what happens when one of them dies."""

import os
import signal

import psutil
import pytest

from tests.work.plans import FINDING, RETRAINED, TRAININGS, measured
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.image_work.work import ImageSetup
from tf_tickets.work.places import Places
from tf_tickets.work.processes import Processes
from tf_tickets.work.runner import carry_out, missing
from tf_tickets.work.side_by_side import SideBySide
from tf_tickets.work.store import Store

WANTED = tuple(map(measured, TRAININGS))


def workers():
    """The processes at work; multiprocessing has one of its own besides."""
    children = psutil.Process().children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def setup_of(root):
    events = {training.identity: str(root / training.identity) for training in TRAININGS}
    return ImageSetup(str(root / "store"), Places(), 1, events)


def run(root, workers, wanted=WANTED, stop_if_requested=lambda: None, advance=lambda *_: None):
    store = Store(root / "store")
    kind = Processes(setup_of(root))
    with SideBySide(workers, kind, advance, stop_if_requested) as executor:
        carry_out(missing(wanted, store), store, executor, stop_if_requested=stop_if_requested)
    return store


def contents(store):
    """Everything but times."""
    records = [
        [entry for entry in store.record(node).history if not entry[1].endswith("seconds")]
        for node in (*TRAININGS, *WANTED)
    ]
    return records, {
        path.relative_to(store.root): path.read_bytes() for path in store.root.rglob("*.npz")
    }


@pytest.fixture(scope="module")
def by_one(tmp_path_factory):
    return contents(run(tmp_path_factory.mktemp("one"), 1))


def test_two_processes_do_what_one_does(by_one, tmp_path):
    assert contents(run(tmp_path, 2)) == by_one
    assert not workers()


def test_the_work_of_a_killed_process_goes_on_in_another(by_one, tmp_path):
    killed = []

    def kill(_passes, text):
        if "fgsm_ticket" in text and len(killed) < 2:
            for child in workers():
                child.kill()
                killed.append(child)

    assert contents(run(tmp_path, 2, advance=kill)) == by_one
    assert killed


def test_work_that_kills_its_processes_is_given_up(tmp_path):
    def kill(*_):
        for child in workers():
            child.kill()

    with pytest.raises(UserError, match="3 processes were killed .* fewer --workers than 1"):
        run(tmp_path, 1, [FINDING], advance=kill)


def test_stopped_processes_keep_their_state(by_one, tmp_path):
    told = []

    def stop():
        if len(told) >= 2:
            raise StopRequested(signal.SIGTERM)

    with pytest.raises(StopRequested):
        run(tmp_path, 1, [measured(RETRAINED)], stop, advance=lambda *each: told.append(each))
    assert not workers()
    assert list((tmp_path / "store").glob("*/in_progress")) or list(
        (tmp_path / "store").glob("*/record.json")
    )
    assert contents(run(tmp_path, 1)) == by_one


def test_processes_end_with_the_first_one(tmp_path):
    """Which is killed while they wait for work, or are at it."""
    pid = os.fork()
    if pid == 0:

        def die(*_):
            children = [str(child.pid) for child in workers()]
            (tmp_path / "children").write_text(" ".join(children))
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            run(tmp_path, 1, [FINDING], advance=die)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    children = [int(child) for child in (tmp_path / "children").read_text().split()]
    gone, alive = psutil.wait_procs(
        [psutil.Process(child) for child in children if psutil.pid_exists(child)], timeout=60
    )
    assert children and not alive
