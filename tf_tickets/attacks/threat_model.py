"""What an attacker may do to an image."""

import dataclasses
import math
from collections.abc import Mapping

from tf_tickets.errors import require

LABELS = ("true", "predicted")
LOSSES = ("cross_entropy", "margin")

MARGIN_ATTACK = "cw_linf"
"""What `carlini_wagner` is called in results and reports."""


@dataclasses.dataclass(frozen=True)
class ThreatModel:
    """An L∞ attacker of `steps` signed-gradient steps, clipped to the image range.

    Attributes:
      eps: radius of the ball around the image, in image units.
      step_size: length of one step, in image units, at most the ball's width 2·eps.
      steps: number of steps; 1 with `step_size` = `eps` is FGSM.
      random_start: whether to begin at a uniformly random point of the ball.
      clip_min: smallest image value.
      clip_max: largest image value.
      labels: whose loss is raised, that of the `true` or of the `predicted` label.
      loss: `cross_entropy`, or the `margin` of the largest wrong logit over the label's.

    Raises:
      UserError: a value out of range.
    """

    eps: float
    step_size: float
    steps: int
    random_start: bool = False
    clip_min: float = 0.0
    clip_max: float = 1.0
    labels: str = "true"
    loss: str = "cross_entropy"

    def __post_init__(self):
        require(0 <= self.eps < math.inf, "eps", self.eps, "a number of at least 0")
        require(
            0 <= self.step_size <= 2 * self.eps,
            "step_size",
            self.step_size,
            f"in [0, {2 * self.eps}], the width of the eps-ball",
        )
        require(self.steps >= 1, "attack_steps", self.steps, "at least 1")
        require(self.clip_min < self.clip_max, "clip_min", self.clip_min, "below clip_max")
        require(self.labels in LABELS, "attack_labels", self.labels, f"one of {LABELS}")
        require(self.loss in LOSSES, "attack_loss", self.loss, f"one of {LOSSES}")


def fgsm(eps: float, labels: str = "true") -> ThreatModel:
    """The fast gradient sign method (Goodfellow et al., arXiv:1412.6572)."""
    return ThreatModel(eps=eps, step_size=eps, steps=1, labels=labels)


def pgd(
    eps: float, step_size: float, steps: int, random_start: bool = False, labels: str = "true"
) -> ThreatModel:
    """Projected gradient descent (Madry et al., arXiv:1706.06083)."""
    return ThreatModel(eps, step_size, steps, random_start, labels=labels)


def fast(eps: float) -> ThreatModel:
    """One step of 1.25 eps from a random start (Wong et al., arXiv:2001.03994)."""
    return ThreatModel(eps, 1.25 * eps, steps=1, random_start=True)


def carlini_wagner(eps: float, step_size: float, steps: int) -> ThreatModel:
    """PGD on the loss of Carlini and Wagner, from a random start.

    Their f6 (arXiv:1608.04644, section V-A), max_{i≠y} z_i − z_y, in the L∞ ball, as Madry
    et al. (arXiv:1706.06083, section 5.2) evaluate with it. Without their confidence κ: the
    sign of the gradient is the same however far the margin has been crossed.
    """
    return ThreatModel(eps, step_size, steps, random_start=True, loss="margin")


def with_margin_attack(attacks: Mapping[str, ThreatModel]) -> dict[str, ThreatModel]:
    """The attacks, and `MARGIN_ATTACK` beside them, at the cost of the longest of them.

    Cross-entropy has next to no gradient where a network is sure of itself, so that PGD may
    leave twice the accuracy that the margin loss leaves with the same eps, step and number of
    steps. Final measurements are made under both.

    Args:
      attacks: name → attack; of those with the most steps, the first counts.

    Returns:
      Nothing if there are none.
    """
    if not attacks:
        return {}
    longest = max(attacks.values(), key=lambda attack: attack.steps)
    margin = carlini_wagner(longest.eps, longest.step_size, longest.steps)
    return {**attacks, MARGIN_ATTACK: margin}
