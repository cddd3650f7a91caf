"""Two logical CPUs for every test session, so that MirroredStrategy has devices to mirror."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tf_tickets  # noqa: E402, F401
from tf_tickets import runtime  # noqa: E402

runtime.divide_cpu(2)
