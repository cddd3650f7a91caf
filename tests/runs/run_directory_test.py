"""Creation, resumption and refusal of run directories."""

import json
from pathlib import Path

import pytest

from tf_tickets.errors import UserError
from tf_tickets.runs.results import Result, from_csv
from tf_tickets.runs.run_directory import Cell, RunDirectory

CONFIG = {"driver": "sparse", "seed": 0, "eps": 0.3, "methods": ["original", "random"]}
ENVIRONMENT = {"python": "3.11"}
CELL = Cell("mnist", "pgd", "original", 0)
OTHER_CELL = Cell("fashion_mnist", "natural", "random", 1)


def open_run(path, config=CONFIG, **arguments):
    return RunDirectory(path, config, ENVIRONMENT, **arguments)


def rows_of(cell, level, values=(0.5, 0.25)):
    return [
        Result(
            experiment="sparse",
            data_set=cell.data_set,
            model="lenet",
            method=cell.method,
            regime=cell.regime,
            seed=cell.seed,
            level=level,
            sparsity=0.2 * level,
            iteration=10 * number,
            metric="validation/pgd/accuracy",
            value=value,
        )
        for number, value in enumerate(values)
    ]


def written_results(run):
    return from_csv(run.results_path.read_text(), "results.csv")


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_run_writes_its_configuration_and_environment(tmp_path, exists):
    path = tmp_path / "logs" / "run"
    if exists:
        path.mkdir(parents=True)
    run = open_run(path)
    assert sorted(tree(path)) == ["config.json", "environment.json", "results.csv"]
    assert json.loads((path / "config.json").read_text()) == CONFIG
    assert json.loads((path / "environment.json").read_text()) == ENVIRONMENT
    assert run.results_path == path / "results.csv" and written_results(run) == []


def test_paths_lie_in_the_run_and_differ(tmp_path):
    run = open_run(tmp_path)
    paths = [run.results_path]
    for cell in (CELL, OTHER_CELL, CELL._replace(seed=1), CELL._replace(regime="fgsm")):
        paths += [run.initial_weights_path(cell), run.rewind_weights_path(cell)]
        for level in (0, 1, 10):
            paths += [
                run.ticket_path(cell, level),
                run.trained_weights_path(cell, level),
                run.events_directory(cell, level),
            ]
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert CELL.path == Path("mnist/pgd/original/seed_0")


def test_results_have_the_columns_of_what_is_asked_for_and_of_what_is_there(tmp_path):
    labelled = [row._replace(labels=(("percent", "40"),)) for row in rows_of(CELL, 0)]
    run = open_run(tmp_path, labels=["percent"])
    run.finish_level(CELL, 0, labelled)
    assert written_results(run) == labelled
    again = open_run(tmp_path, labels=["family"])
    others = [row._replace(labels=(("family", "dense"),)) for row in rows_of(CELL, 1)]
    again.finish_level(CELL, 1, others)
    assert written_results(again) == [*labelled, *others]
    header = again.results_path.read_text().splitlines()[0]
    assert header.endswith(",value,family,percent")
    again.write_results({again.record_path(CELL, 1)})
    assert again.results_path.read_text().splitlines()[0].endswith(",value,family")


def test_the_same_configuration_resumes(tmp_path):
    run = open_run(tmp_path)
    run.finish_level(CELL, 0, rows_of(CELL, 0))
    resumed = RunDirectory(tmp_path, dict(reversed(CONFIG.items())), {"python": "3.12"})
    assert resumed.is_finished(CELL, 0) and not resumed.is_finished(CELL, 1)
    assert not resumed.is_finished(OTHER_CELL, 0)
    assert resumed.finished_results(CELL, 0) == rows_of(CELL, 0)


def test_a_configuration_refused_before_any_work_can_be_corrected(tmp_path):
    open_run(tmp_path)
    corrected = {**CONFIG, "eps": 0.1}
    open_run(tmp_path, corrected)
    assert json.loads((tmp_path / "config.json").read_text()) == corrected


