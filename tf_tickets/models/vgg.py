"""VGG-16 for images of CIFAR's size."""

import tf_keras as keras

from tf_tickets.models.layers import SeededLayers, batch_norm, relu, scaled

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg_16(
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
) -> keras.Model:
    """Builds VGG-16 with BatchNorm: 14,987,722 trainable parameters for CIFAR-10.

    The variant of "Rethinking the Value of Network Pruning" (arXiv:1810.05270): 13 convolutions
    of 3x3 without biases, in stages that end in a 2x2 max pooling, the last in a 2x2 average
    pooling; then one hidden layer of 512 units with BatchNorm. "Boosting Ticket" (table 4)
    counts 29,975,444 parameters, which is exactly twice as many.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats; at least 32x32.
      num_classes: size of the output.
      seed: decides the initial weights (see `SeededLayers`).
      width_multiplier: scales the numbers of filters and of hidden units.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.
    """
    layers = SeededLayers(seed)
    image = x = keras.layers.Input(image_shape, name="image")

    for stage, stage_filters in enumerate(_STAGES, start=1):
        for number, filters in enumerate(stage_filters, start=1):
            filters = scaled(filters, width_multiplier)
            x = layers.convolution(filters, 3, f"stage_{stage}/conv_{number}")(x)
            x = batch_norm(f"stage_{stage}/norm_{number}")(x)
            x = relu(f"stage_{stage}/relu_{number}")(x)
        last = stage == len(_STAGES)
        pooling = keras.layers.AveragePooling2D if last else keras.layers.MaxPooling2D
        x = pooling(2, name=f"stage_{stage}/pool")(x)

    x = keras.layers.Flatten(name="flatten")(x)
    x = layers.dense(scaled(512, width_multiplier), "hidden")(x)
    x = batch_norm("hidden_norm")(x)
    x = relu("hidden_relu")(x)
    logits = layers.dense(num_classes, "logits")(x)
    return keras.Model(image, logits, name="vgg_16")
