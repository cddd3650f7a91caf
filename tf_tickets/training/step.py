"""Many training steps in one call into the graph."""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks.gradient import uniform_noise
from tf_tickets.data.augmentation import (
    Mixing,
    random_crop_and_flip,
    random_resized_crop_and_flip,
)
from tf_tickets.data.vision import ImageSplit, resize, to_unit_interval
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
    weight_decay: float = 0.0,
    augmentation: str | None = None,
    mixing: Mixing | None = None,
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
    """Builds the training step.

    The data stay in memory, so a step is told only which examples to take. Each
    replica takes its share of the batch and the gradients are summed, which makes
    a step on any number of replicas the step of the whole batch on one, BatchNorm
    included where it is `models.layers.batch_norm`.

    Args:
      model: returns logits.
      optimizer: built in the strategy's scope, as `model` and `masks` are.
      objective: what to learn from a batch.
      masks: applied after every update, so masked weights are zero after each step.
      examples: all training examples; where they are resized, that comes last.
      batch_size: examples per step over all replicas.
      strategy: how the step is distributed.
      seed: decides the random starts of attacks and the augmentation, together with
        the iteration.
      label_smoothing: see `cross_entropy`.
      weight_decay: λ of the penalty λ/2 ‖θ‖² over all trainable weights.
      augmentation: how images are cropped and flipped at random, see `ImageData`; None for not
        at all.
      mixing: erases or mixes images and their targets, after that.

    Returns:
      A function `(order, first_iteration, learning_rates) → losses`: `order` int32
      `[steps, batch_size]` of example indices; learning rates float32 `[steps]`;
      losses float32 `[steps]`, the mean loss of each step's batch before its update.

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

    def batch(indices, iteration):
        """The replica's share of the batch. What is random is drawn for all replicas at once."""
        first = tf.distribute.get_replica_context().replica_id_in_sync_group * share
        pixels = tf.gather(images, indices)
        if augmentation == "crop_and_flip":
            pixels = random_crop_and_flip(pixels, _seed(seed, iteration, stream=1))
        inputs, targets = to_unit_interval(pixels), tf.gather(labels, indices)
        if augmentation == "published":
            size = examples.image_shape[:2]
            drawn = _seed(seed, iteration, stream=1)
            inputs = random_resized_crop_and_flip(inputs, drawn, size)
        if mixing:
            targets = tf.one_hot(targets, model.output_shape[-1])
            inputs, targets = mixing(inputs, targets, _seed(seed, iteration, stream=2))
        inputs = resize(inputs, examples.image_shape)
        noise = uniform_noise(inputs, _seed(seed, iteration, stream=0))
        whole = inputs, targets, noise
        return [
            tf.ensure_shape(part[first : first + share], [share, *part.shape[1:]]) for part in whole
        ]

    def replica_step(indices, iteration):
        inputs, targets = objective(*batch(indices, iteration))
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            losses = cross_entropy(targets, logits, label_smoothing)
            loss = tf.reduce_mean(losses) / replicas
        weights = model.trainable_variables
        gradients = tape.gradient(loss, weights)
        if weight_decay:
            decay = weight_decay / replicas  # Gradients are summed over replicas.
            gradients = [g + decay * weight for g, weight in zip(gradients, weights)]
        optimizer.apply_gradients(zip(gradients, weights))
        masks.apply()
        return loss

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, batch_size], tf.int32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([None], tf.float32),
        ]
    )
    def train_steps(order, first_iteration, learning_rates):
        steps = tf.shape(order)[0]
        losses = tf.TensorArray(tf.float32, size=steps)
        for index in tf.range(steps):
            optimizer.learning_rate.assign(learning_rates[index])
            loss = strategy.run(replica_step, args=(order[index], first_iteration + index))
            losses = losses.write(index, strategy.reduce("SUM", loss, axis=None))
        return losses.stack()

    return train_steps


def _seed(seed, iteration, stream):
    """Two integers; the streams of one iteration differ in their signs."""
    return tf.stack(
        [-1 - seed if stream & 1 else seed, -1 - iteration if stream & 2 else iteration]
    )
