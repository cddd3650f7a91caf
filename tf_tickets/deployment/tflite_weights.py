"""The weights that a TFLite file stores, read from its flatbuffer."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
}


def stored_weights(content: bytes) -> list[np.ndarray]:
    """All constants of a TFLite file with two or more axes, but those of integer arithmetic.

    Args:
      content: of a file that LiteRT's interpreter accepts.

    Returns:
      Arrays in TFLite's layout (outputs first), sparse ones with their zeros. float16 ones are
      float16; int8 ones are float32, dequantized, so that a weight that is stored as zero is 0.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    weights = []
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        data = model.buffers[tensor.buffer].data
        if data is None or tensor.type not in _DTYPES or len(tensor.shape) < 2:
            continue
        values = np.asarray(data, np.uint8).view(_DTYPES[tensor.type])
        if tensor.sparsity is None:
            values = values.reshape(tensor.shape)
        else:
            values = _densify(values, tensor.shape, tensor.sparsity)
        weights.append(_dequantize(values, tensor.quantization))
    return weights


def _densify(values, shape, sparsity):
    """Puts a sparse tensor's values where its levels, outermost first, say they belong.

    The levels enumerate the axes of the tensor cut into blocks: its own axes, then one more
    inside each axis that has blocks (`blockMap`). A dense level has all its indices below every
    position of the level above; a sparse one has those listed, in segments.
    """
    indices = np.zeros((1, 0), np.int64)
    for level in sparsity.dimMetadata:
        if level.format == schema.DimensionType.DENSE:
            counts, below = level.denseSize, np.tile(np.arange(level.denseSize), len(indices))
        else:
            counts = np.diff(np.asarray(level.arraySegments.values, np.int64))
            below = np.asarray(level.arrayIndices.values, np.int64)
        indices = np.column_stack([np.repeat(indices, counts, axis=0), below])
    axes = np.empty_like(indices)
    axes[:, sparsity.traversalOrder] = indices
    blocked = [] if sparsity.blockMap is None else sparsity.blockMap
    sizes = dict(zip(sparsity.traversalOrder, sparsity.dimMetadata, strict=True))
    for inner, axis in enumerate(blocked, start=len(shape)):
        axes[:, axis] = axes[:, axis] * sizes[inner].denseSize + axes[:, inner]
    dense = np.zeros(shape, values.dtype)
    dense[tuple(axes[:, : len(shape)].T)] = values
    return dense


def _dequantize(values, quantization):
    if values.dtype != np.int8:
        return values
    channels = [1] * values.ndim
    channels[quantization.quantizedDimension] = -1
    zero_points = np.asarray(quantization.zeroPoint, np.float32).reshape(channels)
    return (values - zero_points) * np.asarray(quantization.scale, np.float32).reshape(channels)
