"""Finished pieces of work that runs share: the same work is not done twice."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tf_tickets.errors import UserError
from tf_tickets.runs.files import atomic_path, atomic_write_json, load_json
from tf_tickets.runs.run_directory import RunDirectory


def identity(decisive: Mapping) -> str:
    """The hash of everything that decides a piece of work, given as JSON values."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class Pieces:
    """The pieces of a run, and of the runs beside it in the same folder.

    `pieces/<identity>.json` in a run's folder lists the files that a finished piece consists
    of. Another run that needs a piece of the same identity copies them.

    Args:
      run: the run.
    """

    def __init__(self, run: RunDirectory):
        self._run = run

    def add(self, name: str, files: Iterable[Path]) -> None:
        """Makes a finished piece known.

        Args:
          name: its `identity`.
          files: of the run's folder, that which marks it as finished last.
        """
        listed = {str(path.relative_to(self._run.path)): _sha256(path) for path in files}
        atomic_write_json(_list_path(self._run.path, name), {"files": listed})

    def adopt(self, name: str, marker: Path) -> bool:
        """Takes a finished piece over from a run beside this one, if there is one.

        A piece whose files are missing, or not what they were when it was finished, is left.

        Args:
          name: its `identity`.
          marker: the file that will mark it as finished here; a piece of files elsewhere,
            such as of another seed, is left.

        Returns:
          Whether it was taken over.
        """
        expected = str(marker.relative_to(self._run.path))
        for other, listed in self._elsewhere(name):
            if list(listed)[-1] == expected and _are_whole(other, listed):
                for relative in listed:
                    with atomic_path(self._run.path / relative) as temporary:
                        shutil.copyfile(other / relative, temporary)
                self.add(name, [self._run.path / relative for relative in listed])
                return True
        return False

    def _elsewhere(self, name: str) -> Iterator[tuple[Path, dict[str, str]]]:
        """The folders of other runs that list the piece, with the list."""
        for list_path in sorted(self._run.path.absolute().parent.glob(f"*/pieces/{name}.json")):
            other = list_path.parents[1]
            if other == self._run.path.absolute():
                continue
            try:
                listed = dict(load_json(list_path)["files"])
            except (UserError, OSError, KeyError, TypeError, ValueError):
                continue
            if listed and all(_is_below(relative) for relative in listed):
                yield other, listed


def _list_path(folder, name):
    return folder / "pieces" / f"{name}.json"


def _is_below(relative):
    path = Path(relative)
    return not path.is_absolute() and ".." not in path.parts


def _are_whole(folder, listed):
    try:
        return all(_sha256(folder / relative) == sha256 for relative, sha256 in listed.items())
    except OSError:
        return False


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
