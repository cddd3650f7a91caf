"""ResNet-50 of Keras' applications."""

import numpy as np
import tf_keras as keras

from tf_tickets.errors import require


def resnet_50(
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    width_multiplier: float = 1.0,
) -> keras.Model:
    """Builds `keras.applications.ResNet50`: 25,583,592 trainable parameters for ImageNet.

    He et al. (arXiv:1512.03385) with their stem for ImageNet, which leaves a quarter of an
    image's height and width to the first stage.

    Args:
      image_shape: height, width and channels of the images, `[0, 1]` floats; at least 32x32.
      num_classes: size of the output.
      seed: decides the initial weights: Glorot's uniform distribution for every kernel.
      width_multiplier: 1; this network has one width only.

    Returns:
      A model from images `[batch, *image_shape]` to logits `[batch, num_classes]`, with the
      applications' layer names, such as `conv2_block1_1_conv`.

    Raises:
      UserError: another `width_multiplier`.
    """
    require(width_multiplier == 1, "width_multiplier", width_multiplier, "1 for resnet_50")
    seeds = np.random.SeedSequence(seed)

    class SeededGlorotUniform:
        """Stands for Keras' default initializer, so that no layer draws from global state."""

        @staticmethod
        def from_config(config):
            next_seed = seeds.spawn(1)[0].generate_state(1).item()
            return keras.initializers.GlorotUniform(seed=next_seed)

    with keras.utils.custom_object_scope({"glorot_uniform": SeededGlorotUniform}):
        model = keras.applications.ResNet50(
            weights=None,
            input_shape=image_shape,
            input_tensor=keras.layers.Input(image_shape, name="image"),
            classes=num_classes,
            classifier_activation=None,
        )
    return keras.Model(model.input, model.output, name="resnet_50")
