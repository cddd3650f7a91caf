"""A ticket's masks over the dense layers inside transformers, held by TF-MOT's wrappers."""

from collections.abc import Mapping

import tf_keras as keras

from tf_tickets.masking.weight_masks import WeightMasks


class TransformerMasks(WeightMasks):
    """Masks over the kernels of given layers, which need not be layers of a model's own graph.

    Args:
      layers: name → built layer with a `kernel`, such as `BertClassifier.masked_layers`.

    Raises:
      ValueError: two kernels of the same path.
    """

    def __init__(self, layers: Mapping[str, keras.layers.Layer]):
        super().__init__(layers)
        if len(self.weights) < len(layers):
            raise ValueError(f"{len(layers)} layers have {len(self.weights)} paths of kernels")

    def _masked_layers(self, layers):
        for layer in layers.values():
            # TF-MOT asks the layers that it does not know, such as EinsumDense, what to prune.
            layer.get_prunable_weights = lambda layer=layer: [layer.kernel]
        return list(layers.values())

    def _norm_channels(self, layers):
        return []
