"""Keras files whose configuration was made to run code, take for ever or fill the memory."""

import copy
import functools
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tf_keras as keras

from tests.hostile.damaged_files import SEED, damaged
from tf_tickets.errors import UserError
from tf_tickets.models.keras_files import read_keras_model

layers = keras.layers
LONGEST_MESSAGE = 300
CANARY = "canary"


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """See tests/hostile: every hostile model, as a name and a function that tries it."""
    scratch.mkdir(parents=True, exist_ok=True)
    for name, path in configurations(scratch):
        yield name, lambda path=path: try_to_load(read_keras_model, path, scratch / CANARY)


def try_to_load(load: Callable[[Path], object], path: Path, canary: Path) -> str | None:
    """What is bad about how a hostile model is met; nothing if it is refused in a line.

    Args:
      load: what is given the model.
      path: the model.
      canary: what is there if code of the file's has run.
    """
    try:
        load(path)
        said = "loaded"
    except UserError as error:
        message = str(error)
        good = len(message) <= LONGEST_MESSAGE and "\n" not in message
        said = None if good else f"a message of {len(message)} characters"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    if canary.exists():
        canary.unlink()
        return "ran code"
    return said


def attempts_with_damage(
    load: Callable[[Path], object], path: Path, file: Path, count: int
) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """Changes of a sound model's file at random, of which each may load or be refused."""
    sound = file.read_bytes()

    def attempt(content):
        file.write_bytes(content)
        said = try_to_load(load, path, path.parent / CANARY)
        return None if said == "loaded" else said

    for what, content in damaged(sound, count, np.random.default_rng(SEED)):
        yield f"{file.name}: {what}", functools.partial(attempt, content)


def sound_model() -> keras.Model:
    """The network that the hostile ones are made of."""
    image = keras.Input((4, 4, 1), name="image")
    hidden = layers.Conv2D(2, 3, activation="relu", name="conv")(image)
    return keras.Model(image, layers.Dense(3, name="logits")(layers.Flatten(name="flat")(hidden)))


def entries_of(model: keras.Model) -> dict[str, bytes]:
    """The members of a model's `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(path := Path(folder, "sound.keras"))
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def write_keras(path: Path, entries: dict[str, bytes]) -> Path:
    """Writes a `.keras` file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def configurations(scratch):
    """Files whose configuration names what must not be called."""
    entries, touch = entries_of(sound_model()), f"touch {scratch / CANARY}"
    sound = json.loads(entries["config.json"])
    for name, change in _CHANGES.items():
        hostile = copy.deepcopy(sound)
        change(hostile, touch)
        path = scratch / f"{name}.keras".replace(" ", "_")
        yield name, write_keras(path, entries | {"config.json": json.dumps(hostile).encode()})
    lambda_model = keras.Sequential(
        [
            layers.Input((2,)),
            layers.Lambda(lambda x: __import__("os").system(touch) * 1.0 + x),
            layers.Dense(2),
        ]
    )
    (scratch / CANARY).unlink(missing_ok=True)  # Building it ran it.
    yield "a Lambda with bytecode", write_keras(scratch / "lambda.keras", entries_of(lambda_model))
    lambda_model.save(scratch / "lambda.h5")
    (scratch / CANARY).unlink(missing_ok=True)
    yield "HDF5 with a Lambda", scratch / "lambda.h5"
    (scratch / "hdf5_lambda.keras").write_bytes((scratch / "lambda.h5").read_bytes())
    yield "HDF5 with a Lambda, called .keras", scratch / "hdf5_lambda.keras"
    keras_3 = json.dumps({"keras_version": "3.9.0"}).encode()
    for name, change in _CHANGES_OF_KERAS_3.items():
        hostile = copy.deepcopy(sound)
        change(hostile)
        path = scratch / f"keras_3_{name}.keras"
        content = {"config.json": json.dumps(hostile).encode(), "metadata.json": keras_3}
        yield f"Keras 3: {name}", write_keras(path, entries | content)


def _layer(model, name):
    return next(layer for layer in model["config"]["layers"] if layer["name"] == name)


def _with_layer(model, module, class_name, config, inbound=None, registered=None):
    """Puts a layer between the flattened image and the logits."""
    found = _layer(model, "flat")
    model["config"]["layers"].insert(
        -1,
        {
            "module": module,
            "class_name": class_name,
            "config": {"name": "evil", "trainable": True, "dtype": "float32", **config},
            "registered_name": registered,
            "name": "evil",
            "inbound_nodes": inbound or [[["flat", 0, 0, {}]]],
        },
    )
    assert found
    _layer(model, "logits")["inbound_nodes"] = [[["evil", 0, 0, {}]]]


