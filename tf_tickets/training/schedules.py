"""Learning rates and penalties as functions of the iteration."""

import dataclasses
from collections.abc import Callable

import numpy as np


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Iterations that come closest to one pass through so many training examples."""
    return max(1, round(examples / batch_size))


# (first iteration, count) → float32 [count], the learning rates of those iterations.
LearningRates = Callable[[int, int], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same learning rate, or penalty, throughout.

    Attributes:
      learning_rate: that rate.
    """

    learning_rate: float

    def __call__(self, first: int, count: int) -> np.ndarray:
        """The learning rates of iterations `first` to `first + count - 1`, float32."""
        return np.full(count, self.learning_rate, np.float32)


@dataclasses.dataclass(frozen=True)
class CosineDecay:
    """A learning rate that falls along half a cosine, once an epoch, towards 0.

    Loshchilov and Hutter (arXiv:1608.03983, Equation 5) without restarts: epoch t of T has
    η/2 · (1 + cos(π t / T)).

    Attributes:
      learning_rate: the first epoch's, η.
      epochs: T.
      steps_per_epoch: iterations an epoch.
    """

    learning_rate: float
    epochs: int
    steps_per_epoch: int

    def __call__(self, first: int, count: int) -> np.ndarray:
        """The learning rates of iterations `first` to `first + count - 1`, float32."""
        epochs = np.arange(first, first + count) // self.steps_per_epoch
        falling = (1 + np.cos(np.pi * np.minimum(epochs / self.epochs, 1))) / 2
        return (self.learning_rate * falling).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class StepDecay:
    """A learning rate that may warm up and then be divided by ten twice.

    A warm-up climbs in equal steps, one an epoch, from `warmup_start` in the first epoch
    to `learning_rate` in the one after the `warmup_epochs`; a decay that falls into it
    divides what it has reached.

    Attributes:
      learning_rate: the highest.
      epochs: length of the whole training.
      steps_per_epoch: iterations an epoch.
      warmup_epochs: epochs below the highest; 0 for no warm-up.
      warmup_start: the first epoch's rate.
      milestones: the parts of the training after which the rate is divided.
    """

    learning_rate: float
    epochs: int
    steps_per_epoch: int
    warmup_epochs: int = 0
    warmup_start: float = 0.0
    milestones: tuple[float, ...] = (0.5, 0.75)

    def __call__(self, first: int, count: int) -> np.ndarray:
        """The learning rates of iterations `first` to `first + count - 1`, float32."""
        iterations = np.arange(first, first + count)
        epochs = iterations // self.steps_per_epoch
        rates = np.full(count, self.learning_rate)
        if self.warmup_epochs:
            climbed = np.minimum(epochs / self.warmup_epochs, 1)
            rates = self.warmup_start + climbed * (self.learning_rate - self.warmup_start)
        for milestone in self.milestones:
            rates = np.where(
                iterations >= milestone * self.epochs * self.steps_per_epoch, rates / 10, rates
            )
        return rates.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class LinearDecay:
    """A learning rate that climbs from 0 in equal steps, then falls in equal steps towards 0.

    BERT's (Devlin et al., arXiv:1810.04805, appendix A.2): iteration t of T has η t / w in the
    first w = `warmup` · T, and η (T − t) / (T − w) from there on.

    Attributes:
      learning_rate: the highest, η.
      iterations: length of the whole training, T.
      warmup: the part of the training in which the rate climbs, in [0, 1).
    """

    learning_rate: float
    iterations: int
    warmup: float = 0.1

    def __call__(self, first: int, count: int) -> np.ndarray:
        """The learning rates of iterations `first` to `first + count - 1`, float32."""
        iterations = np.arange(first, first + count)
        top = self.warmup * self.iterations
        falling = (self.iterations - iterations) / (self.iterations - top)
        climbing = iterations / top if top else np.ones(count)
        shares = np.clip(np.minimum(climbing, falling), 0, 1)
        return (self.learning_rate * shares).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class LinearRamp:
    """A penalty that is 0 until `begin`, then climbs in equal steps to its value at `end`.

    Attributes:
      value: the last, λ.
      begin: the iteration at which the climb begins.
      end: the iteration at which λ is reached, at least `begin`; the same for no climb at all.
    """

    value: float
    begin: float
    end: float

    def __call__(self, first: int, count: int) -> np.ndarray:
        """The penalties of iterations `first` to `first + count - 1`, float32."""
        iterations = np.arange(first, first + count)
        if self.begin == self.end:
            return np.where(iterations < self.end, 0, self.value).astype(np.float32)
        climbed = (iterations - self.begin) / (self.end - self.begin)
        return (self.value * np.clip(climbed, 0, 1)).astype(np.float32)
