"""Many training steps of a text classifier, or of the masks over it, in one call into the graph."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.data.tokens import TokenSplit
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.training.adamw import AdamW

# As `attacks.embedding.free_lb`: what to learn from a batch.
TextObjective = Callable[..., tuple[tf.Tensor, list[tf.Tensor]]]


def make_text_train_steps(
    classifier: BertClassifier,
    variables: Sequence[tf.Variable],
    optimizer: AdamW,
    objective: TextObjective,
    attack: EmbeddingAttack,
    masks: WeightMasks,
    examples: TokenSplit,
    batch_size: int,
    strategy: tf.distribute.Strategy,
    seed: int,
    regularizer: Callable[[], tf.Tensor] | None = None,
) -> Callable[..., tf.Tensor]:
    """Builds the training step.

    The tokens stay in memory, so a step is told only which examples to take; a batch is as long
    as its longest example. Each replica takes its share of the batch, and the gradients are
    summed.

    Args:
      classifier: the network.
      variables: what is trained; no other gradients are computed.
      optimizer: built in the strategy's scope, as the classifier is.
      objective: `natural`, `pgd` or `free_lb` of `attacks.embedding`, or one like them.
      attack: what the objective's attacker may do.
      masks: applied after every update, so masked weights are zero after each step.
      examples: all training examples.
      batch_size: examples per step over all replicas, a multiple of their number.
      strategy: how the step is distributed.
      seed: decides the random starts of attacks, together with the iteration.
      regularizer: gives a scalar that is added to the loss, as λ R(m) in Equation 8.

    Returns:
      A function `(order, first_iteration, learning_rates, penalties) → losses`: `order` int32
      `[steps, batch_size]` of example indices; learning rates and penalties λ float32
      `[steps]`; losses float32 `[steps]`, the objective's mean over each step's batch before
      its update, without the regularizer.
    """
    replicas = strategy.num_replicas_in_sync
    share = batch_size // replicas
    token_ids, segment_ids = tf.constant(examples.token_ids), tf.constant(examples.segment_ids)
    labels = tf.constant(examples.labels)

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
            tf.stack([seed, iteration * replicas + replica]),
            minval=-1.0,
        )
        return objective(
            outputs_of,
            variables,
            lambda: classifier.word_embeddings(tokens),
            tf.cast(padding_mask, tf.float32),
            noise,
            attack,
        )

    def replica_step(indices, iteration, penalty):
        loss, gradients = learn(indices, iteration)
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
