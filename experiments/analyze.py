"""Looks into tickets: how alike masks are, what is left of kernels, how the loss lies.

    python -m experiments.analyze --analysis=similarity --run_dir=RUN
    python -m experiments.analyze --analysis=similarity --ticket=FIRST.npz,SECOND.npz
    python -m experiments.analyze --analysis=kernels --run_dir=RUN
    python -m experiments.analyze --analysis=loss_surface --ticket=RUN/tickets/.../level_NN.npz

similarity compares masks with one another, of a run those of equal level. kernels counts, and
shows, the completely pruned kernels of convolutions. loss_surface draws the loss around a
ticket's trained weights, on clean test images and on images attacked once, at these weights:
along the principal components of the training where RUN/checkpoints/.../level_NN_trajectory.npz
holds its way and that is no line, along filter-normalised random directions otherwise. All
surfaces of a command have one scale and the same contours. Runs of every driver will do.

Prints a table and writes it, with pictures and everything that decided it, to a folder.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from experiments import image_flags, kinds, program
from tf_tickets import runtime
from tf_tickets.analysis import loss_surface, ticket_reports
from tf_tickets.analysis.saved_tickets import (
    SavedTicket,
    comparable,
    file_labels,
    load_tickets,
    tickets_in,
)
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.data.registry import load_images
from tf_tickets.data.specs import SOURCES
from tf_tickets.data.vision import ImageData
from tf_tickets.errors import UserError, require
from tf_tickets.evaluation.loss_surface import LossSurface, Survey
from tf_tickets.evaluation.victims import fitting_data, load_trained_ticket, square_shape
from tf_tickets.evaluation.weight_planes import NoPlaneError, Plane, plane_of, trajectory_path
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.files import atomic_path, atomic_write_json
from tf_tickets.runs.progress import ProgressBar

# Flags of its own, as no preset belongs to it, and no run directory is written.
define = kinds.Definitions()
text = "What to look at."
define.choice("analysis", None, text, ("similarity", "kernels", "loss_surface"))
text = "Ticket files, RUN/tickets/.../level_NN.npz, with commas between."
define.define(kinds.Several(kinds.Path(), 0), "ticket", [], text)
text = "Instead of --ticket: all tickets of a run, or below a folder of its `tickets`."
define.path("run_dir", None, text)
text = "A new folder. Default: tensorboard_logs/analyze/<analysis>-<hash>."
define.path("output", None, text)
_FLAGS_OF_ALL = tuple(define.values)
text = "Default: pca where there is a trajectory."
define.choice("directions", None, text, ("pca", "random"))
define.number("eps", "8/255", "Radius of the attack's L∞ ball.", "[0, 1]")
define.number("step_size", None, "Length of an attack step. Default: eps/4.", "[0, 1]")
text = "Steps of the attack, PGD from a random start."
define.integer("steps", 20, text, "[1, 100000]")
text = "Test images, as many of each class; 0 for all there are."
define.integer("examples", 500, text, "[0, 10000000]")
define.integer("resolution", 21, "Points along each side of the picture.", "[2, 501]")
text = "How far to look. 1: as far as the filters are long, or the training."
define.number("span", 1.0, text, "(0, 1000]")
define.integer("batch_size", 250, "Images at a time.", "[1, 1000000]")
define.integer("seed", 0, "Decides what is random.", "[0, 2147483647]")
text = "Images on which the loss is measured. Default: the ticket's own data set."
define.name("data_set", None, text, image_flags.data_set_name)
text = "Where the data come from. Default: from where the ticket's did."
define.choice("data_source", None, text, SOURCES)
define.path("data_dir", None, "TensorFlow Datasets' directory, or the folder of images.")
FLAGS = define.values
_SURFACE_FLAGS = tuple(name for name in FLAGS if name not in _FLAGS_OF_ALL)


def read_config() -> dict:
    """The flags that matter, checked as far as that is possible without loading anything."""
    config = program.configuration(FLAGS)
    analysis = config["analysis"]
    require(analysis is not None, "analysis", "", "similarity, kernels or loss_surface")
    output = Path(config["output"]) if config["output"] else None
    new = output is None or not output.exists() or (output.is_dir() and not any(output.iterdir()))
    require(new, "output", output, "a folder that is empty or not there")
    if bool(config["ticket"]) == bool(config["run_dir"]):
        raise UserError("--ticket, --run_dir: expected one of the two")
    if analysis != "loss_surface":
        for name in _SURFACE_FLAGS:
            unused = not FLAGS[name].present
            require(unused, name, config.pop(name), "nothing, it is for loss_surface")
        many = analysis != "similarity" or len(config["ticket"]) != 1
        require(many, "ticket", ",".join(config["ticket"]), "two or more to compare")
        return config
    require(not config["run_dir"], "run_dir", config["run_dir"], "--ticket for loss_surface")
    if config["step_size"] is None:
        config["step_size"] = config["eps"] / 4
    attack_of(config)  # Refuses a step that is longer than the ball.
    return config


def attack_of(config):
    """How images are attacked."""
    return pgd(config["eps"], config["step_size"], config["steps"], random_start=True)


class Surroundings(NamedTuple):
    """A trained ticket's plane, and what the loss is measured with and on."""

    plane: Plane
    surface: LossSurface
    data: ImageData
    files: list[Path]


