"""Random networks of all kinds of layers: removing is zeroing what goes together, as measured."""

import numpy as np
import pytest
import tf_keras as keras

from tests.structured.kinds_test import check, gate_of, randomised

layers = keras.layers

WIDTHS = (4, 6, 8)


class RandomNetwork:
    """Grows a network, layer by layer, from maps of one size."""

    def __init__(self, seed: int, steps: int = 8):
        keras.backend.clear_session()
        self.random = np.random.default_rng(seed)
        self.count, self.known = 0, {"by_group": [], "by_share": []}
        image = layers.Input((5, 5, 2))
        self.maps = [self.convolution(image)]
        growths = (
            *(self.convolution, self.separable, self.transposed, self.grouped, self.shared),
            *(self.depthwise, self.passing, self.norm, self.scalars, self.gate, self.inner),
            *(self.added, self.added, self.beside, self.dense),
        )
        for _ in range(steps):
            self.maps.append(self.choose(growths)(self.choose(self.maps[-3:])))
        ends = [layers.GlobalAveragePooling2D()(maps) for maps in self.maps[-2:]]
        logits = layers.Dense(3, name="head")(layers.Concatenate()(ends))
        self.model = randomised(keras.Model(image, logits), seed)

    def choose(self, options):
        return options[self.random.integers(len(options))]

    def name(self, kind):
        self.count += 1
        return f"{kind}_{self.count}"

    def convolution(self, x):
        name, options = self.name("conv"), {"padding": "same"}
        options["activation"] = self.choose(["relu", None, layers.LeakyReLU(0.2), "tanh"])
        return layers.Conv2D(self.choose(WIDTHS), 3, name=name, **options)(x)

    def dense(self, x):
        return layers.Dense(self.choose(WIDTHS), activation="gelu", name=self.name("dense"))(x)

    def separable(self, x):
        options = {"padding": "same", "depth_multiplier": self.choose([1, 2])}
        name = self.name("separable")
        return layers.SeparableConv2D(self.choose(WIDTHS), 3, name=name, **options)(x)

    def transposed(self, x):
        name = self.name("transposed")
        return layers.Conv2DTranspose(self.choose(WIDTHS), 3, padding="same", name=name)(x)

    def grouped(self, x):
        """Four groups of two, which go whole."""
        x = layers.Conv2D(8, 1, name=self.name("into"))(x)
        name = self.name("grouped")
        self.known["by_group"].append(name)
        return layers.Conv2D(8, 3, groups=4, padding="same", name=name)(x)

    def shared(self, x):
        """Two groups of four, of which the same goes."""
        x = layers.Conv2D(8, 1, name=self.name("into"))(x)
        name = self.name("grouped")
        self.known["by_share"].append(name)
        return layers.Conv2D(8, 3, groups=2, padding="same", name=name)(x)

    def depthwise(self, x):
        multiplier = self.choose([1, 2]) if x.shape[-1] < 8 else 1
        return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)(x)

    def passing(self, x):
        return self.choose(
            [
                layers.ReLU(),
                layers.Activation("swish"),
                layers.PReLU(),
                layers.MaxPooling2D(3, 1, padding="same"),
                layers.Dropout(0.5, noise_shape=(None, 1, 1, x.shape[-1])),
            ]
        )(x)

    def norm(self, x):
        return self.choose([layers.BatchNormalization(), layers.GroupNormalization(2)])(x)

    def scalars(self, x):
        return self.choose([lambda: x * layers.ReLU(6.0)(x + 3.0) / 6.0, lambda: 0.5 - x * 2.0])()

    def gate(self, x):
        return layers.Multiply()([x, gate_of(x, x.shape[-1], self.name("gate"))])

    def added(self, x):
        """Something as wide is added, of what there is or made anew."""
        alike = [maps for maps in self.maps if maps.shape[-1] == x.shape[-1] and maps is not x]
        other = layers.Conv2D(x.shape[-1], 3, padding="same", name=self.name("branch"))(x)
        return self.choose([layers.Add(), layers.Maximum()])([x, self.choose([*alike, other])])

    def beside(self, x):
        other = self.choose(self.maps)
        if x.shape[-1] + other.shape[-1] > 12:
            return self.convolution(x)
        return layers.Concatenate()([x, other])

    def inner(self, x):
        """A model within the model."""
        image = layers.Input(x.shape[1:])
        name = self.name("within")
        y = layers.Conv2D(self.choose(WIDTHS), 1, name=name)(image)
        return keras.Model(image, layers.BatchNormalization()(y), name=f"model_{name}")(x)


@pytest.mark.parametrize("seed", range(4))
def test_removing_is_zeroing_what_goes_together(seed):
    network = RandomNetwork(seed)
    channels = check(network.model, network.known, most=2)
    assert len(channels.filters) >= 3