@pytest.mark.parametrize("changes", [{}, {"seed": 1}, {"eps": 0.1, "methods": ["random"]}])
def test_a_run_that_grows_takes_another_configuration(tmp_path, changes):
    """And says of itself what was asked for last, on what machine."""
    run = open_run(tmp_path)
    run.finish_level(CELL, 0, rows_of(CELL, 0))
    before = tree(tmp_path)
    asked = CONFIG | changes
    grown = RunDirectory(tmp_path, asked, {"python": "3.12"})
    assert json.loads((tmp_path / "config.json").read_text()) == asked
    assert json.loads((tmp_path / "environment.json").read_text()) == {"python": "3.12"}
    grown.finish_level(OTHER_CELL, 0, rows_of(OTHER_CELL, 0))
    grown.write_results()
    assert written_results(grown) == rows_of(OTHER_CELL, 0) + rows_of(CELL, 0)
    rewritten = {"config.json", "environment.json", "results.csv"}
    kept = {name: content for name, content in before.items() if name not in rewritten}
    assert kept.items() <= tree(tmp_path).items()


@pytest.mark.parametrize(
    "found",
    [
        {**CONFIG, "rounds": 2},
        {key: value for key, value in CONFIG.items() if key != "eps"},
        {"task": "sst2"},
    ],
)
@pytest.mark.parametrize("writable", [True, False])
def test_a_run_of_an_earlier_version_or_another_driver_does_not_grow(tmp_path, found, writable):
    open_run(tmp_path, found).finish_level(CELL, 0, rows_of(CELL, 0))
    before = tree(tmp_path)
    with pytest.raises(UserError) as caught:
        open_run(tmp_path, writable=writable)
    assert str(caught.value) == (
        f"--run_dir={tmp_path}: holds a run of another driver or of an earlier version, which "
        "cannot go on; what it holds stays readable. Give another --run_dir"
    )
    assert tree(tmp_path) == before


