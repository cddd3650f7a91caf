"""Losses of perturbed word embeddings, with their gradients: FreeLB and PGD, for any model.

Norms are Frobenius norms, of one example's tokens and dimensions together.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_tickets.errors import require

# Word embeddings [batch, length, dim] → losses [batch]; every call draws dropout and masks anew.
LossOf = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class EmbeddingAttack:
    """What an attacker may do to word embeddings.

    Attributes:
      step_size: length of one step, η.
      init_magnitude: the norm that the random start cannot exceed.
      steps: passes through the model for FreeLB, steps of the attacker for PGD; K.
      bound: the norm that a perturbation cannot exceed, ε; None for no such bound, as "Robust
        Lottery Tickets for Pre-trained Language Models" has it (appendix B.3).

    Raises:
      UserError: a value out of range.
    """

    step_size: float
    init_magnitude: float
    steps: int
    bound: float | None = None

    def __post_init__(self):
        size, magnitude = self.step_size, self.init_magnitude
        require(0 <= size < math.inf, "adv_step_size", size, "a number of at least 0")
        require(0 <= magnitude < math.inf, "adv_init_magnitude", magnitude, "at least 0")
        require(self.steps >= 1, "adv_steps", self.steps, "at least 1")
        if self.bound is not None:
            require(0 < self.bound < math.inf, "adv_bound", self.bound, "a number above 0")

    def start(self, noise: tf.Tensor, token_mask: tf.Tensor) -> tf.Tensor:
        """The first perturbation, δ₀: noise · init_magnitude / √(tokens · dim), projected.

        Args:
          noise: `[batch, length, dim]`, uniform in [-1, 1].
          token_mask: float `[batch, length]`, 1 for a token, 0 for padding, which δ leaves alone.
        """
        tokens = tf.reduce_sum(token_mask, axis=1)[:, tf.newaxis, tf.newaxis]
        entries = tokens * tf.cast(tf.shape(noise)[-1], noise.dtype)
        scaled = tf.math.divide_no_nan(self.init_magnitude * noise, tf.sqrt(entries))
        return self._projected(scaled * token_mask[:, :, tf.newaxis])

    def step(self, delta: tf.Tensor, gradient: tf.Tensor, token_mask: tf.Tensor) -> tf.Tensor:
        """The next perturbation, δ + η g / ‖g‖, projected (Equation 7).

        Args:
          delta: δ, `[batch, length, dim]`.
          gradient: g, of the loss by δ; where all of an example's is zero, its δ stays.
          token_mask: float `[batch, length]`.
        """
        gradient *= token_mask[:, :, tf.newaxis]
        norm = tf.norm(gradient, axis=[1, 2], keepdims=True)
        moved = delta + self.step_size * tf.math.divide_no_nan(gradient, norm)
        return tf.ensure_shape(self._projected(moved), delta.shape)

    def _projected(self, delta):
        return delta if self.bound is None else tf.clip_by_norm(delta, self.bound, axes=[1, 2])


class Pass(NamedTuple):
    """What one pass through the model yields.

    Attributes:
      loss: a scalar.
      by_embeddings: its gradient by the perturbed word embeddings, `[batch, length, dim]`.
      by_variables: position of a variable → its gradient, without what reaches the variable
        through the word embeddings; only of variables that the pass uses.
    """

    loss: tf.Tensor
    by_embeddings: tf.Tensor
    by_variables: dict[int, tf.Tensor]


def natural(
    loss_of: LossOf,
    variables: Sequence[tf.Variable],
    embed: Callable[[], tf.Tensor],
    token_mask: tf.Tensor | None = None,
    noise: tf.Tensor | None = None,
    attack: EmbeddingAttack | None = None,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The loss without an attack; arguments and results as `free_lb`'s."""
    lookup = _Lookup(embed, variables)
    return lookup.complete(pass_at(lookup.embeddings, loss_of, variables))


