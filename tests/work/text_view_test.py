"""A run's folder of text work: searches without a ticket, and attacks with their tables."""

import dataclasses

import numpy as np
import pytest

from tests.work.text_plans import ATTACKED, FREE_LB, ROBUST, SEARCH
from tf_tickets.errors import UserError
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.results import read_record
from tf_tickets.runs.run_directory import RunDirectory
from tf_tickets.work.overview import overview
from tf_tickets.work.performing import description, passes
from tf_tickets.work.store import Record, Store
from tf_tickets.work.view import Shown, View

ATTACK = Shown(
    (ATTACKED,),
    "level_20_test_characters",
    (("texts.csv", "attacks/robust.csv"), ("texts.json", "attacks/robust.json")),
)
NUMBERS = ((4, "test/characters/examples", 3.0), (4, "test/characters/clean_accuracy", 0.5))


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    store.begin(SEARCH)
    told = ((0, "masks/all/penalty", 0.0), (4, "train/free_lb/seconds", 2.0))
    store.finish(SEARCH, Record(told, (4,), 0.0), weights=[{"a/kernel": np.ones((2, 1))}])
    return store


def attack(store):
    store.begin(ATTACKED)
    store.table_path(ATTACKED).write_text("what came of it")
    store.table_path(ATTACKED).with_suffix(".json").write_text("what made it")
    store.finish(ATTACKED, Record(NUMBERS, (4,), 0.2))


def no_start(*_):
    raise AssertionError("none of these begins a trial")


def view_of(store, *shown):
    run = RunDirectory(store.root.parent / "run", {"a": 1}, {})
    return View(run, store, "robust_bert_tickets", shown, no_start)


def test_a_search_is_shown_without_a_ticket(store):
    assert not store.has_ticket(SEARCH)
    view = view_of(store, Shown((SEARCH,)))
    view.show_finished()
    run = store.root.parent / "run"
    place = "movie_reviews/tiny_2_layers/free_lb/search_0.5/seed_0"
    assert load_arrays(run / f"checkpoints/{place}/level_00.npz")["a/kernel"].shape == (2, 1)
    rows = read_record(run / f"records/{place}/level_00.csv")
    assert [(row.metric, row.sparsity, row.value) for row in rows] == [
        ("masks/all/penalty", 0.0, 0.0),
        ("train/free_lb/seconds", 0.0, 2.0),
    ]
    assert not (run / "tickets").exists()
    assert list((run / f"tensorboard/{place}/level_00").glob("events*"))


def test_an_attack_is_shown_with_all_of_its_numbers_and_its_table(store):
    view = view_of(store, ATTACK)
    view.show_finished()
    run = store.root.parent / "run"
    assert not (run / "records").exists() and not (run / "attacks").exists()
    attack(store)
    view.show(ATTACKED)
    record = "records/movie_reviews/tiny_2_layers/natural/robust/seed_0/level_20_test_characters"
    rows = read_record(run / f"{record}.csv")
    assert [(row.iteration, row.metric, row.value) for row in rows] == list(NUMBERS)
    assert {(row.level, row.sparsity) for row in rows} == {(20, 0.2)}
    assert (run / "attacks/robust.csv").read_text() == "what came of it"
    assert (run / "attacks/robust.json").read_text() == "what made it"
    view.show_finished()
    assert len((run / "results.csv").read_text().splitlines()) == 1 + len(NUMBERS)


def test_a_lost_table_is_named_with_its_cure(store):
    attack(store)
    store.table_path(ATTACKED).unlink()
    with pytest.raises(UserError, match=r"texts.csv: no such file; delete .* to have it made anew"):
        view_of(store, ATTACK).show_finished()


def test_an_epoch_goes_through_the_network_once_or_for_every_step_of_an_attacker():
    """64 examples, and 16 to validate on at either end but the first, without a way back."""
    assert passes(ROBUST) == 64 + 8
    assert passes(FREE_LB) == 2 * 64 + 8  # K = 2.
    assert passes(dataclasses.replace(FREE_LB, against="pgd")) == 3 * 64 + 8
    assert passes(SEARCH) == 2 * 64 + 4 * 8  # It validates at every step.
    assert passes(dataclasses.replace(ATTACKED, examples=6)) == 2 * passes(ATTACKED)


def test_what_work_is_called_on_the_screen():
    assert description(ROBUST) == "movie_reviews tiny_2_layers natural robust 0 level 20"
    where = "characters on movie_reviews tiny_2_layers natural robust 0 level 20"
    assert description(ATTACKED) == f"{where} after 4 steps"
    assert description(dataclasses.replace(ATTACKED, at=None)) == where


def test_the_time_of_attacks_is_not_guessed(store):
    lines = overview([SEARCH, ATTACKED], store, 1).splitlines()
    assert lines[:2] == [
        "3 trainings: 1 are there, 2 to be done",
        "1 measurements: 0 are there, 1 to be done",
    ]
    rest = "and that of 1 attacks is never known before"
    assert lines[2] == f"expected time: less than a minute, {rest}"
    store.finish(SEARCH.start.of, Record(((4, "a/seconds", 1.0),), (4,), 0.0))
    store.finish(ROBUST, Record(((4, "a/seconds", 1.0),), (4,), 0.0))
    store.keep(ROBUST, 4, {})
    lines = overview([SEARCH, ATTACKED], store, 1).splitlines()
    assert lines[2] == "expected time: that of 1 attacks is never known before"
