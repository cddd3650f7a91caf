"""What a study leaves for its reader: summary, figures, TensorBoard pages, the closing words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tf_tickets.analysis.markdown import image_link
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.events import write_figures
from tf_tickets.runs.files import atomic_write_text
from tf_tickets.runs.run_directory import RunDirectory

_NOTHING = "No results yet."


class Section(NamedTuple):
    """What a summary says of one study's results of one group of networks.

    Attributes:
      label: its heading.
      table: Markdown.
      figures: PNG files.
    """

    label: str
    table: str
    figures: Sequence[Path]


def write_studies(
    run: RunDirectory,
    heading: str,
    introduction: str,
    scale: str,
    studies: Sequence[tuple[str, Sequence[Section]]],
    exports: Mapping[str, Export],
) -> str:
    """Writes the summary.md of a paper with several studies, and their TensorBoard page.

    Args:
      run: where to.
      heading: the paper's name.
      introduction: what all tables have in common.
      scale: a sentence on how the run differs from the paper's.
      studies: each study's title and what there is of it, in order; maybe nothing yet.
      exports: as for `closing_paths`.

    Returns:
      The tables of the first study and the paths of everything, for the terminal.
    """
    parts = [f"# {heading}", scale, introduction.strip()]
    for title, sections in studies:
        parts.append(f"## {title}")
        for section in sections:
            links = [image_link(path, run.path) for path in section.figures]
            parts += [f"### {section.label}", section.table, *links]
        if not sections:
            parts.append(_NOTHING)
    summary_path = run.path / "summary.md"
    atomic_write_text(summary_path, "\n\n".join(parts) + "\n")
    drawn = [path for _, sections in studies for section in sections for path in section.figures]
    show_in_tensorboard(run, drawn)
    first = [f"### {section.label}\n\n{section.table}" for section in studies[0][1]]
    closing = closing_paths(run, summary_path, exports)
    return "\n\n".join([*(first or [_NOTHING]), f"Scale: {scale}", closing])


def closing_paths(run: RunDirectory, summary_path: Path, exports: Mapping[str, Export]) -> str:
    """Where a run left what, a line each, for the terminal.

    Args:
      run: its folder.
      summary_path: its summary.md.
      exports: its SavedModels, by what tells them apart.
    """
    places = {
        "Run directory": run.path,
        "Tables": summary_path,
        "Figures": run.path / "figures",
        "Tickets": run.path / "tickets",
    }
    lines = {name: place for name, place in places.items() if place.exists()}
    for label, export in exports.items():
        zeros = ""
        if export.prunable:
            zeros = f" ({export.zeros / export.prunable:.1%} of its weights are zero)"
        lines[f"SavedModel ({label})"] = f"{export.path}{zeros}"
    lines["TensorBoard"] = f"tensorboard --logdir {run.path}"
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':{width}}{value}" for name, value in lines.items())


def show_in_tensorboard(run: RunDirectory, paths: Sequence[Path]) -> None:
    """Writes the page of the figures; not of a run that is only read."""
    if run.writable:
        write_figures(run.path / "tensorboard" / "figures", {path.stem: path for path in paths})
