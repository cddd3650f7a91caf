"""What is in a ticket, and how two differ, for a terminal."""

import textwrap
from collections.abc import Mapping

import pandas as pd
from tabulate import tabulate

from tf_tickets.analysis.markdown import MISSING, paragraphs
from tf_tickets.analysis.ticket_comparison import Comparison
from tf_tickets.analysis.ticket_inspection import DEAD, Inspection

_WIDTH = 84
_HASH_LENGTH = 12
_COUNT_HEADINGS = {
    "outputs": "dead outputs",
    "inputs": "unread inputs",
    "heads": "dead heads",
}
_SAME_WEIGHTS = {
    True: "the same",
    False: "not the same",
    None: "not known, as a ticket does not state its own",
}


def inspection_text(inspection: Inspection) -> str:
    """A ticket's provenance and files, and a table of its layers."""
    return paragraphs(_facts(inspection), _layers_table(inspection.layers))


def comparison_text(first: Inspection, second: Inspection, comparison: Comparison) -> str:
    """Both tickets' provenance and files, what differs, and a table of the layers' overlap."""
    return paragraphs(
        f"First\n{_facts(first)}",
        f"Second\n{_facts(second)}",
        _overlap(comparison),
        _differences_table(comparison.differences),
        _overlap_table(comparison.layers),
        "IoU: intersection over union. By chance: expected of two random masks that keep as many "
        "weights of each layer.",
    )


def _facts(inspection):
    ticket, total = inspection.ticket, inspection.total
    provenance = ticket.provenance
    config = ", ".join(f"{k} {_value(k, v)}" for k, v in provenance.model_config.items())
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    facts = {
        "ticket": inspection.path,
        "algorithm": provenance.algorithm,
        "model": f"{provenance.model} ({config})" if config else provenance.model,
        "data set": provenance.data_set,
        "seed": provenance.seed,
        "level": provenance.level,
        "masks": _short(ticket.sha256),
        "pruned from": _short(provenance.parent_sha256),
        "initial weights": _initial_weights(inspection),
        "trained weights": _trained_weights(inspection),
        "made with": textwrap.fill(versions, _WIDTH, break_on_hyphens=False) or MISSING,
        "weights": f"{total['weights']:,} in {len(ticket.masks)} layers",
        "remaining": f"{total['remaining']:,}: density {total['density']:.2%}, "
        f"sparsity {total['sparsity']:.2%}",
        "dead units": ", ".join(
            f"{_share(total[dead], total[kind])} {kind}"
            for kind, dead in DEAD.items()
            if pd.notna(total[kind])
        )
        or MISSING,
    }
    return tabulate(facts.items(), tablefmt="plain", disable_numparse=True)


def _initial_weights(inspection):
    stated = inspection.ticket.provenance.initial_weights_sha256
    found = inspection.initial_weights
    if not stated:
        return "not stated"
    if found:
        return f"{_short(stated)}\nin {found.path}"
    lines = [
        f"not those of {file.path}: "
        + (file.problem.removeprefix(f"{file.path}: ") or f"they are {_short(file.sha256)}")
        for file in inspection.initial
    ]
    return "\n".join([_short(stated), *(lines or ["its run does not hold them"])])


def _trained_weights(inspection):
    trained, total = inspection.trained, inspection.total
    if trained.problem:
        return trained.problem
    outside, inside = total["nonzero_outside"], total["zero_inside"]
    masked = "zero outside the masks" if not outside else f"{outside:,} outside the masks NOT zero"
    return (
        f"{_short(trained.sha256)}: {masked}, {inside:,} of {total['remaining']:,} inside are zero"
        f"\nin {trained.path}"
    )


def _layers_table(layers: pd.DataFrame) -> str:
    kinds = [kind for kind in DEAD if layers[kind].notna().any()]
    rows = [
        [
            _label(row["layer"]),
            row["shape"],
            f"{row['weights']:,}",
            f"{row['remaining']:,}",
            f"{row['density']:.2%}",
            f"{row['sparsity']:.2%}",
            *(_share(row[DEAD[kind]], row[kind]) for kind in kinds),
        ]
        for _, row in layers.iterrows()
    ]
    headings = ["layer", "shape", "weights", "remaining", "density", "sparsity"]
    return _table(rows, headings + [_COUNT_HEADINGS[kind] for kind in kinds])


def _overlap(comparison):
    total = comparison.total
    facts = {
        "overlap": f"{total['intersection_over_union']:.2%} intersection over union, "
        f"{total['chance']:.2%} by chance",
        "nesting": total["nesting"],
        "initial weights": _SAME_WEIGHTS[comparison.same_initial_weights],
    }
    if comparison.parent:
        other = "second" if comparison.parent == "first" else "first"
        facts["descent"] = f"the {other} was pruned from the {comparison.parent}"
    return tabulate(facts.items(), tablefmt="plain", disable_numparse=True)


def _differences_table(differences: Mapping[str, tuple]) -> str:
    if not differences:
        return "Of equal provenance."
    rows = [
        [name.replace("_", " "), *(_value(name, value) for value in pair)]
        for name, pair in differences.items()
    ]
    return _table(rows, ["provenance", "first", "second"], "left")


def _overlap_table(layers: pd.DataFrame) -> str:
    rows = [
        [
            _label(row["layer"]),
            f"{row['weights']:,}",
            *(
                f"{row[column]:.2%}"
                for column in ("density_1", "density_2", "intersection_over_union", "chance")
            ),
            row["nesting"],
        ]
        for _, row in layers.iterrows()
    ]
    headings = ["layer", "weights", "density 1", "density 2", "IoU", "by chance", "nesting"]
    return _table(rows, headings)


def _table(rows, headings, align="right"):
    aligned = ["left"] + [align] * (len(headings) - 1)
    return tabulate(rows, headings, disable_numparse=True, colalign=aligned)


def _label(path):
    return path.removesuffix("/kernel")


def _share(part, whole):
    return MISSING if pd.isna(whole) else f"{part:,} of {whole:,}"


def _short(sha256):
    return f"{sha256[:_HASH_LENGTH]}…" if sha256 else MISSING


def _value(name, value):
    if name.endswith("sha256"):
        return _short(value or "")
    return MISSING if value is None else str(value)
