"""The flags that messages name are there."""

import ast
import re

from tests.conformance import source_tree
from tests.hostile.flags import programs

_FLAG = re.compile(r"(?<![\w-])--([a-z]\w*)(?![\w-])")
# Of git, of TensorBoard, and "--name=value" of any flag.
_OTHERS = {"always", "dirty", "abbrev", "exclude", "logdir", "name"}


def texts_of(file):
    """(line, text) of a file's strings, but for docstrings."""
    tree = source_tree.parse(source_tree.ROOT, file)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                yield node.lineno, node.value


def flags_of(module):
    return {*module.FLAGS, *(f"no{flag}" for flag in module.FLAGS)}


def test_every_flag_that_a_message_names_is_a_programs():
    known = set.union(_OTHERS, *map(flags_of, programs().values()))
    unknown = [
        f"{file}:{line}: --{flag}"
        for file in source_tree.python_files(source_tree.ROOT, ("tf_tickets", "experiments"))
        for line, text in texts_of(file)
        for flag in _FLAG.findall(text)
        if flag not in known
    ]
    assert not unknown, "\n".join(unknown)


def test_a_program_names_the_flags_of_its_own():
    """In its own texts; those of the library are one for many programs."""
    for name, module in programs().items():
        own = source_tree.python_files(source_tree.ROOT, (f"experiments/{name}",))
        named = {
            flag
            for file in filter(lambda file: file.startswith("experiments/"), own)
            for _, text in texts_of(file)
            for flag in _FLAG.findall(text)
        }
        assert named <= flags_of(module), name


def test_trust_is_named_only_where_the_flag_is_looked_up():
    """Which programs a file's loaders are reached from is not known to them."""
    found = {
        file
        for file in source_tree.python_files(source_tree.ROOT, ("tf_tickets", "experiments"))
        for _, text in texts_of(file)
        if "--trust" in text
    }
    assert found == {"experiments/program.py"}
