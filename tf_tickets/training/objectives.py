"""What a training step learns from: natural examples, adversarial ones, or both."""

from collections.abc import Callable

import tensorflow as tf

from tf_tickets.attacks.gradient import Attack

# (images, labels, noise) → the images and labels whose mean loss the step reduces; `noise` is
# the random start of attacks, see `attacks.gradient.uniform_noise`. Labels are integers, or
# distributions over the classes where images were mixed.
Objective = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def natural() -> Objective:
    """Natural training: the examples as they are."""
    return lambda images, labels, noise: (images, labels)


def mixed(attack: Attack) -> Objective:
    """Natural and adversarial examples in equal parts.

    "The Search for Sparse, Robust Neural Networks", section 4.2:
    ½ J(θ, x, y) + ½ J(θ, x_adv, y).
    """

    def examples(images, labels, noise):
        both = tf.concat([images, attack(images, labels, noise)], axis=0)
        return both, tf.concat([labels, labels], axis=0)

    return examples


def adversarial(attack: Attack) -> Objective:
    """Adversarial examples only, the saddle point of Madry et al. (arXiv:1706.06083).

    min_θ E[max_{δ in the ball} J(θ, x + δ, y)] with the attack as inner maximizer.
    """
    return lambda images, labels, noise: (attack(images, labels, noise), labels)


OBJECTIVES = {"mixed": mixed, "adversarial": adversarial}


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Softmax cross-entropy of each example, in nats.

    Args:
      labels: integers `[batch]`, or distributions `[batch, classes]`.
      logits: `[batch, classes]`.
      label_smoothing: the share of the target spread evenly over all classes.
    """
    classes = logits.shape[-1]
    if len(labels.shape) == 2:
        targets = labels * (1.0 - label_smoothing) + label_smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    if not label_smoothing:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    targets = tf.one_hot(
        labels,
        classes,
        on_value=1.0 - label_smoothing + label_smoothing / classes,
        off_value=label_smoothing / classes,
    )
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)
