"""Residual networks for images of CIFAR's size."""

import tf_keras as keras

from tf_tickets.models.layers import SeededLayers, batch_norm, relu, scaled


def resnet_18(
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
) -> keras.Model:
    """Builds ResNet-18: 11,173,962 trainable parameters for CIFAR-10.

    He et al. (arXiv:1512.03385) with the stem usual for small images: one 3x3 convolution and
    no pooling. Four stages of two blocks have 64, 128, 256 and 512 filters; a shortcut that
    changes shape is a 1x1 convolution with BatchNorm.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats.
      num_classes: size of the output.
      seed: decides the initial weights (see `SeededLayers`).
      width_multiplier: scales the numbers of filters.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.
    """
    stages = [scaled(filters, width_multiplier) for filters in (64, 128, 256, 512)]
    return _resnet(image_shape, num_classes, seed, stages, 2, "resnet_18")


def cifar_resnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
    *,
    depth: int,
) -> keras.Model:
    """Builds a ResNet for CIFAR, such as ResNet-20 with 272,474 parameters for CIFAR-10.

    He et al. (arXiv:1512.03385, section 4.2): a 3x3 convolution of 16 filters, then three
    stages of (depth - 2) / 6 blocks with 16, 32 and 64 filters. A shortcut that changes shape
    is a 1x1 convolution with BatchNorm (their option B), as in the deeper ResNets; their own
    networks for CIFAR pad with zeros there (option A), which saves 2,752 parameters.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats.
      num_classes: size of the output.
      seed: decides the initial weights (see `SeededLayers`).
      width_multiplier: scales the numbers of filters.
      depth: number of layers, 6n + 2, such as 20, 32, 44 or 56.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.
    """
    stages = [scaled(filters, width_multiplier) for filters in (16, 32, 64)]
    blocks = (depth - 2) // 6
    return _resnet(image_shape, num_classes, seed, stages, blocks, f"resnet_{depth}")


def _resnet(image_shape, num_classes, seed, stages, blocks, name):
    """A stem as wide as the first stage, stages of equally many blocks, and a dense layer."""
    layers = SeededLayers(seed)
    image = keras.layers.Input(image_shape, name="image")

    x = layers.convolution(stages[0], 3, "stem/conv")(image)
    x = batch_norm("stem/norm")(x)
    x = relu("stem/relu")(x)

    for stage, filters in enumerate(stages, start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _block(layers, x, filters, stride, f"stage_{stage}/block_{block}")

    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.dense(num_classes, "logits")(x)
    return keras.Model(image, logits, name=name)


def _block(layers, x, filters, stride, name):
    """Two convolutions, each with BatchNorm, beside a shortcut; ReLU after the sum."""
    shortcut = x
    if stride > 1:
        shortcut = layers.convolution(filters, 1, f"{name}/shortcut_conv", stride)(x)
        shortcut = batch_norm(f"{name}/shortcut_norm")(shortcut)
    x = layers.convolution(filters, 3, f"{name}/conv_1", stride)(x)
    x = batch_norm(f"{name}/norm_1")(x)
    x = relu(f"{name}/relu_1")(x)
    x = layers.convolution(filters, 3, f"{name}/conv_2")(x)
    x = batch_norm(f"{name}/norm_2")(x)
    x = keras.layers.Add(name=f"{name}/sum")([x, shortcut])
    return relu(f"{name}/relu_2")(x)
