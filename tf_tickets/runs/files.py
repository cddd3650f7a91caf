"""Files that are either whole or not there: written aside, then renamed."""

import contextlib
import io
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tf_tickets.errors import UserError

# What reading a damaged archive raises; RuntimeError is "encrypted" or "unsupported".
_DAMAGE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)

# Starts the name of every temporary folder, so that leftovers can be told from a user's files.
TEMPORARY_PREFIX = ".tf_tickets-"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; renames it to `path` on success.

    Works for a file or a directory that the body creates. When the body raises,
    `path` keeps what it held and the temporary is removed. A directory that
    `path` held is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{path.name}.", dir=path.parent))
    try:
        written = temporary / path.name
        yield written
        if written.is_dir() and path.exists():
            path.rename(temporary / "replaced")
        os.replace(written, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
            # An entry of its own making, because np.savez would write the time of day.
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `save_arrays` wrote.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # Whole entries, because their checksums are compared at their ends.
            entries = {name: io.BytesIO(archive.read(name)) for name in archive.namelist()}
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(entry, allow_pickle=False)
            for name, entry in entries.items()
        }
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except _DAMAGE as error:
        raise UserError(f"{path}: damaged ({error})") from None


def load_json(path: Path):
    """Reads JSON.

    Raises:
      UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
