"""What pruning a network came to, from its report, for a terminal and as Markdown."""

from collections.abc import Mapping

from tf_tickets.analysis.markdown import markdown_table, paragraphs

# Layers that were left alone, in a terminal.
_SHOWN = 5


def summary(report: Mapping) -> str:
    """The network before and after, and what was left alone, for a terminal.

    Args:
      report: as `experiments.prune_structures` writes it to `report.json`.
    """
    left_alone = _left_alone(report)
    shown = left_alone[:_SHOWN]
    if len(left_alone) > _SHOWN:
        shown.append(f"and {len(left_alone) - _SHOWN} more, see report.md")
    return paragraphs(
        _how(report), comparison_table(report), "\n".join(["Left alone:", *shown] if shown else [])
    )


def markdown(report: Mapping) -> str:
    """The same, with all that was removed and left alone, as a file."""
    left_alone = _left_alone(report)
    return (
        paragraphs(
            f"# {report['model']['path']}, pruned",
            _how(report),
            comparison_table(report),
            "## Removed",
            _bullets(_removed(report)),
            "## Left alone" if left_alone else "",
            _bullets(left_alone),
        )
        + "\n"
    )


def comparison_table(report: Mapping) -> str:
    """The network before and after, and the change."""
    before, after, images = report["before"], report["after"], report["images"]
    rows = {}
    if images:
        points = 100 * (after["accuracy"] - before["accuracy"])
        rows[f"accuracy on {images['test']:,} test images"] = (
            f"{before['accuracy']:.2%}",
            f"{after['accuracy']:.2%}",
            f"{points:+.2f} percentage points",
        )
    untuned = report["accuracy_before_fine_tuning"]
    if untuned is not None:
        rows["the same before fine-tuning"] = ("", f"{untuned:.2%}", "")
    for name, amount in {
        "parameters": lambda measured: measured["parameters"],
        "FLOPs an image": lambda measured: measured["flops"],
        "SavedModel, bytes": lambda measured: measured["size"]["total"],
        "SavedModel compressed, bytes": lambda measured: measured["size"]["compressed"],
    }.items():
        old, new = amount(before), amount(after)
        rows[name] = (f"{old:,}", f"{new:,}", f"{(new - old) / old:+.1%}")
    for old, new in zip(before["latencies"], after["latencies"], strict=True):
        rows[f"latency at batch {old['batch_size']}, ms"] = (
            f"{1000 * old['median']:.2f}",
            f"{1000 * new['median']:.2f}",
            f"{old['median'] / new['median']:.2f}× as fast",
        )
    columns = [
        (heading, {name: row[index] for name, row in rows.items()})
        for index, heading in enumerate(("before", "after", "change"))
    ]
    return markdown_table([("", {name: name for name in rows}), *columns], list(rows))


def _how(report):
    config, images = report["config"], report["images"]
    removed = report["removed"]
    filters = sum(map(len, removed["filters"].values()))
    candidates = sum(map(len, report["scores"]["filters"].values()))
    scored = images["scoring"] if images else 0
    sentences = [
        f"{filters:,} of the {candidates:,} filters that may go and {len(removed['blocks'])} of "
        f"the {len(report['scores']['blocks'])} residual blocks that may were removed, by "
        f"{config['criterion']}" + (f" on {scored:,} training images." if scored else "."),
    ]
    epochs = config["fine_tuning_epochs"]
    if epochs:
        time = f"{epochs} epoch" if epochs == 1 else f"{epochs} epochs"
        sentences.append(f"Fine-tuned for {time} on {images['train']:,} training images.")
    else:
        sentences.append("Not fine-tuned.")
    if images:
        sentences.append(f"Data: {config['data_set']} ({config['data_source']}).")
    return " ".join(sentences)


def _removed(report):
    removed, scores = report["removed"], report["scores"]["filters"]
    lines = [f"{name}: the residual block" for name in removed["blocks"]]
    for name, indices in removed["filters"].items():
        lines.append(f"{name}: {len(indices)} of {len(scores[name])} filters")
    return lines


def _left_alone(report):
    return [f"{name}: {why}" for name, why in report["left_alone"].items()]


def _bullets(lines):
    return "\n".join(f"- {line}" for line in lines)
