"""Runs the test file it is given: `bazel test` starts programs, and a test file is none."""

import sys

import pytest

sys.exit(pytest.main(["--import-mode=importlib", "-p", "no:cacheprovider", *sys.argv[1:]]))
