"""What a saved Keras model says of itself, held to what Keras itself consists of.

A configuration names classes and functions, and Keras imports and calls whatever that is. Here
every name is looked up in a list instead, and written anew as the place in Keras that has it.
"""

from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from tf_tickets.errors import UntrustedError, UserError, one_line

FUNCTIONAL, SEQUENTIAL = "Functional", "Sequential"
# Where tf_keras has the models and the layers that stand for TensorFlow's own functions.
_MODELS = {
    FUNCTIONAL: "tf_keras.src.engine.functional",
    "Model": "keras",
    SEQUENTIAL: "keras",
}
_OPERATIONS = {
    "TFOpLambda": "tf_keras.src.layers.core.tf_op_layer",
    "SlicingOpLambda": "tf_keras.src.layers.core.tf_op_layer",
}
# Layers that run code of the file's, or read files that it names.
_DANGEROUS = {
    *("Lambda", "StringLookup", "IntegerLookup", "TextVectorization", "TFSMLayer"),
    "DenseFeatures",
}
_OBJECTS = ("layers", "initializers", "regularizers", "constraints")
_OUR_OWN = "tf_tickets>"

_ACTIVATIONS = {
    *(name for name in dir(keras.activations) if not name.startswith("_")),
    *("relu6", "leaky_relu", "silu", "crelu", "log_softmax"),
} - {"deserialize", "get", "serialize"}

_REPEATING, _MOST_REPEATS = ("UpSampling1D", "UpSampling3D"), 100
_NUMBERS = ("float16", "float32", "float64", "int32", "int64", "uint8")
# The largest networks of keras.applications make a thousand.
_MOST_CALLS = 4_000

# TensorFlow's functions from tensors to tensors that do nothing else.
_FUNCTIONS = {
    *(f"math.{name}" for name in dir(tf.math) if not name.startswith("_")),
    *(f"nn.{name}" for name in dir(tf.nn) if not name.startswith("_")),
    *(
        f"__operators__.{name}"
        for name in (
            *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "abs", "getitem"),
            *("radd", "rsub", "rmul", "rtruediv", "rpow", "matmul", "eq", "ne", "lt", "le"),
            *("gt", "ge", "and", "or", "not", "logical_and", "logical_or", "logical_not"),
        )
    ),
    *("abs", "add_n", "broadcast_to", "cast", "clip_by_norm", "clip_by_value", "concat"),
    *("convert_to_tensor", "exp", "expand_dims", "eye", "gather", "identity", "matmul"),
    *("image.resize", "linalg.matmul", "linalg.normalize", "linalg.norm", "minimum", "maximum"),
    *("ones_like", "one_hot", "pad", "pow", "quantization.fake_quant_with_min_max_args"),
    *("reduce_max", "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum", "repeat"),
    *("reshape", "reverse", "roll", "round", "rank", "shape", "sigmoid", "sign", "size", "slice"),
    *("space_to_depth", "split", "sqrt", "square", "squeeze", "stack", "stop_gradient"),
    *("strided_slice", "tanh", "tensordot", "tile", "transpose", "unstack", "where"),
    *("zeros_like", "image.per_image_standardization", "compat.v1.transpose", "compat.v1.pad"),
    *("compat.v1.nn.conv2d", "compat.v1.shape", "compat.v1.squeeze", "compat.v1.nn.avg_pool"),
}


def checked(configuration) -> dict:
    """A model's configuration in which every class and function is known to be Keras' own.

    Args:
      configuration: as read from a file's JSON, of Keras 2, in its newer or its older form.

    Returns:
      The same in the newer form, without how the model was compiled, which
      `keras.saving.deserialize_keras_object` turns into a model without importing anything.

    Raises:
      UserError: it is no model's, or it names anything else.
    """
    if not isinstance(configuration, dict) or configuration.get("class_name") not in _MODELS:
        found = configuration.get("class_name") if isinstance(configuration, dict) else None
        raise UserError(
            f"expected a functional or sequential model, found {one_line(found)}; a class of one's "
            "own runs code"
        )
    if _calls(configuration) > _MOST_CALLS:
        raise UserError(f"expected at most {_MOST_CALLS} calls of layers, those of models included")
    return _walk(configuration)


def _calls(layer):
    """How many layers are called where a layer is: of models within models, the product."""
    if not isinstance(layer, dict) or layer.get("class_name") not in _MODELS:
        return 1
    inner = layer.get("config")
    inner = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(inner, list):
        return 1
    return sum(
        max(1, len(each.get("inbound_nodes") or ())) * _calls(each)
        for each in inner
        if isinstance(each, dict)
    )


def _require_ways_through(configuration):
    """Refuses a graph whose layers wait for one another, on which Keras would wait for ever.

    Raises:
      UserError: a layer reads what no layer makes, or what comes after itself.
    """
    layers = configuration["config"].get("layers") if configuration.get("config") else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise UserError("damaged: a model without layers")
    waiting, counts, known = [], {}, set()
    for layer in layers:
        name, nodes = layer.get("name"), layer.get("inbound_nodes") or []
        counts[name] = int(_starts_with_input(layer))
        if not nodes:
            known.add((name, 0))
        waiting += [(name, _read(node)) for node in nodes]
    inputs = {layer.get("name") for layer in layers if layer.get("class_name") == "InputLayer"}
    while waiting:
        still = []
        for name, reads in waiting:  # As Keras does: calls are numbered as they become possible.
            if all(place in known or place[0] in inputs for place in reads):
                known.add((name, counts[name]))
                counts[name] += 1
            else:
                still.append((name, reads))
        if len(still) == len(waiting):
            raise UserError(f"damaged: the inputs of {one_line(still[0][0], 60)} are never made")
        waiting = still