class Inputs(NamedTuple):
    """What there is to look at.

    Attributes:
      groups: of a run, its tickets (see `saved_tickets.comparable`).
      tickets: name → ticket, of those that were named.
      surroundings: name → its surroundings, of those whose loss is measured.
      files: all files that were read.
    """

    groups: list[list[SavedTicket]]
    tickets: dict[str, Ticket]
    surroundings: dict[str, Surroundings]
    files: list[Path]


def load(config, strategy) -> Inputs:
    """Reads everything, and says what does not fit before any work."""
    if config["run_dir"]:
        saved = tickets_in(Path(config["run_dir"]))
        return Inputs(comparable(saved), {}, {}, [entry.path for entry in saved])
    paths = [Path(path) for path in config["ticket"]]
    named = dict(zip(file_labels(paths), paths))
    if config["analysis"] != "loss_surface":
        return Inputs([], load_tickets(named, config["analysis"] == "similarity"), {}, paths)
    found = {name: load_surroundings(config, path, strategy) for name, path in named.items()}
    return Inputs([], {}, found, [file for each in found.values() for file in each.files])


def load_surroundings(config, path, strategy) -> Surroundings:
    """The network of a ticket, the plane around it and the data."""
    ticket, model, victim = load_trained_ticket(path)
    name = config["data_set"] or victim.data_set
    require(name is not None, "data_set", "", f"the data set that {path} was trained on")
    place = config["data_source"] or victim.data_source or "embedded"
    size, channels = square_shape(victim, "ticket")
    data = load_images(name, place, config["data_dir"], image_size=size, channels=channels)
    data = fitting_data(victim, data, "ticket")
    limit, most = config["examples"], len(data.test)
    require(limit <= most, "examples", limit, f"at most {most}, or 0 for all")
    data = data.limited(config["seed"], test=limit or most)
    files = [Path(file) for file in victim.sha256]
    trajectory = trajectory_path(path)
    if config["directions"] != "random" and trajectory.exists():
        files.append(trajectory)
    else:
        expected = f"random, as there is no {trajectory}"
        require(config["directions"] != "pca", "directions", "pca", expected)
        trajectory = None
    try:
        plane = plane_of(ticket, model, trajectory, config["seed"])
    except NoPlaneError:
        if config["directions"] == "pca":
            raise
        plane = plane_of(ticket, model, None, config["seed"])
    chunks = runtime.parallel_chunks(strategy)
    return Surroundings(plane, LossSurface(model, plane, chunks, config["batch_size"]), data, files)


def analyze(config, inputs, folder):
    """Writes tables and pictures into the folder; returns the table to print, and details."""
    if config["analysis"] == "loss_surface":
        return analyze_loss_surfaces(config, inputs.surroundings, folder)
    of_run, of_tickets = {
        "similarity": (ticket_reports.similarity_of_run, ticket_reports.similarity_of_tickets),
        "kernels": (ticket_reports.kernels_of_run, ticket_reports.kernels_of_tickets),
    }[config["analysis"]]
    try:
        done = (
            of_run(inputs.groups, folder) if inputs.groups else of_tickets(inputs.tickets, folder)
        )
    except UserError as error:
        flag = "run_dir" if inputs.groups else "ticket"
        value = config["run_dir"] or ",".join(config["ticket"])
        raise UserError(f"--{flag}={value}: {error}") from None
    return done, {}


def analyze_loss_surfaces(config, surroundings, folder):
    """The same for the loss around trained weights."""
    survey = Survey(attack_of(config), config["resolution"], config["span"], config["seed"])
    work = sum(survey.passes * len(each.data.test) for each in surroundings.values())
    with ProgressBar(work) as bar:
        surveys = {
            name: each.surface.survey(each.data.test, survey, bar.advance)
            for name, each in surroundings.items()
        }
    planes = {name: each.plane for name, each in surroundings.items()}
    table = loss_surface.write_surfaces(surveys, planes, folder)
    details = {
        name: loss_surface.describe(planes[name], surveys[name])
        | {"data_set": each.data.name, "data_source": each.data.source}
        | {"images": len(each.data.test)}
        for name, each in surroundings.items()
    }
    return table, details


def output_path(config, hashes) -> Path:
    """`--output`, or a folder that the configuration and the files decide."""
    if config["output"]:
        return Path(config["output"])
    decisive = json.dumps([config, hashes], sort_keys=True)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:8]
    return Path("tensorboard_logs", "analyze", f"{config['analysis']}-{digest}")


def main():
    """Looks, writes and prints."""
    config = read_config()
    strategy = runtime.make_strategy("one_device", split_operations=True)
    inputs = load(config, strategy)
    hashes = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in inputs.files}
    output = output_path(config, hashes)
    program.require_writable("output", output)
    with atomic_path(output) as folder:
        folder.mkdir()
        table, details = analyze(config, inputs, folder)
        content = {
            "config": config,
            "files": hashes,
            "surfaces": details,
            "environment": runtime.environment_report(strategy),
        }
        atomic_write_json(folder / "report.json", content)
    print(f"{table}\n\n{output}")


if __name__ == "__main__":
    program.run(main, FLAGS, __doc__, resumable=False)
