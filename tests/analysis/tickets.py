"""Tickets to analyse, made up or saved as a run would."""

from pathlib import Path

import numpy as np

from tf_tickets.masking.ticket import Provenance, Ticket


def ticket(**masks):
    """A ticket with masks of 0 and 1; "__" in a name stands for "/"."""
    provenance = Provenance("made up", "resnet_20", {}, "mnist (embedded)", 0, 1, "", "", {})
    named = {name.replace("__", "/"): np.array(mask, bool) for name, mask in masks.items()}
    return Ticket(named, provenance)


def random_ticket(seed, density=0.5, shapes=((3, 3, 4, 8), (1, 1, 8, 4))):
    """Convolutions stage_1/conv_1, stage_1/conv_2, ... with random masks."""
    random = np.random.default_rng(seed)
    return ticket(
        **{
            f"stage_1__conv_{number}__kernel": random.random(shape) < density
            for number, shape in enumerate(shapes, start=1)
        }
    )


def save(run: Path, cell: str, level: int, saved: Ticket) -> Path:
    """Saves a ticket of a cell such as "mnist/pgd/imp/seed_0"."""
    path = run / "tickets" / cell / f"level_{level:02d}.npz"
    saved.save(path)
    return path