def test_a_run_without_any_work_can_become_another_drivers(tmp_path):
    open_run(tmp_path, {"task": "sst2"})
    open_run(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_a_worker_that_must_not_write_leaves_the_configuration(tmp_path):
    open_run(tmp_path).finish_level(CELL, 0, rows_of(CELL, 0))
    before = tree(tmp_path)
    worker = open_run(tmp_path, CONFIG | {"seed": 1}, writable=False)
    assert tree(tmp_path) == before and worker.is_finished(CELL, 0)


def test_a_configuration_that_is_no_object_is_refused(tmp_path):
    open_run(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="config.json: expected a JSON object; put back"):
        open_run(tmp_path)


def test_a_damaged_configuration_is_refused(tmp_path):
    open_run(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match="config.json"):
        open_run(tmp_path)


@pytest.mark.parametrize("name", ["thesis.txt", "results.csv", "records/level_00.csv"])
@pytest.mark.parametrize("writable", [True, False])
def test_a_folder_of_something_else_is_refused_and_kept(tmp_path, name, writable):
    stranger = tmp_path / name
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("precious")
    (tmp_path / ".thesis.abc123").mkdir()
    before = tree(tmp_path)
    with pytest.raises(UserError, match="no config.json") as caught:
        open_run(tmp_path, writable=writable)
    assert f"--run_dir={tmp_path}" in str(caught.value)
    assert tree(tmp_path) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    path = tmp_path / "run"
    path.write_text("precious")
    with pytest.raises(UserError, match="holds no run"):
        open_run(path)
    assert path.read_text() == "precious"


def test_a_creation_that_was_interrupted_starts_again(tmp_path):
    leftover = tmp_path / ".tf_tickets-config.json.x1y2z3"
    leftover.mkdir()
    (leftover / "config.json").write_text('{"seed"')
    (tmp_path / "environment.json").write_text('{"python": "3.10"}')
    open_run(tmp_path)
    assert sorted(tree(tmp_path)) == ["config.json", "environment.json", "results.csv"]
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG
    assert json.loads((tmp_path / "environment.json").read_text()) == ENVIRONMENT


def test_finished_levels_are_appended_and_sorted_when_written(tmp_path):
    run = open_run(tmp_path)
    order = [(CELL, 0), (OTHER_CELL, 0), (CELL, 1), (OTHER_CELL, 1)]
    appended = []
    for cell, level in order:
        assert not run.is_finished(cell, level)
        run.finish_level(cell, level, iter(rows_of(cell, level, (0.1 + 0.2, 1 / 3))))
        assert run.is_finished(cell, level)
        appended += rows_of(cell, level, (0.1 + 0.2, 1 / 3))
        assert written_results(run) == appended
    run.write_results()
    by_path = [(OTHER_CELL, 0), (OTHER_CELL, 1), (CELL, 0), (CELL, 1)]
    assert written_results(run) == [
        row for cell, level in by_path for row in rows_of(cell, level, (0.1 + 0.2, 1 / 3))
    ]
    assert sorted(path.name for path in (tmp_path / "records").rglob("*.csv")) == (
        ["level_00.csv"] * 2 + ["level_01.csv"] * 2
    )


@pytest.mark.parametrize("damage", ["torn", "missing", "ahead", "garbage"])
def test_damaged_results_are_made_anew_from_the_records(tmp_path, damage):
    run = open_run(tmp_path)
    run.finish_level(CELL, 0, rows_of(CELL, 0))
    run.finish_level(CELL, 1, rows_of(CELL, 1))
    text = run.results_path.read_text()
    if damage == "missing":
        run.results_path.unlink()
    else:
        broken = {"torn": text[:-9], "ahead": text + text.splitlines()[1], "garbage": "x,y"}
        run.results_path.write_text(broken[damage])
    assert open_run(tmp_path).results_path.read_text() == text
    assert written_results(run) == rows_of(CELL, 0) + rows_of(CELL, 1)


def test_a_damaged_record_is_named(tmp_path):
    open_run(tmp_path).finish_level(CELL, 0, rows_of(CELL, 0))
    (record,) = (tmp_path / "records").rglob("level_00.csv")
    record.write_text(record.read_text() + "torn,row\n")
    with pytest.raises(UserError, match=f"{record}:5: 2 columns.*; delete it"):
        open_run(tmp_path)


def damaged_record(folder, change):
    """What opening a run says whose one record was changed."""
    open_run(folder).finish_level(CELL, 1, rows_of(CELL, 1))
    (record,) = (folder / "records").rglob("level_01.csv")
    record.write_text(change(record.read_text()))
    with pytest.raises(UserError) as caught:
        open_run(folder)
    message = str(caught.value)
    assert message.startswith(str(record)) and message.endswith("; delete it to make it anew")
    assert "\n" not in message and len(message) < len(str(record)) + 200
    return message


def unsealed(text):
    """A record as versions before this wrote it."""
    first, rest = text.split("\n", 1)
    assert first.startswith("# sha256 ")
    return rest


@pytest.mark.parametrize(
    "change, found",
    [
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "SHA-256"),  # Its last row is lost.
        (lambda text: text.replace("0.25", "0.75"), "SHA-256"),
        (lambda text: text.replace("0.25", "nan"), "SHA-256"),
        (lambda text: unsealed(text).replace("0.25", "nan"), "holds NaN"),
        (lambda text: unsealed(text).split("\n")[0] + "\n", "holds no row"),
        (lambda text: unsealed(text).replace(",1,0.2,", ",2,0.2,"), "it is of level 2 of mnist"),
        (lambda text: unsealed(text).replace("pgd,0", "fgsm,0"), "it is of level 1 of mnist/lenet"),
        (lambda text: unsealed(text).replace(",1,0.2,", ",-1,0.2,"), "below 0"),
        (lambda text: unsealed(text).replace("0.25", "9" * 200_000), "field larger than"),
        (lambda text: unsealed(text).replace("0.25", "x" * 10_000), "could not convert"),
        (lambda text: "x" * 100_000, "its header is xxx"),
    ],
)
def test_a_record_that_is_not_what_was_written_is_refused(tmp_path, change, found):
    assert found in damaged_record(tmp_path, change)


