"""Disks that are full at the moment when a certain file is written."""

import contextlib
import errno
import functools
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import tensorflow as tf

from experiments import inspect_ticket, program
from experiments.sparse_robust_networks import driver
from tests.analysis.tickets import random_ticket, save
from tests.experiments import programs

_LONGEST_MESSAGE = 300
_FULL = os.strerror(errno.ENOSPC)
_DRIVER = (
    "--preset=smoke",
    "--regimes=natural",
    "--pruning_strategies=original",
    "--rounds=1",
    "--iterations=20",
    "--evaluate_every=20",
    "--workers=1",
    "--checkpoint_minutes=0",
)
# What the driver writes, in this order: Python's files by what their path matches, others by the
# function that writes them. Each attempt goes on where the one before it failed.
_OF_DRIVER = (
    r"run/.*environment\.json",
    r"run/.*config\.json",
    r"run/.*results\.csv",
    r"tf_tickets_store/.*node\.json",
    "tensorflow.summary.create_file_writer",
    "tensorflow.train.CheckpointManager.save",
    r"tf_tickets_store/.*weights\.npz",
    r"tf_tickets_store/.*ticket\.npz",
    r"tf_tickets_store/.*record\.json",
    r"run/tickets/.*initial_weights\.npz",
    r"run/records/.*level_00\.csv",
    "tensorflow.saved_model.save",
    r"run/figures/.*\.png",
    r"run/.*summary\.md",
)
_OF_TOOL = (r"/out/.*layers\.csv", r"/out/.*masks\.png", r"/out/.*inspection\.json")

# What a run says before its work begins.
_OVERVIEW = re.compile(r"\d+ \w+: \d+ are there|expected time: |work is kept in ")

_full = None  # What the paths match that cannot be written.


def _refuse(event, arguments):
    """Of all files that this process opens, refuses to make the ones that match."""
    if _full is None or event not in ("open", "os.mkdir"):
        return
    makes = event == "os.mkdir" or (isinstance(arguments[1], str) and arguments[1][0] in "wxa")
    if makes and re.search(_full, str(arguments[0])):
        # As writing does, which knows no path.
        raise OSError(errno.ENOSPC, _FULL)


@functools.cache
def _watch():
    sys.addaudithook(_refuse)  # For good.


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """See tests/hostile: every moment and a function that fills the disk at it."""
    scratch.mkdir(parents=True, exist_ok=True)
    _watch()
    save(scratch, "a/b/c/d", 1, random_ticket(0)).rename(scratch / "ticket.npz")
    for moment in _OF_TOOL:
        yield f"inspect_ticket at {moment}", lambda m=moment: _try_tool(scratch, m)
    for moment in _OF_DRIVER:
        shown = f"sparse_robust_networks at {moment}"
        yield shown, lambda m=moment: _try_driver(scratch / "run", m)
    yield "the run goes on to the same results", lambda: _try_results(scratch)
    for place, code in ((scratch / "written", 0), (Path("/proc/nowhere/refused"), 2)):
        shown = f"a home that cannot be written, {place.name}"
        yield shown, lambda place=place, code=code: _try_without_home(scratch, place, code)


@contextlib.contextmanager
def _disk_full_at(moment):
    global _full
    if moment.startswith("tensorflow."):
        error = tf.errors.ResourceExhaustedError(None, None, f"a/file; {_FULL}")
        with mock.patch(moment, side_effect=error):
            yield
        return
    _full = moment
    try:
        yield
    finally:
        _full = None


def _run(module, resumable, *flags):
    """Runs a program here: exit code and what it says."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        program.parse(["program", *flags], module.FLAGS)
        code = program.exit_code(module.main, module.FLAGS, resumable)
    lines = errors.getvalue().replace("\r", "\n").splitlines()
    lines = [line for line in lines if line.strip() and " passed, " not in line]
    return code, [line for line in lines if not _OVERVIEW.match(line)]


def _badly_said(code, lines, expected):
    if code != 3:
        return f"exit code {code}: {lines[-1:]}"
    if len(lines) != 1 or len(lines[0]) > _LONGEST_MESSAGE:
        return f"{len(lines)} lines: {lines[:2]}"
    named = re.match(r"error: (\S+): no space left on the disk; ", lines[0])
    if not named or "None" in named[1]:
        return f"names no file: {lines[0]}"
    return None if expected in lines[0] else f"wrong advice: {lines[0]}"


def _try_tool(scratch, moment):
    flags = (f"--ticket={scratch / 'ticket.npz'}", f"--output={scratch / 'out'}")
    with _disk_full_at(moment):
        code, lines = _run(inspect_ticket, False, *flags)
    left = [path.name for path in scratch.iterdir() if path.name not in ("ticket.npz", "tickets")]
    left = [name for name in left if name not in ("run", "tf_tickets_store")]
    return _badly_said(code, lines, "it was not written") or (f"left: {left}" if left else None)


def _try_driver(run, moment):
    with _disk_full_at(moment):
        code, lines = _run(driver, True, f"--run_dir={run}", *_DRIVER)
    return _badly_said(code, lines, "run the same command again")


def _try_results(scratch):
    """The run that was stopped so often, and one that never was."""
    rows = []
    for name in ("run", "whole"):
        code, lines = _run(driver, True, f"--run_dir={scratch / name}", *_DRIVER)
        if code:
            return f"exit code {code}: {lines[-1:]}"
        lines = (scratch / name / "results.csv").read_text().splitlines()
        rows.append([line for line in lines if "seconds," not in line])
        shutil.rmtree(scratch / name)
        shutil.rmtree(scratch / "tf_tickets_store")
    return None if rows[0] == rows[1] else "other results"


def _try_without_home(scratch, place, expected):
    """In a process of its own, as Matplotlib looks for its folder once."""
    flags = (f"--ticket={scratch / 'ticket.npz'}", f"--output={place}")
    nowhere = {"HOME": "/proc/nowhere", "MPLCONFIGDIR": "", "XDG_CONFIG_HOME": ""}
    code, _, errors = programs.run("inspect_ticket", *flags, **nowhere)
    lines = errors.splitlines()
    if code != expected or len(lines) != (1 if expected else 0):
        return f"exit code {code}: {lines[:3]}"
    return None
