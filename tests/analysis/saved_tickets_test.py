"""Finding the tickets of runs, and naming them."""

import pytest

from tests.analysis.tickets import random_ticket, save
from tf_tickets.analysis.saved_tickets import (
    comparable,
    file_labels,
    file_name,
    labels_of,
    load_tickets,
    shared_label,
    tickets_in,
)
from tf_tickets.errors import UserError
from tf_tickets.runs.run_directory import Cell, RunDirectory


def test_every_ticket_of_a_run_is_found(tmp_path):
    cells = [Cell("mnist", "pgd", "imp", 0), Cell("mnist", "natural", "omp", 12, "resnet_20")]
    run = RunDirectory(tmp_path / "run", {}, {})
    for cell in cells:
        random_ticket(0).save(run.ticket_path(cell, 3))
        random_ticket(1).save(run.initial_weights_path(cell))  # No ticket of a level.
    found = tickets_in(run.path)
    assert {(entry.cell, entry.level, entry.path) for entry in found} == {
        (cell, 3, run.ticket_path(cell, 3)) for cell in cells
    }
    assert found[0].load() == random_ticket(0)
    below = tickets_in(run.path / "tickets" / "mnist" / "resnet_20")
    assert [entry.cell for entry in below] == [cells[1]]
    assert len(tickets_in(run.path / "tickets")) == 2


def test_folders_without_tickets(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        tickets_in(tmp_path / "nowhere")
    with pytest.raises(UserError, match="expected a run, or a folder below its `tickets`"):
        tickets_in(tmp_path)
    (tmp_path / "tickets").mkdir()
    with pytest.raises(UserError, match="no tickets in it"):
        tickets_in(tmp_path)


def test_masks_that_another_search_found_are_left_out(tmp_path):
    masks = {(name, level): random_ticket(10 * seed + level) for seed, name in
             enumerate(("imp", "omp")) for level in (1, 2)}  # fmt: skip
    for (name, level), found in masks.items():
        save(tmp_path, f"source/natural/{name}/seed_0", level, found)
    save(tmp_path, "a_target/pgd/imp_10/seed_0", 2, masks["imp", 2])
    save(tmp_path, "a_target/pgd/other_level/seed_0", 3, masks["imp", 2])
    save(tmp_path, "a_target/pgd/other_model/seed_0", 1, random_ticket(0, shapes=[(5, 5, 2, 2)]))
    groups = comparable(tickets_in(tmp_path))
    kept = [[(entry.cell.method, entry.level) for entry in group] for group in groups]
    assert kept == [
        [("other_level", 3), ("imp", 1), ("imp", 2), ("omp", 1), ("omp", 2)],
        [("other_model", 1)],
    ]


def test_names_say_what_differs():
    one, other = Cell("mnist", "pgd", "imp", 0, "vgg"), Cell("mnist", "pgd", "omp", 1, "vgg")
    assert labels_of([one, other]) == {one: "imp", other: "omp"}
    assert shared_label([one, other]) == "mnist vgg pgd"
    natural = one._replace(regime="natural", model="")
    assert labels_of([one, natural]) == {one: "vgg pgd", natural: "natural"}
    assert labels_of([one]) == {one: "imp"}


def test_names_of_files(tmp_path):
    paths = [tmp_path / part / "seed_0" / "level_03.npz" for part in ("std", "at")]
    assert file_labels(paths) == ["std/seed_0/level_03", "at/seed_0/level_03"]
    assert file_labels(paths[:1]) == ["std/seed_0/level_03"]
    with pytest.raises(UserError, match="expected no file twice"):
        file_labels([paths[0], paths[0]])
    assert file_name("std/seed_0 level: 3%") == "std_seed_0_level_3_"


def test_tickets_of_other_networks_are_refused(tmp_path):
    paths = {
        "one": save(tmp_path, "a", 0, random_ticket(0)),
        "other": save(tmp_path, "b", 0, random_ticket(0, shapes=[(3, 3, 4, 8)])),
    }
    with pytest.raises(UserError, match=rf"--ticket={paths['other']}: expected masks of the same"):
        load_tickets(paths, comparable_only=True)
    assert set(load_tickets(paths, comparable_only=False)) == set(paths)
