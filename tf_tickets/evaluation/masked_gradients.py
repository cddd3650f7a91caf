"""Checks that tell a network that resists from one that hides its gradients.

A defence can make an attack fail without making the network robust. "Obfuscated Gradients
Give a False Sense of Security" (Athalye et al., arXiv:1802.00420, section 3.1) lists what
gives that away: one step that beats many, a black-box attack that beats a white-box one,
an unbounded attack that fails, and more freedom that does not help the attacker. And PGD
must not be fooled by its own loss: of outputs that are nearly saturated, or that are no logits
at all (a sigmoid's), cross-entropy has too little gradient to attack with, the margin has not.
"""

import dataclasses
from collections.abc import Mapping

from tf_tickets.attacks.threat_model import MARGIN_ATTACK, ThreatModel, with_margin_attack
from tf_tickets.evaluation.robustness import RobustnessEvaluator
from tf_tickets.evaluation.victims import Victim

# A stronger attack may leave this much more accuracy, or this many images, whichever is more:
# it is a heuristic that starts at random, not an optimum.
TOLERANCE = 0.005
TOLERATED_IMAGES = 2
# An attacker who may turn an image into any other leaves no more than this.
UNBOUNDED_ACCURACY = 0.01
UNBOUNDED_EPS = 1.0

PASS, FAIL, NOT_CHECKED = "PASS", "FAIL", "not checked"


@dataclasses.dataclass(frozen=True)
class Check:
    """One check and what came of it.

    Attributes:
      name: what must hold.
      verdict: PASS, FAIL or NOT_CHECKED.
      measured: setting → accuracy in [0, 1], in the order of the comparison.
      reason: why it was not checked; "" if it was.
    """

    name: str
    verdict: str
    measured: Mapping[str, float]
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether the network's gradients are suspicious."""
        return self.verdict == FAIL


def gradient_masking_checks(
    evaluator: RobustnessEvaluator, threat_model: ThreatModel, source: Victim | None = None
) -> list[Check]:
    """Makes all checks, around one attack.

    Args:
      evaluator: the network and the images; the same ones in all comparisons.
      threat_model: the attack whose result is to be trusted, with an eps above 0. Its
        step size grows and shrinks with eps in the comparison of several.
      source: another network, for the black-box check, which is left out without one.

    Returns:
      The checks, one of each kind.
    """
    measured = {
        variant: evaluator.under(_description(variant), variant)
        for variant in _variants(threat_model)
    }
    accuracy = {variant: outcome.accuracy for variant, outcome in measured.items()}
    images = measured[threat_model].images
    by_steps = {f"{each.steps} steps": accuracy[each] for each in _by_steps(threat_model)}
    by_eps = {f"eps {each.eps:.4g}": accuracy[each] for each in _by_eps(threat_model)}
    white_box = accuracy[threat_model]
    return [
        _does_not_rise("accuracy does not rise with more steps", by_steps, images),
        _does_not_rise("accuracy does not rise with a larger eps", by_eps, images),
        _unbounded(accuracy[_with_eps(threat_model, UNBOUNDED_EPS)]),
        _does_not_rise(
            "many steps leave no more than a single one of length eps",
            {"1 step of eps": accuracy[_single_step(threat_model)], "white-box": white_box},
            images,
        ),
        _does_not_rise(
            "the margin loss leaves no less than PGD",
            {"margin loss": accuracy[_margin(threat_model)], "PGD": white_box},
            images,
        ),
        _black_box(evaluator, threat_model, source, white_box),
    ]


def check_passes(threat_model: ThreatModel, source: Victim | None = None) -> int:
    """The passes that all checks make for one image (see `robustness.Attempt`)."""
    transfer = threat_model.steps if source else 0
    return transfer + sum(variant.steps for variant in _variants(threat_model))


def _description(variant):
    loss = ", margin loss" if variant.loss == "margin" else ""
    return f"check: {variant.steps} steps, eps {variant.eps:.3g}{loss}"


def _variants(threat_model):
    """Every white-box attack of the checks, once."""
    all_of_them = [
        *_by_steps(threat_model),
        *_by_eps(threat_model),
        _single_step(threat_model),
        _margin(threat_model),
    ]
    return list(dict.fromkeys(all_of_them))


def _by_steps(threat_model):
    """One step, a quarter, all and five times the steps: 1, 5, 20 and 100 for PGD-20."""
    steps = threat_model.steps
    counts = sorted({1, max(1, steps // 4), steps, 5 * steps})
    return [dataclasses.replace(threat_model, steps=count) for count in counts]


def _by_eps(threat_model):
    """Half of eps, eps, twice that, and all of the images' range."""
    eps = threat_model.eps
    radii = sorted({min(radius, UNBOUNDED_EPS) for radius in (eps / 2, eps, 2 * eps)})
    return [_with_eps(threat_model, radius) for radius in dict.fromkeys([*radii, UNBOUNDED_EPS])]


def _with_eps(threat_model, eps):
    if eps == threat_model.eps:
        return threat_model
    step_size = threat_model.step_size * (eps / threat_model.eps)
    return dataclasses.replace(threat_model, eps=eps, step_size=min(step_size, 2 * eps))


def _single_step(threat_model):
    return dataclasses.replace(
        threat_model, step_size=threat_model.eps, steps=1, random_start=False
    )


def _margin(threat_model):
    return with_margin_attack({"": threat_model})[MARGIN_ATTACK]


def _does_not_rise(name, accuracies, images):
    values = list(accuracies.values())
    # Half an image more, so that rounding decides nothing.
    tolerance = max(TOLERANCE, (TOLERATED_IMAGES + 0.5) / images)
    rises = any(later > earlier + tolerance for earlier, later in zip(values, values[1:]))
    return Check(name, FAIL if rises else PASS, accuracies)


def _unbounded(accuracy):
    return Check(
        f"eps = 1 leaves at most {UNBOUNDED_ACCURACY:.0%}",
        FAIL if accuracy > UNBOUNDED_ACCURACY else PASS,
        {"eps 1": accuracy},
    )


def _black_box(evaluator, threat_model, source, white_box):
    name = "white-box leaves no more than transfer"
    if source is None:
        return Check(name, NOT_CHECKED, {"white-box": white_box}, "no --source")
    transfer = evaluator.under("check: transfer", threat_model, source=source)
    accuracies = {"transfer": transfer.accuracy, "white-box": white_box}
    return _does_not_rise(name, accuracies, transfer.images)
