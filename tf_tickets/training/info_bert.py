"""InfoBERT: FreeLB with two regularizers that bound mutual information.

Wang et al., "InfoBERT: Improving Robustness of Language Models from An Information Theoretic
Perspective" (ICLR 2021, arXiv:2010.02329). Of a sentence, the local features T₁ … T_n are what
the encoder's embedding layer makes of its words X₁ … X_n, and the global feature Z is the last
hidden state of [CLS].

What the paper leaves open is decided as its published code does: local features have unit
variance given their word, [CLS] and [SEP] are ranked with the words, and the attacker climbs
the Information Bottleneck's bound with the loss. Two things are ours. The first bound averages
over all pairs of words, where the code draws one pair a word; and the second compares a feature
with one feature of every other sentence, where the code draws as many from all sentences. On
several replicas, each compares within its share of the batch.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.embedding import EmbeddingAttack, Pass, average_passes, dense
from tf_tickets.errors import require

# Perturbed word embeddings [batch, length, dim] → losses [batch], local features
# [batch, length, dim] and global features [batch, dim].
OutputsOf = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]

# Instead of −∞, of which gradients make NaN.
_NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class Regularizers:
    """The weights of InfoBERT's regularizers; the defaults are its code's for ANLI.

    Attributes:
      alpha: α, of the Anchored Feature regularizer.
      beta: β, of the Information Bottleneck regularizer.
      lowest: part of a sentence's tokens, in the order of their gradients, that is too stable
        to be useful, c_l.
      highest: the part after which tokens are not robust, c_h.

    Raises:
      UserError: a value out of range.
    """

    alpha: float = 5e-3
    beta: float = 5e-3
    lowest: float = 0.5
    highest: float = 0.9

    def __post_init__(self):
        require(0 <= self.alpha < math.inf, "info_alpha", self.alpha, "a number of at least 0")
        require(0 <= self.beta < math.inf, "info_beta", self.beta, "a number of at least 0")
        require(0 <= self.lowest <= 1, "info_lowest", self.lowest, "in [0, 1]")
        most = f"in [{self.lowest}, 1]"
        require(self.lowest <= self.highest <= 1, "info_highest", self.highest, most)

    def shared_by(self, replicas: int) -> "Regularizers":
        """The weights on one of several replicas, whose gradients are summed."""
        return dataclasses.replace(self, alpha=self.alpha / replicas, beta=self.beta / replicas)


class Critic(keras.layers.Layer):
    """The trainable estimate of whether a local and a global feature belong together.

    softplus(w · relu(A t + B z + b) + c), as the published code has it.

    Args:
      seed: decides the initial weights.
      units: size of the hidden layer.
    """

    def __init__(self, seed: int, units: int = 300):
        super().__init__(name="critic")
        first, second, third = (keras.initializers.GlorotUniform(seed + i) for i in range(3))
        self._of_local = keras.layers.Dense(units, use_bias=False, kernel_initializer=first)
        self._of_global = keras.layers.Dense(units, kernel_initializer=second)
        self._score = keras.layers.Dense(1, "softplus", kernel_initializer=third)

    def call(self, local_features: tf.Tensor, global_features: tf.Tensor) -> tf.Tensor:
        """Compares every local feature of a slot with every global feature.

        Args:
          local_features: `[slots, sentences, dim]`.
          global_features: `[sentences, dim]`.

        Returns:
          Above 0, `[slots, sentences, sentences]`: by global feature, then by local feature.
        """
        by_local = self._of_local(local_features)[:, tf.newaxis]
        by_global = self._of_global(global_features)[:, tf.newaxis]
        return tf.squeeze(self._score(tf.nn.relu(by_local + by_global)), axis=-1)


def information_bottleneck(local_features: tf.Tensor, token_mask: tf.Tensor) -> tf.Tensor:
    """An upper bound on the mean I(X_i; T_i), in nats: CLUB (Cheng et al., arXiv:2006.12013).

    1/n Σ_i [log p(t_i | x_i) − 1/n Σ_j log p(t_j | x_i)] over the n tokens of the batch. With
    p(t | x_i) = N(t_i, 1) that is 1/n² Σ_i Σ_j ½‖t_j − t_i‖², the features' total variance.

    Args:
      local_features: `[batch, length, dim]`.
      token_mask: float `[batch, length]`, 1 for a token, 0 for padding.

    Returns:
      A scalar.
    """
    features = tf.boolean_mask(local_features, token_mask > 0)
    return tf.reduce_sum(tf.math.reduce_variance(features, axis=0))


def anchored_features(
    local_features: tf.Tensor,
    gradients: tf.Tensor,
    token_mask: tf.Tensor,
    lowest: float,
    highest: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The local features that are useful and robust: neither too stable nor too easily moved.

    Of a sentence's n tokens in ascending order of ‖g_i‖, those from ⌈c_l n⌉ to ⌈c_h n⌉ − 1,
    counted from 0 (the paper's Algorithm 1).

    Args:
      local_features: `[batch, length, dim]`.
      gradients: g, of the loss by the word embeddings, `[batch, length, dim]`.
      token_mask: float `[batch, length]`, 1 for a token, 0 for padding.
      lowest, highest: c_l and c_h, in [0, 1].

    Returns:
      The features `[slots, batch, dim]`, in the order of ‖g_i‖, with as many slots as the most
      that a sentence has; and float `[slots, batch]`, 1 where a sentence has a feature.
    """
    norms = tf.where(token_mask > 0, tf.norm(gradients, axis=-1), math.inf)
    ascending = tf.argsort(norms, stable=True)
    # In double precision: in single, ⌈0.6 · 25⌉ would be 16.
    tokens = tf.cast(tf.reduce_sum(token_mask, axis=1), tf.float64)
    first = tf.cast(tf.math.ceil(lowest * tokens), tf.int32)
    end = tf.cast(tf.math.ceil(highest * tokens), tf.int32)
    ranks = first + tf.range(tf.reduce_max(end - first))[:, tf.newaxis]
    present = tf.cast(ranks < end, local_features.dtype)
    within = tf.transpose(tf.minimum(ranks, tf.shape(norms)[1] - 1))
    tokens = tf.gather(ascending, within, batch_dims=1)
    chosen = tf.gather(local_features, tokens, batch_dims=1)
    return tf.transpose(chosen, [1, 0, 2]), present


