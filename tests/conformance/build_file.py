"""What BUILD should say, worked out from the Python files and what they import.

    python -m tests.conformance.build_file > BUILD

writes it anew. A target's deps are the targets of the files that its own import, of the
packages that they lie in, and, for tests, of the conftest.py files that pytest loads.
"""

import ast
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from tests.conformance import source_tree

RUN_PYTEST = "tests/run_pytest.py"
HEADER = """\
# One target per package, driver and test. `deps` are the imports among these files;
# tests/conformance/build_test.py holds them equal, and
# `python -m tests.conformance.build_file > BUILD` writes this file anew.
# Packages from PyPI come from the Python that runs the targets (see setup.cfg), so they
# are not named here.

package(default_visibility = ["//visibility:public"])

# For tests that read the files around them.
filegroup(
    name = "checkout",
    srcs = glob(
        [
            "*",
            ".ci/*",
            "benchmarks/**",
            "experiments/**",
            "tests/**",
            "tf_tickets/**",
        ],
        exclude = ["**/__pycache__/**"],
    ),
)
"""


@dataclasses.dataclass(frozen=True)
class Target:
    """A py_library, py_binary or py_test."""

    rule: str
    name: str
    srcs: tuple[str, ...]  # Files, with globs resolved.
    deps: tuple[str, ...] = ()  # Names of targets.
    main: str | None = None
    args: tuple[str, ...] = ()
    line: int = 0

    @property
    def own(self) -> tuple[str, ...]:
        """The sources but for the program that runs a test."""
        return tuple(file for file in self.srcs if file != RUN_PYTEST)


def read_targets(root: Path, build: str) -> list[Target]:
    """The Python targets of a BUILD file's text."""
    targets = []
    for statement in ast.parse(build, filename="BUILD").body:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call) or not ast.unparse(call.func).startswith("py_"):
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        targets.append(
            Target(
                rule=ast.unparse(call.func),
                name=ast.literal_eval(given["name"]),
                srcs=tuple(_files(root, given.get("srcs"))),
                deps=tuple(dep.removeprefix(":") for dep in _list(given, "deps")),
                main=ast.literal_eval(given["main"]) if "main" in given else None,
                args=tuple(_list(given, "args")),
                line=call.lineno,
            )
        )
    return targets


def _list(given, name):
    return ast.literal_eval(given[name]) if name in given else []


def _files(root, node):
    """The files of a list, a glob, or a sum of them."""
    if node is None:
        return []
    if isinstance(node, ast.BinOp):
        return [*_files(root, node.left), *_files(root, node.right)]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "glob":
        exclude = [ast.literal_eval(k.value) for k in node.keywords if k.arg == "exclude"]
        excluded = {path for patterns in exclude for path in _glob(root, patterns)}
        included = _glob(root, ast.literal_eval(node.args[0]))
        return [path for path in included if path not in excluded]
    return ast.literal_eval(node)


def _glob(root, patterns):
    found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(root).as_posix() for path in found)


def owners(targets: Iterable[Target]) -> dict[str, str]:
    """File → name of the target that holds it."""
    return {file: target.name for target in targets for file in target.own}


def imported_files(root: Path, file: str, files: Iterable[str]) -> set[str]:
    """Those of `files` that importing or, for a test, running `file` loads itself."""
    modules = {source_tree.module_name(known): known for known in files}
    loaded = set()
    for _, name in source_tree.imports(root, file):
        # `a.b.c` is a module, or something in the module `a.b`.
        loaded.add(modules.get(name) or modules.get(name.rpartition(".")[0]))
    for folder in PurePosixPath(file).parents:
        loaded.add(modules.get(folder.as_posix().replace("/", ".")))
        if source_tree.is_test(file):
            loaded.add(modules.get(f"{folder.as_posix()}/conftest".replace("/", ".")))
    return loaded - {None, file}


def expected_deps(root: Path, target: Target, owner: Mapping[str, str]) -> tuple[str, ...]:
    """Sorted names of the targets that the target's own files load."""
    loaded = {
        owner[other]
        for file in target.own
        if (root / file).is_file()
        for other in imported_files(root, file, owner)
    }
    return tuple(sorted(loaded - {target.name}))


