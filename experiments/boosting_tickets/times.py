"""What the acceleration study of "Boosting Ticket" computes: times, and the goal they lead to."""

from typing import NamedTuple

import pandas as pd

from experiments.boosting_tickets.results import (
    ACCELERATED,
    MADRYS,
    TRAINING_KEYS,
    accelerated,
    first_reaching,
    last_epoch,
    trained,
    validation_curves,
)
from tf_tickets.analysis.measurements import image_count, select, standard_error
from tf_tickets.analysis.studies import Group
from tf_tickets.data.specs import SPECS, find_class_range

# What finds the tickets is a training of its own, which they must beat.
FINDER = "FGSM training alone"
TIMED = (*ACCELERATED.values(), FINDER)


def fgsm_finder(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the FGSM training that FGSM tickets are pruned from, as `network` FINDER.

    Results do not say which of several, with other learning rates, a ticket comes from. Then it
    is the one that took longest, so that no ticket looks cheaper than it was.
    """
    found = select(rows, family="finding", regime="fgsm").assign(network=FINDER)
    times = select(found, split="train", attack="fgsm", quantity="seconds")
    took = times.groupby("method")["value"].max()
    return found if took.empty else select(found, method=took.idxmax())


def finding_seconds(rows: pd.DataFrame, quantity: str = "seconds") -> pd.Series:
    """Seed → seconds that the training took which the FGSM tickets are pruned from."""
    found = select(fgsm_finder(rows), split="train", attack="fgsm", quantity=quantity)
    return found.groupby("seed")["value"].max()


def training_times(rows: pd.DataFrame, quantity: str = "seconds") -> pd.DataFrame:
    """What the trainings of the acceleration study took.

    Args:
      rows: of one network.
      quantity: "seconds" by the clock or "cpu_seconds" of the process.

    Returns:
      `network`, `seed`, `pruning` (0 for Madry's), `training`, `total`, all in seconds,
      and `ratio`, the total over that of Madry's of the same seed; NaN where something is
      missing, and for the ratio of Madry's.
    """
    trained = select(accelerated(rows), split="train", attack="pgd", quantity=quantity)
    times = trained.groupby(["network", "seed"])["value"].max().rename("training").reset_index()
    found = times["seed"].map(finding_seconds(rows, quantity)).astype(float)
    times["pruning"] = found.where(times["network"] != MADRYS, 0.0)
    times["total"] = times["pruning"] + times["training"]
    whole = select(times, network=MADRYS).set_index("seed")["total"]
    ratio = times["total"] / times["seed"].map(whole).astype(float)
    times["ratio"] = ratio.where(times["network"] != MADRYS)
    return times


def timed_curves(group: Group, quantity: str = "seconds") -> pd.DataFrame:
    """Robust validation accuracy against the time since everything began.

    Returns:
      Rows of `validation_curves`, of the networks in `TIMED`, with `seconds`, since the
      training began or, for tickets, since the training that found them began; evaluations
      do not count.
    """
    rows = pd.concat([accelerated(group.rows), fgsm_finder(group.rows)])
    timed = select(rows, split="train", quantity=quantity)
    times = timed[[*TRAINING_KEYS, "iteration", "value"]].rename(columns={"value": "seconds"})
    curves = validation_curves(rows, group.attack)
    curves = curves.merge(times, on=[*TRAINING_KEYS, "iteration"], how="left")
    seconds = curves["seconds"].where(curves["epoch"] > 0, 0.0)
    found = curves["seed"].map(finding_seconds(group.rows, quantity)).astype(float)
    found = found.where(~curves["network"].isin([MADRYS, FINDER]), 0.0)
    # Where no time was measured at all, epoch 0 is no point on it either.
    is_timed = curves["network"].isin(timed["network"])
    return curves.assign(seconds=(seconds + found).where(is_timed)).dropna(subset="seconds")


class Goals(NamedTuple):
    """What ours must reach, on validation images.

    Attributes:
      accuracies: seed → robust accuracy in [0, 1] that counts as reached.
      ends: seed → what Madry's ends with.
      images: how many validation images there are.
      chance: accuracy of a network that guesses; 0 where the classes are not known.
    """

    accuracies: pd.Series
    ends: pd.Series
    images: int
    chance: float

    @property
    def above_chance(self) -> bool:
        """Whether every seed's goal is more than what guessing reaches."""
        return bool((self.accuracies > self.chance).all())


def robust_goals(group: Group) -> Goals:
    """What Madry's ends with, less one standard error.

    The best of its epochs, the largest of many noisy numbers, would be too high a goal.
    """
    madrys = select(accelerated(group.rows), network=MADRYS)
    ends = last_epoch(trained(validation_curves(madrys, group.attack)))
    ends = ends.set_index("seed")["value"]
    validated = select(group.rows, split="validation", quantity="accuracy")
    images = image_count(validated["value"])
    return Goals(ends - standard_error(ends, images), ends, images, _chance(group))


def _chance(group):
    data_set = group.rows["data_set"].iloc[0]
    classes = find_class_range(data_set)
    if classes:
        return 1 / (classes.last - classes.first + 1)
    return 1 / len(SPECS[data_set].class_names) if data_set in SPECS else 0.0


def times_to_accuracy(group: Group, quantity: str = "seconds") -> pd.DataFrame:
    """When ours first is as robust as Madry's in the end, on validation data.

    Args:
      group: of the acceleration study.
      quantity: as in `training_times`.

    Returns:
      A row per ticket's training, and per training that finds tickets: `network`, `seed`,
      `seconds` with finding the ticket (NaN: never), `of_whole`, as a share of Madry's whole
      training, and `of_own`, of the time after which Madry's gets there. Seeds without
      Madry's are left out.
    """
    times = training_times(group.rows, quantity)
    whole = select(times, network=MADRYS).set_index("seed")["total"]
    goals = robust_goals(group).accuracies
    goals = goals[goals.index.isin(whole.index)]
    curves = trained(timed_curves(group, quantity))
    reached = pd.concat(
        {
            network: first_reaching(select(curves, network=network), goals, "seconds")
            for network in TIMED
        },
        names=["network", "seed"],
    )
    reached = reached.rename("seconds").reset_index()
    own = select(reached, network=MADRYS).set_index("seed")["seconds"]
    ours = reached[reached["network"] != MADRYS]
    return ours.assign(
        of_whole=ours["seconds"] / ours["seed"].map(whole),
        of_own=ours["seconds"] / ours["seed"].map(own),
    )
