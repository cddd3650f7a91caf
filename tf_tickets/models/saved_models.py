"""SavedModels, whose graphs are looked through before anything in them can run."""

import re
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tf_tickets.compat.harmless_operations import harmless_operations
from tf_tickets.errors import UntrustedError, UserError, one_line
from tf_tickets.models.graph_bounds import called_functions, functions_of, unbounded_part

_FILE = "saved_model.pb"
_MOST_BYTES = 2**31
# In TensorFlow's words, which no error of a type of its own says.
_FOREIGN_OPERATION = re.compile(r"Op type not registered '(\w+)'")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# How TensorFlow writes and reads the variables; loading calls none of them.
_SAVING = {
    *("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "StaticRegexFullMatch"),
    *("DisableCopyOnRead",),
}


def load_saved_model(folder: Path, trust: bool = False):
    """Loads a SavedModel if its graphs only compute.

    Loading one runs what it calls its initializers, and calling it whatever its graph has: among
    TensorFlow's operations are some that read and write files.

    Args:
      folder: with saved_model.pb in it.
      trust: whether to load it whatever its graphs do.

    Returns:
      What `tf.saved_model.load` does.

    Raises:
      UserError: it is missing or damaged, or a graph has an operation that is not known to only
        compute.
    """
    if not (folder / _FILE).is_file():
        raise UserError(f"{folder}: no {_FILE} in it")
    _require_own_files(folder)
    if not trust:
        _require_harmless(folder)
    try:
        return tf.saved_model.load(str(folder))
    except Exception as error:  # Every op and storage layer has errors of its own.
        foreign = _FOREIGN_OPERATION.search(str(error))
        if foreign:
            raise UserError(
                f"{folder}: its graph has the operation {one_line(foreign[1], 60)} of another "
                "library, as networks for texts have of tensorflow_text; expected TensorFlow's own"
            ) from None
        raise UserError(
            f"{folder}: cannot be loaded as a SavedModel ({type(error).__name__}: "
            f"{one_line(error)})"
        ) from None


def _require_own_files(folder):
    """Refuses links out of the folder, and what is no file, on which TensorFlow would wait."""
    for path in sorted(folder.rglob("*")):
        try:
            own = path.resolve(strict=True).is_relative_to(folder.resolve())
        except (OSError, RuntimeError):  # A circle of links.
            own = False
        if path.is_symlink() and (not own or path.is_dir()):
            raise UserError(f"{folder}: {_shown(path, folder)} is a link out of it")
        if not path.is_dir() and not path.is_file():
            raise UserError(f"{folder}: {_shown(path, folder)} is no file")


def _shown(path, folder):
    return one_line(path.relative_to(folder), 60)


def _require_harmless(folder):
    saved = saved_model_pb2.SavedModel()
    try:
        if (folder / _FILE).stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        saved.ParseFromString((folder / _FILE).read_bytes())
    except Exception as error:  # protobuf's DecodeError is of no public module.
        raise UserError(f"{folder}: {_FILE} is damaged ({one_line(error)})") from None
    if len(saved.meta_graphs) != 1:  # Of others TensorFlow runs the saver, as of TensorFlow 1.
        raise UserError(f"{folder}: has {len(saved.meta_graphs)} graphs; expected one, as of TF 2")
    for graph in saved.meta_graphs:
        for name in _dangerous_operations(graph):
            raise UntrustedError(
                f"{folder}: its graph has the operation {one_line(name, 60)}, which is not known "
                "to only compute"
            )
        if found := unbounded_part(graph):
            reason = f"may take for ever or all memory: has {one_line(found)}"
            raise UntrustedError(f"{folder}: {reason}")


def _dangerous_operations(graph):
    """Names of operations that may do more than compute, the saver's own functions apart."""
    if not graph.object_graph_def.nodes:
        yield "of TensorFlow 1, whose saver runs as it is loaded"
        return
    saver = _saver_functions(graph)
    reachable = {name for node in graph.object_graph_def.nodes for name in functions_of(node)}
    library = graph.graph_def.library
    reachable |= {gradient.gradient_func for gradient in library.registered_gradients}
    reachable |= {gradient.gradient_func for gradient in library.gradient}
    calls = [node for node in graph.graph_def.node if not _is_savers(node, graph)]
    for node in graph.graph_def.node:
        if _is_savers(node, graph) and node.op not in _CALLS:
            yield node.op
    for function in library.function:
        name = function.signature.name
        if name in saver and "api_implements" in function.attr:
            yield "that the saver takes the place of"
        if name in saver and name not in reachable:
            allowed = harmless_operations() | _SAVING
            yield from (node.op for node in function.node_def if node.op not in allowed)
        else:
            calls += function.node_def
    functions = {function.signature.name for function in graph.graph_def.library.function}
    for node in calls:
        if node.op not in harmless_operations() and node.op not in functions - saver:
            yield node.op
        if called_functions(node) & saver:
            yield f"{node.op} that calls the saver"


def _saver_functions(graph):
    """The functions that the nodes of the saver call."""
    nodes = (node for node in graph.graph_def.node if _is_savers(node, graph))
    return {node.attr["f"].func.name for node in nodes if node.op in _CALLS}


def _is_savers(node, graph):
    ends = (graph.saver_def.save_tensor_name, graph.saver_def.restore_op_name)
    return bool(node.name) and node.name in {end.split(":")[0] for end in ends}
