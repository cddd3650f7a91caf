"""Programs, and the processes that they start, begin without a word."""

import os
import subprocess
import sys

import pytest

from tests.experiments.programs import ROOT

# As a program does: what it starts finds its environment.
_START = """
import experiments
import subprocess, sys

if len(sys.argv) > 1:
    subprocess.run([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], check=True)
"""
_TEXTS = """
import experiments
from tf_tickets.compat.silent_imports import import_keras_nlp

assert import_keras_nlp().layers.TransformerEncoder
"""


def said(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    ended = subprocess.run(
        [sys.executable, "-c", *arguments],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def test_a_process_that_a_program_starts_is_as_silent():
    assert said(_START, _START) == ""


def test_keras_nlp_names_no_backend():
    pytest.importorskip("keras_nlp", reason="needs the extra `text`")
    assert said(_TEXTS) == ""
