"""The studies of a paper: which of a run's results are whose, and how they are called."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import pandas as pd

from tf_tickets.analysis.measurements import DATA_SET_LABELS, select
from tf_tickets.data.specs import find_class_range

_FAMILIES = {"vgg": "VGG", "resnet": "ResNet", "wide_resnet": "WideResNet", "lenet": "LeNet"}
_MODELS = {
    "lenet_conv": "LeNet (two convolutions)",
    "mobilenet_v2": "MobileNetV2",
    "resnet_50_v1": "ResNet-50 v1",
    "resnet_50_v1_5": "ResNet-50 v1.5",
}

# What values of a column count: some, or what a function of the column says.
Values = Collection | Callable[[pd.Series], pd.Series]
# Whatever there is.
ANY = pd.Series.notna


class Study(NamedTuple):
    """One experiment of a paper.

    Attributes:
      title: heading of its section.
      by: the columns whose values tell its groups apart; the data set comes first.
      where: column → values of what it is made from.
      own: the same of the columns that tell it from other studies in the same results.
    """

    title: str
    by: tuple[str, ...]
    where: Mapping[str, Values]
    own: Mapping[str, Values] = {}


class Group(NamedTuple):
    """What one table or figure is made of.

    Attributes:
      name: for file names, such as "cifar10_vgg_16".
      label: for headings, such as "VGG-16 on CIFAR-10".
      rows: its results.
      attack: the attack that evaluates robust accuracy, such as "pgd_20".
    """

    name: str
    label: str
    rows: pd.DataFrame
    attack: str


def grouped(frame: pd.DataFrame, study: Study) -> list[tuple[str, str, pd.DataFrame]]:
    """The groups that the study has results of.

    Studies may share networks and trainings. A group counts if it has a row of the study's
    own; where none has (yet), if it has a row of any that it is made from.

    Returns:
      For each group its name, for files ("cifar10_vgg_16"), its label, for headings
      ("VGG-16 on CIFAR-10"), and all rows of its networks.
    """
    used = select_any(frame, study.where)
    owned = select_any(used, study.own)
    needed = used if owned.empty else owned
    found = []
    for values in sorted(set(zip(*(needed[column] for column in study.by))), key=_group_order):
        named = dict(zip(study.by, values))
        found.append(("_".join(values), group_label(**named), select(frame, **named)))
    return found


def select_any(frame: pd.DataFrame, where: Mapping[str, Values]) -> pd.DataFrame:
    """The rows whose values count in each of the columns."""
    for column, values in where.items():
        column = frame[column]
        frame = frame[values(column) if callable(values) else column.isin(list(values))]
    return frame


def _group_order(values):
    data_sets = list(DATA_SET_LABELS)
    classes = find_class_range(values[0])
    whole = classes.data_set if classes else values[0]
    place = data_sets.index(whole) if whole in data_sets else len(data_sets)
    return place, values


def evaluation_attack(frame: pd.DataFrame) -> str:
    """The attack that validation runs after every epoch; "pgd_20" before there is any."""
    attacks = select(frame, split="validation", quantity="accuracy")["attack"]
    attacks = attacks[attacks.astype("str").str.fullmatch(r"pgd_\d+")]
    return "pgd_20" if attacks.empty else attacks.mode()[0]


def model_label(model: str) -> str:
    """The papers' name of a network: "WideResNet-34-10" of "wide_resnet_34_10"."""
    match = re.fullmatch(r"([a-z_]+?)((?:_\d+)+)", model)
    if model in _MODELS or not match:
        return _MODELS.get(model, model)
    return _FAMILIES.get(match[1], match[1]) + match[2].replace("_", "-")


def data_set_label(data_set: str) -> str:
    """The papers' name of a data set: "CIFAR-10, classes 5–9" of "cifar10_classes_5_9"."""
    classes = find_class_range(data_set)
    if not classes:
        return DATA_SET_LABELS.get(data_set, data_set)
    return f"{data_set_label(classes.data_set)}, classes {classes.first}–{classes.last}"


def group_label(data_set: str, model: str | None = None) -> str:
    """ "VGG-16 on CIFAR-10" of a data set and, if given, a model."""
    on = data_set_label(data_set)
    return f"{model_label(model)} on {on}" if model else on
