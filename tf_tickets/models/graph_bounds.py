"""What graphs may take, in time and memory, before anything calls them."""

import graphlib
import math

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tf_tickets.errors import UserError, one_line

# Numbers of one tensor: a GiB of float32.
MOST_NUMBERS = 2**28
# Nodes of a function with those of all that it calls, which TensorFlow puts into one graph.
_MOST_NODES = 2**20
# What runs as a SavedModel is loaded: functions by these names, and those that restore an object.
_RUN_AT_LOADING = ("_create_resource", "_initialize", "_destroy_resource")
# What fills a table, and makes nothing that is larger than what it is made of.
_FILLS_A_TABLE = {
    *("Const", "NoOp", "Identity", "IdentityN", "Placeholder", "_Arg", "_Retval"),
    *("HashTableV2", "MutableHashTableV2", "MutableHashTableOfTensorsV2"),
    *("LookupTableImportV2", "LookupTableInsertV2", "LookupTableExportV2", "LookupTableSizeV2"),
}


def unbounded_part(graph: meta_graph_pb2.MetaGraphDef) -> str | None:
    """What of a SavedModel's graph may take for ever or all memory to load, in words.

    A loop among what is called later is none: recurrent networks have them.

    Args:
      graph: each of its operations is known to only compute.

    Returns:
      "functions that call each other in a circle", for example; None if there is nothing.
    """
    return _endless_calls(graph) or _slow_start(graph) or _large_constants(graph)


def require_bounded_shapes(graph: tf.Graph) -> None:
    """Refuses a network that would make too many numbers of one image.

    Raises:
      UserError: it names the operation. Where only a run tells how many there are, nothing does.
    """
    for operation in graph.get_operations():
        for output in operation.outputs:
            numbers = math.prod(size or 1 for size in output.shape) if output.shape.rank else 1
            if numbers > MOST_NUMBERS:
                raise UserError(
                    f"{one_line(operation.name, 80)} makes {numbers:.3g} numbers of one example; "
                    f"expected at most {MOST_NUMBERS:.3g}"
                )


def called_functions(node) -> set[str]:
    """Names of the functions that a node's attributes hold."""
    found = {attribute.func.name for attribute in node.attr.values() if attribute.func.name}
    for attribute in node.attr.values():
        found |= {function.name for function in attribute.list.func}
    return found


def _endless_calls(graph):
    bodies = _bodies(graph)
    calls = {name: [_callees(node, bodies) for node in body] for name, body in bodies.items()}
    order = graphlib.TopologicalSorter({name: set().union(*calls[name]) for name in calls})
    nodes = {}
    try:
        for name in order.static_order():
            called = (each for callees in calls[name] for each in callees)
            nodes[name] = len(bodies[name]) + sum(nodes[each] for each in called)
    except graphlib.CycleError:
        return "functions that call each other in a circle"
    if max(nodes.values()) > _MOST_NODES:
        return f"{max(nodes.values()):.3g} nodes, with those of functions in functions"
    return None


def _slow_start(graph):
    bodies, started, seen = _bodies(graph), _functions_at_loading(graph), set()
    while started:
        name = started.pop()
        seen.add(name)
        for node in bodies.get(name, ()):
            callees = _callees(node, bodies)
            started |= callees - seen
            if not callees and node.op not in _FILLS_A_TABLE:
                return f"{node.op}, which runs as it is loaded and does more than fill a table"
            if callees and node.op not in ("PartitionedCall", "StatefulPartitionedCall"):
                return f"{node.op}, which runs functions as it is loaded"
    return None


def _functions_at_loading(graph):
    objects = graph.object_graph_def.nodes
    run = set()
    for each in objects:
        run |= {child.node_id for child in each.children if child.local_name in _RUN_AT_LOADING}
        run |= {saver.restore_function for saver in each.saveable_objects.values()}
    found = set()
    for number in run & set(range(len(objects))):
        found |= functions_of(objects[number])
    return found


def functions_of(node) -> set[str]:
    """Names of the functions that one object of a SavedModel has."""
    if node.WhichOneof("kind") == "function":
        return set(node.function.concrete_functions)
    if node.WhichOneof("kind") == "bare_concrete_function":
        return {node.bare_concrete_function.concrete_function_name}
    return set()


def _large_constants(graph):
    numbers = 0
    for body in _bodies(graph).values():
        for node in body:
            for attribute in node.attr.values():
                shape = [axis.size for axis in attribute.tensor.tensor_shape.dim]
                # What is stored in full is as large as the file.
                stored = attribute.tensor.ByteSize()
                numbers += max(0, math.prod(map(abs, shape)) - stored) if shape else 0
    return f"constants of {numbers:.3g} numbers" if numbers > MOST_NUMBERS else None


def _bodies(graph):
    """The nodes of each function by its name, and those of none."""
    library = graph.graph_def.library
    return {"": graph.graph_def.node} | {
        function.signature.name: function.node_def for function in library.function
    }


def _callees(node, functions):
    return (called_functions(node) | {node.op}) & functions.keys()
