"""Drivers as their users start them: in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(module, *flags, **environment):
    """Starts `python -m experiments.<module>`."""
    # Drivers choose TensorFlow's log level themselves unless their user does.
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{module}", *flags],
        cwd=ROOT,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(module, *flags, **environment):
    """Runs it to its end: exit code, standard output, standard error."""
    process = start(module, *flags, **environment)
    output, errors = process.communicate(timeout=400)
    return process.returncode, output, errors


def last_line(errors):
    """The last line of what a driver said."""
    return errors.strip().splitlines()[-1]
