"""The command that tries hostile inputs, as its user runs it."""

import pytest

from tests.hostile import __main__ as command


def run(monkeypatch, capsys, *arguments):
    """Exit code, standard output, standard error."""
    monkeypatch.setattr("sys.argv", ["hostile", *arguments])
    return command.main(), *capsys.readouterr()


def test_help_names_the_kinds(monkeypatch, capsys):
    code, said, errors = run(monkeypatch, capsys, "--help")
    assert code == 0 and not errors
    assert said.startswith(command.__doc__) and all(kind in said for kind in command.kinds())


@pytest.mark.parametrize("arguments", [["nobody"], ["flags", "nobody"], ["flags", "__main__"]])
def test_a_kind_that_is_not_there_is_one_line_before_anything_is_tried(
    monkeypatch, capsys, arguments
):
    code, said, errors = run(monkeypatch, capsys, *arguments)
    assert code == 2 and not said
    assert errors.startswith(f"error: {arguments[-1]}: expected ") and errors.count("\n") == 1
    assert all(kind in errors for kind in command.kinds())