def test_what_attacks_measured_on_a_level_is_of_that_level(tmp_path):
    run = open_run(tmp_path)
    run.finish_level(CELL, 1, rows_of(CELL, 1))
    run.add_record(CELL, "level_01_test_characters", rows_of(CELL, 1))
    open_run(tmp_path).write_results()
    run.add_record(CELL, "level_02_test_characters", rows_of(CELL, 1))
    with pytest.raises(UserError, match="level_02_test_characters.csv: damaged .it is of level 1"):
        open_run(tmp_path)


def test_records_of_earlier_versions_and_a_users_own_files_beside_them(tmp_path):
    run = open_run(tmp_path)
    run.finish_level(CELL, 1, rows_of(CELL, 1))
    (record,) = (tmp_path / "records").rglob("level_01.csv")
    record.write_text(unsealed(record.read_text()))
    (tmp_path / "records" / "notes.csv").write_text("mine,too\n")
    assert open_run(tmp_path).finished_results(CELL, 1) == rows_of(CELL, 1)


@pytest.mark.parametrize(
    "name", ["records", "tickets", "exports", "tensorboard", "records/mnist", "tickets/mnist/pgd"]
)
def test_a_file_where_a_folder_must_be_is_found_before_the_work(tmp_path, name):
    open_run(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("in the way")
    with pytest.raises(UserError) as caught:
        open_run(tmp_path)
    expected = f"{tmp_path / name}: a file, but a folder is needed here; move it away"
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", ["results.csv", "summary.md", "records/a/seed_0/level_00.csv"])
def test_a_folder_where_a_file_must_be_is_found_before_the_work(tmp_path, name):
    open_run(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name / "mine").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        open_run(tmp_path)
    expected = f"{tmp_path / name}: a folder, but a file is needed here; move it away"
    assert str(caught.value) == expected
    assert (tmp_path / name / "mine").is_dir()


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    run = open_run(tmp_path)
    run.finish_level(CELL, 0, rows_of(CELL, 0))
    run.ticket_path(CELL, 0).parent.mkdir(parents=True)
    run.ticket_path(CELL, 0).write_text("ticket")
    (tmp_path / ".gitkeep").write_text("")
    before = tree(tmp_path)
    for folder in (tmp_path, run.ticket_path(CELL, 0).parent):
        leftover = folder / ".tf_tickets-level_01.npz.k3q_9a"
        leftover.mkdir()
        (leftover / "level_01.npz").write_text("half")
    open_run(tmp_path, writable=False)
    assert len(tree(tmp_path)) == len(before) + 4
    open_run(tmp_path)
    assert tree(tmp_path) == before


def test_a_worker_that_must_not_write_writes_nothing(tmp_path):
    path = tmp_path / "run"
    worker = open_run(path, writable=False)
    worker.finish_level(CELL, 0, rows_of(CELL, 0))
    assert not path.exists() and not worker.is_finished(CELL, 0)

    open_run(path).finish_level(CELL, 0, rows_of(CELL, 0))
    before = tree(path)
    worker = open_run(path, writable=False)
    worker.finish_level(CELL, 1, rows_of(CELL, 1))
    assert worker.finished_results(CELL, 0) == rows_of(CELL, 0)
    assert tree(path) == before


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "run"
    with pytest.raises(UserError) as error:
        RunDirectory(path, {}, {})
    assert str(error.value).startswith(f"--run_dir={path}: cannot be written (Not a directory)")


def test_a_users_hidden_files_are_never_removed(tmp_path):
    (tmp_path / ".keys.backup").mkdir()
    (tmp_path / ".keys.backup" / "key").write_text("precious")
    with pytest.raises(UserError, match="exists but holds no run"):
        RunDirectory(tmp_path, {}, {})
    run = RunDirectory(tmp_path / "run", {}, {})
    (run.path / ".mine.too").mkdir()
    RunDirectory(tmp_path / "run", {}, {})
    assert (run.path / ".mine.too").is_dir()
    assert (tmp_path / ".keys.backup" / "key").read_text() == "precious"
