"""Work on classifiers of texts: values for trainings, searches of masks, and attacks on texts."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.attacks.text_recipes import TextRecipe
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.models.bert_conversion import BertConfig
from tf_tickets.training.schedules import LinearDecay, LinearRamp
from tf_tickets.work.nodes import Fresh, Inherited, Masks, Node, Platform, Training
from tf_tickets.work.performing import description, name_of, passes

# About how often an attack asks a network about a text.
_QUERIES = 100


@dataclasses.dataclass(frozen=True)
class EncoderPlace:
    """Where an encoder is read from, see `load_encoder`."""

    bert_preset: str
    bert_dir: str
    layers: int


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A pre-trained encoder.

    Attributes:
      name: what results call it.
      config: its shape.
      sha256: of the file that held its weights.
      vocabulary_sha256: of its word pieces in their order.
      lowercase: whether texts are lower-cased.
      place: where it is read from, which decides nothing.
    """

    name: str
    config: BertConfig
    sha256: str
    vocabulary_sha256: str
    lowercase: bool
    place: EncoderPlace = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class TextNetwork:
    """An encoder with a classifier on it.

    Attributes:
      encoder: what was pre-trained.
      classes: how many there are.
    """

    encoder: Encoder
    classes: int

    @property
    def name(self) -> str:
        """What results call it: the encoder and its depth."""
        return f"{self.encoder.name}_{self.encoder.config.num_layers}_layers"


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts to train and to choose on.

    Attributes:
      name: the data set.
      source: where it is read from, see `load_texts`.
      sha256: of its content, training, validation and test texts, as it is read.
      seed: decides the split into training and validation examples, and which of them are used.
      length: tokens that an example is cut to.
      train, validation: how many examples are used.
      test: how many test examples there are, which the content decides.
    """

    name: str
    source: str
    sha256: str
    seed: int
    length: int
    train: int
    validation: int
    test: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How weights are learned, with AdamW.

    Attributes: as of `training.text_step.TextTask`, and
      weight_decay: AdamW's, of all but biases and LayerNorm.
    """

    batch_size: int
    weight_decay: float
    dropout: float
    clip_value: float


@dataclasses.dataclass(frozen=True)
class MaskTuning(Tuning):
    """How masks are learned, with AdamW.

    Attributes: as of `Tuning`, and
      granularity: what one mask stands for, see `masking.granularity`.
      clip: whether `clip_value` cuts the gradients' `values`, or the `norm`, see `MaskTrainer`.
    """

    granularity: str
    clip: str


@dataclasses.dataclass(frozen=True)
class Pretrained(Fresh):
    """The encoder's weights, and a classifier with new random ones, which the seed decides."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A ticket: the weights of the highest log α of a search.

    Attributes:
      of: the search.
      sparsity: fraction of all maskable weights that is gone then.
    """

    of: "MaskSearch"
    sparsity: float


@dataclasses.dataclass(frozen=True)
class Scattered:
    """A ticket: as many weights of each layer as another ticket has, in random places.

    Attributes:
      like: that ticket.
      seed: decides the places.
    """

    like: Drawn
    seed: int


@dataclasses.dataclass(frozen=True)
class Redrawn:
    """As `Pretrained`, but maskable weights are drawn anew, as BERT's own before pre-training.

    Attributes:
      seed: decides the new weights, and those of the classifier.
      outside: a ticket whose weights stay what they were; None if all are drawn anew.
    """

    seed: int
    outside: Drawn | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class TextTraining(Training):
    """A text classifier whose weights are trained once.

    Attributes: as of `Training`, but
      against: `natural`, `pgd`, `free_lb` or `info_bert`.
      attack: what the attacker of word embeddings may do; None of `natural`.
      masks: which weights stay; the magnitudes of `Masks` are another training's.
    """

    network: TextNetwork
    data: Texts
    recipe: Tuning
    attack: EmbeddingAttack | None
    rates: LinearDecay
    start: Pretrained | Redrawn | Inherited
    masks: Masks | Drawn | Scattered | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskSearch(TextTraining):
    """Masks that are learned over frozen weights; what it ends with are their log α.

    Attributes: as of `TextTraining`, but
      recipe: a `MaskTuning`.
      start: the weights, `Inherited`.
      penalties: λ of every step.
    """

    penalties: LinearRamp


@dataclasses.dataclass(frozen=True, eq=False)
class TextAttacked(Node):
    """A finished network's texts under an attack.

    Attributes:
      of: the training.
      at: the iteration whose weights are attacked; None for those that it ended with.
      recipe: the attack.
      split: of the data, whose texts it changes.
      examples: how many of them, of each class its share.
      among: how many test examples these are chosen from; 0 for all, as of other splits.
      resources: (name, what it is, with its hash) of what the recipe uses.
      platform: what else decides what comes of it.
      places: where the resources are, which decides nothing.
      labels: as of `Training`.
    """

    foreseeable: ClassVar[bool] = False

    of: TextTraining
    at: int | None
    recipe: TextRecipe
    split: str
    examples: int
    among: int
    resources: tuple[tuple[str, str], ...]
    platform: Platform
    places: TextResources = dataclasses.field(default=TextResources(), compare=False)
    labels: Mapping = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self):
        # As of `Inherited`: who asks for an iteration's weights has them kept.
        at = self.at
        object.__setattr__(self, "of", self.of if at is None else self.of.keeping((at,)))
        super().__post_init__()


@passes.register
def _(node: TextTraining) -> float:
    # An epoch's examples go there and back once, or for every step of an attack.
    steps = {"natural": 1, "pgd": node.attack.steps + 1 if node.attack else 1}
    measured = sum(getattr(node.data, split) for split in node.measured_on)
    measured *= node.iterations / node.evaluate_every / 2
    a_step = steps.get(node.against) or node.attack.steps
    return node.iterations * node.recipe.batch_size * a_step + measured


@passes.register
def _(node: TextAttacked) -> float:
    return node.examples * _QUERIES / 2


@description.register
def _(node: TextAttacked) -> str:
    epoch = "" if node.at is None else f" after {node.at} steps"
    return f"{node.recipe.attack} on {name_of(node.labels)}{epoch}"
