"""FGSM and PGD, crafted by CleverHans in a small graph."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from cleverhans.tf2.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.tf2.utils import clip_eta

from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.runtime import in_parallel

# (images, labels, seed=(0, 0)) → adversarial images
Attack = Callable[..., tf.Tensor]


def build_attack(
    threat_model: ThreatModel, logits_fn: Callable[[tf.Tensor], tf.Tensor], chunks: int = 1
) -> Attack:
    """Builds an attack on a network.

    The steps are CleverHans' own (`fast_gradient_method`, then `clip_eta`), in a
    `tf.while_loop` where CleverHans' PGD would unroll them.

    Args:
      threat_model: what the attacker may do.
      logits_fn: images to logits, each example independent of the others (a
        network in inference mode).
      chunks: slices of the batch that may be attacked side by side.

    Returns:
      A function `(images, labels, seed=(0, 0)) → adversarial images`: images
      `[batch, ...]` float32 within the clip range, labels `[batch]` integers;
      `seed`, two integers, decides the random start. The result lies within
      `eps` of the images and within the clip range.
    """
    steps = _build_steps(threat_model, logits_fn)

    def attack(images, labels, seed=(0, 0)):
        if threat_model.labels == "predicted":
            labels = tf.argmax(logits_fn(images), axis=-1)
        start = _start(threat_model, images, seed)
        adversarial = in_parallel(steps, chunks, images, start, labels)
        return tf.ensure_shape(adversarial, images.shape)

    return attack


def _start(threat_model, images, seed):
    if not threat_model.random_start:
        return images
    noise = tf.random.stateless_uniform(tf.shape(images), seed, -threat_model.eps, threat_model.eps)
    return _project(threat_model, images, images + noise)


def _build_steps(threat_model, logits_fn):
    def steps(images, start, labels):
        def step(index, adversarial):
            adversarial = fast_gradient_method(
                logits_fn,
                adversarial,
                threat_model.step_size,
                np.inf,
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
