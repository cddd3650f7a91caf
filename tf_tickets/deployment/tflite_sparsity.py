"""Sparse weights in a TFLite file: what LiteRT reads, without what TFLite's converter gets wrong.

The converter's own `EXPERIMENTAL_SPARSITY` loses the last weights of a row that is no whole number
of blocks long, and hands float16 blocks to an operation that takes them for dense ones.
"""

from collections import Counter

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

BLOCK = 4
# Up to this share of blocks that hold a weight, the product by blocks is at least twice as fast as
# a dense one for a batch of 1, and at worst a quarter slower for a batch of 64.
MAX_OCCUPIED_BLOCKS = 1 / 6

_DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
_PRODUCTS = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
}
_READERS = _PRODUCTS | {schema.BuiltinOperator.DEQUANTIZE}
# The first version of `FULLY_CONNECTED` whose weights may be sparse.
_SPARSE_VERSION = 8
_INDEX_VECTORS = (
    (np.uint8, schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    (np.uint16, schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    (np.int32, schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
)


def store_sparsely(content: bytes) -> bytes:
    """Rewrites a TFLite file so that it stores no zeros where that makes it smaller.

    A dense layer in float32 few of whose blocks of four consecutive inputs hold a weight is
    stored by blocks, which LiteRT multiplies as they are. All else is stored weight by weight
    and made dense again when the file is loaded: smaller, but not faster.

    Args:
      content: a file with dense float32 or float16 weights.
    """
    model = flatbuffer_utils.read_model_from_bytearray(content)
    uses = Counter(tensor.buffer for graph in model.subgraphs for tensor in graph.tensors)
    for graph in model.subgraphs:
        for index, tensor in enumerate(list(graph.tensors)):
            data = model.buffers[tensor.buffer].data
            readers = [operator for operator in graph.operators if index in operator.inputs]
            kinds = {_kind(model, operator) for operator in readers}
            if (
                data is not None
                and tensor.type in _DTYPES
                and len(tensor.shape) > 1
                and kinds <= _READERS
                and uses[tensor.buffer] == 1
            ):
                _sparsify(model, graph, index, kinds)
    builder = _AlignedBuilder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _AlignedBuilder(flatbuffers.Builder):
    """Aligns vectors to 16 bytes, as the schema demands for weights; Python's does not."""

    def CreateNumpyVector(self, x):
        self.Prep(16, x.nbytes)
        return super().CreateNumpyVector(x)


def _kind(model, operator):
    return flatbuffer_utils.get_builtin_code_from_operator_code(
        model.operatorCodes[operator.opcodeIndex]
    )


def _sparsify(model, graph, index, kinds):
    """Stores one tensor sparsely, if that makes it smaller."""
    tensor = graph.tensors[index]
    buffer = model.buffers[tensor.buffer]
    values = np.asarray(buffer.data, np.uint8).view(_DTYPES[tensor.type]).reshape(tensor.shape)
    by_blocks = (
        kinds == {schema.BuiltinOperator.FULLY_CONNECTED}  # float16 goes through DEQUANTIZE first.
        and _occupied_blocks(values) <= MAX_OCCUPIED_BLOCKS
    )
    stored, indices, sparsity = _encode(values, BLOCK if by_blocks else 1)
    if stored.nbytes + indices >= values.nbytes:
        return
    buffer.data, tensor.sparsity = stored.view(np.uint8), sparsity
    if by_blocks:
        _declare_sparse(model, graph, index)
    else:
        _densify_before_use(model, graph, index)


def _occupied_blocks(values):
    """The share of blocks that hold a weight; 1 for rows that are no whole number of blocks."""
    if values.shape[-1] % BLOCK:
        return 1.0
    return np.mean(values.reshape(-1, BLOCK).any(axis=1))


def _encode(values, block):
    """The values of occupied blocks of the last axis, bytes of their places, and the places."""
    *outer, last = values.shape
    blocks = values.reshape(-1, last // block, block)
    occupied = blocks.any(axis=-1)
    if not occupied.any():
        occupied[0, 0] = True  # A tensor without any data would not be a constant.
    segments = np.concatenate([[0], np.cumsum(occupied.sum(axis=1))])
    inner, places = _sparse_level(segments, np.nonzero(occupied)[1])
    levels = [_dense_level(size) for size in outer] + [inner]
    levels += [_dense_level(block)] if block > 1 else []
    sparsity = schema.SparsityParametersT(
        traversalOrder=list(range(len(levels))),
        blockMap=[len(outer)] if block > 1 else [],
        dimMetadata=levels,
    )
    return blocks[occupied].ravel(), places, sparsity


def _dense_level(size):
    return schema.DimensionMetadataT(schema.DimensionType.DENSE, int(size))


def _sparse_level(segments, indices):
    level = schema.DimensionMetadataT(schema.DimensionType.SPARSE_CSR)
    level.arraySegmentsType, level.arraySegments = _index_vector(segments)
    level.arrayIndicesType, level.arrayIndices = _index_vector(indices)
    return level, level.arraySegments.values.nbytes + level.arrayIndices.values.nbytes


def _index_vector(values):
    """The values in the fewest bytes that hold them."""
    dtype, kind, vector = next(
        entry for entry in _INDEX_VECTORS if np.max(values) <= np.iinfo(entry[0]).max
    )
    return kind, vector(values.astype(dtype))


def _declare_sparse(model, graph, index):
    """Lets those that read a tensor look whether it is sparse, and no others.

    An operation of that version is none of XNNPACK's, so the dense layers must keep theirs.
    """
    opcode = _opcode(model, schema.BuiltinOperator.FULLY_CONNECTED, _SPARSE_VERSION)
    for operator in graph.operators:
        if index in operator.inputs:
            operator.opcodeIndex = opcode


def _densify_before_use(model, graph, index):
    """Lets those that read a tensor read what `DENSIFY` makes of it, which runs once."""
    stored, new = graph.tensors[index], len(graph.tensors)
    dense = schema.TensorT(stored.shape, stored.type, 0, stored.name + b"/dense")
    dense.quantization, dense.hasRank = stored.quantization, stored.hasRank
    for operator in graph.operators:
        operator.inputs = [new if each == index else each for each in operator.inputs]
    opcode = _opcode(model, schema.BuiltinOperator.DENSIFY, 1)
    graph.tensors.append(dense)
    graph.operators.insert(0, schema.OperatorT(opcode, [index], [new]))


def _opcode(model, kind, version):
    """The place of a version of an operation among those that the file uses."""
    for place, code in enumerate(model.operatorCodes):
        if (code.builtinCode, code.version) == (kind, version):
            return place
    model.operatorCodes.append(schema.OperatorCodeT(kind, None, version, kind))
    return len(model.operatorCodes) - 1
