"""What was found of an artifact, and whether it agrees with the network that it was made of."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import tf_keras as keras

from tf_tickets.deployment.footprint import Latency, Size

# How far logits may be from the source's, as a share of the largest logit.
_EXACT_TOLERANCE = 1e-4
_FLOAT16_TOLERANCE = 2e-2
# What must not change in any format is the decision, on all but a few examples. Of int8 that is
# all: rounding to 8 bits changes logits by more than can be told from an error.
_SAME_CLASS = 0.9
_ACCURACY_LOSS = 0.02


class WeightCount(NamedTuple):
    """Weights of two or more axes.

    Attributes:
      zeros: how many are exactly zero.
      total: how many there are.
    """

    zeros: int
    total: int

    @classmethod
    def of(cls, weights: Iterable[np.ndarray]) -> "WeightCount":
        """Counts the weights in arrays, of which those of fewer axes are left out."""
        matrices = [weight for weight in weights if weight.ndim >= 2]
        return cls(
            sum(int(np.count_nonzero(weight == 0)) for weight in matrices),
            sum(weight.size for weight in matrices),
        )

    @classmethod
    def of_model(cls, model: keras.Model) -> "WeightCount":
        """Counts a model's weights."""
        return cls.of(weight.numpy() for weight in model.weights)


@dataclasses.dataclass(frozen=True)
class Robustness:
    """How many examples withstand an attack.

    Attributes:
      attack: its name.
      way: `white-box`, made for the network itself, or `transferred`, made for the source.
      settings: what the attack was allowed.
      examples: how many were attacked.
      source: share of them that the source classifies correctly, in [0, 1].
      artifact: the same of the artifact; None before there is one.
    """

    attack: str
    way: str
    settings: Mapping[str, float]
    examples: int
    source: float
    artifact: float | None = None


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was found of an artifact.

    Attributes:
      optimizations: what it was made with.
      examples: how many test examples it was compared on.
      max_logits_difference: largest absolute difference to the source's logits.
      largest_logit: largest absolute value of the source's logits.
      same_class: share of the examples that both take for the same class.
      source_accuracy, accuracy: the source's and the artifact's, in [0, 1].
      attacks: how both do under attack.
      source_weights, weights: the source's and the artifact's.
      exported_weights: of what was written, which is the source or what compaction left of it.
      dense_size, size: of the dense network's artifact in the same format, and of this one.
      dense_latencies, latencies: likewise, one for each of `LATENCY_BATCHES`.
      removed: layer → outputs that compaction took away.
    """

    optimizations: tuple[str, ...]
    examples: int
    max_logits_difference: float
    largest_logit: float
    same_class: float
    source_accuracy: float
    accuracy: float
    attacks: tuple[Robustness, ...]
    source_weights: WeightCount
    exported_weights: WeightCount
    weights: WeightCount
    dense_size: Size
    size: Size
    dense_latencies: tuple[Latency, ...]
    latencies: tuple[Latency, ...]
    removed: Mapping[str, int]

    def problems(self) -> list[str]:
        """What about the artifact does not agree with its source; empty if all does."""
        found = []
        if self.same_class < _SAME_CLASS:
            found.append(
                f"it takes only {self.same_class:.1%} of the examples for the same class, "
                f"expected {_SAME_CLASS:.0%}"
            )
        if self.accuracy < self.source_accuracy - _ACCURACY_LOSS:
            found.append(
                f"its accuracy is {self.accuracy:.1%}, expected at most "
                f"{_ACCURACY_LOSS:.0%} below {self.source_accuracy:.1%}"
            )
        exact = "int8" not in self.optimizations
        if exact and not self.max_logits_difference <= self.allowed_difference:
            found.append(
                f"its logits differ by {self.max_logits_difference:.2g}, expected at most "
                f"{self.allowed_difference:.2g}"
            )
        zeros, expected = self.weights.zeros, self.exported_weights.zeros
        if zeros < expected:
            found.append(f"it has {zeros} zero weights, expected {expected}")
        return found

    @property
    def allowed_difference(self) -> float:
        """How far logits may be from the source's; of no meaning for int8."""
        float16 = "float16" in self.optimizations
        share = _FLOAT16_TOLERANCE if float16 else _EXACT_TOLERANCE
        return share * self.largest_logit
