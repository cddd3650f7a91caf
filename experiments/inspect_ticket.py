"""Shows what is in a ticket, or in two, and what they have in common.

    python -m experiments.inspect_ticket --ticket=RUN/tickets/.../level_NN.npz
    python -m experiments.inspect_ticket --ticket=FIRST.npz,SECOND.npz

Prints where a ticket comes from, what remains of each layer, which units no weight is left of,
and whether its run holds the initial weights that it belongs to and weights that were trained
under it. Of two tickets of the same network: intersection over union, nesting and differences.

Writes the same, with pictures, to a folder: inspection.json, layers.csv, figures/*.png, and of
two tickets comparison.csv.
"""

import hashlib
import json
import os
from pathlib import Path

import pandas as pd

from experiments import kinds, program
from tf_tickets.analysis.saved_tickets import file_labels, file_name, load_tickets
from tf_tickets.analysis.ticket_comparison import Comparison, compare_tickets
from tf_tickets.analysis.ticket_figures import draw_inspection
from tf_tickets.analysis.ticket_inspection import Inspection, inspect
from tf_tickets.analysis.ticket_inspection_text import comparison_text, inspection_text
from tf_tickets.errors import require
from tf_tickets.runs.files import atomic_path, atomic_write_json, atomic_write_text

# Flags of its own, as no preset and no run directory belongs to it.
define = kinds.Definitions()
text = "A ticket's file, RUN/tickets/.../level_NN.npz, or two with a comma between them."
define.define(kinds.Path(2), "ticket", None, text)
text = (
    "A folder that is empty or not there. Default: tensorboard_logs/inspect_ticket/<name>-<hash>."
)
define.path("output", None, text)
FLAGS = define.values

# Of a folder's name, as file systems limit it.
_LONGEST_NAME = 100


def read_config() -> list[Path]:
    """The tickets' files; checks all flags, as far as that is possible without loading."""
    ticket = FLAGS.ticket or ""
    given = split_paths(ticket)
    require(
        1 <= len(given) <= 2 and all(given),
        "ticket",
        ticket,
        "the path of a ticket, or of two",
    )
    output = Path(FLAGS.output or "")
    empty = output.is_dir() and not any(output.iterdir())
    fits = not FLAGS.output or empty or (output.name != "" and not os.path.lexists(output))
    require(fits, "output", output, "a folder that is empty or not there")
    return [Path(path) for path in given]


def split_paths(text: str) -> list[str]:
    """The paths in a flag: one, which may have commas in it, or several with commas between."""
    if os.path.isfile(text):
        return [text]
    for place, character in enumerate(text):
        pair = [text[:place], text[place + 1 :]]
        if character == "," and all(map(os.path.isfile, pair)):
            return pair
    return text.split(",")


def load(paths) -> list[Inspection]:
    """Reads the tickets, which must be of one network, and looks at them."""
    named = dict(zip(file_labels(paths), paths))
    tickets = load_tickets(named, comparable_only=True)
    return [inspect(path, tickets[name], name) for name, path in named.items()]


def output_path(inspections, hashes) -> Path:
    """`--output`, or a folder that the tickets decide."""
    if FLAGS.output:
        return Path(FLAGS.output)
    name = file_name("-".join(each.name for each in inspections))[-_LONGEST_NAME:]
    digest = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:8]
    return Path("tensorboard_logs", "inspect_ticket", f"{name}-{digest}")


def write(folder: Path, inspections, comparison: Comparison | None, hashes) -> None:
    """Writes everything to a folder, whole or not at all."""
    with atomic_path(folder) as written:
        written.mkdir()
        layers = [each.layers.assign(ticket=each.name) for each in inspections]
        columns = ["ticket", *inspections[0].layers.columns]
        table = pd.concat(layers)[columns].to_csv(index=False)
        atomic_write_text(written / "layers.csv", table)
        if comparison:
            table = comparison.layers.to_csv(index=False)
            atomic_write_text(written / "comparison.csv", table)
        content = {
            "files": hashes,
            "tickets": [each.to_json() for each in inspections],
            "comparison": comparison and comparison.to_json(),
        }
        atomic_write_json(written / "inspection.json", content)
        draw_inspection(inspections, comparison, written / "figures")


def main():
    """Looks, writes and prints."""
    paths = read_config()
    inspections = load(paths)
    comparison, text = None, ""
    if len(inspections) == 1:
        text = inspection_text(*inspections)
    else:
        comparison = compare_tickets(*(each.ticket for each in inspections))
        text = comparison_text(*inspections, comparison)
    hashes = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    output = output_path(inspections, hashes)
    program.require_writable("output", output)
    write(output, inspections, comparison, hashes)
    print(f"{text}\n\n{output}")


if __name__ == "__main__":
    program.run(main, FLAGS, __doc__, resumable=False)
