"""What the BUILD files share: a library a package, a binary a program, a test a file.

A package may import from those in the lines above its own. So its library depends on all of
them, and no BUILD file lists imports; `tests/conformance/imports_test.py` holds the imports to
the order.
"""

load("@pypi//:requirements.bzl", "all_requirements")
load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

LAYERS = [
    ["tf_tickets/compat"],
    ["tf_tickets"],
    ["tf_tickets/runs"],
    ["tf_tickets/data"],
    ["tf_tickets/models"],
    ["tf_tickets/attacks", "tf_tickets/masking", "tf_tickets/structured"],
    ["tf_tickets/training"],
    ["tf_tickets/evaluation"],
    ["tf_tickets/work"],
    ["tf_tickets/image_work", "tf_tickets/text_work"],
    ["tf_tickets/deployment"],
    ["tf_tickets/analysis"],
    ["experiments"],
    [
        "experiments/boosting_tickets",
        "experiments/double_win_tickets",
        "experiments/pruning_robustness",
        "experiments/robust_bert_tickets",
        "experiments/sparse_robust_networks",
    ],
    ["benchmarks"],
]

def _before(package):
    """The labels of the packages in the layers before a package's; of all, if it is in none."""
    labels = []
    for layer in LAYERS:
        if package in layer:
            break
        labels += ["//" + other for other in layer]
    return labels

def _name(package):
    return package.split("/")[-1]

def library(programs = []):
    """The library of the package that calls it, with what lies beside its modules.

    Args:
      programs: its modules that are run, without .py.
    """
    package = native.package_name()
    py_library(
        name = _name(package),
        srcs = native.glob(["**/*.py"]),
        data = native.glob(["**/*"], exclude = ["**/*.py", "BUILD"], allow_empty = True),
        visibility = ["//visibility:public"],
        deps = _before(package) + all_requirements,
    )
    for program in programs:
        py_binary(
            name = program + ".program",
            srcs = [program + ".py"],
            main = program + ".py",
            deps = [":" + _name(package)],
        )

def tests(uses = []):
    """A test for each *_test.py of the package that calls it, and a library of all its modules.

    Args:
      uses: other packages of tests that they import from.
    """
    package = native.package_name()
    py_library(
        name = _name(package),
        testonly = True,
        srcs = native.glob(["*.py"], exclude = ["run_pytest.py"]),
        visibility = ["//tests:__subpackages__"],
        deps = ["//" + other for other in uses] + _before(package) + all_requirements,
    )
    for file in native.glob(["*_test.py"], allow_empty = True):
        py_test(
            name = file[:-len(".py")],
            srcs = [file, "//tests:run_pytest.py"],
            args = [package + "/" + file],
            data = ["//:checkout"],
            main = "//tests:run_pytest.py",
            deps = [":" + _name(package)],
        )
