"""The LeNets, and the seeded layers that all networks here are built of."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras


def scaled(units: int, width_multiplier: float) -> int:
    """Scales a number of channels or hidden units: rounded, and never less than 1."""
    return max(1, round(units * width_multiplier))


class SeededLayers:
    """Makes layers whose initial weights follow from one seed and the order of the calls.

    Convolutions start from He's normal distribution over the fan-out, N(0, 2 / (k² · channels
    out)), as in the PyTorch implementations of VGG ("Rethinking the Value of Network Pruning",
    arXiv:1810.05270) and of Wide ResNets (TRADES, arXiv:1901.08573); dense kernels from Glorot's
    uniform one; biases from 0, and BatchNorm from the identity.

    Args:
      seed: non-negative int.
    """

    def __init__(self, seed: int):
        self._seeds = np.random.SeedSequence(seed)

    def convolution(
        self,
        filters: int,
        size: int,
        name: str,
        stride: int = 1,
        bias: bool = False,
        padding: bool = True,
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """A square convolution, as a function from a tensor to a tensor.

        Args:
          filters: channels out.
          size: height and width of the kernel, odd.
          name: the layer's.
          stride: step in both directions.
          bias: whether to add one for each channel.
          padding: whether (size - 1) / 2 zeros lie around the image on every side. A strided
            convolution then centres its windows on the pixels that a strided 1x1 shortcut
            reads. Keras' own "same" padding would put them one pixel further.
        """
        same = padding and stride == 1
        layer = keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same" if same else "valid",
            use_bias=bias,
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, "fan_out", "untruncated_normal", seed=self._next_seed()
            ),
            name=name,
        )
        if same or not padding or size == 1:
            return layer
        pad = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_padding")
        return lambda images: layer(pad(images))

    def dense(self, units: int, name: str) -> keras.layers.Layer:
        """A dense layer with biases and no activation."""
        return keras.layers.Dense(
            units,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self._next_seed()),
            name=name,
        )

    def _next_seed(self):
        return self._seeds.spawn(1)[0].generate_state(1).item()


def batch_norm(name: str) -> keras.layers.Layer:
    """BatchNorm with PyTorch's constants: its momentum of 0.1 is Keras' 0.9."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


def relu(name: str) -> keras.layers.Layer:
    """ReLU as a layer of its own, so that a convolution and BatchNorm can be folded into one."""
    return keras.layers.ReLU(name=name)


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
