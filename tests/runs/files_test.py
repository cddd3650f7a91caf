"""Atomic files and folders, and arrays on disk."""

import errno
import io
import json
import os
import pickle
import shutil
import time
import zipfile

import numpy as np
import pytest

from tf_tickets.errors import UserError
from tf_tickets.runs.files import (
    atomic_path,
    atomic_write_json,
    atomic_write_text,
    load_arrays,
    load_json,
    naming_full_disk,
    save_arrays,
)

ARRAYS = {
    "hidden/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "fortran": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "big_endian": np.array([1, 2, 3], ">i4"),
    "mask": np.array([[True, False], [False, True]]),
    "number": np.array(3, np.int64),
    "flag": np.array(True),
    "empty": np.zeros((0, 3), np.float32),
    "awkward": np.array([np.nan, -0.0, np.inf, 5e-324]),
    "text": np.array(["ä", "ticket"]),
}


class Interrupted(Exception):
    """Stands for whatever stops the body of `atomic_path`."""


def tree(folder):
    """Relative path → bytes of every file below a folder, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def assert_same_arrays(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def test_a_file_appears_whole_and_in_new_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half ")
        assert not path.exists()
        with temporary.open("a") as file:
            file.write("whole")
    assert tree(tmp_path) == {"a": None, "a/b": None, "a/b/file.txt": b"half whole"}


def test_a_file_is_replaced_only_at_the_end(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert tree(tmp_path) == {"file.txt": b"new"}


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failing_body_leaves_a_file_as_it_was(tmp_path, old):
    path = tmp_path / "file.txt"
    if old is not None:
        path.write_bytes(old)
    before = tree(tmp_path)
    with pytest.raises(Interrupted), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise Interrupted
    assert tree(tmp_path) == before


def test_a_directory_is_replaced_with_all_it_held(tmp_path):
    path = tmp_path / "export"
    (path / "variables").mkdir(parents=True)
    (path / "variables" / "stale").write_text("old")
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "graph").write_text("new")
        assert (path / "variables" / "stale").exists()
    assert tree(tmp_path) == {"export": None, "export/graph": b"new"}


def test_a_failing_body_leaves_a_directory_as_it_was(tmp_path):
    path = tmp_path / "export"
    path.mkdir()
    (path / "graph").write_text("old")
    before = tree(tmp_path)
    with pytest.raises(Interrupted), atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "graph").write_text("half")
        raise Interrupted
    assert tree(tmp_path) == before


def test_a_body_that_writes_nothing_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert tree(tmp_path) == {"file.txt": b"old"}


def test_text_is_utf_8(tmp_path):
    atomic_write_text(tmp_path / "text", "ε ≤ 0.3\n")
    assert tree(tmp_path) == {"text": "ε ≤ 0.3\n".encode()}


def test_json_round_trip(tmp_path):
    value = {"eps": 0.1 + 0.2, "name": "ä", "list": [1, None, True], "nested": {"a": {}}}
    path = tmp_path / "value.json"
    atomic_write_json(path, value)
    assert load_json(path) == value
    assert json.loads(path.read_bytes()) == value


def test_a_json_value_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    path.write_text("{}")
    with pytest.raises(TypeError):
        atomic_write_json(path, {"array": np.zeros(2)})
    assert tree(tmp_path) == {"value.json": b"{}"}


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"{'a': 1}", b"\xff\xfe"])
def test_damaged_json_is_refused_by_name(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_json(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_arrays_round_trip(tmp_path):
    save_arrays(tmp_path / "arrays.npz", ARRAYS)
    assert_same_arrays(load_arrays(tmp_path / "arrays.npz"), ARRAYS)
    assert list(tree(tmp_path)) == ["arrays.npz"]


def test_python_numbers_become_arrays_without_dimensions(tmp_path):
    save_arrays(tmp_path / "arrays.npz", {"number": 3, "flag": True, "real": 0.1 + 0.2})
    assert_same_arrays(
        load_arrays(tmp_path / "arrays.npz"),
        {"number": np.array(3), "flag": np.array(True), "real": np.array(0.1 + 0.2)},
    )


def test_no_arrays_at_all_round_trip(tmp_path):
    save_arrays(tmp_path / "arrays.npz", {})
    assert load_arrays(tmp_path / "arrays.npz") == {}


def test_numpy_alone_reads_the_file(tmp_path):
    save_arrays(tmp_path / "arrays.npz", ARRAYS)
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as archive:
        assert_same_arrays({name: archive[name] for name in archive.files}, ARRAYS)


def test_equal_arrays_give_equal_bytes_at_any_time(tmp_path, monkeypatch):
    save_arrays(tmp_path / "now.npz", ARRAYS)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    save_arrays(tmp_path / "later.npz", {name: array.copy() for name, array in ARRAYS.items()})
    changed = {**ARRAYS, "flag": np.array(False)}
    save_arrays(tmp_path / "changed.npz", changed)
    now_bytes = (tmp_path / "now.npz").read_bytes()
    assert (tmp_path / "later.npz").read_bytes() == now_bytes
    assert (tmp_path / "changed.npz").read_bytes() != now_bytes


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError):
        save_arrays(tmp_path / "arrays.npz", {"object": np.array([{}], object)})
    assert tree(tmp_path) == {}


def assert_refused(path):
    with pytest.raises(UserError) as caught:
        load_arrays(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """Two arrays and the bytes of their file."""
    path = tmp_path_factory.mktemp("small") / "arrays.npz"
    arrays = {
        "a/kernel": np.random.default_rng(0).integers(0, 3, (60, 100)).astype(np.float32),
        "b": np.array([True, False]),
    }
    save_arrays(path, arrays)
    return arrays, path.read_bytes()


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, small_file):
    _, content = small_file
    path = tmp_path / "arrays.npz"
    for length in {*range(0, len(content), 37), len(content) - 22, len(content) - 1}:
        path.write_bytes(content[:length])
        assert_refused(path)


def test_no_flipped_bit_gives_other_values(tmp_path, small_file):
    arrays, content = small_file
    path = tmp_path / "arrays.npz"
    refused = 0
    ends = {*range(300), *range(len(content) - 200, len(content))}
    positions = sorted({*ends, *range(300, len(content), 29)})
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            found = load_arrays(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:  # Bits that mean nothing, such as the entry's date; or the list of entries.
            assert_same_arrays(found, {name: arrays[name] for name in found})
    assert refused > len(positions) / 2


def test_a_flipped_byte_of_the_data_is_refused(tmp_path, small_file):
    _, content = small_file
    path = tmp_path / "arrays.npz"
    for position in range(100, 600, 7):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]
        )
        assert_refused(path)


def npy_bytes(array, allow_pickle=False):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"no archive at all\n" * 9, npy_bytes(np.ones(3)), pickle.dumps([1])]
)
def test_what_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    assert_refused(path)


class Bomb:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_pickled_objects_in_an_archive_are_refused_and_not_run(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, fine=np.ones(3), bomb=np.array([Bomb()], object), allow_pickle=True)
    assert_refused(path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "not an array")
    assert_refused(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert_refused(tmp_path / "missing.npz")
    assert_refused(tmp_path)


def entry_of(content, name="a.npy", method=zipfile.ZIP_DEFLATED):
    """An archive of one entry, as bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def npy_header(shape, descr="<f4", more=""):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, {more}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        entry_of(npy_header("(10000000000000,)")),
        entry_of(npy_header("(3,)") + bytes(8)),
        entry_of(npy_header("(2,)") + bytes(12)),
        entry_of(npy_header("(-1,)") + bytes(8)[:0]),
        entry_of(npy_header("(1,)", "<U0")),
        entry_of(npy_header("(1,)", [("x", "<f4")]) + bytes(4)),
        entry_of(npy_header("(1,)", "|O") + bytes(8)),
        entry_of(b"\x93NUMPY\x01\x00\x28\x23" + b"(" * 9_000),
        entry_of(b"\x93NUMPY\x03\x00" + npy_header("()")[8:] + bytes(4)),
        entry_of(npy_bytes(np.ones(3)), method=zipfile.ZIP_LZMA),
        entry_of(npy_bytes(np.ones(3)), method=zipfile.ZIP_BZIP2),
    ],
)
def test_headers_that_claim_anything_are_refused(tmp_path, content):
    path = tmp_path / "arrays.npz"
    path.write_bytes(content)
    assert_refused(path)


