"""The seeded layers that all convolutional networks here are built of."""

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
    arXiv:1810.05270) and of Wide ResNets (TRADES, arXiv:1901.08573); the fan-out of a depthwise
    convolution is k². Dense kernels start from Glorot's uniform distribution, biases from 0, and
    BatchNorm from the identity.

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
            kernel_initializer=self._he_normal(),
            name=name,
        )
        return layer if same or not padding else _padded(layer)

    def depthwise(self, size: int, name: str, stride: int = 1) -> Callable[[tf.Tensor], tf.Tensor]:
        """A square convolution of each channel by itself, without biases, as a function.

        Args:
          size: height and width of the kernel, odd.
          name: the layer's.
          stride: step in both directions; the padding is that of `convolution`.
        """
        layer = keras.layers.DepthwiseConv2D(
            size,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            depthwise_initializer=self._he_normal(),
            name=name,
        )
        return layer if stride == 1 else _padded(layer)

    def dense(self, units: int, name: str) -> keras.layers.Layer:
        """A dense layer with biases and no activation."""
        return keras.layers.Dense(
            units,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self._next_seed()),
            name=name,
        )

    def _he_normal(self):
        return keras.initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal", seed=self._next_seed()
        )

    def _next_seed(self):
        return self._seeds.spawn(1)[0].generate_state(1).item()


def _padded(layer):
    """The layer after zeros on every side, as many as its windows reach beyond their centres."""
    margin = layer.kernel_size[0] // 2
    if margin == 0:
        return layer
    pad = keras.layers.ZeroPadding2D(margin, name=f"{layer.name}_padding")
    return lambda images: layer(pad(images))


def batch_norm(name: str) -> keras.layers.Layer:
    """BatchNorm with PyTorch's constants: its momentum of 0.1 is Keras' 0.9.

    Built for several replicas it normalizes by the statistics of the whole batch, so that a
    network learns the same on one device and on many. (Keras does that without its fused
    kernel, which is why one device has it otherwise.)
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=replicas > 1, name=name
    )


def relu(name: str) -> keras.layers.Layer:
    """ReLU as a layer of its own, so that a convolution and BatchNorm can be folded into one."""
    return keras.layers.ReLU(name=name)


def relu_6(name: str) -> keras.layers.Layer:
    """min(max(x, 0), 6), as a layer of its own too."""
    return keras.layers.ReLU(max_value=6.0, name=name)
