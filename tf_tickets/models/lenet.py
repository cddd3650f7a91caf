"""The LeNets."""

import numpy as np
import tf_keras as keras

from tf_tickets.models.layers import SeededLayers, relu, scaled


def lenet_300_100(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    num_classes: int = 10,
    seed: int = 0,
    width_multiplier: float = 1.0,
) -> keras.Model:
    """Builds 784-300-100-10 with ReLU and no biases: 266,200 weights for MNIST.

    The initial distribution is the Glorot normal of Frankle and Carbin
    (arXiv:1803.03635), whose hyper-parameters "The Search for Sparse, Robust
    Neural Networks" (section 4.2) adopts.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats.
      num_classes: size of the output.
      seed: decides the initial weights.
      width_multiplier: scales the hidden layers' numbers of units.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`
      with layers `hidden_1`, `hidden_2` and `logits`.
    """
    seeds = np.random.SeedSequence(seed).generate_state(3).tolist()

    def dense(units, activation, name):
        return keras.layers.Dense(
            units,
            activation=activation,
            use_bias=False,
            kernel_initializer=keras.initializers.GlorotNormal(seed=seeds.pop(0)),
            name=name,
        )

    return keras.Sequential(
        [
            keras.layers.Input(image_shape, name="image"),
            keras.layers.Flatten(name="flatten"),
            dense(scaled(300, width_multiplier), "relu", "hidden_1"),
            dense(scaled(100, width_multiplier), "relu", "hidden_2"),
            dense(num_classes, None, "logits"),
        ],
        name="lenet_300_100",
    )


def lenet_conv(
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
) -> keras.Model:
    """Builds LeNet with two convolutional and two dense layers: 431,080 parameters for MNIST.

    "Boosting Ticket" (appendix C) trains such a network on MNIST without naming its sizes.
    These, 20 and 50 filters of 5x5 without padding and 500 hidden units, are Caffe's LeNet, the
    LeNet-5 of the pruning literature since Han et al. (arXiv:1506.02626, table 1: 431K
    parameters). Unlike Caffe's, it has a ReLU after each convolution too.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats; at least 16x16.
      num_classes: size of the output.
      seed: decides the initial weights (see `SeededLayers`).
      width_multiplier: scales the numbers of filters and of hidden units.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`.
    """
    layers = SeededLayers(seed)
    image = x = keras.layers.Input(image_shape, name="image")

    for number, filters in enumerate((20, 50), start=1):
        filters = scaled(filters, width_multiplier)
        x = layers.convolution(filters, 5, f"conv_{number}", bias=True, padding=False)(x)
        x = relu(f"relu_{number}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool_{number}")(x)

    x = keras.layers.Flatten(name="flatten")(x)
    x = layers.dense(scaled(500, width_multiplier), "hidden")(x)
    x = relu("hidden_relu")(x)
    logits = layers.dense(num_classes, "logits")(x)
    return keras.Model(image, logits, name="lenet_conv")
