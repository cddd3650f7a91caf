"""What verifying an artifact came to: a table, a picture and all numbers as CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from tf_tickets.analysis.drawing import write_png
from tf_tickets.analysis.markdown import markdown_table, paragraphs
from tf_tickets.deployment.agreement import Verification
from tf_tickets.runs.files import atomic_write_text


class Row(NamedTuple):
    """One quantity of the artifact and what it is compared with.

    Attributes:
      quantity: what was measured, with its unit.
      compared: the same of the source, or of the dense network's artifact.
      artifact: its value; None where there is only one number.
      digits: after the point, where it is shown.
      of_dense: whether `compared` is the dense network's.
    """

    quantity: str
    compared: float | None
    artifact: float
    digits: int
    of_dense: bool = False


def rows(verification: Verification) -> list[Row]:
    """All that was measured, in the order of the table."""
    found = [
        Row("largest difference in logits", None, verification.max_logits_difference, 7),
        Row("examples of the same class, %", None, 100 * verification.same_class, 2),
        Row(
            f"accuracy on {verification.examples:,} test examples, %",
            100 * verification.source_accuracy,
            100 * verification.accuracy,
            2,
        ),
    ]
    for attack in verification.attacks:
        name = f"accuracy under {attack.attack} ({attack.way}, {attack.examples:,} examples), %"
        found.append(Row(name, 100 * attack.source, 100 * attack.artifact, 2))
    before, after = verification.source_weights, verification.weights
    found += [
        Row("weights of two or more axes", before.total, after.total, 0),
        Row("of them exactly zero", before.zeros, after.zeros, 0),
        Row("size, bytes", verification.dense_size.total, verification.size.total, 0, True),
        Row(
            "size compressed, bytes",
            verification.dense_size.compressed,
            verification.size.compressed,
            0,
            True,
        ),
    ]
    for dense, own in zip(verification.dense_latencies, verification.latencies, strict=True):
        for name in ("median", "percentile_95"):
            quantity = f"latency at batch {own.batch_size}, {name.replace('_', ' ')}, ms"
            values = (1e3 * getattr(dense, name), 1e3 * getattr(own, name))
            found.append(Row(quantity, *values, 3, True))
    return found


def table(verification: Verification) -> str:
    """The artifact beside its source, and beside the dense network in the same format."""
    measured = rows(verification)
    names = {row.quantity: row.quantity for row in measured}
    columns = {
        "source": {row.quantity: _text(row, row.compared) for row in measured if not row.of_dense},
        "dense": {row.quantity: _text(row, row.compared) for row in measured if row.of_dense},
        "artifact": {row.quantity: _text(row, row.artifact) for row in measured},
        "dense / artifact": {
            row.quantity: f"{row.compared / row.artifact:.2f}" for row in measured if row.of_dense
        },
    }
    return markdown_table([("", names), *columns.items()], list(names))


def to_csv(verification: Verification) -> str:
    """One line a quantity: its values, and whether the comparison is with the dense network."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["quantity", "compared_with", "compared", "artifact"])
    for row in rows(verification):
        with_what = "dense" if row.of_dense else "source" if row.compared is not None else ""
        compared = "" if row.compared is None else row.compared
        writer.writerow([row.quantity, with_what, compared, row.artifact])
    return text.getvalue()


def write_report(verification: Verification, title: str, notes: Sequence[str], folder: Path) -> str:
    """Writes verification.md, verification.csv and verification.png.

    Args:
      verification: what was found.
      title: what was exported.
      notes: sentences below the table.
      folder: where the files go.

    Returns:
      The table with its notes, for a terminal.
    """
    text = paragraphs(table(verification), "\n".join(notes))
    atomic_write_text(folder / "verification.csv", to_csv(verification))
    write_png(_figure(verification, title), folder / "verification.png")
    markdown = paragraphs(f"# {title}", text, "![Size, latency, accuracy](verification.png)")
    atomic_write_text(folder / "verification.md", f"{markdown}\n")
    return text


def _figure(verification, title):
    """Size and latency as shares of the dense network's, and the accuracies."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    shares, accuracies = figure.subplots(1, 2)
    measured = [row for row in rows(verification) if row.of_dense]
    names = [row.quantity.replace(", bytes", "").replace(", ms", "") for row in measured]
    shares.barh(names, [row.artifact / row.compared for row in measured], color="tab:blue")
    shares.axvline(1, color="black", linewidth=0.8)
    shares.invert_yaxis()
    shares.set_xlabel("share of the dense network's")
    pairs = {"natural": (verification.source_accuracy, verification.accuracy)}
    for attack in verification.attacks:
        pairs[f"{attack.attack}\n({attack.way})"] = (attack.source, attack.artifact)
    for offset, label, index in ((-0.2, "source", 0), (0.2, "artifact", 1)):
        places = [place + offset for place in range(len(pairs))]
        accuracies.barh(places, [100 * pair[index] for pair in pairs.values()], 0.4, label=label)
    accuracies.set_yticks(range(len(pairs)), pairs)
    accuracies.invert_yaxis()
    accuracies.set_xlabel("accuracy on test examples, %")
    accuracies.legend()
    figure.suptitle(title, fontsize=10)
    return figure


def _text(row, value):
    return "" if value is None else f"{value:,.{row.digits}f}"