def _operation(function, *constants):
    """A change that calls one of TensorFlow's functions on constants, and on a layer's output."""

    def change(model, touch):
        first, *others = (touch.split()[-1] if each == "PATH" else each for each in constants)
        keywords = {"tensor": ["flat", 0, 0]} | ({"contents": others[0]} if others else {})
        inbound = [["_CONSTANT_VALUE", -1, first, keywords]]
        place = "tf_keras.src.layers.core.tf_op_layer"
        _with_layer(model, place, "TFOpLambda", {"function": function}, inbound)

    return change


def _activation(module, name):
    def change(model, _):
        _layer(model, "conv")["config"]["activation"] = {
            "module": module,
            "class_name": "function",
            "config": name,
            "registered_name": name,
        }

    return change


def _lambda(function):
    def change(model, touch):
        inbound = [[["_CONSTANT_VALUE", -1, touch, {}]]]
        config = {
            "function": function,
            "function_type": "function",
            "module": None,
            "output_shape": None,
            "output_shape_type": "raw",
            "output_shape_module": None,
            "arguments": {},
        }
        _with_layer(model, "keras.layers", "Lambda", config, inbound)

    return change


def _plain(module, class_name, config, registered=None):
    def change(model, touch):
        inbound = [[["_CONSTANT_VALUE", -1, touch, {}]]]
        _with_layer(model, module, class_name, config, inbound, registered)

    return change


def _initializer(module, class_name):
    def change(model, touch):
        _layer(model, "conv")["config"]["kernel_initializer"] = {
            "module": module,
            "class_name": class_name,
            "config": {"command": touch},
            "registered_name": None,
        }

    return change


def _within(wrapper):
    def change(model, touch):
        inner = {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {"name": "inner", "function": _SYSTEM, "function_type": "function"},
            "registered_name": None,
        }
        _with_layer(model, "keras.layers", wrapper, {"layer": inner})

    return change


def _setting(layer, **settings):
    return lambda model, _: _layer(model, layer)["config"].update(settings)


def _reads(layer, place):
    return lambda model, _: _layer(model, layer).update(inbound_nodes=[[place]])


def _beside(class_name, inbound=None, **config):
    """A layer that reads the image and is an output of its own."""

    def change(model, _):
        place = _OPERATIONS_PLACE if class_name == "TFOpLambda" else "keras.layers"
        read = _layer(model, "logits")["inbound_nodes"]
        _with_layer(model, place, class_name, config, inbound or [[["image", 0, 0, {}]]])
        _layer(model, "logits")["inbound_nodes"] = read
        model["config"]["output_layers"] = [["logits", 0, 0], ["evil", 0, 0]]

    return change


def _circle_within_a_wrapper(model, touch):
    inner = copy.deepcopy(model)
    _CHANGES["layers in a circle"](inner, touch)
    _beside("TimeDistributed", layer=inner)(model, touch)


def _models_within_models(model, touch):
    """Each calls the one in it twice: all are called 2^18 times."""
    image, inner = _layer(model, "image"), copy.deepcopy(model)
    for number in range(18):
        calls = [[["image", 0, 0, {}]], [["image", 0, 0, {}]]]
        name, place = f"model_{number}", ["inner", 2, 0]
        inner = {**inner, "name": "inner", "inbound_nodes": calls}
        config = {"name": name, "trainable": True, "layers": [image, inner]}
        ends = {"input_layers": [["image", 0, 0]], "output_layers": [place]}
        inner = {**model, "config": config | ends}
    model.update(inner)


def _top(**settings):
    return lambda model, _: model.update(settings)


