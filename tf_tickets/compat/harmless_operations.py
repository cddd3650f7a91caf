"""TensorFlow's operations that only compute, by the modules that define them.

Which file of TensorFlow an operation is defined in is the one place that tells those on numbers
and text from those on files, sockets and Python.
"""

import functools
import inspect

import tensorflow as tf

_MODULES = (
    *(
        "array",
        "bitwise",
        "control_flow",
        "cudnn_rnn",
        "functional",
        "image",
        "linalg",
        "list",
        "lookup",
    ),
    *("manip", "math", "nn", "ragged_array", "ragged_conversion", "ragged_math", "random", "rnn"),
    *("resource_variable", "sparse", "special_math", "spectral", "state", "stateful_random"),
    *("stateless_random", "string", "uniform_quant"),
)
_WITH_FILES_OR_OTHER_MACHINES = {
    *("ImmutableConst", "RemoteCall", "InitializeTableFromTextFile"),
    *("InitializeTableFromTextFileV2", "ConsumeMutexLock", "MutexLock", "MutexV2", "Abort"),
}
# Of tensorflow_text, which is not imported for this: tokenizers on a vocabulary in the graph.
_OF_TEXTS = {
    *("CaseFoldUTF8", "FastBertNormalize", "FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"),
    *("NormalizeUTF8WithOffsetsMap", "RegexSplitWithOffsets", "UnicodeScriptTokenizeWithOffsets"),
    *("WhitespaceTokenizeWithOffsets", "WhitespaceTokenizeWithOffsetsV2"),
    *("WordpieceTokenizeWithOffsets", "RoundRobinTrim", "RoundRobinGenerateMasks"),
    *("UnicodeTranscode", "UnicodeEncode", "UnicodeDecode", "UnicodeDecodeWithOffsets"),
    *("UnicodeScript", "StringToNumber", "DecodeRaw"),
}


@functools.cache
def harmless_operations() -> frozenset[str]:
    """The names of all operations that a graph from a stranger may have."""
    modules = {f"tensorflow.python.ops.gen_{name}_ops" for name in _MODULES}
    modules.add("tensorflow.python.ops.gen_stateless_random_ops_v2")
    found = {
        name
        for name in dir(tf.raw_ops)
        if getattr(inspect.unwrap(getattr(tf.raw_ops, name)), "__module__", None) in modules
    }
    found |= {"Assert", "_Arg", "_Retval", "Timestamp"} | _OF_TEXTS
    return frozenset(found - _WITH_FILES_OR_OTHER_MACHINES)