def info_nce(
    critic: Critic, local_features: tf.Tensor, present: tf.Tensor, global_features: tf.Tensor
) -> tf.Tensor:
    """A lower bound on the mean I(T_i; Z), in nats: InfoNCE (Oord et al., arXiv:1807.03748).

    The mean over all local features t of f(t, z) − log 1/m Σ_{t'} exp f(t', z), with z of the
    same sentence as t, and t' all m features that are in the same slot as t, itself included.

    Args:
      critic: f.
      local_features, present: see `anchored_features`.
      global_features: `[batch, dim]`.

    Returns:
      A scalar; 0 where there are no features.
    """
    scores = critic(local_features, global_features)
    own = tf.linalg.diag_part(scores)
    absent = (1 - present[:, tf.newaxis]) * _NEVER
    in_slot = tf.reduce_sum(present, axis=1, keepdims=True)
    average = tf.reduce_logsumexp(scores + absent, axis=-1) - tf.math.log(in_slot)
    return tf.math.divide_no_nan(tf.reduce_sum(present * (own - average)), tf.reduce_sum(present))


def info_bert(
    outputs_of: OutputsOf,
    variables: Sequence[tf.Variable],
    embed: Callable[[], tf.Tensor],
    token_mask: tf.Tensor,
    noise: tf.Tensor,
    attack: EmbeddingAttack,
    regularizers: Regularizers,
    critic: Critic,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """FreeLB of the loss + β · `information_bottleneck` − α · `info_nce` of anchored features.

    Args:
      outputs_of: see `OutputsOf`; losses as those of `free_lb`, whose arguments the others are.
      variables: includes the critic's.
      regularizers: α, β, c_l and c_h; see `Regularizers.shared_by`.
      critic: built; see `Critic`.

    Returns:
      As `free_lb`, of all three terms.

    Raises:
      ValueError: a variable has no influence on the loss.
    """

    def pass_and_ascent(perturbed):
        sources = [perturbed, *variables]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(sources)
            losses, local_features, global_features = outputs_of(perturbed)
            bottleneck = information_bottleneck(local_features, token_mask)
            loss = tf.reduce_mean(losses) + regularizers.beta * bottleneck
            with tape.stop_recording():
                ascent = tape.gradient(loss, perturbed)
            anchored, present = anchored_features(
                local_features, ascent, token_mask, regularizers.lowest, regularizers.highest
            )
            loss -= regularizers.alpha * info_nce(critic, anchored, present, global_features)
        by_embeddings, *gradients = tape.gradient(loss, sources)
        return Pass(loss, by_embeddings, dense(gradients)), ascent

    return average_passes(pass_and_ascent, variables, embed, token_mask, noise, attack)
