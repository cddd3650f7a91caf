"""Two logical CPUs for every test session, so that MirroredStrategy has devices to mirror."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tf_tickets  # noqa: E402, F401
from tf_tickets import runtime  # noqa: E402

runtime.divide_cpu(2)


def pytest_itemcollected(item):
    """Keeps a driver's tests on one worker of `--dist loadgroup`: they share its finished runs."""
    if item.path.parent.name == "drivers":
        item.add_marker(pytest.mark.xdist_group(item.path.stem))
