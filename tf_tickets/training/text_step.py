"""Many training steps of a text classifier, or of the masks over it, in one call into the graph."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.data.tokens import TokenSplit
from tf_tickets.errors import require
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.models.bert_encoder import BertEncoder
from tf_tickets.training.adamw import AdamW

# As `attacks.embedding.free_lb`, but for its first argument, which returns all outputs by name.
TextObjective = Callable[..., tuple[tf.Tensor, list[tf.Tensor]]]


@dataclasses.dataclass(frozen=True, eq=False)
class TextTask:
    """What all trainings on a trial's texts share.

    Attributes:
      encoder: the pre-trained encoder.
      classes: size of the logits.
      tokens: the training examples.
      attack: what the attacker of adversarial regimes may do.
      batch_size: examples a step, over all replicas.
      dropout: rate of all dropout layers.
      clip_value: gradients are cut to [−clip_value, clip_value].
      strategy: where it runs.
      seed: decides the classifier's initial weights and, together with the iteration, the random
        starts of attacks.

    Raises:
      UserError: the batch does not divide among the replicas.
    """

    encoder: BertEncoder
    classes: int
    tokens: TokenSplit
    attack: EmbeddingAttack
    batch_size: int
    dropout: float
    clip_value: float
    strategy: tf.distribute.Strategy
    seed: int

    def __post_init__(self):
        require_divisible(self.batch_size, self.strategy)

    @property
    def replicas(self) -> int:
        """How many share a batch."""
        return self.strategy.num_replicas_in_sync


def require_divisible(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Raises a `UserError` unless a batch can be shared evenly among the replicas."""
    replicas = strategy.num_replicas_in_sync
    expected = f"a multiple of the {replicas} replicas"
    require(batch_size % replicas == 0, "batch_size", batch_size, expected)


def make_text_train_steps(
    task: TextTask,
    classifier: BertClassifier,
    variables: Sequence[tf.Variable],
    optimizer: AdamW,
    objective: TextObjective,
    masks: WeightMasks,
    regularizer: Callable[[], tf.Tensor] | None = None,
    clip_norm: float | None = None,
) -> Callable[..., tf.Tensor]:
    """Builds the training step.

    The tokens stay in memory, so a step is told only which examples to take; a batch is as long
    as its longest example. Each replica takes its share of the batch, and the gradients are
    summed.

    Args:
      task: what to learn, and where.
      classifier: the network.
      variables: what is trained; no other gradients are computed.
      optimizer: built in the strategy's scope, as the classifier is.
      objective: what to learn from a batch, such as `attacks.embedding.free_lb`.
      masks: applied after every update, so masked weights are zero after each step.
      regularizer: gives a scalar that is added to the loss, as λ R(m) in Equation 8.
      clip_norm: what the objective's gradients are shortened to, all variables' together, if they
        are longer, before the regularizer's are added; None leaves them.

    Returns:
      A function `(order, first_iteration, learning_rates, penalties) → losses`: `order` int32
      `[steps, batch_size]` of example indices; learning rates and penalties λ float32
      `[steps]`; losses float32 `[steps]`, the objective's mean over each step's batch before
      its update, without the regularizer.
    """
    replicas, batch_size, strategy = task.replicas, task.batch_size, task.strategy
    share = batch_size // replicas
    token_ids = tf.constant(task.tokens.token_ids)
    segment_ids = tf.constant(task.tokens.segment_ids)
    labels = tf.constant(task.tokens.labels)

    def learn(indices, iteration):
        """The loss and gradients of a replica's share of the batch."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        mine = tf.ensure_shape(indices[replica * share : (replica + 1) * share], [share])
        tokens = tf.gather(token_ids, mine)
        length = tf.reduce_max(tf.math.count_nonzero(tokens, axis=1, dtype=tf.int32))
        tokens, targets = tokens[:, :length], tf.gather(labels, mine)
        segments = tf.gather(segment_ids, mine)[:, :length]
        padding_mask = tf.cast(tokens != 0, tf.int32)

        def outputs_of(word_embeddings):
            """Logits, hidden states and losses."""
            outputs = classifier.features(
                {
                    "word_embeddings": word_embeddings,
                    "segment_ids": segments,
                    "padding_mask": padding_mask,
                },
                training=True,
            )
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, outputs["logits"])
            return outputs | {"losses": losses / replicas}

        noise = tf.random.stateless_uniform(
            [share, length, classifier.hidden_dim],
            tf.stack([task.seed, iteration * replicas + replica]),
            minval=-1.0,
        )
        return objective(
            outputs_of,
            variables,
            lambda: classifier.word_embeddings(tokens),
            tf.cast(padding_mask, tf.float32),
            noise,
            task.attack,
        )

    def shortened(gradients):
        """A replica's part of all replicas' sum, as short as it should be."""
        summed = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        clipped, _ = tf.clip_by_global_norm(summed, clip_norm)
        return [gradient / replicas for gradient in clipped]

    def replica_step(indices, iteration, penalty):
        loss, gradients = learn(indices, iteration)
        if clip_norm is not None:
            gradients = shortened(gradients)
        if regularizer is not None:
            with tf.GradientTape() as tape:
                added = penalty / replicas * regularizer()
            gradients = [g + more for g, more in zip(gradients, tape.gradient(added, variables))]
        optimizer.apply_gradients(zip(gradients, variables))
        masks.apply()
        return loss

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, batch_size], tf.int32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([None], tf.float32),
        ]
    )
    def train_steps(order, first_iteration, learning_rates, penalties):
        steps = tf.shape(order)[0]
        losses = tf.TensorArray(tf.float32, size=steps)
        for index in tf.range(steps):
            optimizer.learning_rate.assign(learning_rates[index])
            arguments = order[index], first_iteration + index, penalties[index]
            loss = strategy.run(replica_step, args=arguments)
            losses = losses.write(index, strategy.reduce("SUM", loss, axis=None))
        return losses.stack()

    return train_steps
