"""Pieces of work that runs take over from each other."""

import json
import shutil

from tf_tickets.runs.pieces import Pieces, identity
from tf_tickets.runs.run_directory import RunDirectory

NAME = identity({"epochs": 3})


def make_run(folder):
    run = RunDirectory(folder, {}, {})
    return run, Pieces(run)


def finish(run, pieces, text="result"):
    files = [run.path / "tickets" / "ticket.npz", run.path / "records" / "record.csv"]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    pieces.add(NAME, files)


def marker(run):
    return run.path / "records" / "record.csv"


def make_finished(folder):
    run, pieces = make_run(folder)
    finish(run, pieces)
    return run


def test_an_identity_is_what_decides_and_not_in_which_order():
    assert identity({"a": 1, "b": [2.5]}) == identity({"b": [2.5], "a": 1})
    assert len({identity({"a": value}) for value in (1, 1.5, "1", None, [1])}) == 5


def test_a_piece_is_copied_from_a_run_beside(tmp_path):
    make_finished(tmp_path / "one")
    run, pieces = make_run(tmp_path / "two")
    assert pieces.adopt(NAME, marker(run))
    assert (run.path / "tickets" / "ticket.npz").read_text() == "result"
    assert marker(run).read_text() == "result"
    third, of_third = make_run(tmp_path / "three")
    shutil.rmtree(tmp_path / "one")
    assert of_third.adopt(NAME, marker(third))  # It knows of what it took over.


def test_what_is_not_there_is_not_taken_over(tmp_path):
    make_finished(tmp_path / "one")
    run, pieces = make_run(tmp_path / "two")
    assert not pieces.adopt(identity({"epochs": 4}), marker(run))
    assert not pieces.adopt(NAME, run.path / "records" / "another.csv")
    deeper, of_deeper = make_run(tmp_path / "folder" / "three")
    assert not of_deeper.adopt(NAME, marker(deeper))
    assert not marker(run).exists()


def test_a_run_does_not_copy_from_itself(tmp_path):
    run, pieces = make_run(tmp_path / "one")
    finish(run, pieces)
    marker(run).unlink()
    assert not pieces.adopt(NAME, marker(run))


def test_changed_and_missing_files_are_left(tmp_path):
    one = make_finished(tmp_path / "one")
    run, pieces = make_run(tmp_path / "two")
    ticket = one.path / "tickets" / "ticket.npz"
    ticket.write_text("another")
    assert not pieces.adopt(NAME, marker(run))
    ticket.unlink()
    assert not pieces.adopt(NAME, marker(run))


def test_damaged_lists_and_paths_that_lead_outside_are_left(tmp_path):
    one = make_finished(tmp_path / "one")
    run, pieces = make_run(tmp_path / "two")
    listing = one.path / "pieces" / f"{NAME}.json"
    whole = json.loads(listing.read_text())
    outside = {"files": {"../../secret": "0", **whole["files"]}}
    for text in ("{", "[]", '{"files": 3}', '{"files": {}}', json.dumps(outside)):
        listing.write_text(text)
        assert not pieces.adopt(NAME, marker(run))
    listing.write_text(json.dumps(whole))
    assert pieces.adopt(NAME, marker(run))