def _starts_with_input(layer):
    """Whether it is a model whose making was its first call."""
    if layer.get("class_name") not in _MODELS:
        return False
    first = next(iter(layer["config"]["layers"]), {})
    settings = first.get("config") or {}
    return first.get("class_name") == "InputLayer" or "batch_input_shape" in settings


def _read(node):
    """The calls whose outputs a serialized call reads: a layer's name, and which of its calls."""
    if isinstance(node, dict):
        return set().union(*map(_read, node.values()))
    if not isinstance(node, list):
        return set()
    if len(node) in (3, 4) and isinstance(node[0], str):  # As Keras tells a place from others.
        if node[0] != "_CONSTANT_VALUE" and not all(type(each) is int for each in node[1:3]):
            return {(node[0], None)}
        place = set() if node[0] == "_CONSTANT_VALUE" else {(node[0], node[1])}
        return place.union(*map(_read, node[3:]))
    return set().union(*map(_read, node))


def _walk(value):
    if isinstance(value, list):
        return [_walk(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "class_name" in value:
        return _object(value)
    if "module" in value or "registered_name" in value:
        raise UserError("damaged: an object without a class")
    return {name: _walk(each) for name, each in value.items()}


def _object(value):
    """One serialized object, at the place in Keras that `class_name` has."""
    name, config = value["class_name"], value.get("config")
    if not isinstance(name, str):
        raise UserError("damaged: a class without a name")
    if name in ("Policy", "DTypePolicy"):
        return _policy(config)
    if name == "function":
        return _activation(config)
    if name == "__numpy__" and isinstance(config, dict):
        if config.get("dtype") not in _NUMBERS:
            raise UserError("damaged: an array of no numbers")
        return {"class_name": name, "config": config}
    if name in ("__tuple__", "__ellipsis__", "TensorShape"):
        return {"class_name": name, "config": _walk(config)}
    if not isinstance(config, dict):
        raise UserError(f"damaged: {one_line(name, 40)} has no configuration")
    place = _place(name, value.get("registered_name"))
    if name in _MODELS:
        _require_ways_through(value)
    if name in _OPERATIONS:
        _require_tensors(value)
    if name in _OPERATIONS:
        _require_function(config)
    if name == "Normalization" and config.get("mean") is not None:
        _require_statistics(config)
    if name in _REPEATING:
        _require_few_repeats(config)
    if config.get("unroll"):  # A loop computes the same, and is made at once for any length.
        config = {**config, "unroll": False}
    kept = {key: _walk(value[key]) for key in ("name", "inbound_nodes") if key in value}
    registered = name if place is None else None
    if place is None:
        registered = value["registered_name"]
    return {
        "module": place,
        "class_name": name,
        "config": _walk(config),
        "registered_name": registered,
        **kept,
    }


def _place(name, registered_name):
    """The module of a class; None for one of ours, which is registered."""
    if isinstance(registered_name, str) and registered_name.startswith(_OUR_OWN):
        return None
    if name in _MODELS:
        return _MODELS[name]
    if name in _OPERATIONS:
        return _OPERATIONS[name]
    if name == "PruneLowMagnitude":
        raise UserError(
            "has TF-MOT's pruning wrappers in it; save "
            "tensorflow_model_optimization.sparsity.keras.strip_pruning(model) instead"
        )
    if name not in _DANGEROUS:
        for module in _OBJECTS:
            if isinstance(getattr(getattr(keras, module), name, None), type):
                return f"keras.{module}"
    raise UntrustedError(
        f"has {one_line(name, 60)} in it, which is not a layer of Keras' own or runs code of the "
        "file's"
    )


def _require_tensors(operation):
    """Refuses an operation on constants alone, which is carried out as the model is built."""
    for node in operation.get("inbound_nodes") or ():
        if not _read(node):
            raise UserError("damaged: an operation that reads no layer")


def _require_statistics(config):
    """Refuses statistics that would be repeated for all numbers of an input of any size."""
    for key in ("mean", "variance"):
        if not isinstance(config.get(key), list) and config.get("axis") not in (None, []):
            raise UserError(f"damaged: a Normalization with one {key} for many channels")


def _require_few_repeats(config):
    """Refuses layers of which Keras would make a list with an entry for every repetition."""
    size = config.get("size")
    sizes = size if isinstance(size, list) else [size]
    if not all(type(each) is int and 0 < each <= _MOST_REPEATS for each in sizes):
        raise UserError(f"damaged: repeats its input {one_line(size, 40)} times")


def _policy(config):
    name = config.get("name") if isinstance(config, dict) else None
    if not isinstance(name, str):
        raise UserError("damaged: a precision policy without a name")
    return name


def _activation(name):
    if name not in _ACTIVATIONS:
        raise UntrustedError(
            f"calls the function {one_line(name, 60)}, which is no activation of Keras' own"
        )
    return name


def _require_function(config):
    name = config.get("function")
    if not isinstance(name, str) or name not in _FUNCTIONS:
        raise UntrustedError(
            f"calls TensorFlow's {one_line(name, 60)}, which may do more than compute"
        )


def layers_of(configuration: dict) -> list[dict]:
    """The serialized layers of a model, those of models in it after each of these.

    Args:
      configuration: a model's, of any version of Keras.
    """
    found = []
    for layer in configuration["config"].get("layers", ()):
        found.append(layer)
        if layer["class_name"] in _MODELS:
            found += layers_of(layer)
    return found


def with_objects(value, change: Callable[[dict], object]):
    """A configuration in which each serialized object is what `change` makes of it."""
    if isinstance(value, list):
        return [with_objects(each, change) for each in value]
    if not isinstance(value, dict):
        return value
    inner = {name: with_objects(each, change) for name, each in value.items()}
    return change(inner) if "class_name" in inner else inner
