"""Every damaged file is refused in a short line, or read as what was written."""

import pytest

from tests.hostile import damaged_files
from tf_tickets.errors import UserError


def test_no_damaged_file_is_handled_badly(tmp_path):
    tried = [(name, attempt()) for name, attempt in damaged_files.attempts(tmp_path)]
    assert len(tried) > 5_000
    bad = [f"{name}: {said}" for name, said in tried if said]
    assert not bad, "\n".join(bad[:20])


def fails(error):
    def read(_):
        raise error

    return read


@pytest.mark.parametrize(
    "read, said",
    [
        (lambda path: path.read_bytes(), None),
        (fails(UserError("file.npz: damaged")), None),
        (fails(UserError("x" * 301)), "a message of 301 characters"),
        (fails(UserError("two\nlines")), "a message of 9 characters"),
        (fails(MemoryError()), "MemoryError"),
        (lambda _: b"changed", "read as something else"),
    ],
)
def test_what_counts_as_bad(tmp_path, read, said):
    kind = damaged_files.Kind("any", ".npz", b"", read, True, 0)
    found = damaged_files._try(kind, tmp_path / "file.npz", b"sound", b"sound")
    assert found is None if said is None else found.startswith(said)
