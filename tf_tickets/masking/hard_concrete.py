"""Masks to be learned by gradients: the hard-concrete distribution over a layer's kernel.

"Robust Lottery Tickets for Pre-trained Language Models", section 3.2, after Louizos et al.,
"Learning sparse neural networks through L0 regularization" (2018).
"""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterable

import tensorflow as tf
import tf_keras as keras

from tf_tickets.masking.granularity import mask_shape
from tf_tickets.models.weights import weight_path

BETA = 2 / 3
GAMMA = -0.1
ZETA = 1.1
INITIAL_LOG_ALPHA = math.log(5.0)  # A gate of 0.9.


@dataclasses.dataclass(frozen=True)
class HardConcrete:
    """The hard-concrete distribution: on [0, 1], with mass on 0 and on 1.

    The functions take the locations `log_alpha`, float32 of any shape, and return float32 of the
    same shape.

    Attributes:
      beta: the temperature β > 0.
      gamma, zeta: the ends γ < 0 and ζ > 1 of the interval to which samples are stretched.
    """

    beta: float = BETA
    gamma: float = GAMMA
    zeta: float = ZETA

    def sample(self, log_alpha: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Equations 1 to 3.

        Args:
          log_alpha: the locations.
          noise: μ, uniform in (0, 1), of the same shape.
        """
        return self._stretch(log_alpha + tf.math.log(noise / (1.0 - noise)), self.beta)

    def gate(self, log_alpha: tf.Tensor) -> tf.Tensor:
        """The mask of inference, Equation 5."""
        return self._stretch(log_alpha, 1.0)

    def probability_nonzero(self, log_alpha: tf.Tensor) -> tf.Tensor:
        """P(m ≠ 0), the summand of Equation 4."""
        return tf.sigmoid(log_alpha - self.beta * math.log(-self.gamma / self.zeta))

    def probability_one(self, log_alpha: tf.Tensor) -> tf.Tensor:
        """P(m = 1), of s above (1 − γ) / (ζ − γ)."""
        return tf.sigmoid(log_alpha - self.beta * math.log((1.0 - self.gamma) / (self.zeta - 1.0)))

    def _stretch(self, location, temperature):
        """min(1, max(0, σ(location / temperature) (ζ − γ) + γ))."""

        @tf.custom_gradient
        def stretch(location):
            stretched = tf.sigmoid(location / temperature) * (self.zeta - self.gamma) + self.gamma
            mask = tf.clip_by_value(stretched, 0.0, 1.0)

            def gradient(upstream):
                # σ' = s (1 − s), from the mask, so that it is all that has to be kept.
                slope = (mask - self.gamma) * (self.zeta - mask)
                slope /= temperature * (self.zeta - self.gamma)
                return upstream * tf.where((mask > 0.0) & (mask < 1.0), slope, 0.0)

            return mask, gradient

        return stretch(tf.convert_to_tensor(location))


@keras.saving.register_keras_serializable("tf_tickets")
class HardConcreteMask(keras.layers.Wrapper):
    """A layer whose kernel is multiplied by masks: θ ⊙ m.

    In training every call draws the masks anew, the same for all replicas of a distribution
    strategy; otherwise they are the deterministic gates. Only `log_alpha` is trainable: the
    layer's own weights are frozen, and no gradient reaches them.

    It stands in for the layer wherever that is called, under the same name. Build it in the scope
    of the layer's distribution strategy. Wrapping a built layer makes `log_alpha` at once.

    Args:
      layer: any layer with a `kernel`.
      granularity: what shares a mask, see `granularity.mask_shape`.
      beta, gamma, zeta: see `HardConcrete`.
      seed: as of `reseed`.

    Attributes:
      layer: the wrapped layer.
      log_alpha: float32, of a shape that broadcasts to the kernel's.
      distribution: that of the masks.
      random_stream: what they are drawn from, for a checkpoint to hold where it stands. A
        checkpoint of a model with this layer holds it too.

    Raises:
      UserError: a granularity that the layer does not have.
      ValueError: a layer without a `kernel`.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        granularity: str = "weight",
        beta: float = BETA,
        gamma: float = GAMMA,
        zeta: float = ZETA,
        seed: int = 0,
        **options,
    ):
        super().__init__(layer, **{"name": layer.name, "dtype": layer.dtype_policy} | options)
        self.granularity = granularity
        self.distribution = HardConcrete(beta, gamma, zeta)
        self.random_stream = tf.random.Generator.from_seed(0)
        self._seed = seed
        if layer.built:
            self.build()

    def build(self, input_shape=None) -> None:
        """Makes `log_alpha`, and the layer's own weights where that is not built."""
        with tf.name_scope(f"{self.layer.name}/"):
            super().build(input_shape)
        if not hasattr(self.layer, "kernel"):
            raise ValueError(f"{self.layer.name} has no kernel to mask")
        # Next to the kernel, wherever that is.
        scope = weight_path(self.kernel).rpartition("/")[0] or self.name
        with tf.name_scope(f"{scope}/"):
            self.log_alpha = self.add_weight(
                "log_alpha",
                mask_shape(self.layer, self.granularity),
                tf.float32,
                keras.initializers.Constant(INITIAL_LOG_ALPHA),
                experimental_autocast=False,
            )
        self.reseed(self._seed)

    @property
    def kernel(self) -> tf.Variable:
        """The wrapped layer's, unmasked."""
        return self.layer.kernel

    @property
    def size(self) -> int:
        """Number of masks."""
        return self.log_alpha.shape.num_elements()

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """`log_alpha` alone, whatever the wrapped layer says of itself."""
        return [self.log_alpha] if self.built and self.trainable else []

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        """The wrapped layer's, all of them."""
        frozen = [self.log_alpha] if self.built and not self.trainable else []
        return frozen + self.layer.weights

    def reseed(self, seed: int) -> None:
        """Starts the samples over, from the same place for the same seed.

        Layers of different names draw different samples from one seed.
        """
        text = f"{seed} {weight_path(self.kernel)} {self.name}".encode()
        digest = hashlib.sha256(text).digest()
        self.random_stream.reset_from_seed(int.from_bytes(digest[:7], "big"))

    def sample(self) -> tf.Tensor:
        """Draws the masks, of `log_alpha`'s shape (Equations 1 to 3)."""
        # A generator's own numbers would differ between the replicas of a strategy.
        state = self.random_stream.skip(1)
        noise = tf.random.stateless_uniform(self.log_alpha.shape, tf.stack([state[2], state[0]]))
        # Multiples of 2⁻²³ from 0 on; half a step further they are neither 0 nor 1.
        return self.distribution.sample(self.log_alpha, noise + 2.0**-24)

    def gate(self) -> tf.Tensor:
        """The masks of inference, of `log_alpha`'s shape (Equation 5)."""
        return self.distribution.gate(self.log_alpha)

    def expected_l0(self) -> tf.Tensor:
        """The expected number of masks that are not zero, a scalar; of `size`."""
        return tf.reduce_sum(self.distribution.probability_nonzero(self.log_alpha))

    def call(self, inputs, training=None):
        """Calls the layer with the masked kernel."""
        mask = self.sample() if training else self.gate()
        weights = {
            name: tf.stop_gradient(value)
            for name, value in vars(self.layer).items()
            if isinstance(value, tf.Variable)
        }
        weights["kernel"] *= tf.cast(mask, weights["kernel"].dtype)
        with _replaced(self.layer, weights):
            return self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return super().get_config() | {
            "granularity": self.granularity,
            **dataclasses.asdict(self.distribution),
            "seed": self._seed,
        }


