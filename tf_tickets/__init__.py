"""Lottery tickets that resist adversarial examples, in Keras and TensorFlow.

Importing this package chooses Keras 2 (the only Keras that TF-MOT can prune) and
turns on oneDNN's CPU kernels. Both switches are read when TensorFlow is first
imported, so import tf_tickets before it. A value that the user has set is kept.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
