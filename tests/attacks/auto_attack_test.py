"""AutoAttack through ART, where it is installed, and a clear word where it is not."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_tickets.attacks.auto_attack import auto_attack, require_toolbox
from tf_tickets.errors import UserError

EPS = 0.1
# APGD on the cross-entropy only; the others take minutes.
FIRST = slice(0, 1)


def linear(x):
    """Two classes by the mean of the image: an attack moves it by eps at most."""
    score = 10 * (tf.reduce_mean(x, axis=(1, 2, 3)) - 0.5)
    return tf.stack([-score, score, tf.zeros_like(score) - 100], axis=1)


def test_breaks_what_can_be_broken_and_stays_in_the_ball():
    for package in ("art", "multiprocess"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra `benchmark`)")
    levels = np.array([0.45, 0.55, 0.58, 0.2, 0.9], np.float32)
    images = np.broadcast_to(levels[:, None, None, None], (5, 4, 4, 1)).astype(np.float32)
    labels = np.array([0, 1, 1, 0, 1])
    state = np.random.get_state()[1].copy()
    found = auto_attack(linear, images, labels, 3, EPS, 0, FIRST)
    assert np.array_equal(state, np.random.get_state()[1])
    correct = np.argmax(linear(found), axis=1) == labels
    assert correct.tolist() == [False, False, False, True, True]
    assert np.abs(found - images).max() <= EPS + 1e-4
    assert found.min() >= 0 and found.max() <= 1


def test_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "art"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "art", None)
    with pytest.raises(UserError) as error:
        require_toolbox()
    assert str(error.value).startswith("--attack=auto_attack: needs the extra `benchmark`")
    assert "\n" not in str(error.value)
