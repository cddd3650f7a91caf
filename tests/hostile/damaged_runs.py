"""Damage done to the folder of a finished run, which the same command then resumes."""

import contextlib
import functools
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from experiments import program
from experiments.sparse_robust_networks import driver, figures
from tf_tickets.runs.files import load_arrays, save_arrays

FLAGS = (
    "--preset=smoke",
    "--regimes=pgd",
    "--pruning_strategies=original",
    "--rounds=2",
    "--iterations=20",
    "--evaluate_every=20",
    "--workers=1",
)
_LONGEST_MESSAGE = 300
_STORE = "tf_tickets_store"
_CELL = Path("mnist", "pgd", "original", "seed_0")
_RECORD, _EARLIER_RECORD = (Path("records") / _CELL / f"level_0{n}.csv" for n in (1, 0))
_TICKET, _EARLIER_TICKET = (Path("tickets") / _CELL / f"level_0{n}.npz" for n in (1, 0))
_WEIGHTS, _EARLIER_WEIGHTS = (Path("checkpoints") / _CELL / f"level_0{n}.npz" for n in (1, 0))
_INITIAL = Path("tickets") / _CELL / "initial_weights.npz"
_OTHERS = tuple(map(Path, ("config.json", "environment.json", "results.csv", "summary.md")))
_FOLDERS = (
    "records",
    "tickets",
    "checkpoints",
    "exports",
    "figures",
    "tensorboard",
    "records/mnist",
    f"tickets/{_CELL}",
    "checkpoints/mnist/pgd",
    "exports/mnist",
    "exports/mnist/pgd/level_01",
)


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """See tests/hostile: every damage to a run's folder, and a function that does and resumes.

    And every damage to a training in the store, on which the run then goes on.
    """
    finished, run = scratch / "finished", scratch / "run"
    code, said = _drive(finished)
    assert code == 0, said
    for name, damage in _damages():
        yield name, functools.partial(_try, finished, run, damage)
    apart = scratch / "apart"
    shutil.copytree(finished, apart / "run")
    shutil.copytree(scratch / _STORE, apart / _STORE)
    whole = functools.cache(lambda: _gone_on(apart, scratch / "whole"))
    for file in ("record.json", "ticket.npz", "weights.npz", "node.json"):
        for what, damage in _damages_of(Path(file)):
            attempt = functools.partial(_try_store, apart, scratch / "again", damage, whole)
            yield f"{file} in the store: {what}", attempt
    garbage = functools.partial(
        _try_store, apart, scratch / "again", _train_again_from_garbage, whole
    )
    yield "a checkpoint of garbage in the store", garbage


def _drive(folder, *more):
    """Runs the driver here: exit code and standard error."""
    errors = io.StringIO()
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(errors),
        # Most of the time would go to them, and they read what the tables read.
        mock.patch.object(figures, "draw_figures", lambda *_: []),
    ):
        program.parse(["driver", f"--run_dir={folder}", *FLAGS, *more], driver.FLAGS)
        code = program.exit_code(driver.main, driver.FLAGS)
    return code, errors.getvalue()


def _try(finished, run, damage):
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(finished, run)
    damage(run)
    before = _work(run)
    try:
        code, said = _drive(run)
    except BaseException as error:  # That is what is looked for.
        return f"{type(error).__name__}: {str(error)[:80]!r}"
    if code == 0:
        same = _results(run) == _results(finished)
        return None if same else "accepted, with other results"
    message = said.strip().splitlines()[-1].replace(str(run), "RUN") if said.strip() else ""
    if code != 2 or not message.startswith("error: ") or "Traceback" in said:
        return f"exit code {code}: {said[-80:]!r}"
    if len(message) > _LONGEST_MESSAGE:
        return f"a message of {len(message)} characters"
    lost = [path for path, content in before.items() if _work(run).get(path) != content]
    return f"refused, but {lost[0]} is lost" if lost else None


def _try_store(apart, again, damage, whole):
    """Damages the last training, from which the run then goes on by a level."""
    try:
        code, rows_or_said = _gone_on(apart, again, damage)
    except BaseException as error:  # That is what is looked for.
        return f"{type(error).__name__}: {str(error)[:80]!r}"
    if code == 0:
        return None if rows_or_said == whole()[1] else "accepted, with other results"
    lines = rows_or_said.strip().splitlines()
    if code != 2 or not lines[-1].startswith("error: ") or "Traceback" in rows_or_said:
        return f"exit code {code}: {rows_or_said[-80:]!r}"
    return None if len(lines[-1].replace(str(again), "")) <= _LONGEST_MESSAGE else "a long message"


def _gone_on(apart, again, damage=lambda training: None):
    """The exit code, and the rows of results but times, or what was said in place of them."""
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(apart, again)
    nodes = {
        path.parent: json.loads(path.read_text()) for path in again.glob(f"{_STORE}/*/node.json")
    }
    (training,) = [path for path, node in nodes.items() if node.get("stream") == 1]
    damage(training)
    code, said = _drive(again / "run", "--rounds=3")
    if code:
        return code, said
    rows = (again / "run" / "results.csv").read_text().splitlines()
    return code, [row for row in rows if "seconds," not in row]


def _work(run):
    """Path → content of the files that hold what was computed."""
    files = [
        path for name in ("records", "tickets", "checkpoints") for path in run.rglob(f"{name}/**/*")
    ]
    return {path: path.read_bytes() for path in files if path.is_file()}


def _results(run):
    return (run / "results.csv").read_bytes()


