"""Files that are either whole or not there, and readers that no file can hurt.

Written aside, then renamed. What is read may be damaged or made to harm: every reader here
bounds what it takes into memory, runs nothing, and refuses in one line.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tf_tickets.errors import StopRequested, UserError, one_line

# Starts the name of every temporary folder, so that leftovers can be told from a user's files.
TEMPORARY_PREFIX = ".tf_tickets-"

# The largest text file that is read: word lists and the scores of large networks are below.
_MOST_TEXT = 256 * 2**20
# How many brackets JSON may have within each other.
_MOST_NESTED = 100
# What an archive may unpack to: this much, or so many times its own size. The weights of a
# network with one weight in a hundred left shrink by less.
_UNPACKED_AT_LEAST = 256 * 2**20
_UNPACKED_RATIO = 100
# The method "deflate" and no compression: what NumPy and we write.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Kinds of NumPy's types that an array may have: no objects, and nothing made of several fields.
_KINDS = "biufcSU"
# What a disk may say when it is full, or what its user has of it.
_FULL = (errno.ENOSPC, errno.EDQUOT)


def before_commit(path: Path) -> None:
    """Called right before anything comes to be at `path`, whoever writes it.

    Tests put in its place what a killed process does: nothing more.
    """


@contextlib.contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Turns every form that a full disk takes into one: an `OSError` of errno ENOSPC about `path`.

    Of Python's own it adds which file was written. TensorFlow raises errors of its own, and
    TensorBoard's writers do not say why, so that the disk is asked.

    Args:
      path: what the body writes.
    """
    try:
        yield
    except (UserError, StopRequested):
        raise
    except Exception as error:
        if not _is_full(error, path):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None


def _is_full(error, path):
    if isinstance(error, OSError):
        return error.errno in _FULL
    if any(os.strerror(number) in str(error) for number in _FULL):
        return True
    with contextlib.suppress(OSError):
        there = next(folder for folder in path.absolute().parents if folder.is_dir())
        return shutil.disk_usage(there).free == 0
    return False


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; renames it to `path` on success.

    Works for a file or a directory that the body creates. When the body raises,
    `path` keeps what it held and the temporary is removed. A directory that
    `path` held is replaced.

    Raises:
      OSError: the disk is full, see `naming_full_disk`.
      UserError: a file is where a folder must be, or a folder in place of a file.
    """
    with naming_full_disk(path):
        make_folder(path.parent)
        folder = tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{path.name}.", dir=path.parent)
    temporary = Path(folder)
    try:
        with naming_full_disk(path):
            written = temporary / path.name
            yield written
            if path.exists() and path.is_dir() != written.is_dir():
                found, needed = ("folder", "file") if path.is_dir() else ("file", "folder")
                raise UserError(f"{path}: a {found}, but a {needed} is written here; move it away")
            before_commit(path)
            if path.is_dir():
                path.rename(temporary / "replaced")
            os.replace(written, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
      UserError: a file is in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        in_the_way = next((each for each in (path, *path.parents) if each.is_file()), path)
        problem = "a file, but a folder is needed here; move it away"
        raise UserError(f"{in_the_way}: {problem}") from None


def atomic_write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def atomic_write_json(path: Path, value) -> None:
    """Writes indented JSON atomically."""
    atomic_write_text(path, json.dumps(value, indent=2) + "\n")


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as one `.npz` file, atomically; equal arrays give equal bytes."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            array = np.asarray(array, order="C")
            # An entry of its own making, because np.savez would write the time of day.
            entry, content = zipfile.ZipInfo(f"{name}.npy"), io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(entry, content.getbuffer(), _compression(array), compresslevel=1)


def _compression(array):
    """None for trained weights that are all there: no method makes them smaller."""
    is_dense = array.dtype.kind == "f" and 2 * np.count_nonzero(array) > array.size
    return zipfile.ZIP_STORED if is_dense else zipfile.ZIP_DEFLATED


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `save_arrays` or `np.savez` wrote: numbers and text, never objects.

    Raises:
      UserError: the file is missing or damaged, or unpacks to more than its size makes likely.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _require_bounded(archive, path)
            return {
                entry.filename.removesuffix(".npy"): _parse_array(unpack(archive, entry))
                for entry in archive.infolist()
            }
    except Exception as error:  # Archives, compression and headers have errors of their own.
        raise UserError(f"{path}: damaged ({one_line(error)})") from None


def require_bounded_archive(path: Path) -> None:
    """Raises a `UserError` about a zip file that no other library should be given to unpack.

    What is in it must have a name of its own, be compressed in the usual way if at all, and not
    say that it unpacks to more than the file's size makes likely.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _require_bounded(archive, path)
    except Exception as error:
        raise UserError(f"{path}: damaged ({one_line(error)})") from None


