"""What structured pruning makes of the networks of tf_keras.applications.

    python -m benchmarks.applications --networks=MobileNetV2,ResNet50

Prints a table as Markdown. Each network has random weights, BatchNorm's too, and loses a share
of the filters of every layer by ℓ1-norm. "Difference" is the largest between its logits and
those of the whole network in which the channels of the same filters are zeros wherever they are
mixed with others, relative to the largest logit. Nothing is downloaded.
"""

import experiments  # noqa: F401  (silences TensorFlow's start)

# isort: split
import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import app, flags

from tf_tickets.analysis.markdown import markdown_table
from tf_tickets.errors import UserError
from tf_tickets.models.folding import FoldedNetwork
from tf_tickets.structured.channels import ChannelMap, channels_of, mixing_reads
from tf_tickets.structured.cost import flops, parameters
from tf_tickets.structured.selection import Cut, choose_removal
from tf_tickets.structured.surgery import Removal, remove

_OLDEST = ("VGG16", "VGG19", "InceptionV3", "InceptionResNetV2", "Xception")
# The networks, each with the side of its images: the smallest that suits all of its family.
SIDES = {
    name: 96 if name in _OLDEST or name.startswith("NASNet") else 64
    for name in sorted(vars(keras.applications))
    if callable(vars(keras.applications)[name]) and name[0].isupper()
} | {"NASNetLarge": 96}

flags.DEFINE_list("networks", list(SIDES), "Which networks, with commas.")
flags.DEFINE_float("filters", 0.3, "Share of the filters that every layer loses.", 0, 0.9)
flags.DEFINE_enum("precision", "float32", ("float32", "float64"), "Of the weights.")
flags.DEFINE_integer("side", 0, "Of the images; 0: a small one that suits the network.", 0)

_IMAGES = 2
_MAY_GO = "layers that may lose filters, of all"
_HEADINGS = (
    *("network", "images", _MAY_GO, "parameters", "FLOPs"),
    *("difference", "left alone"),
)


def network(name: str, side: int) -> keras.Model:
    """The network with random weights under which activations keep their size."""
    keras.utils.set_random_seed(0)
    arguments = {"weights": None, "input_shape": (side, side, 3), "classes": 10}
    model = vars(keras.applications)[name](classifier_activation=None, **arguments)
    generator = np.random.default_rng(0)
    for weight in model.weights:
        kind = weight.name.split("/")[-1].split(":")[0]
        if kind in ("gamma", "moving_variance"):
            weight.assign(generator.uniform(0.8, 1.2, weight.shape))
        elif kind in ("beta", "bias", "moving_mean"):
            weight.assign(generator.normal(0, 0.1, weight.shape))
    return model


def zeroed_logits(
    model: keras.Model, channels: ChannelMap, removal: Removal, images: tf.Tensor
) -> np.ndarray:
    """The whole network's logits with zeros for the filters wherever they are mixed."""
    kept = {}
    for name, indices in removal.filters.items():
        for index, position, carried in mixing_reads(channels, name):
            mask = kept.setdefault((index, position), np.ones(len(carried), images.dtype.name))
            # Of filters that go together a channel carries the first.
            units = channels.filters[name]
            gone = np.isin(units, units[list(indices)])
            mask[(carried >= 0) & gone[carried]] = 0

    def zero(index, tensors):
        return [tensor * kept.get((index, place), 1.0) for place, tensor in enumerate(tensors)]

    output = channels.graph.output
    return FoldedNetwork(model).fixed_tensors()(images, zero)[output].numpy()


def row(name: str, side: int, share: float) -> dict[str, str]:
    """A network's row of the table: heading → cell."""
    found = {"network": name, "images": f"{side}×{side}"}
    try:
        model = network(name, side)
        channels = channels_of(model)
        removal, _ = choose_removal(model, Cut("l1", share, 0, "layerwise"), None)
        smaller = remove(model, removal)
    except (UserError, ValueError) as error:
        return found | {"left alone": str(error).splitlines()[0]}
    images = np.random.default_rng(1).random((_IMAGES, side, side, 3))
    images = tf.constant(images, keras.backend.floatx())
    expected = zeroed_logits(model, channels, removal, images)
    actual = smaller(images, training=False).numpy()
    difference = np.max(np.abs(actual - expected)) / np.max(np.abs(expected))
    every = {call.name for call in channels.graph.calls if _makes_filters(call.layer)}
    return found | {
        _MAY_GO: f"{len(channels.filters)} of {len(every)}",
        "parameters": _change(parameters, model, smaller),
        "FLOPs": _change(flops, model, smaller),
        "difference": f"{difference:.0e}",
        "left alone": _in_a_line(channels.left_alone),
    }


def _makes_filters(layer):
    kinds = (keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.Dense)
    return isinstance(layer, kinds) and not isinstance(layer, keras.layers.DepthwiseConv2D)


def _change(cost, model, smaller):
    return f"{cost(smaller) / cost(model) - 1:+.1%}"


def _in_a_line(left_alone):
    """The first layer with its reason, and how many more there are."""
    (name, why), *more = left_alone.items()
    return f"{name}: {why}" + (f"; {len(more)} more" if more else "")


def main(_):
    """Prints the table, a network after the other on the way."""
    unknown = [name for name in flags.FLAGS.networks if name not in SIDES]
    if unknown:
        raise app.UsageError(f"--networks={unknown[0]}: expected some of {', '.join(SIDES)}")
    keras.backend.set_floatx(flags.FLAGS.precision)
    rows = {}
    for name in flags.FLAGS.networks:
        rows[name] = row(name, flags.FLAGS.side or SIDES[name], flags.FLAGS.filters)
        print(*rows[name].values(), sep=" | ", flush=True)
    columns = [
        (heading, {name: cells.get(heading, "") for name, cells in rows.items()})
        for heading in _HEADINGS
    ]
    print("\n" + markdown_table(columns, list(rows)))


if __name__ == "__main__":
    app.run(main)