def _damages():
    """Name → function of a run's folder, for every damage."""
    files = (_RECORD, _EARLIER_RECORD, _TICKET, _EARLIER_TICKET, _WEIGHTS, _EARLIER_WEIGHTS)
    for file in (*files, _INITIAL, *_OTHERS):
        for what, damage in _damages_of(file):
            yield f"{file}: {what}", damage
    for folder in _FOLDERS:
        yield f"{folder}: a file", functools.partial(_make_file, folder)
    yield from _DAMAGES.items()


def _damages_of(file):
    for what, change in _CHANGES.items():
        yield what, functools.partial(_change, file, change)
    yield "a folder", functools.partial(_make_folder, file)
    yield "a link to itself", functools.partial(_make_loop, file)


_CHANGES = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "its half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-40],
    "a web page": lambda content: b"<html>\n404\n</html>\n" * 20,
    "no text": lambda content: b"\xff\xfe\x00" * 500,
}


def _change(file, change, run):
    content = change((run / file).read_bytes())
    (run / file).unlink()
    if content is not None:
        (run / file).write_bytes(content)


def _remove(place):
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _make_folder(file, run):
    _remove(run / file)
    (run / file).mkdir()
    (run / file / "mine.txt").write_text("precious")


def _make_file(folder, run):
    _remove(run / folder)
    (run / folder).parent.mkdir(parents=True, exist_ok=True)
    (run / folder).write_text("precious")


def _make_loop(file, run):
    _remove(run / file)
    os.symlink(run / file, run / file)


def _copy(source, target, run):
    shutil.copyfile(run / source, run / target)


def _edit_record(change, run, sealed=True):
    text = (run / _RECORD).read_text()
    (run / _RECORD).write_text(change(text if sealed else text.split("\n", 1)[1]))


def _edit_config(change, run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(change(config)))


def _edit_arrays(file, change, run):
    save_arrays(run / file, change(load_arrays(run / file)))


def _without_last_rows(text):
    return "".join(text.splitlines(keepends=True)[:-3])


def _with_value(value):
    return lambda text: text.rsplit(",", 1)[0] + f",{value}\n"


def _write(file, text, run):
    (run / file).parent.mkdir(parents=True, exist_ok=True)
    (run / file).write_text(text)


def _train_again_from_garbage(training):
    (training / "record.json").unlink()
    _write("in_progress/checkpoint", "garbage: [", training)


_old = functools.partial(_edit_record, sealed=False)
_DAMAGES = {
    "a record that lost its last rows": functools.partial(_edit_record, _without_last_rows),
    "a record with NaN": functools.partial(_edit_record, _with_value("nan")),
    "a record with another value": functools.partial(_edit_record, _with_value("0.123")),
    "an old record with NaN": functools.partial(_old, _with_value("nan")),
    "an old record without rows": functools.partial(_old, lambda text: text.split("\n")[0] + "\n"),
    "an old record with text for a value": functools.partial(_old, _with_value("high")),
    "an old record with a field of 200,000 letters": functools.partial(
        _old, _with_value("x" * 200_000)
    ),
    "an old record with an open quote": functools.partial(_old, lambda text: text + '"'),
    "an old record": functools.partial(_old, lambda text: text),
    "the record of another level": functools.partial(_copy, _EARLIER_RECORD, _RECORD),
    "a user's table among the records": functools.partial(_write, "records/notes.csv", "a,b\n"),
    "a user's table beside a record": functools.partial(
        _write, f"records/{_CELL}/notes.csv", "a,b\n"
    ),
    "the ticket of another level": functools.partial(_copy, _EARLIER_TICKET, _TICKET),
    "the weights of another level": functools.partial(_copy, _EARLIER_WEIGHTS, _WEIGHTS),
    "weights in place of a ticket": functools.partial(_copy, _WEIGHTS, _TICKET),
    "a ticket in place of weights": functools.partial(_copy, _TICKET, _WEIGHTS),
    "trained in place of initial weights": functools.partial(_copy, _WEIGHTS, _INITIAL),
    "weights of other names": functools.partial(
        _edit_arrays, _WEIGHTS, lambda arrays: {f"{name}_": a for name, a in arrays.items()}
    ),
    "weights of other shapes": functools.partial(
        _edit_arrays, _WEIGHTS, lambda arrays: {name: a[:1] for name, a in arrays.items()}
    ),
    "weights of text": functools.partial(
        _edit_arrays, _WEIGHTS, lambda arrays: {name: a.astype("U3") for name, a in arrays.items()}
    ),
    "weights that are NaN": functools.partial(
        _edit_arrays, _WEIGHTS, lambda arrays: {name: a * np.nan for name, a in arrays.items()}
    ),
    "no weights at all": functools.partial(_edit_arrays, _WEIGHTS, lambda _: {}),
    "no initial weights at all": functools.partial(_edit_arrays, _INITIAL, lambda _: {}),
    "a configuration in brackets": functools.partial(_write, "config.json", "[" * 100_000),
    "a configuration that is a list": functools.partial(_write, "config.json", "[1]"),
    "a configuration of another run": functools.partial(
        _edit_config, lambda config: config | {"eps": 0.25}
    ),
    "a configuration of nothing": functools.partial(_edit_config, lambda config: {}),
    "a configuration with much more": functools.partial(
        _edit_config, lambda config: config | {f"flag_{n}": "x" * 1_000 for n in range(99)}
    ),
    "a leftover of a killed process": functools.partial(
        _write, "tickets/.tf_tickets-level_01.npz.abc/level_01.npz", "half"
    ),
}
