"""How a program ends."""

import errno
import sys

import pytest
from absl import flags

from experiments import program


def fail_with(failure):
    def main():
        raise failure

    return main


@pytest.mark.parametrize(
    "failure,code,message",
    [
        (
            OSError(errno.ENOSPC, "no space", "a/file"),
            3,
            "error: a/file: no space left on the disk",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a/file"), 2, "error: a/file: Perm"),
        (OSError(errno.EROFS, "Read-only file system", "a/file"), 2, "error: a/file: Read-only"),
    ],
)
def test_what_a_user_can_mend_is_one_line(capsys, failure, code, message):
    assert program.exit_code(fail_with(failure), flags.FlagValues()) == code
    errors = capsys.readouterr().err
    assert errors.startswith(message) and len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "failure", [OSError(errno.EIO, "input/output error"), PermissionError("in a socket")]
)
def test_any_other_failure_keeps_its_trace(failure):
    with pytest.raises(OSError):
        program.exit_code(fail_with(failure), flags.FlagValues())


@pytest.mark.parametrize(
    "path,name",
    [
        ("checkout/experiments/boosting_tickets/__main__.py", "boosting_tickets"),
        ("checkout/experiments/analyze.py", "analyze"),
    ],
)
def test_who_stops_a_program_is_told_how_it_goes_on(capsys, monkeypatch, path, name):
    monkeypatch.setattr(sys, "argv", [path, "--run_dir=my run"])
    assert program.exit_code(fail_with(KeyboardInterrupt()), flags.FlagValues()) == 130
    assert capsys.readouterr().err == (
        "stopped by SIGINT; everything so far is kept. The same command goes on: "
        f"python -m experiments.{name} '--run_dir=my run'\n"
    )
