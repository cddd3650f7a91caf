"""What attacks on a network came to, for a terminal."""

from collections.abc import Sequence

from tabulate import tabulate

from tf_tickets.evaluation.masked_gradients import Check
from tf_tickets.evaluation.robustness import Outcome


def robustness_tables(outcomes: Sequence[Outcome], checks: Sequence[Check]) -> str:
    """The attacks with 95% Wilson intervals, then the checks for masked gradients, if any."""
    rows = [
        [
            outcome.attack,
            *(_short(outcome.settings.get(name)) for name in ("eps", "steps", "restarts")),
            outcome.images,
            f"{outcome.accuracy:.2%}",
            "{:.2%} to {:.2%}".format(*outcome.interval),
            ", ".join(f"{name} {_short(value)}" for name, value in outcome.measured.items()),
        ]
        for outcome in outcomes
    ]
    headings = ["attack", "eps", "steps", "restarts", "images", "accuracy", "95% interval", "also"]
    lines = [tabulate(rows, headings, disable_numparse=True)]
    if checks:
        rows = [
            [
                check.name,
                ", ".join(f"{name}: {value:.2%}" for name, value in check.measured.items()),
                f"{check.verdict}: {check.reason}" if check.reason else check.verdict,
            ]
            for check in checks
        ]
        lines.append(tabulate(rows, ["gradient masking", "accuracy", "verdict"]))
    return "\n\n".join(lines)


def _short(value):
    return "" if value is None else f"{value:.4g}"
