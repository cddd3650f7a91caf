"""One driver per paper.

TensorFlow announces its kernels and a missing GPU on every start, before its own log
level takes effect. A driver's user sees that only with TF_CPP_MIN_LOG_LEVEL set.
"""

import contextlib
import os

import tf_tickets  # noqa: F401  (chooses Keras 2 and oneDNN before TensorFlow loads)


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


if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _silent_standard_error():
        import tensorflow as tf

        tf.config.list_physical_devices()
    # Every network and attack has graphs of its own, which TensorFlow takes for retracing.
    tf.get_logger().setLevel("ERROR")
