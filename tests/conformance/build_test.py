"""Bazel's files: every package has one, they say what the imports are, and versions are locked."""

import ast
import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conformance import source_tree

ROOT = source_tree.ROOT
# Programs outside of these are modules that a test or a developer runs.
PROGRAM_FOLDERS = ("experiments", "benchmarks")


def call_in(build: str) -> tuple[str, list[str]]:
    """The macro that a BUILD file calls, `library` or `tests`, and the list it gives it."""
    for statement in ast.parse(build).body:
        call = getattr(statement, "value", None)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("library", "tests"):
            given = [ast.literal_eval(keyword.value) for keyword in call.keywords]
            return ast.unparse(call.func), *(given or [[]])
    return "", []


def package_of(root: Path, file: str) -> str:
    """The nearest folder with a BUILD file, of whose target the file is a part."""
    return next(
        folder.as_posix()
        for folder in PurePosixPath(file).parents
        if (root / folder / "BUILD").is_file()
    )


def problems(root: Path) -> Iterator[str]:
    """Says in what the BUILD files under `root` and its Python files differ."""
    files = source_tree.python_files(root)
    modules = {source_tree.module_name(file): file for file in files}
    programs: dict[str, list[str]] = {}
    uses: dict[str, set[str]] = {}
    for file in files:
        package = package_of(root, file)
        if package == ".":
            yield f"{file}: no folder on its way has a BUILD file"
        is_program = source_tree.is_program(root, file)
        if is_program and package.split("/")[0] in PROGRAM_FOLDERS:
            programs.setdefault(package, []).append(PurePosixPath(file).stem)
        for _, name in source_tree.imports(root, file):
            imported = modules.get(name) or modules.get(name.rpartition(".")[0])
            if package.startswith("tests") and (imported or "").startswith("tests/"):
                uses.setdefault(package, set()).add(package_of(root, imported))
    for path in sorted(root.rglob("BUILD")):
        package = path.parent.relative_to(root).as_posix()
        if package == ".":
            continue
        if package.startswith("tests"):
            # conftest.py, which pytest loads for every test, lies in `tests`.
            own = uses.get(package, set()) | ({"tests"} - {package})
            expected = "tests", sorted(own - {package})
        else:
            expected = "library", sorted(programs.get(package, []))
        if call_in(path.read_text(encoding="utf-8")) != expected:
            yield f"{package}/BUILD: expected {expected[0]}() of {expected[1]}"


def test_the_checkouts_build_files_say_what_its_python_files_are():
    found = list(problems(ROOT))
    assert not found, "\n".join(found)


@pytest.fixture
def tree(tmp_path):
    for name, text in {
        "BUILD": "",
        "tf_tickets/BUILD": "library()",
        "tf_tickets/errors.py": "",
        "experiments/BUILD": 'library(programs = ["analyze"])',
        "experiments/analyze.py": "if __name__ == '__main__':\n    pass\n",
        "tests/BUILD": "tests()",
        "tests/conftest.py": "",
        "tests/models/BUILD": 'tests(uses = ["tests"])',
        "tests/models/lenet_test.py": "from tests import conftest\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_small_tree(tree):
    assert list(problems(tree)) == []


@pytest.mark.parametrize(
    "file, text, problem",
    [
        ("benchmarks/a.py", "", "benchmarks/a.py: no folder on its way has a BUILD file"),
        ("experiments/b.py", "if __name__ == '__main__':\n    pass\n", "['analyze', 'b']"),
        ("experiments/analyze.py", "", "experiments/BUILD: expected library() of []"),
        ("tests/BUILD", "library()", "tests/BUILD: expected tests() of []"),
        ("tests/models/BUILD", "tests()", "tests/models/BUILD: expected tests() of ['tests']"),
        ("tests/runs/BUILD", 'tests(uses = ["tests", "tests/models"])', "of ['tests']"),
    ],
)
def test_what_is_wrong_is_said(tree, file, text, problem):
    (tree / file).parent.mkdir(exist_ok=True)
    (tree / file).write_text(text)
    (found,) = problems(tree)
    assert problem in found


def required(text: str) -> list[Requirement]:
    """What a setup.cfg needs from PyPI, its extras included."""
    config = configparser.ConfigParser()
    config.read_string(text)
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = [line.strip() for each in lists for line in each.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_lock_file_has_a_version_of_all_that_setup_cfg_needs():
    lock = (ROOT / "requirements_lock.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n {4}--hash=sha256:[0-9a-f]{64}", lock, re.M))
    needed = required((ROOT / "setup.cfg").read_text(encoding="utf-8"))
    assert len(needed) > 30
    for requirement in needed:
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


# Stand-ins for what Bazel would download: rules of its own, and no packages.
_RULES = "\n".join(
    f"def py_{kind}(**given):\n    native.py_{kind}(**given)"
    for kind in ("library", "binary", "test")
)
_STAND_INS = {
    "rules_python": {"python/defs.bzl": _RULES, "python/BUILD": "", "BUILD": ""},
    "pypi": {"requirements.bzl": "all_requirements = []", "BUILD": ""},
}


def bazel_query(folder: Path) -> set[str]:
    """The labels that `bazel query //...` answers with, or a skip where it cannot be asked."""
    bazel = shutil.which("bazel")
    if bazel is None:
        pytest.skip("bazel is not on PATH")
    version = subprocess.run([bazel, "--version"], capture_output=True, text=True, timeout=60)
    major = re.match(r"bazel (\d+)", version.stdout)
    if version.returncode or (major and int(major[1]) >= 8):
        pytest.skip(f"{version.stdout.strip()} downloads the Python rules, which older ones have")
    overrides = []
    for name, files in _STAND_INS.items():
        for file, text in {"WORKSPACE": f'workspace(name = "{name}")', **files}.items():
            (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_text(text)
        overrides.append(f"--override_repository={name}={folder / name}")
    checkout = folder / "checkout"
    for file in [*source_tree.python_files(ROOT), "defs.bzl"]:
        (checkout / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, checkout / file)
    for path in ROOT.rglob("BUILD"):
        shutil.copyfile(path, checkout / path.relative_to(ROOT))
    (checkout / "WORKSPACE").write_text('workspace(name = "tf_tickets")')
    answer = subprocess.run(
        [bazel, "--batch", f"--output_user_root={folder / 'bazel'}", "query", *overrides, "//..."],
        cwd=checkout,
        env=os.environ | {"HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.split())


def test_bazel_finds_a_library_a_package_a_binary_a_program_and_a_test_a_file(tmp_path):
    labels = bazel_query(tmp_path)
    shutil.rmtree(tmp_path / "bazel", ignore_errors=True)
    expected = {"//:checkout"}
    for file in source_tree.python_files(ROOT):
        package, stem = package_of(ROOT, file), PurePosixPath(file).stem
        expected.add(f"//{package}:{PurePosixPath(package).name}")
        if source_tree.is_test(file):
            expected.add(f"//{package}:{stem}")
        elif source_tree.is_program(ROOT, file) and package.split("/")[0] in PROGRAM_FOLDERS:
            expected.add(f"//{package}:{stem}.program")
    assert labels == expected
