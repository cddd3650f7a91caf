"""What the acceleration study of "Boosting Ticket" computes: times, and the goal they lead to."""

from typing import NamedTuple

import pandas as pd

from experiments.boosting_tickets.results import (
    ACCELERATED,
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
FINDER = "finding_fgsm"
TIMED = ACCELERATED | {FINDER: "FGSM training alone"}


def fgsm_finder(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the FGSM training that FGSM tickets are pruned from.

    Results do not say which of several, with other learning rates, a ticket comes from. Then it
    is the one that took longest, so that no ticket looks cheaper than it was.
    """
    # A training that warms up finds winning tickets, which adversarial training does not use.
    finds = rows["method"].astype("str").str.fullmatch(r"finding_fgsm_(?!.*_warmup$).+")
    found = rows[(rows["regime"] == "fgsm") & finds]
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
      `method`, `seed`, `pruning` (0 for dense), `training`, `total`, all in seconds,
      and `ratio`, the total over that of the dense network of the same seed; NaN
      where something is missing, and for the dense network's ratio.
    """
    trained = select(accelerated(rows), split="train", attack="pgd", quantity=quantity)
    times = trained.groupby(["method", "seed"])["value"].max().rename("training").reset_index()
    found = times["seed"].map(finding_seconds(rows, quantity)).astype(float)
    times["pruning"] = found.where(times["method"] != "dense_100", 0.0)
    times["total"] = times["pruning"] + times["training"]
    dense = select(times, method="dense_100").set_index("seed")["total"]
    ratio = times["total"] / times["seed"].map(dense).astype(float)
    times["ratio"] = ratio.where(times["method"] != "dense_100")
    return times


def timed_curves(group: Group, quantity: str = "seconds") -> pd.DataFrame:
    """Robust validation accuracy against the time since everything began.

    Returns:
      Rows of `validation_curves`, of the methods in `TIMED`, with `seconds`, since the
      training began or, for tickets, since the training that found them began; evaluations
      do not count.
    """
    finder = fgsm_finder(group.rows).assign(method=FINDER)
    rows = pd.concat([accelerated(group.rows), finder])
    times = select(rows, split="train", quantity=quantity)
    times = times[[*TRAINING_KEYS, "iteration", "value"]].rename(columns={"value": "seconds"})
    curves = validation_curves(rows, group.attack)
    curves = curves.merge(times, on=[*TRAINING_KEYS, "iteration"], how="left")
    seconds = curves["seconds"].where(curves["epoch"] > 0, 0.0)
    found = curves["seed"].map(finding_seconds(group.rows, quantity)).astype(float)
    found = found.where(~curves["method"].isin(["dense_100", FINDER]), 0.0)
    # Where no time was measured at all, epoch 0 is no point on it either.
    is_timed = curves["method"].isin(times["method"])
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
    curves = trained(validation_curves(select(group.rows, regime="pgd"), group.attack))
    ends = last_epoch(select(curves, method="dense_100")).set_index("seed")["value"]
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
      A row per ticket's training, and per training that finds tickets: `method`, `seed`,
      `seconds` with finding the ticket (NaN: never), `of_whole`, as a share of Madry's whole
      training, and `of_own`, of the time after which Madry's gets there. Seeds without
      Madry's are left out.
    """
    times = training_times(group.rows, quantity)
    whole = select(times, method="dense_100").set_index("seed")["total"]
    goals = robust_goals(group).accuracies
    goals = goals[goals.index.isin(whole.index)]
    curves = trained(timed_curves(group, quantity))
    reached = pd.concat(
        {
            method: first_reaching(select(curves, method=method), goals, "seconds")
            for method in TIMED
        },
        names=["method", "seed"],
    )
    reached = reached.rename("seconds").reset_index()
    own = select(reached, method="dense_100").set_index("seed")["seconds"]
    ours = reached[reached["method"] != "dense_100"]
    return ours.assign(
        of_whole=ours["seconds"] / ours["seed"].map(whole),
        of_own=ours["seconds"] / ours["seed"].map(own),
    )
