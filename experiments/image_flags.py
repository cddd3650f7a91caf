"""The flags that drivers of convolutional networks share: their data, networks and optimizer."""

from absl import flags

from tf_tickets.data.specs import DATA_SETS
from tf_tickets.models.registry import MODELS

flags.DEFINE_string(
    "data_set",
    None,
    f"What to train on: {', '.join(DATA_SETS)}, or some classes of it, as cifar10_classes_0_4.",
)
flags.DEFINE_integer("image_size", None, "Images are padded to this size; 0 leaves them.")
flags.DEFINE_integer("train_examples", None, "Training images, as many of each class; 0 for all.")
flags.DEFINE_integer(
    "validation_examples", None, "Validation images, as many of each class; 0 for all."
)
flags.DEFINE_integer("test_examples", None, "Test images, as many of each class; 0 for all.")
flags.DEFINE_list(
    "models",
    None,
    f"Any of {', '.join(MODELS)}, wide_resnet_<depth>_<width>; the paper's if empty.",
)
flags.DEFINE_float("width_multiplier", None, "Scales the channels of every network.")
flags.DEFINE_float("learning_rate", None, "SGD's learning rate, at its highest.")
flags.DEFINE_float("momentum", None, "SGD's momentum.")
flags.DEFINE_float("weight_decay", None, "λ of the penalty λ/2 ‖θ‖².")
