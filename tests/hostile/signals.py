"""Signals at any moment, and standard streams that are closed, full or of few characters."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.analysis.tickets import random_ticket, save

_ROOT = Path(__file__).parents[2]
_LONGEST_LINE = 300
# Python runs this first. It sends the process a signal at a moment of its own: when it has
# imported a module, or opens a file, whose name ends with the given text.
_SENDER = """
import os, sys
kind, ending, number = os.environ["TF_TICKETS_MOMENT"].split("|")
def send(event, arguments):
    global number
    if number and event == kind and arguments and str(arguments[0]).endswith(ending):
        sent, number = number, ""
        os.kill(os.getpid(), int(sent))
sys.addaudithook(send)
"""
_DRIVER = (
    "sparse_robust_networks",
    "--run_dir=run",
    "--preset=smoke",
    "--regimes=natural",
    "--pruning_strategies=original",
    "--rounds=1",
    "--iterations=20",
    "--evaluate_every=20",
)
_TOOL = ("inspect_ticket", "--ticket=ticket.npz", "--output=out")
_HELP = ("evaluate", "--help")
# Moments while modules load, the same for all programs, and moments of their own.
_LOADING = (
    ("import", "tf_tickets"),
    ("import", "numpy"),
    ("import", "tensorflow"),
    ("import", "tensorflow.python.framework.ops"),
    ("import", "pandas"),
    ("import", "experiments.kinds"),
    ("import", "tf_tickets.runs.files"),
)
_OF_DRIVER = (
    ("open", "config.json"),
    ("open", "results.csv"),
    ("open", "initial_weights.npz"),
    ("open", "level_00.npz"),
    ("open", "level_00.csv"),
    ("open", "environment.json"),
)
_OF_TOOL = (
    ("open", "ticket.npz"),
    ("open", "layers.csv"),
    ("open", "masks.png"),
    ("open", "inspection.json"),
)


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """See tests/hostile: every moment and every stream, and a function that tries it."""
    _prepare(scratch)
    moments = [
        *((_TOOL, moment) for moment in (*_LOADING, *_OF_TOOL)),
        *((_DRIVER, moment) for moment in (_LOADING[2], *_OF_DRIVER)),
    ]
    for number, name in ((2, "SIGINT"), (15, "SIGTERM")):
        for program, (kind, ending) in moments:
            shown = f"{name} to {program[0]} at the {kind} of {ending}"
            moment = f"{kind}|{ending}|{number}"
            yield shown, lambda p=program, m=moment, n=number: _try_signal(scratch, p, m, n)
    for name, (program, redirection, code, environment) in _streams().items():
        arguments = (program, redirection, code, environment)
        yield name, lambda a=arguments: _try_stream(scratch, *a)


def _streams():
    """Name → program, what the shell does with its streams, exit code, variables."""
    latin = {"PYTHONIOENCODING": "latin-1"}
    ascii_ = {"PYTHONIOENCODING": "ascii"}
    no_utf8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    wrong = (*_TOOL, "--wrong=ü")
    return {
        "results to a closed pipe": (_TOOL, "| true", 141, {}),
        "results to a full device": (_TOOL, "> /dev/full", 3, {}),
        "help to a closed pipe": (_HELP, "| true", 0, {}),
        "help to a full device": (_HELP, "> /dev/full", 0, {}),
        "errors to a full device": (_TOOL, "2> /dev/full", 0, {}),
        "a wrong flag's error to a full device": (wrong, "2> /dev/full", 2, {}),
        "standard input closed": (_TOOL, "< /dev/null <&-", 0, {}),
        "standard output closed": (_TOOL, ">&-", 0, {}),
        "standard error closed": (_TOOL, "2>&-", 0, {}),
        "all streams closed": (_TOOL, "<&- >&- 2>&-", 0, {}),
        "results in Latin-1": (_TOOL, "", 0, latin),
        "results in ASCII": (_TOOL, "", 0, ascii_),
        "results in C's locale": (_TOOL, "", 0, no_utf8),
        "help in ASCII": (_HELP, "", 0, ascii_),
        "a wrong flag's error in ASCII": (wrong, "", 2, ascii_),
        "no HOME": (_TOOL, "", 0, {"HOME": ""}),
        "a HOME that is not there": (_TOOL, "", 0, {"HOME": "/proc/nowhere"}),
    }


def _prepare(scratch):
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "sitecustomize.py").write_text(_SENDER)
    save(scratch, "a/b/c/d", 1, random_ticket(0)).rename(scratch / "ticket.npz")


def _start(scratch, program, redirection, **environment):
    for output in ("out", "run"):
        subprocess.run(["rm", "-rf", scratch / output], check=True)
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    name, *flags = program
    # The program's exit code, not that of what reads its output.
    command = f'set -o pipefail; "$0" "$@" {redirection}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, "-m", f"experiments.{name}", *flags],
        cwd=scratch,
        env={**inherited, "MPLBACKEND": "agg", **environment},
        capture_output=True,
        timeout=600,
    )


def _try_signal(scratch, program, moment, number):
    paths = f"{scratch}{os.pathsep}{_ROOT}"
    ended = _start(scratch, program, "", PYTHONPATH=paths, TF_TICKETS_MOMENT=moment)
    lines = ended.stderr.decode().replace("\r", "\n").splitlines()
    lines = [line for line in lines if line.strip() and " passed, " not in line]  # The bar.
    if ended.returncode != 128 + number:
        return f"exit code {ended.returncode}: {lines[-1:]}"
    if len(lines) != 1 or len(lines[0]) > _LONGEST_LINE or not lines[0].startswith("stopped by"):
        return f"{len(lines)} lines: {lines[:2]}"
    left = [path.name for path in scratch.rglob(".tf_tickets-*")]
    return f"left behind: {left}" if left else None


def _try_stream(scratch, program, redirection, code, environment):
    ended = _start(scratch, program, redirection, PYTHONPATH=f"{_ROOT}", **environment)
    lines = ended.stderr.decode(errors="replace").splitlines()
    if ended.returncode != code:
        return f"exit code {ended.returncode}: {lines[-1:]}"
    expected = 0 if code == 0 and "help" not in f"{program}" else 1
    if len(lines) > expected or any(len(line) > _LONGEST_LINE for line in lines):
        return f"{len(lines)} lines: {lines[:2]}"
    if program == _TOOL and not (scratch / "out" / "inspection.json").exists():
        return "nothing was written"
    return None
