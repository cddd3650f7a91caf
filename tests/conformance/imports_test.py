"""Imports run one way, flags stay with the programs, and nothing runs foreign data as code."""

import ast
from pathlib import Path

import pytest

from tests.conformance import source_tree

# A package imports from its own and from those above its line.
RUNGS = (
    {"compat"},  # Knows other libraries only.
    {"tf_tickets"},  # __init__.py, which everything in the package loads first.
    {"errors"},
    {"runtime"},
    {"runs"},
    {"data"},
    {"models"},
    {"masking", "structured", "attacks"},
    {"training"},
    {"evaluation"},
    {"work"},
    {"image_work", "text_work"},
    {"deployment"},
    {"analysis"},
    {"experiments"},
    {"benchmarks"},
    {"tests"},
)
RUNG = {package: rung for rung, packages in enumerate(RUNGS) for package in packages}


def package_of(module):
    """tf_tickets.data.registry → data; tf_tickets → tf_tickets; experiments.flags → experiments."""
    top, *below = module.split(".")
    return below[0] if top == "tf_tickets" and below else top


def backward_imports(root: Path) -> list[str]:
    """Says, as file:line, which imports run against the order, and which packages have no place."""
    found = []
    for file in source_tree.python_files(root):
        importer = package_of(source_tree.module_name(file))
        if importer not in RUNG:
            found.append(f"{file}:1: {importer} has no place in RUNGS")
            continue
        for line, name in source_tree.imports(root, file):
            if name.split(".")[0] not in source_tree.FOLDERS:
                continue
            imported = package_of(name)
            if imported == importer:
                continue
            if imported not in RUNG:
                found.append(f"{file}:{line}: {name} is in no package of RUNGS")
            elif RUNG[imported] >= RUNG[importer]:
                found.append(f"{file}:{line}: {importer} must not import {name}")
    return found


def papers_in_papers(root: Path) -> list[str]:
    """Says, as file:line, where one paper's folder imports from another's."""
    found = []
    for file in source_tree.python_files(root, ("experiments",)):
        parts = file.split("/")
        for line, name in source_tree.imports(root, file) if len(parts) > 2 else ():
            top, *below = name.split(".")
            if top == "experiments" and below[0] != parts[1] and _is_paper(root, below[0]):
                found.append(f"{file}:{line}: {parts[1]} must not import {name}")
    return found


def _is_paper(root, name):
    return (root / "experiments" / name).is_dir()


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


@pytest.mark.parametrize("check", [backward_imports, papers_in_papers, flag_reads, unsafe_code])
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
        ("experiments/paper.py", "from experiments import flags\nimport tf_tickets.analysis"),
        ("benchmarks/speed.py", "import experiments"),
        ("tests/models/lenet_test.py", "import benchmarks.speed\nimport tests.noise"),
    ],
)
def test_forward_imports(tree, file, text):
    assert backward_imports(tree(file, text)) == []


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("errors.py", "\nfrom tf_tickets import runtime", "2: errors must not import"),
        ("__init__.py", "from tf_tickets import errors", "1: tf_tickets must not import"),
        ("data/vision.py", "import tf_tickets.models.lenet", "1: data must not import"),
        ("data/vision.py", "def f():\n    from ..training import loop", "2: data must not import"),
        ("masking/a.py", "from tf_tickets.attacks import b", "1: masking must not import"),
        ("attacks/a.py", "from tf_tickets import structured", "1: attacks must not import"),
        ("evaluation/a.py", "from tf_tickets import work", "1: evaluation must not import"),
        ("deployment/a.py", "from tf_tickets import analysis", "1: deployment must not import"),
        ("analysis/a.py", "from experiments import flags", "1: analysis must not import"),
        ("analysis/a.py", "import tests.noise", "1: analysis must not import"),
        ("runs/a.py", "import tf_tickets.new.a", "1: tf_tickets.new.a is in no package of RUNGS"),
        ("new/a.py", "import os", "1: new has no place in RUNGS"),
    ],
)
def test_backward_imports(tree, file, text, message):
    (found,) = backward_imports(tree(f"tf_tickets/{file}", text))
    assert found.startswith(f"tf_tickets/{file}:{message}")


def test_papers_stay_apart(tree):
    tree("experiments/flags.py", "")
    tree("experiments/one/plan.py", "")
    own = "from experiments import flags\nfrom experiments.two import plan\n"
    root = tree("experiments/two/driver.py", own)
    assert papers_in_papers(root) == []
    tree("experiments/two/driver.py", own + "from experiments.one.plan import searches\n")
    (found,) = papers_in_papers(root)
    assert found == "experiments/two/driver.py:3: two must not import experiments.one.plan.searches"


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
