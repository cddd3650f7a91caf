"""AutoAttack, as the Adversarial Robustness Toolbox (ART) has it."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UserError, require


def require_toolbox() -> None:
    """Checks that ART can be imported.

    Raises:
      UserError: it is not installed.
    """
    try:
        _import_toolbox()
    except ImportError as error:
        raise UserError(
            "--attack=auto_attack: needs the extra `benchmark`: "
            f"pip install 'tf_tickets[benchmark]' ({error})"
        ) from None


def auto_attack(
    logits_fn: Callable[[tf.Tensor], tf.Tensor],
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    eps: float,
    seed: int,
    attacks: slice = slice(None),
) -> np.ndarray:
    """Attacks with ART's standard ensemble (AutoAttack: Croce and Hein, arXiv:2003.01690).

    One after another, on what the one before left: APGD on the cross-entropy and APGD on
    the difference of logits ratio (5 starts of 100 steps each), DeepFool, and the
    black-box Square Attack (5 starts of 5,000 queries). ART has DeepFool where the paper
    has FAB, and untargeted attacks only. The first step of APGD is 2 eps, as in the paper.

    Args:
      logits_fn: images `[batch, ...]` → logits `[batch, classes]`.
      images: float32 `[batch, height, width, channels]` in [0, 1].
      labels: integers `[batch]`, the true ones.
      num_classes: size of the logits, at least 3, as the difference of logits ratio needs.
      eps: radius of the L∞ ball, above 0.
      seed: decides all that is random.
      attacks: which of the four.

    Returns:
      Images shaped as `images`: adversarial ones where any attack succeeded.

    Raises:
      UserError: ART is not installed, or there are two classes only.
    """
    require(num_classes >= 3, "attack", "auto_attack", "three classes or more")
    require_toolbox()
    AutoAttack, TensorFlowV2Classifier = _import_toolbox()
    classifier = TensorFlowV2Classifier(
        # ART calls its model with `training=`.
        model=tf.function(lambda x, training=False: logits_fn(x), autograph=False),
        nb_classes=num_classes,
        input_shape=images.shape[1:],
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    ensemble = AutoAttack(classifier, np.inf, eps, 2 * eps, batch_size=len(images))
    ensemble.attacks = ensemble.attacks[attacks]
    for attack in ensemble.attacks:
        attack.batch_size = len(images)
        attack.verbose = False
    with _numpy_seed(seed), _without_warnings():
        return ensemble.generate(images.copy(), np.eye(num_classes, dtype=np.float32)[labels])


def _import_toolbox():
    import multiprocess  # noqa: F401  (ART needs it without asking for it)
    from art.attacks.evasion import AutoAttack
    from art.estimators.classification import TensorFlowV2Classifier

    return AutoAttack, TensorFlowV2Classifier


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """ART draws from NumPy's global generator, which others may be using."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """ART's gradients of all classes make TensorFlow warn about speed."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
