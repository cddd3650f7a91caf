"""What the Python files of a checkout import, read from their syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("tf_tickets", "experiments", "benchmarks", "tests")


def python_files(root: Path, folders=FOLDERS) -> list[str]:
    """The Python files in the folders and beside them, as sorted paths relative to `root`."""
    patterns = ("*.py", *(f"{folder}/**/*.py" for folder in folders))
    found = (path for pattern in patterns for path in root.glob(pattern))
    return sorted(path.relative_to(root).as_posix() for path in found)


def parse(root: Path, file: str) -> ast.Module:
    return ast.parse((root / file).read_text(encoding="utf-8"), filename=file)


def module_name(file: str) -> str:
    """tf_tickets/data/registry.py → tf_tickets.data.registry; an __init__.py → its package."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(root: Path, file: str) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted name) of everything a file imports, inside functions too.

    `from a.b import c` is `a.b.c`, whether `c` is a module or something in one, and
    relative imports are made absolute.
    """
    for node in ast.walk(parse(root, file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = file.split("/")[: -node.level]
                base = ".".join([*package, base] if base else package)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def is_program(root: Path, file: str) -> bool:
    """Whether the file does something when it is run: `if __name__ == "__main__":`."""
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in parse(root, file).body
    )


def is_test(file: str) -> bool:
    return file.startswith("tests/") and file.endswith("_test.py")