_SYSTEM = {"module": "os", "class_name": "function", "config": "system", "registered_name": None}
_OPERATIONS_PLACE = "tf_keras.src.layers.core.tf_op_layer"
_CHANGES = {
    "a Lambda of os.system": _lambda(_SYSTEM),
    "a Lambda of exec": _lambda({**_SYSTEM, "module": "builtins", "config": "exec"}),
    "an activation os.system": _activation("os", "system"),
    "an activation exec": _activation("builtins", "exec"),
    "an activation keras.utils.get_file": _activation("keras.utils", "get_file"),
    "an activation by the name of a registered one": _activation("builtins", "any>system"),
    "an initializer os.system": _initializer("os", "system"),
    "an initializer subprocess.Popen": _initializer("subprocess", "Popen"),
    "a layer subprocess.Popen": _plain("subprocess", "Popen", {"args": "true"}),
    "a layer that says it is registered": _plain("os", "system", {}, "builtins>exec"),
    "a layer that says it is ours": _plain("os", "system", {}, "tf_tickets>system"),
    "a class method": _plain(
        _OPERATIONS_PLACE, "ClassMethod", {"cls_symbol": "RaggedTensor", "method_name": "x"}
    ),
    "an instance method": _plain(_OPERATIONS_PLACE, "InstanceMethod", {"method_name": "eval"}),
    "an operation by its definition": _plain(
        _OPERATIONS_PLACE, "TensorFlowOpLayer", {"node_def": "op: 'WriteFile'", "constants": {}}
    ),
    "a Lambda within TimeDistributed": _within("TimeDistributed"),
    "a Lambda within Wrapper": _within("Wrapper"),
    "tf.io.write_file": _operation("io.write_file", "PATH", "text"),
    "tf.io.read_file": _operation("io.read_file", "PATH"),
    "tf.io.gfile.copy": _operation("io.gfile.copy", "/etc/hostname", "PATH"),
    "tf.py_function": _operation("py_function", "PATH"),
    "tf.numpy_function": _operation("numpy_function", "PATH"),
    "tf.keras.utils.get_file": _operation("keras.utils.get_file", "PATH"),
    "tf.load_library": _operation("load_library", "PATH"),
    "tf.saved_model.load": _operation("saved_model.load", "PATH"),
    "a vocabulary of passwords": _plain(
        "keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}
    ),
    "texts from a file": _plain("keras.layers", "TextVectorization", {"vocabulary": "/etc/passwd"}),
    "layers in a circle": _reads("conv", ["logits", 0, 0, {}]),
    "a layer that is not there": _reads("conv", ["nowhere", 0, 0, {}]),
    "a call that was never made": _reads("logits", ["flat", 7, 0, {}]),
    "a layer of a billion units": _setting("logits", units=10**9),
    "a layer of 1e300 units": _setting("logits", units=1e300),
    "a layer of -1 units": _setting("logits", units=-1),
    "a kernel larger than all memory": _setting("conv", kernel_size=[10**6, 10**6]),
    "a layer called by a number": lambda model, _: _layer(model, "conv").update(name=7),
    "another model's class": _top(class_name="system", module="os"),
    "no configuration": _top(config=None),
    "no layers": _top(config={"name": "x"}),
    "layers that are numbers": _top(config={"name": "x", "layers": [1, 2]}),
    "a call with a number that is not whole": _reads("logits", ["flat", 0.0, 0, {}]),
    "layers in a circle within a wrapper": _circle_within_a_wrapper,
    "models that each call another one twice": _models_within_models,
    "an operation on a constant": _beside(
        "TFOpLambda", inbound=["_CONSTANT_VALUE", -1, 10**5, {}], function="eye"
    ),
    "one mean for many channels": _beside(
        "Normalization", axis=[1, 2, 3], mean=0.0, variance=1.0, invert=False
    ),
    "columns of features": _beside("DenseFeatures", feature_columns=[]),
    "an array of objects": _setting(
        "logits",
        bias_initializer={
            "module": "keras.initializers",
            "class_name": "Constant",
            "config": {
                "value": {
                    "class_name": "__numpy__",
                    "config": {"value": [[0] * 1_000] * 9, "dtype": f"{10**6}f8"},
                }
            },
        },
    ),
    "an image times 1e10": _beside("UpSampling2D", size=[10**5, 10**5]),
    "zeros around an image": _beside("ZeroPadding2D", padding=[[10**5] * 2] * 2),
    "an image on tiles": _beside(
        "TFOpLambda",
        inbound=[["image", 0, 0, {"multiples": [1, 10**5, 10**5, 1]}]],
        function="tile",
    ),
    "a vector repeated": lambda model, _: _with_layer(
        model, "keras.layers", "RepeatVector", {"n": 10**9}
    ),
    "outputs that are not there": lambda model, _: model["config"].update(
        output_layers=[["nowhere", 0, 0]]
    ),
}


def _keras_3_layer(module, class_name, **config):
    def change(model):
        model["config"]["layers"] = [
            {**layer, "inbound_nodes": []} for layer in model["config"]["layers"]
        ]
        _with_layer(model, module, class_name, config, inbound=[{"args": [], "kwargs": {}}])

    return change


_CHANGES_OF_KERAS_3 = {
    "a Lambda": _keras_3_layer("keras.layers", "Lambda", function=_SYSTEM),
    "a SavedModel as layer": _keras_3_layer("keras.layers", "TFSMLayer", filepath="/tmp/x"),
    "an operation": _keras_3_layer("keras.src.ops.numpy", "Multiply"),
    "os.system": _keras_3_layer("os", "system", command="true"),
    "nodes of numbers": lambda model: _layer(model, "conv").update(inbound_nodes=[1]),
    "a history of words": lambda model: _layer(model, "conv").update(
        inbound_nodes=[
            {
                "args": [
                    {"class_name": "__keras_tensor__", "config": {"keras_history": ["a", "b", 0]}}
                ],
                "kwargs": {},
            }
        ]
    ),
}
