"""A part of the signals and streams; `python -m tests.hostile signals` tries them all."""

import itertools

import pytest

from tests.hostile import signals

PART = (
    "SIGINT to inspect_ticket at the import of tensorflow",
    "SIGTERM to inspect_ticket at the open of layers.csv",
    "results to a closed pipe",
    "all streams closed",
    "help in ASCII",
)


def test_there_are_as_many_as_promised(tmp_path):
    names = [name for name, _ in signals.attempts(tmp_path)]
    assert len(set(names)) == len(names) and set(PART) < set(names)
    assert sum(name.startswith("SIG") for name in names) >= 16
    assert sum(not name.startswith("SIG") for name in names) >= 15


@pytest.mark.parametrize("wanted", PART)
def test_it_is_one_line(tmp_path, wanted):
    attempts = signals.attempts(tmp_path)
    (attempt,) = itertools.islice((each for name, each in attempts if name == wanted), 1)
    assert attempt() is None
