"""Configurations of Keras 3 as Keras 2 has them, for layers that compute the same in both."""

import inspect

import tf_keras as keras

from tf_tickets.errors import UserError, one_line
from tf_tickets.models.keras_configuration import FUNCTIONAL, SEQUENTIAL, layers_of, with_objects

_MODELS = (FUNCTIONAL, SEQUENTIAL)
# What Keras 2 has too, and computes alike: its `hard_sigmoid` is another function.
_ACTIVATIONS = {
    *("linear", "relu", "relu6", "elu", "selu", "gelu", "silu", "swish", "sigmoid", "tanh"),
    *("softplus", "softsign", "exponential", "softmax", "mish", "leaky_relu"),
}
# Keras 3's operations on numbers and tensors → TensorFlow's, whose second factor is called y.
_ARITHMETIC = {
    "Add": "math.add",
    "Subtract": "math.subtract",
    "Multiply": "math.multiply",
    "TrueDivide": "math.divide",
    "Divide": "math.divide",
}
# Keras 3's name of a setting → Keras 2's.
_NAMES = {"batch_shape": "batch_input_shape"}
_NAMES_OF = {"LeakyReLU": {"negative_slope": "alpha"}}
# Settings that change nothing unless another one does, which is refused.
_WITHOUT_EFFECT = {"renorm_momentum", "renorm_clipping", "value_range", "data_format"}
# What all layers of Keras 2 take beside the arguments of their own.
_OF_ALL_LAYERS = {"name", "trainable", "dtype", "batch_input_shape", "activity_regularizer"}


def as_keras_2(configuration: dict) -> dict:
    """A functional or sequential model's configuration of Keras 3 as Keras 2 would have it.

    Args:
      configuration: as read from a file's JSON. It is not checked otherwise, see
        `keras_configuration.checked`.

    Raises:
      UserError: it has layers, operations or settings that Keras 2 does not have, or calls
        layers in a way that it cannot say.
    """
    try:
        return with_objects(_with_nodes(configuration), _object)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"damaged configuration of Keras 3 ({one_line(error)})") from None


def _with_nodes(configuration):
    """The model with its calls in Keras 2's form, and so all models in it."""
    nested = {layer["config"]["name"] for layer in layers_of(configuration) if _is_model(layer)}

    def convert(model):
        config = dict(model["config"])
        config["layers"] = [
            {
                **(convert(layer) if _is_model(layer) else layer),
                **({"name": layer["config"]["name"]} if "inbound_nodes" in layer else {}),
                **_inbound(layer, nested),
            }
            for layer in config["layers"]
        ]
        for ends in ("input_layers", "output_layers"):
            if ends in config:
                ended = config[ends]
                ended = ended if isinstance(ended[0], list) else [ended]
                config[ends] = [_counted(place, nested) for place in ended]
        return {**model, "config": config}

    return convert(configuration)


def _is_model(layer):
    return layer["class_name"] in _MODELS


def _inbound(layer, nested):
    if "inbound_nodes" not in layer:
        return {}
    if not _is_operation(layer):
        return {"inbound_nodes": [_node(layer, node, nested) for node in layer["inbound_nodes"]]}
    name, function = layer["config"]["name"], _ARITHMETIC.get(layer["class_name"])
    if function is None:
        raise _unlike(f"the operation {layer['class_name']}")
    return {
        "module": None,
        "class_name": "TFOpLambda",
        "config": {"name": name, "trainable": True, "dtype": "float32", "function": function},
        "inbound_nodes": [_factors(node, nested) for node in layer["inbound_nodes"]],
    }


def _is_operation(layer):
    """Whether it is no layer: layers have settings, and `.h5` files name no modules."""
    return ".ops." in (layer.get("module") or "") or set(layer["config"]) == {"name"}


def _factors(node, nested):
    """The call of an operation on two tensors, or a tensor and a number."""
    first, second = node["args"]
    if not all(_is_tensor(factor) or type(factor) in (int, float) for factor in (first, second)):
        raise _unlike("an operation on more than numbers and tensors")

    def place(factor):
        return _counted(factor["config"]["keras_history"], nested)

    start = place(first) if _is_tensor(first) else ["_CONSTANT_VALUE", -1, first]
    return [*start, {"y": place(second) if _is_tensor(second) else second, "name": None}]


def _node(layer, node, nested):
    """One call: Keras 2 lists the tensors of the first argument, the others are by name."""
    name = layer["config"]["name"]
    first, *others = node["args"]
    keywords = {key: value for key, value in node["kwargs"].items() if value not in (None, False)}
    if any(each is not None for each in others) or _has_tensor(keywords):
        raise _unlike(f"{name} reads several inputs in a way of its own")
    tensors = first if isinstance(first, list) else [first]
    if not all(_is_tensor(tensor) for tensor in tensors):
        raise _unlike(f"{name} reads a constant")
    places = [_counted(tensor["config"]["keras_history"], nested) for tensor in tensors]
    return [[*place, keywords] for place in places]


def _counted(place, nested):
    """Keras 2 counts the call that made a model as its first."""
    name, call, tensor = place
    return [name, call + (name in nested), tensor]


def _is_tensor(value):
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _has_tensor(value):
    if isinstance(value, dict):
        return _is_tensor(value) or any(map(_has_tensor, value.values()))
    return isinstance(value, list) and any(map(_has_tensor, value))


def _object(value):
    """One serialized object; what is in it has been converted."""
    name, config = value["class_name"], value.get("config")
    if name == "DTypePolicy":
        return config["name"]
    if name in (*_MODELS, "TFOpLambda") or not isinstance(config, dict):
        return {**value, "registered_name": None}
    if value.get("registered_name"):
        raise _unlike(f"{name}, which is registered as {value['registered_name']}")
    for kind in (keras.layers, keras.initializers, keras.regularizers, keras.constraints):
        if isinstance(getattr(kind, name, None), type):
            return {**value, "config": _settings(name, getattr(kind, name), config)}
    raise _unlike(name)


def _settings(name, kind, config):
    """The settings of a layer or initializer, by the names that Keras 2 has for them."""
    taken = set(inspect.signature(kind.__init__).parameters) | _OF_ALL_LAYERS
    settings = {}
    for key, value in config.items():
        key = _NAMES_OF.get(name, {}).get(key, _NAMES.get(key, key))
        if key in taken:
            settings[key] = value
        elif value not in (None, False, {}) and key not in _WITHOUT_EFFECT:
            raise _unlike(f"{name} with {key}={value}")
    activation = settings.get("activation")
    if isinstance(activation, str) and activation not in _ACTIVATIONS:
        raise _unlike(f"the activation {activation}")
    return settings


def _unlike(what):
    return UserError(
        f"saved by Keras 3, with what Keras 2, on which pruning works, has not or does otherwise: "
        f"{one_line(what, 80)}; to attack it, give the folder of model.export() instead"
    )
