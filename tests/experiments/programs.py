"""Drivers as their users start them: in processes of their own."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from experiments import program

ROOT = Path(__file__).parents[2]


def module_name(program_name):
    """The module with a program's flags: a tool itself, or the driver in a paper's folder."""
    is_paper = (ROOT / "experiments" / program_name).is_dir()
    return f"experiments.{program_name}" + (".driver" if is_paper else "")


def start(module, *flags, folder=ROOT, **environment):
    """Starts `python -m experiments.<module>` in a folder."""
    # Drivers choose TensorFlow's log level themselves unless their user does.
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{module}", *flags],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(module, *flags, **environment):
    """Runs it to its end: exit code, standard output, standard error."""
    process = start(module, *flags, **environment)
    output, errors = process.communicate(timeout=800)
    return process.returncode, output, errors


_RUN_EACH = """
import contextlib, importlib, io, json, sys
from experiments import program

module, flag_sets = json.loads(sys.argv[1])
driver = importlib.import_module(module)
results = []
for flag_set in flag_sets:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            program.parse([module, *flag_set], driver.FLAGS)
            code = program.exit_code(driver.main, driver.FLAGS)
        except SystemExit as end:
            code = end.code
    results.append((code, errors.getvalue()))
print(json.dumps(results))
"""


def run_each(module, flag_sets):
    """Runs a driver that ends early with several sets of flags, in one process for all.

    Returns:
      (exit code, standard error) of each.
    """
    ran = subprocess.run(
        [sys.executable, "-c", _RUN_EACH, json.dumps([module_name(module), flag_sets])],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def in_this_process(program_module, capfd):
    """A function that runs a program with flags of its own here, which is faster, as `run` does."""

    def call(*flags):
        try:
            values = program_module.FLAGS
            program.parse([program_module.__name__, *flags], values, program_module.__doc__)
            code = program.exit_code(program_module.main, values, resumable=False)
        except SystemExit as end:
            code = end.code
        return code, *capfd.readouterr()

    return call


def last_line(errors):
    """The last line of what a driver said."""
    return errors.strip().splitlines()[-1]


def killed_and_resumed(module, run_dir, *flags, sign="tf_tickets_store/*/record.json"):
    """Kills a run of two workers once there is a first sign of work; one worker goes on to the end.

    Args:
      module: the driver.
      run_dir: the run's folder, in one of its own.
      *flags: the driver's others.
      sign: pattern of a file beside or in the run's folder.

    Returns:
      How many trainings were there as it went on, and how many were missing.
    """
    process = start(module, f"--run_dir={run_dir}", *flags, "--workers=2")
    deadline = time.monotonic() + 300
    while not list(run_dir.parent.glob(sign)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    code, _, errors = run(module, f"--run_dir={run_dir}", *flags, "--workers=1")
    assert code == 0, errors
    return counts(errors)["trainings"]


def counts(said):
    """What a run says before it begins: trainings and measurements, there and to be done."""
    found = re.findall(r"^(\d+) (\w+): (\d+) are there, (\d+) to be done$", said, re.MULTILINE)
    return {noun: (int(there), int(missing)) for _, noun, there, missing in found}


def run_two_workers(module, *flags):
    """Runs it as a cluster of two on loopback; both must end well."""
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in (one, two)]
    processes = [
        start(
            module,
            *flags,
            "--strategy=multi_worker",
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in (0, 1)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=800)
            assert process.returncode == 0, errors
    finally:
        for process in processes:  # One that waits for the other in vain waits for ever.
            process.kill()