def problems(root: Path, build: str) -> list[str]:
    """Everything in which a BUILD file's text and the Python files under `root` differ."""
    targets = read_targets(root, build)
    owner = owners(targets)
    found = []
    for file in source_tree.python_files(root):
        holders = [target for target in targets if file in target.own]
        names = ", ".join(target.name for target in holders)
        if file != RUN_PYTEST and len(holders) != 1:
            found.append(f"{file}: in {len(holders)} targets ({names}), not 1")
        needed = _rule(root, file)
        for target in holders:
            if needed != target.rule or (needed != "py_library" and target.own != (file,)):
                alone = "" if needed == "py_library" else " of its own"
                found.append(f"{file}: needs a {needed}{alone}, is in {target.rule} {target.name}")
    for target in targets:
        where = f"BUILD:{target.line}: {target.name}"
        for file in target.srcs:
            if not (root / file).is_file():
                found.append(f"{where}: there is no {file}")
        if target.rule == "py_test" and (target.main, target.args) != (RUN_PYTEST, target.own):
            found.append(
                f'{where}: runs no test without main = "{RUN_PYTEST}" and args = {[*target.own]}'
            )
        deps = expected_deps(root, target, owner)
        if target.deps != deps:
            expected = _attribute("deps", [f":{dep}" for dep in deps]) or "    (no deps)\n"
            found.append(f"{where}: the imports need\n{expected}")
    return found


def _rule(root, file):
    if source_tree.is_test(file):
        return "py_test"
    programs = ("experiments/", "benchmarks/")
    is_driver = file.startswith(programs) and source_tree.is_program(root, file)
    return "py_binary" if is_driver else "py_library"


def render(root: Path) -> str:
    """The text of the BUILD file for the Python files under `root`."""
    libraries, alone = {}, []
    for file in source_tree.python_files(root):
        rule, parts = _rule(root, file), PurePosixPath(file).with_suffix("").parts
        if rule != "py_library" or parts[0] == "tests":
            alone.append(Target(rule, "/".join(parts), (file,)))
        else:
            # Of tf_tickets each package, and each module right in it; else the top folder.
            inside = parts[0] == "tf_tickets" and parts[1] != "__init__"
            libraries.setdefault(parts[1] if inside else parts[0], []).append(file)
    targets = [Target("py_library", name, tuple(files)) for name, files in libraries.items()]
    targets += [target for target in alone if target.srcs != (RUN_PYTEST,)]
    owner = owners(targets)
    return HEADER + "".join(_render_target(root, target, owner) for target in targets)


def _render_target(root, target, owner):
    package = f"tf_tickets/{target.name}"
    is_package = (root / package).is_dir()
    folder = package if is_package else target.name
    text = f'\n{target.rule}(\n    name = "{target.name}",\n'
    if target.name.startswith("tests/") and target.rule == "py_library":
        text += "    testonly = True,\n"
    if is_package:
        text += f'    srcs = glob(["{package}/**/*.py"]),\n'
    elif target.rule == "py_test":
        text += _attribute("srcs", [*target.srcs, RUN_PYTEST]) + _attribute("args", target.srcs)
    else:
        text += _attribute("srcs", target.srcs)
    if target.name.startswith("tests/"):
        if any("__file__" in (root / file).read_text(encoding="utf-8") for file in target.srcs):
            text += '    data = [":checkout"],\n'
    elif is_package or target.name == "experiments":
        text += _attribute("data", _data_patterns(root, folder), "glob")
    if target.rule == "py_test":
        text += f'    main = "{RUN_PYTEST}",\n'
    text += _attribute("deps", [f":{dep}" for dep in expected_deps(root, target, owner)])
    return text + ")\n"


def _data_patterns(root, folder):
    """Globs, by folder and suffix, for the files of a package that are not Python."""
    return sorted(
        {
            (path.parent / f"*{path.suffix}").relative_to(root).as_posix()
            for path in (root / folder).rglob("*")
            if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
        }
    )


def _attribute(name, values, function=""):
    """`name = [...],` as buildifier lays it out; nothing for no values."""
    values = [f'"{value}"' for value in values]
    if not values:
        return ""
    if len(values) == 1:
        inner = values[0]
    else:
        inner = "\n" + "".join(f"        {value},\n" for value in values) + "    "
    items = f"{function}([{inner}])" if function else f"[{inner}]"
    return f"    {name} = {items},\n"


if __name__ == "__main__":
    print(render(source_tree.ROOT), end="")
