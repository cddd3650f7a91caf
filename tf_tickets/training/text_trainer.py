"""Text classifiers with what trains them: their weights, or the masks over them."""

import abc
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tf_tickets.attacks import embedding
from tf_tickets.masking.hard_concrete import (
    INITIAL_LOG_ALPHA,
    HardConcreteMask,
    mean_expected_l0,
)
from tf_tickets.masking.transformer_masks import TransformerMasks
from tf_tickets.masking.weight_masks import NoMasks
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.models.weights import Weights, read_weights, weight_path, write_weights
from tf_tickets.training.adamw import AdamW
from tf_tickets.training.info_bert import Critic, Regularizers, info_bert
from tf_tickets.training.schedules import Constant, LearningRates
from tf_tickets.training.text_step import TextObjective, TextTask, make_text_train_steps


def _of_losses(objective: Callable) -> TextObjective:
    """An objective that looks at nothing but the losses."""

    def learn(outputs_of, *others):
        return objective(lambda embeddings: outputs_of(embeddings)["losses"], *others)

    return learn


OBJECTIVES = {
    "natural": _of_losses(embedding.natural),
    "pgd": _of_losses(embedding.pgd),
    "free_lb": _of_losses(embedding.free_lb),
}


class _InfoBert:
    """InfoBERT's objective, with the critic that is trained beside the network."""

    def __init__(self, hidden_dim: int, replicas: int, seed: int):
        self.critic = Critic(seed)
        self.critic(tf.zeros([1, 1, hidden_dim]), tf.zeros([1, hidden_dim]))
        self._initial_weights = self.critic.get_weights()
        self._regularizers = Regularizers().shared_by(replicas)

    def reset(self) -> None:
        """The critic as it was before training."""
        self.critic.set_weights(self._initial_weights)

    def __call__(self, outputs_of, *others):
        def needed_outputs(embeddings):
            outputs = outputs_of(embeddings)
            return outputs["losses"], outputs["embedded"], outputs["hidden"][:, 0]

        return info_bert(needed_outputs, *others, self._regularizers, self.critic)


class _TextTraining(abc.ABC):
    """What both kinds of training have in common, as `train_level` takes it.

    Attributes:
      regime: a name in `OBJECTIVES`, or `info_bert`.
      model: the network, for measuring it and for checkpoints.
      optimizer, masks: what trains it and what it is held to.
      other_state: what else training changes.
      penalties: λ of every iteration.
    """

    def __init__(self, task: TextTask, regime: str):
        self.regime = regime
        self._task = task
        self.penalties: LearningRates = Constant(0.0)

    def train_steps(
        self, order: tf.Tensor, first_iteration: tf.Tensor, learning_rates: tf.Tensor
    ) -> tf.Tensor:
        """Trains; see `make_text_train_steps`."""
        penalties = self.penalties(int(first_iteration), len(order))
        return self._steps(order, first_iteration, learning_rates, tf.constant(penalties))

    def trace(self) -> None:
        """Builds the graph of the training step without taking one."""
        order = tf.zeros([0, self._task.batch_size], tf.int32)
        self.train_steps(order, tf.constant(0), tf.zeros([0]))

    @abc.abstractmethod
    def weights(self) -> Weights:
        """Copies what was trained."""

    def _reset_optimizer(self):
        for variable in self.optimizer.variables():
            variable.assign(tf.zeros_like(variable))


class TextTrainer(_TextTraining):
    """A classifier whose weights are trained, under the masks of a ticket.

    Args:
      task: what to learn, and where.
      regime: a name in `OBJECTIVES`, or `info_bert`.
      weight_decay: AdamW's.

    Attributes:
      initial_weights: those before any training, path → array.
    """

    def __init__(self, task: TextTask, regime: str, weight_decay: float):
        super().__init__(task, regime)
        with task.strategy.scope():
            self.classifier = BertClassifier(task.encoder, task.classes, task.dropout, task.seed)
            self.model = self.classifier.model
            self.optimizer = AdamW(0.0, weight_decay, clip_value=task.clip_value)
            self.masks = TransformerMasks(self.classifier.masked_layers)
            variables = list(self.model.trainable_variables)
            self._info_bert = None
            if regime == "info_bert":
                hidden_dim = self.classifier.hidden_dim
                self._info_bert = _InfoBert(hidden_dim, task.replicas, task.seed)
                variables += self._info_bert.critic.trainable_variables
            self.optimizer._create_all_weights(variables)
        self.initial_weights = read_weights(self.model)
        self.other_state = list(self.classifier.random_streams)
        if self._info_bert:
            self.other_state.append(self._info_bert.critic)
        self._steps = make_text_train_steps(
            task,
            self.classifier,
            variables,
            self.optimizer,
            self._info_bert or OBJECTIVES[regime],
            self.masks,
        )

    def reset(self, weights: Weights, masks: Mapping[str, np.ndarray], seed: int) -> None:
        """Starts over: the given weights, masked, an optimizer without a past, dropout anew."""
        write_weights(self.model, weights)
        self.masks.assign(masks)
        self._reset_optimizer()
        self.classifier.reseed(seed)
        if self._info_bert:
            self._info_bert.reset()

    def weights(self) -> Weights:
        """Copies the classifier's weights."""
        return read_weights(self.model)


