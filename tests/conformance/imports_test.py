"""Imports run one way, flags stay with the programs, and nothing runs foreign data as code."""

import ast
from pathlib import Path

import pytest

from tests.conformance import source_tree


def layers(root: Path = source_tree.ROOT) -> list[list[str]]:
    """The packages from the bottom up: each may import from those in lines above its own."""
    for statement in ast.parse((root / "defs.bzl").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "LAYERS":
            return ast.literal_eval(statement.value)
    raise AssertionError("defs.bzl has no LAYERS")


LAYERS = [*layers(), ["tests"]]
LAYER = {package: number for number, packages in enumerate(LAYERS) for package in packages}


def home_of(file: str) -> str:
    """The package of a file: tf_tickets/data/registry.py → tf_tickets/data; of tests, tests."""
    parts = file.split("/")[:-1]
    return parts[0] if parts[0] == "tests" else "/".join(parts[:2])


def imported_package(name: str) -> str:
    """tf_tickets.data.registry → tf_tickets/data; tf_tickets.errors.UserError → tf_tickets."""
    parts = name.split(".")
    inner = "/".join(parts[:2])
    return inner if inner in LAYER else parts[0]


def backward_imports(root: Path) -> list[str]:
    """Says, as file:line, which imports run against the order, and which packages have no place."""
    found = []
    for file in source_tree.python_files(root):
        importer = home_of(file)
        if importer not in LAYER:
            found.append(f"{file}:1: {importer} has no place in LAYERS of defs.bzl")
            continue
        for line, name in source_tree.imports(root, file):
            imported = imported_package(name)
            if imported in LAYER and imported != importer and LAYER[imported] >= LAYER[importer]:
                found.append(f"{file}:{line}: {importer} must not import {name}")
    return found


def flag_reads(root: Path) -> list[str]:
    """Says, as file:line, where the library reads absl's FLAGS."""
    found = []
    for file in source_tree.python_files(root, ("tf_tickets",)):
        for node in ast.walk(source_tree.parse(root, file)):
            if "FLAGS" in (
                getattr(node, "attr", None),  # flags.FLAGS
                getattr(node, "id", None),  # FLAGS
                getattr(node, "name", None),  # import FLAGS
            ):
                found.append(f"{file}:{node.lineno}: FLAGS is for programs only")
    return found


UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def unsafe_code(root: Path) -> list[str]:
    """Says, as file:line, what in the library or the drivers could run data as code."""
    found = []
    for file in source_tree.python_files(root, ("tf_tickets", "experiments")):
        for line, name in source_tree.imports(root, file):
            if UNPICKLERS & set(name.split(".")):
                found.append(f"{file}:{line}: import of {name}")
        for node in ast.walk(source_tree.parse(root, file)):
            if isinstance(node, ast.Call):
                found += [f"{file}:{node.lineno}: {what}" for what in _unsafe_in_call(node)]
    return sorted(set(found))


def _unsafe_in_call(call):
    called = ast.unparse(call.func)
    if called.removeprefix("builtins.") in ("eval", "exec") or called in ("os.system", "os.popen"):
        yield f"call of {called}"
    if called.endswith(("_pickle", "_pickles")):
        yield f"call of {called}"
    for keyword in call.keywords:
        is_off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg in ("shell", "allow_pickle") and not is_off:
            yield f"{keyword.arg}={ast.unparse(keyword.value)}"


@pytest.mark.parametrize("check", [backward_imports, flag_reads, unsafe_code])
def test_the_checkout(check):
    found = check(source_tree.ROOT)
    assert not found, "\n".join(found)


def test_the_checkout_is_seen():
    root = source_tree.ROOT
    files = source_tree.python_files(root)
    assert {"tf_tickets/runtime.py", "tf_tickets/data/registry.py", "experiments/flags.py"} < {
        *files
    }
    imported = [name for _, name in source_tree.imports(root, "tf_tickets/runtime.py")]
    assert "tf_tickets.errors.UserError" in imported


@pytest.fixture
def tree(tmp_path):
    """Writes a file of a small checkout and returns the checkout."""

    def write(file, text):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    "file, text",
    [
        ("tf_tickets/errors.py", "import tf_tickets"),
        ("tf_tickets/runtime.py", "from tf_tickets.errors import UserError"),
        ("tf_tickets/models/lenet.py", "from tf_tickets.data import registry"),
        ("tf_tickets/models/lenet.py", "from .registry import MODELS"),
        ("tf_tickets/masking/ticket.py", "from tf_tickets.runs import files\nimport os"),
        ("tf_tickets/work/store.py", "from tf_tickets import runtime"),
        ("tf_tickets/image_work/work.py", "from tf_tickets.evaluation import accuracy"),
        ("tf_tickets/analysis/tables.py", "from tf_tickets.deployment import tflite"),
        (
            "experiments/boosting_tickets/a.py",
            "from experiments import flags\nimport tf_tickets.work",
        ),
        ("benchmarks/speed.py", "import experiments"),
        ("tests/models/lenet_test.py", "import benchmarks.speed\nimport tests.noise"),
    ],
)
def test_forward_imports(tree, file, text):
    assert backward_imports(tree(file, text)) == []


