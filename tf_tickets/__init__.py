"""Lottery tickets that resist adversarial examples, in Keras and TensorFlow.

Importing this package chooses Keras 2 (the only Keras that TF-MOT can prune), turns on
oneDNN's CPU kernels, and replaces the one of their gradients that is wrong. Both switches are
read when TensorFlow is first imported, so import tf_tickets before it. A value that the user
has set is kept.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from tf_tickets.compat import convolution_gradients  # noqa: E402

convolution_gradients.mend()
