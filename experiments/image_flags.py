"""The flags that drivers of convolutional networks share: their data, networks and optimizer."""

from absl import flags as absl_flags

from experiments import flags, kinds
from tf_tickets.data.specs import DATA_SETS, require_data_set
from tf_tickets.errors import require
from tf_tickets.models.registry import MODELS, is_convolutional, require_model

absl_flags.disclaim_key_flags()


def data_set_name(name: str, flag: str) -> None:
    """The check of a data set's name; which source has it is known later."""
    require_data_set(name, flag, "folder")


def convolutional_model(name: str, flag: str) -> None:
    """The check of a network whose convolutions are pruned."""
    require_model(name, flag)
    require(is_convolutional(name), flag, name, "a network with convolutions")


def add_to(define: kinds.Definitions, check_model: kinds.Check = require_model) -> None:
    """Defines these flags; `check_model` says which networks there are."""
    define.name(
        "data_set",
        None,
        f"What to train on: {', '.join(DATA_SETS)}, or some classes of it, as cifar10_classes_0_4.",
        data_set_name,
    )
    define.integer(
        "image_size", None, "Images are padded to this height and width; 0 leaves them.", flags.SIDE
    )
    for split, name in (("train", "Training"), ("validation", "Validation"), ("test", "Test")):
        text = f"{name} images, as many of each class; 0 for all."
        define.integer(f"{split}_examples", None, text, flags.EXAMPLES)
    define.names(
        "models",
        None,
        f"Any of {', '.join(MODELS)}, wide_resnet_<depth>_<width>; the paper's if empty.",
        check_model,
        least=0,
    )
    text = "Scales the channels of every network."
    define.number("width_multiplier", None, text, flags.WIDTH)
    define.number("learning_rate", None, "SGD's learning rate, at its highest.", flags.RATE)
    define.number("momentum", None, "SGD's momentum.", "[0, 1)")
    define.number("weight_decay", None, "λ of the penalty λ/2 ‖θ‖² on the weights θ.", "[0, 1)")