@pytest.mark.parametrize(
    "file, text, line",
    [
        ("tf_tickets/errors.py", "\nfrom tf_tickets.runs import files", 2),
        ("tf_tickets/__init__.py", "import tf_tickets.data", 1),
        ("tf_tickets/compat/a.py", "import tf_tickets", 1),
        ("tf_tickets/data/vision.py", "import tf_tickets.models.lenet", 1),
        ("tf_tickets/data/vision.py", "def f():\n    from ..training import loop", 2),
        ("tf_tickets/masking/a.py", "from tf_tickets.attacks import b", 1),
        ("tf_tickets/evaluation/a.py", "from tf_tickets import work", 1),
        ("tf_tickets/work/a.py", "from tf_tickets.image_work.cuts import build", 1),
        ("tf_tickets/image_work/a.py", "from tf_tickets.text_work import work", 1),
        ("tf_tickets/deployment/a.py", "from tf_tickets import analysis", 1),
        ("tf_tickets/analysis/a.py", "from experiments import flags", 1),
        ("tf_tickets/analysis/a.py", "import tests.noise", 1),
        ("experiments/flags.py", "from experiments.boosting_tickets import plan", 1),
        ("experiments/boosting_tickets/a.py", "import experiments.double_win_tickets.plan", 1),
        ("experiments/boosting_tickets/a.py", "import benchmarks.timing", 1),
    ],
)
def test_backward_imports(tree, file, text, line):
    (found,) = backward_imports(tree(file, text))
    assert found.startswith(f"{file}:{line}: {home_of(file)} must not import ")


def test_a_package_without_a_place(tree):
    (found,) = backward_imports(tree("tf_tickets/new/a.py", "import os"))
    assert found == "tf_tickets/new/a.py:1: tf_tickets/new has no place in LAYERS of defs.bzl"


@pytest.mark.parametrize(
    "text",
    [
        "from absl import flags\nflags.FLAGS.seed",
        "from absl import flags\nFLAGS = flags",
        "import absl\nabsl.flags.FLAGS",
        "\nfrom absl.flags import FLAGS",
        "\nfrom absl.flags import FLAGS as flag_values",
    ],
)
def test_flags_are_read_by_programs_only(tree, text):
    assert flag_reads(tree("experiments/paper.py", text)) == []
    assert flag_reads(tree("tf_tickets/runtime.py", text)) == [
        "tf_tickets/runtime.py:2: FLAGS is for programs only"
    ]


@pytest.mark.parametrize(
    "text, what",
    [
        ("import pickle", "import of pickle"),
        ("from pickle import loads", "import of pickle.loads"),
        ("def f():\n    import six.moves.cPickle as p", "import of six.moves.cPickle"),
        ("eval('1')", "call of eval"),
        ("import builtins\nbuiltins.exec(text)", "call of builtins.exec"),
        ("import os\nos.system('ls')", "call of os.system"),
        ("frame.to_pickle(path)", "call of frame.to_pickle"),
        ("subprocess.run('ls', shell=True)", "shell=True"),
        ("np.load(path, allow_pickle=True)", "allow_pickle=True"),
        ("np.load(path, allow_pickle=trusted)", "allow_pickle=trusted"),
    ],
)
def test_unsafe_code(tree, text, what):
    line = text.count("\n") + 1
    for file in ("tf_tickets/runs/files.py", "experiments/paper.py"):
        assert f"{file}:{line}: {what}" in unsafe_code(tree(file, text))


def test_safe_code(tree):
    text = "np.load(path, allow_pickle=False)\nmodel.eval()\nsession.exec()\nrun(shell=False)"
    assert unsafe_code(tree("tf_tickets/a.py", text)) == []
