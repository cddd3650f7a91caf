"""The same training has the same bits: twice in a process, in another one, and on one core."""

import json
import os
import subprocess
import sys

from tf_tickets.models.registry import MODELS

NETWORKS = [*MODELS, "wide_resnet_10_1"]


def trained(cores, instructions):
    """Network → hashes of its weights after equal trainings, in a new process.

    Args:
      cores: those that it may use.
      instructions: what oneDNN is held to, so that each machine tries the kernels of others.
    """
    lines = subprocess.run(
        [sys.executable, "-m", "tests.training.repeatability", *NETWORKS],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instructions, "TF_CPP_MIN_LOG_LEVEL": "3"},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    return dict(map(json.loads, lines))


def test_on_one_core():
    found = trained(sorted(os.sched_getaffinity(0))[:1], "AVX2")
    assert list(found) == NETWORKS
    assert all(first == second for first, second in found.values())


def test_twice_in_each_of_two_processes():
    cores = os.sched_getaffinity(0)
    one, other = trained(cores, "ALL"), trained(cores, "ALL")
    assert list(one) == NETWORKS
    assert one == other
    assert all(first == second for first, second in one.values())
