"""ResNet-50 as the public pre-trained weights have it, of any width."""

import tf_keras as keras

from tf_tickets.models.layers import SeededLayers, batch_norm, relu, scaled

# Per channel of RGB images in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_FILTERS = (64, 128, 256, 512)
_BLOCKS = (3, 4, 6, 3)
# How many times as many filters a block's last convolution has.
_EXPANSION = 4


def bottleneck_resnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
    *,
    name: str,
    strided_conv: int,
) -> keras.Model:
    """Builds ResNet-50: 25,557,032 trainable parameters for ImageNet's 1000 classes.

    He et al. (arXiv:1512.03385) with their stem for ImageNet, which leaves a quarter of an
    image's height and width to the first stage. No convolution has biases, and the padding is
    PyTorch's: equally many zeros on all sides.

    The first layer, `normalize`, subtracts a mean from each channel and divides by a standard
    deviation: ImageNet's for images of three channels, 0 and 1 for others. They are weights,
    `normalize/moving_mean` and (squared) `normalize/moving_variance`, that no training changes.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats.
      num_classes: size of the output.
      seed: decides the initial weights (see `SeededLayers`).
      width_multiplier: scales the numbers of filters.
      name: the model's.
      strided_conv: the convolution with the stride of 2 in the first block of a stage: 1 in He
        et al. and in Keras' applications, 2 in torchvision ("v1.5").

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.
    """
    layers = SeededLayers(seed)
    filters = [scaled(count, width_multiplier) for count in _FILTERS]
    image = keras.layers.Input(image_shape, name="image")

    x = _normalization(image_shape[-1])(image)
    x = layers.convolution(filters[0], 7, "stem/conv", stride=2)(x)
    x = batch_norm("stem/norm")(x)
    x = relu("stem/relu")(x)
    # Nothing is below 0 here, so that zeros around the image do not change a maximum.
    x = keras.layers.ZeroPadding2D(1, name="stem/pool_padding")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="stem/pool")(x)

    for stage, blocks in enumerate(_BLOCKS, start=1):
        for block in range(1, blocks + 1):
            strides = [1, 1, 1]
            if stage > 1 and block == 1:
                strides[strided_conv - 1] = 2
            x = _block(layers, x, filters[stage - 1], strides, f"stage_{stage}/block_{block}")

    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = layers.dense(num_classes, "logits")(x)
    return keras.Model(image, logits, name=name)


def _normalization(channels):
    """(x - mean) / standard deviation, as a BatchNorm that is frozen in inference mode.

    Every tool for networks of Keras knows that layer, and its constants are weights, which
    Keras' own `Normalization` reads only once.
    """
    mean, std = [0.0] * channels, [1.0] * channels
    if channels == 3:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return keras.layers.BatchNormalization(
        epsilon=0.0,
        center=False,
        scale=False,
        moving_mean_initializer=keras.initializers.Constant(mean),
        moving_variance_initializer=keras.initializers.Constant([each**2 for each in std]),
        trainable=False,
        name="normalize",
    )


def _block(layers, x, filters, strides, name):
    """Three convolutions, each with BatchNorm, beside a shortcut; ReLU after the sum."""
    shortcut = x
    if name.endswith("block_1"):
        shortcut = layers.convolution(
            _EXPANSION * filters, 1, f"{name}/shortcut_conv", max(strides)
        )(x)
        shortcut = batch_norm(f"{name}/shortcut_norm")(shortcut)

    x = layers.convolution(filters, 1, f"{name}/conv_1", strides[0])(x)
    x = batch_norm(f"{name}/norm_1")(x)
    x = relu(f"{name}/relu_1")(x)
    x = layers.convolution(filters, 3, f"{name}/conv_2", strides[1])(x)
    x = batch_norm(f"{name}/norm_2")(x)
    x = relu(f"{name}/relu_2")(x)
    x = layers.convolution(_EXPANSION * filters, 1, f"{name}/conv_3", strides[2])(x)
    x = batch_norm(f"{name}/norm_3")(x)

    x = keras.layers.Add(name=f"{name}/sum")([x, shortcut])
    return relu(f"{name}/relu_3")(x)
