"""FGSM and PGD, crafted by CleverHans in a small graph."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.utils import clip_eta

from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.runtime import in_parallel

# Taken from the label's own logit, so that it is never the largest wrong one.
_OUT_OF_REACH = 1e9

# (images, labels, noise=None) → adversarial images
Attack = Callable[..., tf.Tensor]


def margin_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """max_{i≠y} z_i − z_y, `[batch]`: above 0 for a wrong answer.

    Args:
      labels: integers `[batch]`.
      logits: `[batch, classes]`.
    """
    is_label = tf.one_hot(labels, logits.shape[-1])
    label = tf.reduce_sum(is_label * logits, axis=-1)
    return tf.reduce_max(logits - _OUT_OF_REACH * is_label, axis=-1) - label


# None is CleverHans' own cross-entropy.
_LOSSES = {"cross_entropy": None, "margin": margin_loss}


def uniform_noise(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The random starts of a batch, in units of eps: uniform in [-1, 1], shaped as `images`.

    Draw it for a whole batch, then slice it as the batch is sliced: an example's start
    then does not depend on how the work is divided.

    Args:
      images: `[batch, ...]`; only their shape counts.
      seed: two integers.
    """
    return tf.random.stateless_uniform(tf.shape(images), seed, -1.0, 1.0)


def build_attack(
    threat_model: ThreatModel, logits_fn: Callable[[tf.Tensor], tf.Tensor], chunks: int = 1
) -> Attack:
    """Builds an attack on a network.

    The steps are CleverHans' own (`fast_gradient_method`, then `clip_eta`), in a
    `tf.while_loop` where CleverHans' PGD would unroll them.

    Args:
      threat_model: what the attacker may do.
      logits_fn: images to logits, each example independent of the others (a
        network in inference mode). A `FoldedNetwork` is folded once per attack.
      chunks: slices of the batch that may be attacked side by side.

    Returns:
      A function `(images, labels, noise=None) → adversarial images`: images
      `[batch, ...]` float32 within the clip range, labels `[batch]` integers;
      `noise`, shaped as the images, is the random start (see `uniform_noise`) and
      needed by threat models that have one. The result lies within `eps` of the
      images and within the clip range.
    """

    def attack(images, labels, noise=None):
        if threat_model.labels == "predicted":
            labels = tf.argmax(logits_fn(images), axis=-1)
        start = _start(threat_model, images, noise)
        folded = isinstance(logits_fn, FoldedNetwork)
        network = logits_fn.with_fixed_weights() if folded else logits_fn
        steps = _build_steps(threat_model, network)
        adversarial = in_parallel(steps, chunks, images, start, labels)
        return tf.ensure_shape(adversarial, images.shape)

    return attack


def _start(threat_model, images, noise):
    if not threat_model.random_start:
        return images
    if noise is None:
        raise ValueError("a threat model with a random start needs noise")
    return _project(threat_model, images, images + threat_model.eps * noise)


def _build_steps(threat_model, logits_fn):
    def steps(images, start, labels):
        def step(index, adversarial):
            adversarial = fast_gradient_method(
                logits_fn,
                adversarial,
                threat_model.step_size,
                np.inf,
                loss_fn=_LOSSES[threat_model.loss],
                clip_min=threat_model.clip_min,
                clip_max=threat_model.clip_max,
                y=labels,
            )
            return index + 1, _project(threat_model, images, adversarial)

        _, adversarial = tf.while_loop(
            lambda index, _: index < threat_model.steps,
            step,
            (0, start),
            parallel_iterations=1,
        )
        return adversarial

    return steps


def _project(threat_model, images, adversarial):
    """Back into the eps-ball and the clip range, exactly as CleverHans' PGD does."""
    offset = clip_eta(adversarial - images, np.inf, threat_model.eps)
    return tf.clip_by_value(images + offset, threat_model.clip_min, threat_model.clip_max)
