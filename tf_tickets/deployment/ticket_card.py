"""What goes with an artifact: where the network comes from and how good it was before."""

import dataclasses
from collections.abc import Mapping, Sequence

from tf_tickets import runtime
from tf_tickets.deployment.agreement import WeightCount
from tf_tickets.deployment.artifacts import Source
from tf_tickets.deployment.verification import Reference

FORMAT_VERSION = 1
# The packages that write artifacts.
_WRITERS = (
    "tf_tickets",
    "ai-edge-litert",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "keras-nlp",
    "tensorflow-text",
)


def describe(exported: Source, optimizations: Sequence[str], reference: Reference | None) -> dict:
    """Everything about a network that is of use beside its file, as JSON values.

    Args:
      exported: what is written.
      optimizations: what it is written with.
      reference: what was measured before; None without.

    Returns:
      `provenance` (see `Provenance`; None without masks), `masks_sha256`, `density` and
      `sparsity` of the masked weights, `zero_weights` and `weights` (of two or more axes) of what
      is written, `class_names`, `removed` by compaction, `measured_by_run` (each metric on test
      data at its last iteration), `measured_before_export` (accuracies in [0, 1] of the network
      itself; None without), and the versions that wrote it.
    """
    ticket, network = exported.ticket, exported.network
    weights = WeightCount.of_model(exported.model)
    return {
        "format": FORMAT_VERSION,
        "data_set": network.cell.data_set,
        "model": network.cell.model or (ticket.provenance.model if ticket else ""),
        "regime": network.cell.regime,
        "method": network.cell.method,
        "seed": network.cell.seed,
        "level": network.level,
        "provenance": dataclasses.asdict(ticket.provenance) if ticket else None,
        "masks_sha256": ticket.sha256 if ticket else None,
        "density": ticket.density if ticket else None,
        "sparsity": ticket.sparsity if ticket else None,
        "zero_weights": weights.zeros,
        "weights": weights.total,
        "class_names": list(exported.class_names),
        "optimizations": list(optimizations),
        "removed": dict(exported.removed),
        "measured_by_run": _last(network.measured()),
        "measured_before_export": _measured(reference) if reference else None,
        "versions": runtime.package_versions() | runtime.versions_of(_WRITERS),
    }


def notes(card: Mapping) -> list[str]:
    """Sentences about a card, for a report."""
    found = []
    if card["density"] is not None:
        found.append(f"Ticket: {card['density']:.2%} of the masked weights remain.")
    if "compact" in card["optimizations"]:
        if card["removed"]:
            parts = ", ".join(f"{name} {count}" for name, count in card["removed"].items())
            found.append(f"Compaction removed outputs of layers: {parts}.")
        else:
            found.append("Compaction found nothing dead to remove.")
    return found


def _last(rows):
    """Each metric once, as it was measured last."""
    last = {}
    for row in rows:
        if row.metric not in last or row.iteration >= last[row.metric].iteration:
            last[row.metric] = row
    return [
        {"metric": row.metric, "iteration": row.iteration, "value": row.value}
        for row in last.values()
    ]


def _measured(reference):
    return {
        "examples": len(reference.labels),
        "natural": reference.accuracy,
        "attacks": [
            {
                "attack": attack.attack,
                "settings": dict(attack.settings),
                "examples": attack.examples,
                "accuracy": attack.source,
            }
            for attack in reference.attacks
        ],
    }