def most_unpacked(path: Path) -> int:
    """How many bytes a file may unpack to."""
    return max(_UNPACKED_AT_LEAST, _UNPACKED_RATIO * path.stat().st_size)


def _require_bounded(archive, path):
    entries, file_size = archive.infolist(), path.stat().st_size
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("the same name twice")
    if any(entry.compress_type not in _METHODS for entry in entries):
        raise ValueError("compressed in a way that is not read")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > most_unpacked(path):
        raise ValueError(f"unpacks to {unpacked:.3g} bytes, of {file_size}")


def unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of an entry, of which the archive says how many there are; not one more is read.

    The checksum is compared at the end.
    """
    with archive.open(entry) as file:
        content = file.read(entry.file_size)
        if len(content) < entry.file_size or file.read(1):
            raise ValueError(f"{entry.filename} is of another length")
        return content


def _parse_array(content):
    """The array of a `.npy` file."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"an array of format {version}")
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise ValueError(f"an array of type {dtype}")
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape}")
    # The header is not believed: it may claim more than there is.
    flat = np.frombuffer(content, dtype, offset=file.tell()).copy()
    if dtype.kind == "U" and np.any(
        flat.view(np.dtype("u4").newbyteorder(dtype.byteorder)) > 0x10FFFF
    ):
        raise ValueError("text that is no Unicode")
    return flat.reshape(shape, order="F" if fortran_order else "C")


def load_json(path: Path):
    """Reads JSON.

    Raises:
      UserError: the file is missing, damaged or too large, or nested too deeply.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, source: str):
    """Reads JSON.

    Args:
      text: the JSON.
      source: where it is from, for the error.

    Raises:
      UserError: it is damaged, or nested more than 100 deep.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise UserError(f"{source}: not valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise UserError(f"{source}: not valid JSON ({one_line(error)})") from None
    level = [value]
    for _ in range(_MOST_NESTED):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise UserError(f"{source}: not valid JSON (nested too deeply)")


def read_text(path: Path, newline: str | None = None) -> str:
    """Reads UTF-8 text.

    Args:
      path: the file.
      newline: as of `open`; "" keeps the line ends as they are.

    Raises:
      UserError: the file is missing, too large, or no UTF-8.
    """
    require_file(path)
    try:
        size = path.stat().st_size
        if size > _MOST_TEXT:
            raise UserError(f"{path}: {size} bytes; expected text of at most {_MOST_TEXT}")
        with path.open(encoding="utf-8", newline=newline) as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({one_line(error)})") from None


def require_file(path: Path) -> None:
    """Raises a `UserError` unless `path` is a file."""
    try:
        if path.is_file():
            return
        found = "a folder, not a file" if path.is_dir() else "no such file"
    except (OSError, ValueError) as error:  # A name that is too long, or has a zero in it.
        found = one_line(getattr(error, "strerror", None) or error)
    raise UserError(f"{one_line(path, 160)}: {found}")


def file_sha256(path: Path) -> str:
    """Of all bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
