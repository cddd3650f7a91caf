"""The order of work, and what is left when it ends at any point where something is written."""

import threading
import time

import pytest

from tests.work.kills import killed_at_every_point
from tests.work.plans import DENSE, FINDING, RANDOM, RETRAINED, TRAININGS, measured
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.work.nodes import Training
from tf_tickets.work.runner import Here, carry_out, missing
from tf_tickets.work.store import Record, Store

WANTED = tuple(map(measured, TRAININGS))


class Pretence:
    """Work that takes no time and says what it has been given."""

    def __init__(self, store):
        self.store, self.done = store, []

    def perform(self, node):
        with self.store.locked(node) as is_ours:
            if is_ours and not self.store.is_finished(node):
                self.store.begin(node)
                for need in node.needs:
                    self.store.record(need)
                self.store.finish(node, Record(((1, node.identity, 0.5),), (1,), 0.0))
                self.done.append(node)


def run(root, wanted=WANTED, **arguments):
    store = Store(root)
    work = Pretence(store)
    carry_out(missing(wanted, store), store, Here(work.perform), **arguments)
    return work.done


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_all_is_done_once_in_order(tmp_path):
    told = []
    done = run(tmp_path, on_finished=told.append)
    assert done == told and len(done) == 8
    assert done.index(FINDING) < done.index(RETRAINED)
    assert run(tmp_path) == []


def test_more_work_takes_what_is_there(tmp_path):
    first = run(tmp_path, [measured(DENSE)])
    assert first == [DENSE, measured(DENSE)]
    assert [node for node in run(tmp_path) if isinstance(node, Training)] == [
        FINDING,
        RETRAINED,
        RANDOM,
    ]


def test_killed_at_every_point_where_something_is_written(tmp_path):
    """At the first such point, at the second, and so on; each time what is left goes on."""
    run(tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    kills = 0
    for point in killed_at_every_point(lambda point: run(tmp_path / f"killed_{point}")):
        root = tmp_path / f"killed_{point}"
        run(root)
        assert contents(root) == expected, point
        kills += 1
    assert kills == 2 * len(expected) // 3  # Of three files a piece, two are committed.


def test_what_one_stop_leaves_the_next_run_does(tmp_path):
    calls = 0

    def stop():
        nonlocal calls
        calls += 1
        if calls == 4:
            raise StopRequested(15)

    with pytest.raises(StopRequested):
        run(tmp_path, stop_if_requested=stop)
    assert len(run(tmp_path)) == 8 - 3


def test_work_that_others_hold_is_waited_for_and_the_rest_done_meanwhile(tmp_path):
    store, order = Store(tmp_path), []
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with store.locked(FINDING):
            entered.set()
            leave.wait()
            store.finish(FINDING, Record((), (0,), 0.0))

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()

    def told(node):
        order.append(node)
        if len(order) == 2:
            leave.set()

    done = run(tmp_path, on_finished=told)
    thread.join()
    assert order[:2] == [DENSE, measured(DENSE)]
    assert FINDING in order and FINDING not in done
    assert len(order) == 8


def test_two_runs_at_once_share_the_work(tmp_path):
    results = {}

    def one(name):
        results[name] = run(tmp_path / "shared")

    threads = [threading.Thread(target=one, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [node.identity for nodes in results.values() for node in nodes]
    assert len(done) == len(set(done)) == 8
    run(tmp_path / "alone")
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_damaged_work_is_named(tmp_path):
    run(tmp_path, [FINDING])
    path = Store(tmp_path).path(FINDING)
    (path / "record.json").write_text("{}")
    with pytest.raises(UserError, match="delete its folder to have it made anew"):
        run(tmp_path)


def test_waiting_is_no_busy_loop(tmp_path, monkeypatch):
    store, naps = Store(tmp_path), []

    def nap(seconds):
        naps.append(seconds)
        store.finish(FINDING, Record((), (0,), 0.0))

    monkeypatch.setattr(time, "sleep", nap)
    with store.locked(FINDING):
        assert run(tmp_path, [FINDING]) == []
    assert naps