def pgd(
    loss_of: LossOf,
    variables: Sequence[tf.Variable],
    embed: Callable[[], tf.Tensor],
    token_mask: tf.Tensor,
    noise: tf.Tensor,
    attack: EmbeddingAttack,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The loss at x + δ_K, after K steps of projected gradient ascent (Equations 6 and 7).

    K + 1 passes, of which only the last computes gradients of the variables. Arguments and
    results as `free_lb`'s.
    """
    lookup = _Lookup(embed, variables)

    def climb(taken, delta):
        perturbed = lookup.embeddings + delta
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(perturbed)
            loss = tf.reduce_mean(loss_of(perturbed))
        return taken + 1, attack.step(delta, tape.gradient(loss, perturbed), token_mask)

    _, delta = tf.while_loop(
        lambda taken, _: taken < attack.steps,
        climb,
        (0, attack.start(noise, token_mask)),
        parallel_iterations=1,
    )
    return lookup.complete(pass_at(lookup.embeddings + delta, loss_of, variables))


def free_lb(
    loss_of: LossOf,
    variables: Sequence[tf.Variable],
    embed: Callable[[], tf.Tensor],
    token_mask: tf.Tensor,
    noise: tf.Tensor,
    attack: EmbeddingAttack,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """FreeLB (Zhu et al., arXiv:1909.11764, Algorithm 1): K losses while δ climbs, averaged.

    Each of the K = `attack.steps` passes gives the gradients of the variables, which add up, and
    that of δ, which takes a step before the next pass.

    Args:
      loss_of: perturbed word embeddings `[batch, length, dim]` to losses `[batch]`, each of its
        own example only. Replicas that share a batch divide by their number in here, as their
        gradients are summed; no step changes by that, for its length is fixed.
      variables: what the loss is differentiated by; no other gradient is computed.
      embed: looks up the word embeddings `[batch, length, dim]`; called once.
      token_mask: float `[batch, length]`, 1 for a token, 0 for padding.
      noise: `[batch, length, dim]`, uniform in [-1, 1], of the random start.
      attack: K, η, ε and the size of the start.

    Returns:
      The mean loss of all passes and of the examples given, and its gradients, dense tensors in
      the order of `variables`.

    Raises:
      ValueError: a variable has no influence on the loss.
    """

    def pass_and_ascent(perturbed):
        latest = pass_at(perturbed, loss_of, variables)
        return latest, latest.by_embeddings

    return average_passes(pass_and_ascent, variables, embed, token_mask, noise, attack)


def average_passes(
    pass_and_ascent: Callable[[tf.Tensor], tuple[Pass, tf.Tensor]],
    variables: Sequence[tf.Variable],
    embed: Callable[[], tf.Tensor],
    token_mask: tf.Tensor,
    noise: tf.Tensor,
    attack: EmbeddingAttack,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """FreeLB's loop around any kind of pass; else as `free_lb`.

    The graph holds two passes, the first and the loop's, whatever K is.

    Args:
      pass_and_ascent: perturbed word embeddings to a pass, and the gradient that δ follows.
      variables, embed, token_mask, noise, attack: see `free_lb`.
    """
    lookup = _Lookup(embed, variables)

    def step_and_pass(passes, delta, ascent, total):
        delta = attack.step(delta, ascent, token_mask)
        latest, ascent = pass_and_ascent(lookup.embeddings + delta)
        return passes + 1, delta, ascent, tf.nest.map_structure(tf.add, total, latest)

    start = attack.start(noise, token_mask)
    first, ascent = pass_and_ascent(lookup.embeddings + start)
    *_, total = tf.while_loop(
        lambda passes, *_: passes < attack.steps,
        step_and_pass,
        (1, start, ascent, first),
        parallel_iterations=1,
    )
    return lookup.complete(tf.nest.map_structure(lambda part: part / attack.steps, total))


def pass_at(perturbed: tf.Tensor, loss_of: LossOf, variables: Sequence[tf.Variable]) -> Pass:
    """One pass at these word embeddings; see `free_lb` for the others."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([perturbed, *variables])
        loss = tf.reduce_mean(loss_of(perturbed))
    by_embeddings, *gradients = tape.gradient(loss, [perturbed, *variables])
    return Pass(loss, by_embeddings, dense(gradients))


def dense(gradients: Sequence[tf.Tensor | tf.IndexedSlices | None]) -> dict[int, tf.Tensor]:
    """Position → gradient as a dense tensor, of those that are there."""
    return {
        position: tf.convert_to_tensor(gradient)
        for position, gradient in enumerate(gradients)
        if gradient is not None
    }


class _Lookup:
    """Word embeddings, looked up once however many passes follow.

    A perturbed embedding moves as the embedding itself does, so the lookup is differentiated
    once as well, for all that the passes ask of it.
    """

    def __init__(self, embed, variables):
        self._variables = variables
        with tf.GradientTape(watch_accessed_variables=False) as self._tape:
            self._tape.watch(variables)
            self.embeddings = embed()

    def complete(self, result):
        """The loss of a pass and its gradients by the variables, those of the lookup included."""
        through_lookup = dense(
            self._tape.gradient(self.embeddings, self._variables, result.by_embeddings)
        )
        gradients = []
        for position, variable in enumerate(self._variables):
            parts = [
                part[position] for part in (result.by_variables, through_lookup) if position in part
            ]
            if not parts:
                raise ValueError(f"{variable.name} has no influence on the loss")
            gradients.append(tf.add_n(parts))
        return result.loss, gradients
