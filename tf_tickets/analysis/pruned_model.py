"""What pruning a network came to, from its report, for a terminal and as Markdown."""

from collections.abc import Mapping

from tf_tickets.analysis.markdown import markdown_table, paragraphs

# Layers that were left alone, in a terminal: beside a result, and where there is none.
_SHOWN, _SHOWN_ON_REFUSAL = 5, 20
# A layer that keeps a smaller share of its filters is pointed out.
_LITTLE = 0.2


def summary(report: Mapping) -> str:
    """The network before and after, and what was left alone, for a terminal.

    Args:
      report: as `experiments.prune_structures` writes it to `report.json`.
    """
    return paragraphs(
        _how(report),
        _warning(report),
        comparison_table(report),
        left_alone_text(report["left_alone"], _SHOWN, ", see report.md"),
    )


def left_alone_text(
    reasons: Mapping[str, str], most: int = _SHOWN_ON_REFUSAL, where: str = ""
) -> str:
    """The layers that are left alone, a line each, for a terminal; "" without any.

    Args:
      reasons: layer → why.
      most: how many are shown.
      where: to find the others, such as ", see report.md".
    """
    lines = [f"{name}: {why}" for name, why in reasons.items()]
    shown = lines[:most]
    if len(lines) > most:
        shown.append(f"and {len(lines) - most} more{where}")
    return "\n".join(["Left alone:", *shown] if shown else [])


def markdown(report: Mapping) -> str:
    """The same, with all that was removed and left alone, as a file."""
    left_alone = [f"{name}: {why}" for name, why in report["left_alone"].items()]
    return (
        paragraphs(
            f"# {report['model']['path']}, pruned",
            _how(report),
            _warning(report),
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
    removed, candidates = report["removed"], report["filters_that_may_go"]
    filters = sum(before - after for before, after in report["widths"].values())
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


def _warning(report):
    """Says which layers keep little, if any."""
    thin = [
        f"{name} keeps {after} of {before}"
        for name, (before, after) in report["widths"].items()
        if after < _LITTLE * before
    ]
    if not thin:
        return ""
    more = f", and {len(thin) - _SHOWN} more" if len(thin) > _SHOWN else ""
    return (
        f"WARNING: {len(thin)} of the layers keep less than {_LITTLE:.0%} of their filters: "
        f"{', '.join(thin[:_SHOWN])}{more}. --max_share_per_layer says how many may go."
    )


def _removed(report):
    lines = [f"{name}: the residual block" for name in report["removed"]["blocks"]]
    for name, (before, after) in report["widths"].items():
        if after < before:
            lines.append(f"{name}: {before - after} of {before} filters")
    return lines


def _bullets(lines):
    return "\n".join(f"- {line}" for line in lines)