def mean_expected_l0(masks: Iterable[HardConcreteMask]) -> tf.Tensor:
    """R(m) of Equation 4: one mean over all masks of all layers, a scalar in [0, 1].

    Each mask counts once, however many weights it stands for.
    """
    masks = list(masks)
    return tf.add_n([mask.expected_l0() for mask in masks]) / sum(mask.size for mask in masks)


def wrap_layers(model: keras.Model, granularity: str = "weight", seed: int = 0) -> keras.Model:
    """A functional or sequential model's copy whose layers with a `kernel` are masked.

    Args:
      model: built; it stays as it is, and shares no weights with the copy.
      granularity, seed: see `HardConcreteMask`.

    Raises:
      UserError: as `HardConcreteMask`.
    """

    def copy(layer):
        fresh = type(layer).from_config(layer.get_config())
        if hasattr(layer, "kernel"):
            return HardConcreteMask(fresh, granularity, seed=seed)
        return fresh

    masked = keras.models.clone_model(model, clone_function=copy)
    for layer in masked.layers:
        original = model.get_layer(layer.name)
        unmasked = layer.layer if isinstance(layer, HardConcreteMask) else layer
        unmasked.set_weights(original.get_weights())
    return masked


@contextlib.contextmanager
def _replaced(layer, attributes):
    """Lets a layer find other values in its attributes, unseen by Keras' tracking of them."""
    originals = {name: vars(layer)[name] for name in attributes}
    vars(layer).update(attributes)
    try:
        yield
    finally:
        vars(layer).update(originals)
