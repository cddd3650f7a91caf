"""Wide ResNets of any depth and width."""

import tf_keras as keras

from tf_tickets.errors import require
from tf_tickets.models.layers import SeededLayers, batch_norm, relu, scaled

# Larger ones would take longer to build than anybody waits.
_DEEPEST, _WIDEST = 1000, 64


def require_depth(depth: int, widen_factor: int, flag: str = "models") -> None:
    """Checks that three stages of equally many blocks make up the depth.

    Args:
      depth, widen_factor: the network's.
      flag: the flag that errors name.

    Raises:
      UserError: the depth is not 6n + 4 with n at least 1, or the network is too large.
    """
    name = f"wide_resnet_{depth}_{widen_factor}"
    expected = "a depth of 6n + 4, such as 10, 16 or 28"
    require(depth >= 10 and depth % 6 == 4, flag, name, expected)
    expected = f"a depth of at most {_DEEPEST} and a width of at most {_WIDEST}"
    require(depth <= _DEEPEST and widen_factor <= _WIDEST, flag, name, expected)


def wide_resnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
    *,
    depth: int,
    widen_factor: int,
) -> keras.Model:
    """Builds a Wide ResNet, such as WRN-34-10 with 46,160,474 parameters for CIFAR-10.

    Zagoruyko and Komodakis (arXiv:1605.07146) without dropout, as TRADES (arXiv:1901.08573)
    uses it: three stages of (depth - 4) / 6 pre-activation blocks with 16, 32 and 64 times
    `widen_factor` filters. A block that changes the number of channels has a 1x1 convolution
    without BatchNorm as its shortcut, which reads the activated input.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats.
      num_classes: size of the output.
      seed: decides the initial weights (see `SeededLayers`).
      width_multiplier: scales the numbers of filters, the stem's too.
      depth: number of layers, 6n + 4.
      widen_factor: scales the numbers of the stages' filters, but not of the stem's.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.

    Raises:
      UserError: the depth is not 6n + 4 with n at least 1.
    """
    require_depth(depth, widen_factor)
    layers = SeededLayers(seed)
    image = keras.layers.Input(image_shape, name="image")

    x = layers.convolution(scaled(16, width_multiplier), 3, "stem/conv")(image)

    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 4) // 6 + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            # Not asked of x itself, which may be as narrow as its successor after scaling.
            new_shape = block == 1 and (stage > 1 or widen_factor > 1)
            width = scaled(filters * widen_factor, width_multiplier)
            x = _block(layers, x, width, stride, new_shape, f"stage_{stage}/block_{block}")

    x = batch_norm("norm")(x)
    x = relu("relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.dense(num_classes, "logits")(x)
    return keras.Model(image, logits, name=f"wide_resnet_{depth}_{widen_factor}")


def _block(layers, x, filters, stride, new_shape, name):
    """BatchNorm and ReLU before each of two convolutions, beside a shortcut."""
    shortcut = x
    x = batch_norm(f"{name}/norm_1")(x)
    x = relu(f"{name}/relu_1")(x)
    if new_shape:
        shortcut = layers.convolution(filters, 1, f"{name}/shortcut_conv", stride)(x)
    x = layers.convolution(filters, 3, f"{name}/conv_1", stride)(x)
    x = batch_norm(f"{name}/norm_2")(x)
    x = relu(f"{name}/relu_2")(x)
    x = layers.convolution(filters, 3, f"{name}/conv_2")(x)
    return keras.layers.Add(name=f"{name}/sum")([x, shortcut])
