"""One driver per paper.

TensorFlow announces its kernels and a missing GPU on every start, before its own log
level takes effect. A driver's user sees that only with TF_CPP_MIN_LOG_LEVEL set to less than 3.
"""

import contextlib
import logging
import os
import signal
import sys


def _open_closed_streams():
    """A file that is opened must not take the place of a standard stream that is closed."""
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _stop_while_modules_load():
    """Ctrl-C and SIGTERM end the program at once, as nothing has begun.

    An exception among the imports of others may be taken for a failure of theirs.
    """
    standard_error = os.dup(2)  # The other one is silent for a while.

    def stop(number, _frame):
        line = f"stopped by {signal.Signals(number).name}; nothing was written\n"
        with contextlib.suppress(OSError):
            os.write(standard_error, line.encode())
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


# Only where one of our programs is started, python -m experiments.PROGRAM.
if sys.argv[0] == "-m":
    _open_closed_streams()
    _stop_while_modules_load()


@contextlib.contextmanager
def _silent_standard_error():
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# Processes that we start find the level set, and are as silent.
_silent = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
with _silent_standard_error() if _silent else contextlib.nullcontext():
    # It chooses Keras 2 and oneDNN before TensorFlow loads.
    import tf_tickets  # noqa: F401
    import tensorflow as tf  # isort: skip

    tf.config.list_physical_devices()
if _silent:
    # Where the home cannot be written, Matplotlib says that it draws from a temporary folder.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # Every network and attack has graphs of its own, which TensorFlow takes for retracing.
    tf.get_logger().setLevel("ERROR")
