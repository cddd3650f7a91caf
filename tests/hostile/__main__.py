"""Tries hostile inputs of every kind and prints how many were handled badly.

    python -m tests.hostile [KIND ...]

A kind is a module beside this one. Ends with 1 where anything was handled badly, and with 2
where there is no such kind.
"""

import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

from tests import hostile

_SHOWN = 20  # Of what was handled badly.


def kinds() -> list[str]:
    """The kinds that there are."""
    names = [module.name for module in pkgutil.iter_modules(hostile.__path__)]
    return [name for name in names if name != "__main__" and not name.endswith("_test")]


def main() -> int:
    """Tries the kinds that are named, or all of them."""
    known, named = kinds(), sys.argv[1:]
    if "--help" in named:
        print(f"{__doc__}\nKinds: {', '.join(known)}.")
        return 0
    for kind in named:
        if kind not in known:
            print(f"error: {kind}: expected kinds of {', '.join(known)}", file=sys.stderr)
            return 2
    all_bad = []
    print("| Kind of input | tried | handled badly |\n| --- | --: | --: |")
    for kind in named or known:
        module = importlib.import_module(f"tests.hostile.{kind}")
        what = module.__doc__.splitlines()[0].rstrip(".")
        with tempfile.TemporaryDirectory() as scratch:
            tried = [(name, attempt()) for name, attempt in module.attempts(Path(scratch))]
        bad = [f"{kind}: {name}: {said}" for name, said in tried if said]
        print(f"| {what} | {len(tried):,} | {len(bad)} |", flush=True)
        all_bad += bad
    print("".join(f"\n{line}" for line in all_bad[:_SHOWN]))
    return 1 if all_bad else 0


if __name__ == "__main__":
    sys.exit(main())