def test_a_bomb_is_refused_by_what_it_says_of_itself(tmp_path):
    path = tmp_path / "arrays.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.npy", "w", force_zip64=True) as file:
            file.write(npy_header(f"({300 * 2**18},)"))
            for _ in range(300):
                file.write(bytes(2**20))
    with pytest.raises(UserError, match=r"damaged \(unpacks to 3.15e\+08 bytes, of "):
        load_arrays(path)


def test_a_bomb_that_hides_its_size_is_not_unpacked(tmp_path):
    import tracemalloc

    content = bytearray(entry_of(bytes(64 * 2**20)))
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = (100).to_bytes(4, "little")
    (tmp_path / "arrays.npz").write_bytes(content)
    tracemalloc.start()
    assert_refused(tmp_path / "arrays.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_the_same_name_twice_is_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        for value in (1, 2):
            archive.writestr("a.npy", npy_bytes(np.array(value)))
    assert_refused(path)


def test_an_error_stays_short_however_long_the_name_in_it(tmp_path):
    content = entry_of(npy_bytes(np.ones(3)), name="n" * 60_000)
    position = content.index(b"nnn") + 9
    path = tmp_path / "arrays.npz"
    path.write_bytes(content[:position] + b"\n" + content[position + 1 :])
    with pytest.raises(UserError) as caught:
        load_arrays(path)
    assert len(str(caught.value)) < len(str(path)) + 200 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 101 + "]" * 101, '{"a":' * 5_000, "9" * 5_000]
)
def test_json_without_end_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UserError, match="^[^ ]*config.json: not valid JSON") as caught:
        load_json(path)
    assert len(str(caught.value)) < len(str(path)) + 200


