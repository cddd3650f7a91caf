"""What is to be computed: frozen values, each known by everything that decides it.

A plan is a list of trainings and measurements. Each names, as values within it, the data, the
start, the masks and the trainings that it comes from. Two that are equal but for their labels
are one piece of work with one identity, whoever asks for it and under whatever name.

    dense = Training(network, data, ...)
    sparse = dataclasses.replace(dense, masks=Masks(dense, 0.8, "magnitude"))
    in_order([sparse])  # [dense, sparse]
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import ClassVar

from tf_tickets.attacks.threat_model import ThreatModel
from tf_tickets.structured import selection
from tf_tickets.training.schedules import Constant, CosineDecay, StepDecay
from tf_tickets.training.selection import Selection

# To be raised when the same values come to mean other numbers, so that earlier ones are not
# taken for them.
_GENERATION = 2
# The part of a SHA-256 that names a piece of work; among a million there is no second one.
_IDENTITY_LENGTH = 20


@dataclasses.dataclass(frozen=True)
class Network:
    """An architecture.

    Attributes:
      name: of `models.registry`.
      image_shape: (height, width, channels) of its images.
      classes: how many there are.
      width_multiplier: scales its channels.
    """

    name: str
    image_shape: tuple[int, ...]
    classes: int
    width_multiplier: float = 1.0


@dataclasses.dataclass(frozen=True)
class Data:
    """Examples to train and to choose on.

    Attributes:
      name: the data set.
      source: where it is read from, see `load_images`.
      sha256: of its content, training, validation and test examples, as it is read.
      seed: decides the split into training and validation examples, and which of them are used.
      image_size: the height and width that networks see images in; 0 leaves them.
      train, validation: how many examples are used; 0 for all.
      test: how many test examples there are, which the content decides.
      sizing: whether smaller images are `padded`, or `scaled` to that size.
      augmentation: how training images are changed, see `ImageData`.
      percent: part of the `train` examples that are trained on, see `stratified_fraction`.
    """

    name: str
    source: str
    sha256: str
    seed: int
    image_size: int = 0
    train: int = 0
    validation: int = 0
    test: int = dataclasses.field(default=0, compare=False)
    sizing: str = "padded"
    augmentation: str = "crop_and_flip"
    percent: float = 100.0

    @property
    def trained_on(self) -> int:
        """How many examples an epoch has."""
        return round(self.train * self.percent / 100)

    @property
    def whole(self) -> "Data":
        """The same with all of its examples to train on."""
        return dataclasses.replace(self, percent=100.0)


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack by its name in the results."""

    name: str
    threat: ThreatModel


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How weights are learned, whatever they are learned against.

    Attributes: as of `training.trainer.TrainingSettings`.
    """

    batch_size: int
    optimizer: str
    objective: str
    momentum: float = 0.9
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    attack_mode: str = "inference"


@dataclasses.dataclass(frozen=True)
class Platform:
    """What else decides the bits of a number.

    Attributes:
      threads: that every operation is divided among; 0 for as many as there are cores.
      replicas: devices that share each batch.
      versions: (package, version) of those that compute.
    """

    threads: int
    replicas: int
    versions: tuple[tuple[str, str], ...]


class Node:
    """Work that is done once. Its values are known by the fields of a frozen dataclass.

    Nodes are equal if their identities are: to compare long chains field by field takes for ever.

    Attributes:
      foreseeable: whether a pass takes as long as one of the network's training.
    """

    foreseeable: ClassVar[bool] = True

    def __post_init__(self):
        # Of a long chain, link by link as it grows: Python cannot go down all of it at once.
        self.identity  # noqa: B018

    @functools.cached_property
    def identity(self) -> str:
        """A hash of all fields but labels; other work in them stands for its own identity."""
        text = json.dumps([_GENERATION, described(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_IDENTITY_LENGTH]

    def __eq__(self, other) -> bool:
        return isinstance(other, Node) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    @property
    def needs(self) -> list["Node"]:
        """The work that must be finished before."""
        return [
            found for field in _deciding(self) for found in _nodes_in(getattr(self, field.name))
        ]


@dataclasses.dataclass(frozen=True)
class Fresh:
    """New random weights of the training's network.

    Of a network with a `Cut` they are what is left of those of the network before it.

    Attributes:
      seed: decides them.
    """

    seed: int


@dataclasses.dataclass(frozen=True)
class Inherited:
    """Weights that another training of the same network had.

    Of a network with a `Cut` they are what is left of them; that network is the one before it.

    Attributes:
      of: that training, or weights from outside.
      at: the iteration at which it had them; None for those that it ended with.
      new_head: the seed of a new last layer, which may be for other classes; None for theirs.
    """

    of: "Training | Imported"
    at: int | None = None
    new_head: int | None = None

    def __post_init__(self):
        if self.at is not None:
            object.__setattr__(self, "of", self.of.keeping((self.at,)))


@dataclasses.dataclass(frozen=True)
class Masks:
    """A ticket: what stays of a trained network, all weights competing.

    Attributes:
      of: whose last weights are ranked; only what its own masks keep may stay.
      sparsity: fraction of all prunable weights that is gone then.
      score: a name in `masking.magnitude.SCORES`.
    """

    of: "Training | Imported"
    sparsity: float
    score: str


@dataclasses.dataclass(frozen=True)
class RandomMasks:
    """A ticket: a random choice among all prunable weights, whatever their sizes.

    Attributes:
      of: the network; only what its own masks keep may stay.
      sparsity: fraction of all prunable weights that is gone then.
      seed: decides the choice. With the same one, fewer weights are among more.
    """

    of: "Training | Imported"
    sparsity: float
    seed: int


@dataclasses.dataclass(frozen=True)
class LayerMasks:
    """A ticket: what stays of each layer of a trained network after one round more.

    Attributes:
      of: whose last weights are ranked; only what its own masks keep may stay.
      rate: fraction of a hidden layer's remaining weights that goes.
      output_rate: the same of the last layer.
      choice: whether the weights largest in `magnitude` stay, the `blocks` of four weights
        largest in it, or a `random` choice.
      seeds: of a random choice.
    """

    of: "Training"
    rate: float
    output_rate: float
    choice: str
    seeds: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Gradual:
    """Masks that tighten while the network trains (Zhu and Gupta, arXiv:1710.01878).

    They end with what so many rounds of `LayerMasks` leave.

    Attributes:
      rate, output_rate: as of `LayerMasks`.
      rounds: how many.
    """

    rate: float
    output_rate: float
    rounds: int


@dataclasses.dataclass(frozen=True, eq=False)
class Cut(Node):
    """A smaller network: what is left of a trained one without some filters and residual blocks.

    Choosing these is work of its own, done once for all trainings of what is left.

    Attributes:
      of: whose weights are scored, and whose network is cut.
      choice: how much goes, and what decides.
      examples: training images, as many of each class, that the criterion sees; 0 for all.
      seed: decides these images, and the criterion `random`.
    """

    of: "Training"
    choice: selection.Cut
    examples: int
    seed: int

    @property
    def whole(self) -> Network:
        """What it was before anything was taken out."""
        return self.of.whole_network

    @property
    def labels(self) -> Mapping:
        """Those of the network that is cut."""
        return self.of.labels


@dataclasses.dataclass(frozen=True, eq=False)
class Training(Node):
    """A network trained once.

    Attributes:
      network: what is trained.
      data: what on.
      recipe: how.
      against: `natural`, a way of mixing images in `data.augmentation.MIXING`, or the name of
        the attack that `attack` is.
      attack: what is trained against; None where there is none.
      iterations: optimizer steps.
      evaluate_every: steps between two evaluations; there is one at either end as well.
      rates: the learning rates.
      start: the weights that it begins with, before they are masked.
      seed: decides the attacks' random starts and, together with `stream`, the order of batches.
      stream: tells apart the trainings of one seed, mostly by the prunings behind them.
      platform: what else decides the numbers.
      masks: which weights stay; None for all.
      masked: what masks are over: all `kernels`, those of `convolutions` alone, or `nothing`.
      measured: attacks that the network meets at every evaluation.
      measured_on: the splits that it meets them on.
      selections: which weights it ends with; none for the last ones. Those of the first
        selection are the network's, the others' are kept beside them.
      keeps: iterations whose weights are kept. They decide nothing, but a training is not
        finished without them.
      labels: column → value for the results and for people; they decide nothing.
    """

    network: Network | Cut
    data: Data
    recipe: Recipe
    against: str
    attack: ThreatModel | None
    iterations: int
    evaluate_every: int
    rates: Constant | CosineDecay | StepDecay
    start: Fresh | Inherited
    seed: int
    stream: int
    platform: Platform
    masks: "Masks | LayerMasks | Gradual | FoundTicket | None" = None
    masked: str = "kernels"
    measured: tuple[Attack, ...] = ()
    measured_on: tuple[str, ...] = ("validation",)
    selections: tuple[Selection, ...] = ()
    keeps: tuple[int, ...] = dataclasses.field(default=(), compare=False)
    labels: Mapping = dataclasses.field(default_factory=dict, compare=False)

    def keeping(self, iterations: Iterable[int]) -> "Training":
        """The same training, which keeps the weights of more iterations."""
        keeps = tuple(sorted({*self.keeps, *iterations}))
        return self if keeps == self.keeps else dataclasses.replace(self, keeps=keeps)

    @property
    def whole_network(self) -> Network:
        """The architecture before anything was taken out of it."""
        return self.network.whole if isinstance(self.network, Cut) else self.network


@dataclasses.dataclass(frozen=True, eq=False)
class Imported(Node):
    """A network that somebody else trained.

    Attributes:
      network: what its weights are of.
      data: whose classes it tells apart, and what it is measured on.
      sha256: of the file with the weights.
      seed: decides a new last layer, where the file's is for another number of classes.
      platform: what it is measured on.
      masked: what may be pruned of it, as of `Training`.
      source: the file, or another name that `load_pretrained` knows; it may lie anywhere.
      labels: as of `Training`.
    """

    network: Network
    data: Data
    sha256: str
    seed: int
    platform: Platform
    masked: str = "kernels"
    source: str = dataclasses.field(default="", compare=False)
    labels: Mapping = dataclasses.field(default_factory=dict, compare=False)

    @property
    def whole_network(self) -> Network:
        """Nothing was taken out of it."""
        return self.network


@dataclasses.dataclass(frozen=True, eq=False)
class FoundTicket(Node):
    """A ticket by itself: masks that are chosen once, for many trainings and to be looked at.

    Attributes:
      masks: the choice.
      level: rounds of pruning that leave as much.
      labels: as of `Training`.
    """

    masks: Masks | RandomMasks
    level: int
    labels: Mapping = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Measurement(Node):
    """Accuracies and losses of a finished training's network.

    Attributes:
      of: the training, or weights from outside.
      attacks: white-box attacks that it meets.
      transferred: (training, attack) whose network the attack's examples are made for.
      examples: how many test examples; 0 for all.
      splits: of the data, that it meets them on.
      selections: whose weights meet them: the numbers of the training's selections.
      labels: as of `Training`.
    """

    of: Training | Imported
    attacks: tuple[Attack, ...] = ()
    transferred: tuple[tuple[Training, Attack], ...] = ()
    examples: int = 0
    splits: tuple[str, ...] = ("test",)
    selections: tuple[int, ...] = (0,)
    labels: Mapping = dataclasses.field(default_factory=dict, compare=False)


def described(value):
    """A value as JSON: what it is, and its fields; work within work by its identity alone."""
    if isinstance(value, (list, tuple)):
        return [_within(each) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {}
    for field in _deciding(value):
        of_field = getattr(value, field.name)
        # 1 and 1.0 are the same rate.
        fields[field.name] = float(of_field) if field.type is float else _within(of_field)
    return {"kind": type(value).__name__, **fields}


def subject(node: Node) -> Training | Imported:
    """The network that work is about."""
    if isinstance(node, (Training, Imported)):
        return node
    return node.masks.of if isinstance(node, FoundTicket) else node.of


def in_order(wanted: Iterable[Node]) -> list[Node]:
    """The work and all that it comes from, each once, nothing before what it needs.

    A training keeps the weights that any one asks for.
    """
    ordered: dict[str, Node] = {}

    def visit(node):
        known = ordered.get(node.identity)
        if known is None:
            for need in node.needs:
                visit(need)
            ordered[node.identity] = node
        elif isinstance(node, Training):
            ordered[node.identity] = known.keeping(node.keeps)

    for node in wanted:
        visit(node)
    return list(ordered.values())


def _within(value):
    return {"node": value.identity} if isinstance(value, Node) else described(value)


def _deciding(value):
    """The fields that decide what a value is."""
    return [field for field in dataclasses.fields(value) if field.compare]


def _nodes_in(value):
    if isinstance(value, Node):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _nodes_in(each)
    elif dataclasses.is_dataclass(value):
        for field in _deciding(value):
            yield from _nodes_in(getattr(value, field.name))
