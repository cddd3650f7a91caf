"""LeNet-300-100, the multilayer perceptron of the lottery ticket papers."""

import numpy as np
import tf_keras as keras


def lenet_300_100(
    image_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10, seed: int = 0
) -> keras.Model:
    """Builds 784-300-100-10 with ReLU and no biases: 266,200 weights for MNIST.

    The initial distribution is the Glorot normal of Frankle and Carbin
    (arXiv:1803.03635), whose hyper-parameters "The Search for Sparse, Robust
    Neural Networks" (section 4.2) adopts.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats.
      num_classes: size of the output.
      seed: decides the initial weights.

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
            dense(300, "relu", "hidden_1"),
            dense(100, "relu", "hidden_2"),
            dense(num_classes, None, "logits"),
        ],
        name="lenet_300_100",
    )
