"""MobileNetV2 for images of CIFAR's size."""

import tf_keras as keras

from tf_tickets.models.layers import SeededLayers, batch_norm, relu_6, scaled

# Table 2 of the paper: expansion t, filters c, blocks n and stride s of each stage. There the
# second stage has stride 2, as has the stem; small images keep their size until the third.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
) -> keras.Model:
    """Builds MobileNetV2: 2,236,682 trainable parameters for CIFAR-10.

    Sandler et al. (arXiv:1801.04381) with stride 1 in the stem and in the second stage, as usual
    for small images, and without dropout. As in the paper (section 3.3), a block has a shortcut
    only if input and output have the same shape, and no expansion if t = 1.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats.
      num_classes: size of the output.
      seed: decides the initial weights (see `SeededLayers`).
      width_multiplier: scales the numbers of filters, those of the last convolution too.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.
    """
    layers = SeededLayers(seed)
    image = keras.layers.Input(image_shape, name="image")

    channels = 32
    x = layers.convolution(scaled(channels, width_multiplier), 3, "stem/conv")(image)
    x = batch_norm("stem/norm")(x)
    x = relu_6("stem/relu")(x)

    for stage, (expansion, filters, blocks, stage_stride) in enumerate(_STAGES, start=1):
        for block in range(1, blocks + 1):
            name, first = f"stage_{stage}/block_{block}", block == 1
            hidden = scaled(expansion * channels, width_multiplier) if expansion > 1 else None
            width = scaled(filters, width_multiplier)
            y = _block(layers, x, hidden, width, stage_stride if first else 1, name)
            # Every stage changes the number of channels, though scaling may make two the same.
            x = y if first else keras.layers.Add(name=f"{name}/sum")([y, x])
            channels = filters

    x = layers.convolution(scaled(1280, width_multiplier), 1, "last/conv")(x)
    x = batch_norm("last/norm")(x)
    x = relu_6("last/relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.dense(num_classes, "logits")(x)
    return keras.Model(image, logits, name="mobilenet_v2")


def _block(layers, x, hidden, filters, stride, name):
    """Expands to `hidden` channels unless None, filters each of them, and projects linearly."""
    if hidden is not None:
        x = layers.convolution(hidden, 1, f"{name}/expand_conv")(x)
        x = batch_norm(f"{name}/expand_norm")(x)
        x = relu_6(f"{name}/expand_relu")(x)
    x = layers.depthwise(3, f"{name}/depthwise_conv", stride)(x)
    x = batch_norm(f"{name}/depthwise_norm")(x)
    x = relu_6(f"{name}/depthwise_relu")(x)
    x = layers.convolution(filters, 1, f"{name}/project_conv")(x)
    return batch_norm(f"{name}/project_norm")(x)
