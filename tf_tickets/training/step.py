"""Many training steps in one call into the graph."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from tf_tickets.data.vision import ImageSplit, to_unit_interval
from tf_tickets.errors import UserError
from tf_tickets.masking.weight_masks import WeightMasks
from tf_tickets.training.objectives import Objective, cross_entropy


def make_train_steps(
    model: keras.Model,
    optimizer: keras.optimizers.legacy.Optimizer,
    objective: Objective,
    masks: WeightMasks,
    examples: ImageSplit,
    batch_size: int,
    strategy: tf.distribute.Strategy,
    seed: int,
    label_smoothing: float = 0.0,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Builds the training step.

    The data stay in memory, so a step is told only which examples to take. Each
    replica takes its share of the batch and the gradients are summed, which makes
    a step on any number of replicas the step of the whole batch on one.

    Args:
      model: returns logits.
      optimizer: built in the strategy's scope, as `model` and `masks` are.
      objective: what to learn from a batch.
      masks: applied after every update, so masked weights are zero after each step.
      examples: all training examples.
      batch_size: examples per step over all replicas.
      strategy: how the step is distributed.
      seed: decides the random starts of attacks, together with the iteration.
      label_smoothing: see `cross_entropy`.

    Returns:
      A function `(order, first_iteration) → losses`: `order` int32
      `[steps, batch_size]` of example indices; losses float32 `[steps]`, the mean
      loss of each step's batch before its update.

    Raises:
      UserError: the batch does not divide among the replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"--batch_size={batch_size}: expected a multiple of the {replicas} replicas"
        )
    share = batch_size // replicas
    images, labels = tf.constant(examples.images), tf.constant(examples.labels)

    def replica_step(indices, iteration):
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * share
        mine = indices[first : first + share]
        inputs, targets = objective(
            to_unit_interval(tf.gather(images, mine)),
            tf.gather(labels, mine),
            tf.stack([seed, iteration]),
        )
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            losses = cross_entropy(targets, logits, label_smoothing)
            loss = tf.reduce_mean(losses) / replicas
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        masks.apply()
        return loss

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, batch_size], tf.int32),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def train_steps(order, first_iteration):
        steps = tf.shape(order)[0]
        losses = tf.TensorArray(tf.float32, size=steps)
        for index in tf.range(steps):
            loss = strategy.run(replica_step, args=(order[index], first_iteration + index))
            losses = losses.write(index, strategy.reduce("SUM", loss, axis=None))
        return losses.stack()

    return train_steps
