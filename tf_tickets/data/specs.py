"""The data sets by name: what must be in them, and parts of their classes."""

import dataclasses
import re
from collections.abc import Mapping

from tf_tickets.errors import UserError, require

SOURCES = ("embedded", "tfds", "folder")


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """What a data set must hold to be the one of that name."""

    name: str
    class_names: tuple[str, ...]
    split_sizes: Mapping[str, int]  # In TFDS, before validation examples are set aside.
    tfds_name: str | None = None  # None: the same.
    one_size: bool = True  # Whether all its images have the same height and width.
    embedded_sha256: str | None = None  # `sample_sha256` of embedded/<name>.npz; None: no sample.
    validation_fraction: float = 1 / 10  # Of the training examples.
    augment: bool = True  # Whether a shifted or mirrored image is as good an example.


_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR_10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR_100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm"""

SPECS = {
    spec.name: spec
    for spec in (
        ImageSpec(
            name="mnist",
            class_names=_DIGITS,
            split_sizes={"train": 60_000, "test": 10_000},
            embedded_sha256="3da8e484d630ff29516205eac3c7c94172c4bf372b8620162a00e00cc0a37ffe",
            validation_fraction=1 / 6,
            augment=False,
        ),
        ImageSpec(
            name="fashion_mnist",
            class_names=_CLOTHES,
            split_sizes={"train": 60_000, "test": 10_000},
            embedded_sha256="04ff91506667143c56509316e358ecb83f198c23560f253f73525e0db9597f76",
            validation_fraction=1 / 6,
            augment=False,
        ),
        ImageSpec(
            name="cifar10",
            class_names=tuple(_CIFAR_10.split()),
            split_sizes={"train": 50_000, "test": 10_000},
        ),
        ImageSpec(
            name="cifar100",
            class_names=tuple(_CIFAR_100.split()),
            split_sizes={"train": 50_000, "test": 10_000},
        ),
        ImageSpec(
            name="svhn",
            tfds_name="svhn_cropped",
            class_names=_DIGITS,
            split_sizes={"train": 73_257, "test": 26_032, "extra": 531_131},
            augment=False,
        ),
        ImageSpec(
            name="cub200",
            tfds_name="caltech_birds2011",
            # TFDS does not name them; these are the numbers at the start of CUB-200's folders.
            class_names=tuple(f"{number:03}" for number in range(1, 201)),
            split_sizes={"train": 5_994, "test": 5_794},
            one_size=False,
        ),
    )
}

DATA_SETS = tuple(SPECS)
EMBEDDED_DATA_SETS = tuple(name for name in DATA_SETS if SPECS[name].embedded_sha256)

_CLASS_RANGE = re.compile(r"(\w+?)_classes_(0|[1-9]\d{0,5})_(0|[1-9]\d{0,5})")


@dataclasses.dataclass(frozen=True)
class ClassRange:
    """Some classes of a data set that follow one another.

    Attributes:
        data_set: the whole data set's name.
        first: the first class index.
        last: the last one, which belongs to them.
    """

    data_set: str
    first: int
    last: int

    def require_within(self, num_classes, flag="data_set"):
        """Checks that there are at least two such classes, and that the data set has them.

        Raises:
            UserError: otherwise.
        """
        require(
            self.first < self.last < num_classes,
            flag,
            f"{self.data_set}_classes_{self.first}_{self.last}",
            "<data set>_classes_<first>_<last> with first < last, classes 0 to "
            f"{num_classes - 1} of {self.data_set}",
        )


def find_class_range(name):
    """Returns the ClassRange that a name like "cifar10_classes_0_4" stands for, else None."""
    match = _CLASS_RANGE.fullmatch(name)
    return ClassRange(match[1], int(match[2]), int(match[3])) if match else None


def require_data_set(name, flag="data_set", source="tfds"):
    """Checks the name of a data set.

    Args:
        name: one of DATA_SETS, of EMBEDDED_DATA_SETS for the source "embedded"; any word of
            letters, digits and underscores for the source "folder". Or <name>_classes_<first>_
            <last> for these classes of it only, such as "cifar10_classes_0_4".
        flag: the flag that errors name.
        source: one of SOURCES.

    Raises:
        UserError: otherwise. How many classes a folder has is not looked up.
    """
    if source not in SOURCES:
        raise UserError(f"--data_source={source} is not known; use one of {', '.join(SOURCES)}")
    classes = find_class_range(name)
    whole = classes.data_set if classes else name
    if source == "folder":
        require(re.fullmatch(r"\w+", name), flag, name, "letters, digits and underscores")
        return
    # The data sets of transfers, whose flags are others, have folders of their own.
    of_one = flag == "data_set"
    folder = "--data_source=folder --data_dir=DIR" if of_one else "--folders=NAME=DIR"
    if whole == "visda":
        raise UserError(
            f"--{flag}={name}: TensorFlow Datasets has no VisDA-17; give the folder that holds its "
            f"train and validation: {folder}"
        )
    if whole not in SPECS:
        raise UserError(
            f"--{flag}={name} is not known; use one of {', '.join(DATA_SETS)}, or some classes of "
            f"it, as cifar10_classes_0_4, or {folder}"
        )
    if source == "embedded" and SPECS[whole].embedded_sha256 is None:
        raise UserError(
            f"--data_source=embedded: {whole} has no embedded sample; use --data_source=tfds"
        )
    if classes:
        classes.require_within(len(SPECS[whole].class_names), flag)