def test_json_that_is_missing_or_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"value.json: no such file$"):
        load_json(tmp_path / "value.json")
    with pytest.raises(UserError, match=r": a folder, not a file$"):
        load_json(tmp_path)
    with pytest.raises(UserError, match=r"File name too long$"):
        load_json(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EDQUOT, "quota"),
        RuntimeError("part-0; No space left on device [Op:SaveV2]"),
    ],
)
def test_a_full_disk_is_one_error_that_names_the_file(tmp_path, error):
    path = tmp_path / "new" / "file.txt"
    with pytest.raises(OSError) as caught, atomic_path(path):
        raise error
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert tree(tmp_path) == {"new": None}


@pytest.mark.parametrize("free", [0, 1])
def test_of_an_error_that_does_not_say_why_the_disk_is_asked(tmp_path, monkeypatch, free):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RuntimeError if free else OSError), naming_full_disk(tmp_path / "a" / "b"):
        raise RuntimeError("Could not initialize events writer.")


def test_other_errors_of_a_disk_stay_what_they_are(tmp_path):
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "file"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert caught.value.errno == errno.EIO


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UserError, match=f"^{tmp_path / 'a'}: a file, but a folder is needed"):
        atomic_write_text(tmp_path / "a" / "b" / "c.txt", "text")
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(UserError, match=f"^{tmp_path / 'b.txt'}: a folder, but a file is written"):
        atomic_write_text(tmp_path / "b.txt", "text")
    with (
        pytest.raises(UserError, match=f"^{tmp_path / 'a'}: a file, but a folder is written here"),
        atomic_path(tmp_path / "a") as temporary,
    ):
        temporary.mkdir()
    assert tree(tmp_path) == {"a": b"mine", "b.txt": None}
