"""Which of the weights that a training passes through are kept."""

import dataclasses

import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import require


@dataclasses.dataclass(frozen=True)
class Selection:
    """Keeps the weights that did best on validation data, and stops where training collapsed.

    Robust accuracy peaks before adversarial training ends, and FGSM training may lose
    all of it within an epoch (catastrophic overfitting; Wong et al., arXiv:2001.03994,
    section 5.4, stop there too).

    Attributes:
      metric: name of the measurement that decides.
      stop_after_drop: how far below the best so far an accuracy may fall; training that falls
        further is stopped. 1 never stops.
      smallest: whether the smallest value is the best, as of a loss, not the largest. Training
        is then never stopped.
      first_iteration: measurements before it decide nothing, and stop nothing.
    """

    metric: str
    stop_after_drop: float = 1.0
    smallest: bool = False
    first_iteration: int = 1

    def __post_init__(self):
        require(0 < self.stop_after_drop <= 1, "stop_after_drop", self.stop_after_drop, "in (0, 1]")
        expected = "at least 1, as untrained weights are no choice"
        require(self.first_iteration >= 1, "first_iteration", self.first_iteration, expected)

    def worth(self, value: float) -> float:
        """The measurement, or its negative: the larger the better."""
        return -value if self.smallest else value

    def collapsed(self, value: float, best: float) -> bool:
        """Whether training stops, given the measurement's worth and the best one so far."""
        return not self.smallest and value < best - self.stop_after_drop


class KeptWeights(tf.Module):
    """A second set of a model's weights. Build it in the scope of the model's strategy."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self._live = model.weights
        self._kept = [tf.Variable(tf.zeros_like(weight), trainable=False) for weight in self._live]

    def keep(self) -> None:
        """Copies the model's weights."""
        _copy(self._live, self._kept)

    def put_back(self) -> None:
        """Gives the model the weights last kept."""
        _copy(self._kept, self._live)


def _copy(sources, targets):
    for source, target in zip(sources, targets):
        target.assign(source.numpy())
