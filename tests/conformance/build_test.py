"""BUILD has a target for every Python file, with the deps that the file's imports need."""

import os
import re
import shutil
import subprocess

import pytest

from tests.conformance import build_file, source_tree

FILES = {
    "tf_tickets/__init__.py": "",
    "tf_tickets/errors.py": "",
    "tf_tickets/data/__init__.py": "",
    "tf_tickets/data/registry.py": "from tf_tickets.errors import UserError\n",
    "tf_tickets/data/embedded/sample.npz": "",
    "tf_tickets/models/__init__.py": "",
    "tf_tickets/models/lenet.py": "def f():\n    from ..data import registry\n",
    "experiments/__init__.py": "import tf_tickets\n",
    "experiments/flags.py": "import numpy as np\n",
    "experiments/paper.py": (
        "from experiments import flags\nimport tf_tickets.models.lenet\n"
        "if __name__ == '__main__':\n    pass\n"
    ),
    "tests/run_pytest.py": "",
    "tests/conftest.py": "from tf_tickets import errors\n",
    "tests/models/lenet_test.py": "from tf_tickets.models import lenet\n",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_file_has_its_target_and_every_target_its_deps():
    build = (source_tree.ROOT / "BUILD").read_text(encoding="utf-8")
    found = build_file.problems(source_tree.ROOT, build)
    advice = "`python -m tests.conformance.build_file > BUILD` mends all of it"
    assert not found, "\n".join([*found, advice])


def test_a_new_build_file(tree):
    build = build_file.render(tree)
    assert build_file.problems(tree, build) == []
    targets = {target.name: target for target in build_file.read_targets(tree, build)}
    assert {name: (target.rule, target.own, target.deps) for name, target in targets.items()} == {
        "tf_tickets": ("py_library", ("tf_tickets/__init__.py",), ()),
        "errors": ("py_library", ("tf_tickets/errors.py",), ("tf_tickets",)),
        "data": (
            "py_library",
            ("tf_tickets/data/__init__.py", "tf_tickets/data/registry.py"),
            ("errors", "tf_tickets"),
        ),
        "models": (
            "py_library",
            ("tf_tickets/models/__init__.py", "tf_tickets/models/lenet.py"),
            ("data", "tf_tickets"),
        ),
        "experiments": (
            "py_library",
            ("experiments/__init__.py", "experiments/flags.py"),
            ("tf_tickets",),
        ),
        "experiments/paper": (
            "py_binary",
            ("experiments/paper.py",),
            ("experiments", "models"),
        ),
        "tests/conftest": ("py_library", ("tests/conftest.py",), ("errors",)),
        "tests/models/lenet_test": (
            "py_test",
            ("tests/models/lenet_test.py",),
            ("models", "tests/conftest"),
        ),
    }
    assert 'data = glob(["tf_tickets/data/embedded/*.npz"])' in build


LENET_TEST = "tests/models/lenet_test.py"


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ('        ":data",\n        ":tf_tickets",\n', '        ":tf_tickets",\n', '":data",\n'),
        ('deps = [":errors"]', 'deps = [":errors", ":data"]', 'deps = [":errors"],'),
        ('deps = [":errors"]', "deps = []", 'deps = [":errors"],'),
        ('glob(["tf_tickets/data/**/*.py"])', "[]", "tf_tickets/data/registry.py: in 0 targets"),
        ('"experiments/flags.py"', '"tests/conftest.py"', "tests/conftest.py: in 2 targets (exp"),
        ('"experiments/flags.py"', '"experiments/gone.py"', "there is no experiments/gone.py"),
        ("py_binary(", "py_library(", "experiments/paper.py: needs a py_binary of its own, is in"),
        ("py_test(", "py_library(", f"{LENET_TEST}: needs a py_test of its own, is in py_library"),
        (f'args = ["{LENET_TEST}"]', "args = []", "runs no test without main = "),
    ],
)
def test_what_is_wrong_is_said(tree, old, new, problem):
    build = build_file.render(tree)
    assert old in build
    assert problem in "\n".join(build_file.problems(tree, build.replace(old, new)))


@pytest.mark.parametrize(
    "name, problem",
    [
        ("tf_tickets/new/__init__.py", "tf_tickets/new/__init__.py: in 0 targets (), not 1"),
        ("tests/data/registry_test.py", "tests/data/registry_test.py: in 0 targets (), not 1"),
        ("experiments/second.py", "experiments/second.py: in 0 targets (), not 1"),
    ],
)
def test_a_new_file_needs_a_target(tree, name, problem):
    build = build_file.render(tree)
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text("")
    assert build_file.problems(tree, build) == [problem]


def test_globs_and_sums_of_sources(tree):
    srcs = '["b.py"] + glob(["tf_tickets/*.py"], exclude = ["**/__*"])'
    (target,) = build_file.read_targets(tree, f'py_library(name = "a", srcs = {srcs})')
    assert target.srcs == ("b.py", "tf_tickets/errors.py")


def bazel_query(tmp_path):
    """The labels that `bazel query //...` answers with, or a skip where it cannot be asked."""
    bazel = shutil.which("bazel")
    if bazel is None:
        pytest.skip("bazel is not on PATH")
    version = subprocess.run([bazel, "--version"], capture_output=True, text=True, timeout=60)
    if version.returncode:
        pytest.skip(f"bazel does not start: {version.stderr.strip()[-300:]}")
    major = re.match(r"bazel (\d+)", version.stdout)
    if major and int(major[1]) >= 8:
        pytest.skip(f"{version.stdout.strip()} downloads the Python rules, which older ones have")
    options = ["--batch", f"--output_user_root={tmp_path / 'bazel'}"]
    answer = subprocess.run(
        [bazel, *options, "query", "//..."],
        cwd=source_tree.ROOT,
        env=os.environ | {"HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.split()


def test_bazel_reads_the_same_targets(tmp_path):
    labels = bazel_query(tmp_path)
    shutil.rmtree(tmp_path / "bazel", ignore_errors=True)
    build = (source_tree.ROOT / "BUILD").read_text(encoding="utf-8")
    targets = build_file.read_targets(source_tree.ROOT, build)
    assert sorted(labels) == sorted(["//:checkout", *(f"//:{target.name}" for target in targets)])
