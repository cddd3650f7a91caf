"""The weights of transformers' BERT as those of keras-nlp's, and what a BERT is made of."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from tf_tickets.errors import UserError
from tf_tickets.models.weights import Weights, shape_problems

# Outside of the transformer layers.
_OUTER = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
    "pooled_dense": "pooler.dense",
}
# Within transformer_layer_<i>, which they call encoder.layer.<i>.
_INNER = {
    "self_attention_layer/query": "attention.self.query",
    "self_attention_layer/key": "attention.self.key",
    "self_attention_layer/value": "attention.self.value",
    "self_attention_layer/attention_output": "attention.output.dense",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "feedforward_layer_norm": "output.LayerNorm",
}
_VARIABLES = {
    "embeddings": "weight",
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
}

# What a file may hold besides: the heads of pre-training, and a buffer of older versions.
_IGNORED_PREFIX, _IGNORED_NAME = "cls.", "embeddings.position_ids"

CLASSIFIER = ("classifier.weight", "classifier.bias")
"""What a `BertForSequenceClassification` has besides, which is left out."""


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT, in keras-nlp's terms.

    Attributes:
      vocabulary_size: rows of the word embeddings.
      num_layers: transformer layers.
      num_heads: attention heads of a layer; they divide hidden_dim.
      hidden_dim: width of embeddings, hidden states and pooled output.
      intermediate_dim: width inside the feed-forward blocks.
      max_sequence_length: longest input, in tokens.
      num_segments: kinds of segment ids.
      exact_gelu: whether the feed-forward blocks' GELU is the exact one, with the error
        function, and not the approximation with tanh.
      initializer_range: standard deviation of new weights' truncated normal distribution.
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    max_sequence_length: int
    num_segments: int
    exact_gelu: bool
    initializer_range: float


def layer_path(index: int) -> str:
    """The first part of the paths of a transformer layer's weights; `index` starts at 0."""
    return f"transformer_layer_{index}"


def weight_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """Weight path → shape of keras-nlp's `BertBackbone`, in the order of its variables."""
    width, inner = config.hidden_dim, config.intermediate_dim
    heads = (config.num_heads, width // config.num_heads)
    norm = {"gamma": (width,), "beta": (width,)}
    head_dense = {"kernel": (width, *heads), "bias": heads}
    layer = {
        "self_attention_layer/query": head_dense,
        "self_attention_layer/key": head_dense,
        "self_attention_layer/value": head_dense,
        "self_attention_layer/attention_output": {"kernel": (*heads, width), "bias": (width,)},
        "self_attention_layer_norm": norm,
        "feedforward_layer_norm": norm,
        "feedforward_intermediate_dense": {"kernel": (width, inner), "bias": (inner,)},
        "feedforward_output_dense": {"kernel": (inner, width), "bias": (width,)},
    }
    layers = {
        "token_embedding": {"embeddings": (config.vocabulary_size, width)},
        "position_embedding": {"embeddings": (config.max_sequence_length, width)},
        "segment_embedding": {"embeddings": (config.num_segments, width)},
        "embeddings_layer_norm": norm,
        **{
            f"{layer_path(index)}/{name}": variables
            for index in range(config.num_layers)
            for name, variables in layer.items()
        },
        "pooled_dense": {"kernel": (width, width), "bias": (width,)},
    }
    return {
        f"{name}/{variable}": shape
        for name, variables in layers.items()
        for variable, shape in variables.items()
    }


def from_transformers(
    source: str, tensors: Mapping[str, np.ndarray], config: BertConfig
) -> Weights:
    """Converts the state dict of transformers' `BertModel`, alone or within a larger model.

    The names may start with `bert.`, and the weights of LayerNorm may be called gamma and beta.
    The heads of pre-training (`cls.`) and of classification (`CLASSIFIER`) are left out.

    Args:
      source: what the state dict was read from, for errors.
      tensors: name → array in PyTorch's layout, of any float type.
      config: what it should hold.

    Returns:
      Weight path → float32 array, as `weight_shapes` says.

    Raises:
      UserError: a weight is missing, superfluous or of another shape.
    """
    tensors = {
        _plain_name(name): array
        for name, array in tensors.items()
        if not name.startswith(_IGNORED_PREFIX)
    }
    for name in (_IGNORED_NAME, *CLASSIFIER):
        tensors.pop(name, None)
    shapes = weight_shapes(config)
    names = {path: _transformers_name(path) for path in shapes}
    expected = {names[path]: _pytorch_shape(path, shape) for path, shape in shapes.items()}
    _require_shapes(source, tensors, expected)
    arrays = {path: tensors[names[path]] for path in shapes}
    return {
        path: np.ascontiguousarray(
            # Embeddings are a matrix as well, but the same in both.
            (array.T if path.endswith("/kernel") else array).reshape(shapes[path]),
            np.float32,
        )
        for path, array in arrays.items()
    }


def _plain_name(name):
    """The name in a `BertModel` by itself, in today's words."""
    name = name.removeprefix("bert.")
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _transformers_name(path):
    """`encoder.layer.0.output.dense.bias` of `<layer_path(0)>/feedforward_output_dense/bias`."""
    layer, variable = path.rsplit("/", 1)
    if layer in _OUTER:
        return f"{_OUTER[layer]}.{_VARIABLES[variable]}"
    block, part = layer.split("/", 1)
    return f"encoder.layer.{block.rsplit('_', 1)[1]}.{_INNER[part]}.{_VARIABLES[variable]}"


def _pytorch_shape(path, shape):
    """PyTorch has a kernel's axes in the other order, and heads and their units as one axis."""
    if path.endswith("/embeddings"):
        return shape
    if not path.endswith("/kernel"):
        return (math.prod(shape),)
    inputs = math.prod(shape[:-1]) if "/attention_output/" in path else shape[0]
    return (math.prod(shape) // inputs, inputs)


def _require_shapes(source, tensors, expected):
    """Raises a `UserError` unless names and shapes are as expected."""
    missing = [name for name in expected if name not in tensors]
    if missing and all(name.startswith("pooler.") for name in missing):
        raise UserError(
            f"{source}: has no pooler (pooler.dense.weight and .bias), which the classifier stands "
            "on; give an encoder that was saved with it"
        )
    problems = shape_problems(tensors, expected)
    if problems:
        raise UserError(f"{source}: not the BERT of its config.json: {'; '.join(problems)}")