class MaskTrainer(_TextTraining):
    """Hard-concrete masks over a frozen classifier; their log α are trained.

    Args:
      task: what to learn, and where.
      regime: a name in `OBJECTIVES`.
      weight_decay: AdamW's.
      granularity: what one mask stands for, see `masking.granularity`; outside attention, where
        there are no heads, `head` is `neuron`.
      clips_norm: whether the task's `clip_value` is the limit of the norm of the objective's
        gradients, all log α together, before λ∇R is added, as in the released code of "Robust
        Lottery Tickets" (whose norm holds the frozen weights' gradients as well); else of each
        value of the sum.
    """

    def __init__(
        self,
        task: TextTask,
        regime: str,
        weight_decay: float,
        granularity: str,
        clips_norm: bool = False,
    ):
        super().__init__(task, regime)
        with task.strategy.scope():
            self.classifier = BertClassifier(task.encoder, task.classes, task.dropout, task.seed)
            self.classifier.replace_layers(
                lambda layer: HardConcreteMask(layer, _granularity_of(layer, granularity))
            )
            self.model = self.classifier.model
            clip_value = None if clips_norm else task.clip_value
            self.optimizer = AdamW(0.0, weight_decay, clip_value=clip_value)
            self.masks = NoMasks(self.model)
            variables = [mask.log_alpha for mask in self.mask_layers]
            self.optimizer._create_all_weights(variables)
        of_masks = [mask.random_stream for mask in self.mask_layers]
        self.other_state = [*self.classifier.random_streams, *of_masks]
        self._steps = make_text_train_steps(
            task,
            self.classifier,
            variables,
            self.optimizer,
            OBJECTIVES[regime],
            self.masks,
            regularizer=lambda: mean_expected_l0(self.mask_layers),
            clip_norm=task.clip_value if clips_norm else None,
        )

    @property
    def mask_layers(self) -> list[HardConcreteMask]:
        """The masks, in the order of `BertClassifier.masked_layers`."""
        return list(self.classifier.masked_layers.values())

    def reset(self, weights: Weights, seed: int, penalties: LearningRates) -> None:
        """Starts over: masks as they are before training over the given weights."""
        self.penalties = penalties
        for variable in self.model.weights:
            if weight_path(variable) in weights:
                variable.assign(weights[weight_path(variable)])
        for mask in self.mask_layers:
            mask.log_alpha.assign(tf.fill(mask.log_alpha.shape, INITIAL_LOG_ALPHA))
            mask.reseed(seed)
        self._reset_optimizer()
        self.classifier.reseed(seed)

    def weights(self) -> Weights:
        """Copies the masks' log α: path of the kernel → array that broadcasts to it."""
        return {weight_path(mask.kernel): mask.log_alpha.numpy() for mask in self.mask_layers}

    def measure(self) -> dict[str, float]:
        """R(m) of Equation 4, and the shares of the gates (Equation 5) at exactly 0 and 1."""
        gates = [mask.gate().numpy() for mask in self.mask_layers]
        count = sum(gate.size for gate in gates)
        return {
            "expected_l0": float(mean_expected_l0(self.mask_layers)),
            "share_zero": sum(np.count_nonzero(gate == 0) for gate in gates) / count,
            "share_one": sum(np.count_nonzero(gate == 1) for gate in gates) / count,
        }


def _granularity_of(layer, granularity):
    """Outside attention there are no heads; there neurons are what comes next to them."""
    if granularity == "head" and not isinstance(layer, keras.layers.EinsumDense):
        return "neuron"
    return granularity
