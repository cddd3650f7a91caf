"""SavedModels that were made to write, read files, take for ever or fill the memory."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tests.hostile.hostile_models import (
    CANARY,
    attempts_with_damage,
    sound_model,
    try_to_load,
)
from tf_tickets.evaluation.victims import load_victim
from tf_tickets.models.saved_models import load_saved_model

_TOO_MANY = 10**9  # Numbers of a tensor.
_MANY = 40  # Functions that each call the one before twice.


def attempts(scratch: Path) -> Iterator[tuple[str, Callable[[], str | None]]]:
    """See tests/hostile: every hostile SavedModel, as a name and a function that tries it."""
    scratch.mkdir(parents=True, exist_ok=True)
    parts = {
        load_saved_model: (that_do_more, _that_start_slowly, _damaged, _with_links),
        load_victim: (_with_other_signatures,),
    }
    for load, made in parts.items():
        for part in made:
            for name, folder in part(scratch):
                yield (
                    name,
                    lambda load=load, folder=folder: try_to_load(load, folder, scratch / CANARY),
                )
    folder = scratch / "damaged"
    model, module = sound_model(), tf.Module()
    module.model_variables = model.variables
    images = tf.TensorSpec([None, *model.input_shape[1:]])
    module.serve = tf.function(lambda images: model(images), input_signature=[images])
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    for name, count in (("saved_model.pb", 120), ("variables/variables.index", 40)):
        sound = (folder / name).read_bytes()
        yield from attempts_with_damage(load_victim, folder, folder / name, count)
        (folder / name).write_bytes(sound)


def that_do_more(scratch: Path) -> Iterator[tuple[str, Path]]:
    """SavedModels whose graphs do more than compute."""
    canary = str(scratch / CANARY)

    def writes(x):
        tf.io.write_file(canary, "x")
        return x

    def reads(x):
        return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)

    def lists(x):
        return x + tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32)

    def runs_python(x):
        return tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.float32), x.shape)

    def runs_numpy(x):
        return tf.ensure_shape(tf.numpy_function(lambda y: y, [x], tf.float32), x.shape)

    def prints(x):
        tf.print("x", output_stream=f"file://{canary}")
        return x

    def saves(x):
        tf.raw_ops.SaveV2(
            prefix=canary, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.reduce_sum(x)]
        )
        return x

    def writes_in_a_loop(x):
        return tf.while_loop(lambda i, _: i < 1, lambda i, y: (i + 1, writes(y)), (0, x))[1]

    def writes_in_a_branch(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: writes(x), lambda: x)

    def reads_lines(x):
        lines = tf.data.TextLineDataset("/etc/passwd")
        return x + lines.reduce(0.0, lambda count, _: count + 1)

    for function in (
        *(writes, reads, lists, runs_python, runs_numpy, prints, saves),
        *(writes_in_a_loop, writes_in_a_branch, reads_lines),
    ):
        name = function.__name__.replace("_", " ")
        yield name, _save(scratch / f"saved {name}", function)
    vocabulary = scratch / "vocabulary.txt"
    vocabulary.write_text("a\n")
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, 0, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        ),
        1,
    )
    folder = scratch / "saved table"
    _save(folder, lambda x: x + tf.cast(table.lookup(tf.constant(["a"])), tf.float32), table)
    yield "reads a table as it is loaded", folder
    yield "of TensorFlow 1, whose saver runs", _save_as_tensorflow_1(scratch / "saved by 1")
    yield (
        "two graphs",
        _changed(scratch / "two", lambda saved: saved.meta_graphs.append(_graph(saved))),
    )
    yield "its saver as a gradient", _changed(scratch / "gradient", _saver_as_gradient)
    yield "its saver as a function", _changed(scratch / "function", _saver_as_function)


def _that_start_slowly(scratch):
    """SavedModels that take for ever, or all memory, before anything is computed."""

    def endless_loop():
        return tf.while_loop(lambda i: i >= 0, lambda i: [i * 0], [tf.constant(0)])[0]

    def long_loop():
        return tf.map_fn(lambda i: i, tf.range(_TOO_MANY))[0]

    def large_fill():
        return tf.reduce_sum(tf.fill([_TOO_MANY, 100], 1.0))

    def large_range():
        return tf.reduce_sum(tf.range(100 * _TOO_MANY, dtype=tf.int64))

    def large_product():
        column = tf.ones([2**18, 1])
        return tf.reduce_sum(tf.matmul(column, column, transpose_b=True))

    for function in (endless_loop, long_loop, large_fill, large_range, large_product):
        for place in ("_initialize", "_create_resource"):
            name = f"{function.__name__.replace('_', ' ')} in {place}"
            yield name, _save(scratch / f"saved {name}", lambda x: x, _resource(place, function))
    yield "functions in a circle", _changed(scratch / "circle", _circle)
    yield "functions twice in functions", _changed(scratch / "doubled", _doubled)
    yield "a constant of a few bytes", _changed(scratch / "constant", _large_constant)


def _with_other_signatures(scratch):
    """SavedModels that are not of images, or make too much of them."""

    def large(x):
        return tf.reduce_sum(x) + tf.reduce_sum(tf.fill([_TOO_MANY, 100], 1.0)) + x[:, 0, 0]

    images = tf.TensorSpec([None, 4, 4, 3])
    for name, function, specs in (
        ("large numbers on the way", large, [images]),
        ("no inputs", lambda: tf.ones([1, 3]), []),
        ("two inputs", lambda x, y: x[:, 0, 0] + y[:, 0, 0], [images, images]),
        ("no outputs", lambda x: {}, [images]),
        ("images of any number", lambda x: x[:, 0, 0], [tf.TensorSpec([None, 10**6, 10**6, 3])]),
    ):
        module = tf.Module()
        module.serve = tf.function(function, input_signature=specs)
        tf.saved_model.save(module, str(scratch / f"serves {name}"), signatures=module.serve)
        yield name, scratch / f"serves {name}"

    def without_signatures(saved):
        root = _graph(saved).object_graph_def.nodes[0]
        kept = [child for child in root.children if child.local_name != "signatures"]
        del root.children[:]
        root.children.extend(kept)

    def other_signatures(saved):
        root = _graph(saved).object_graph_def.nodes[0]
        next(child for child in root.children if child.local_name == "signatures").node_id = 0

    yield "no signatures", _changed(scratch / "no signatures", without_signatures)
    yield "signatures that are none", _changed(scratch / "other signatures", other_signatures)


def _damaged(scratch):
    for name, change in {
        "truncated": lambda content: content[: len(content) // 2],
        "emptied of its graphs": lambda _: b"",
        "noise": lambda content: bytes(255 - byte for byte in content),
    }.items():
        file = _save(scratch / f"saved {name}", lambda x: 2.0 * x) / "saved_model.pb"
        file.write_bytes(change(file.read_bytes()))
        yield name, file.parent


def _with_links(scratch):
    """Folders whose files lie elsewhere."""
    elsewhere = _save(scratch / "elsewhere", lambda x: 2.0 * x)

    def linked(name, place, target):
        folder = _save(scratch / name, lambda x: 2.0 * x)
        if (folder / place).is_dir():
            shutil.rmtree(folder / place)
        (folder / place).unlink(missing_ok=True)
        (folder / place).symlink_to(target)
        return name, folder

    yield linked("a link to a file elsewhere", "saved_model.pb", elsewhere / "saved_model.pb")
    yield linked("a link to a folder elsewhere", "variables", elsewhere / "variables")
    yield linked("a link to a file of the machine's", "fingerprint.pb", "/etc/hostname")
    yield linked("a link to what is not there", "assets", scratch / "nothing")
    yield linked("a link to itself", "assets", "assets")
    yield linked("a link to its folder", "assets", "..")
    yield linked("a link to zeros without end", "fingerprint.pb", "/dev/zero")
    folder = _save(scratch / "a pipe", lambda x: 2.0 * x)
    (folder / "fingerprint.pb").unlink()
    os.mkfifo(folder / "fingerprint.pb")
    yield "a pipe that nobody writes to", folder


def _save(folder, function, *resources):
    module = tf.Module()
    module.resources = list(resources)
    module.serve = tf.function(function, input_signature=[tf.TensorSpec([None, 3])])
    tf.saved_model.save(module, str(folder), signatures=module.serve)
    return folder


def _save_as_tensorflow_1(folder):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3])
        y = x * tf.compat.v1.get_variable("v", initializer=2.0)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})
    return folder


def _resource(place, function):
    """A resource that calls a function as it is loaded."""

    class Resource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            if place == "_create_resource" and not tf.executing_eagerly():
                function()
            return tf.raw_ops.HashTableV2(key_dtype=tf.int64, value_dtype=tf.int64)

        def _initialize(self):
            if place == "_initialize" and not tf.executing_eagerly():
                function()

        def _destroy_resource(self):
            pass

    return Resource()


def _changed(folder, change):
    """A sound SavedModel with a change to its description."""
    file = _save(folder, lambda x: 2.0 * x) / "saved_model.pb"
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(file.read_bytes())
    change(saved)
    file.write_bytes(saved.SerializeToString())
    return folder


def _graph(saved):
    return saved.meta_graphs[0]


def _saver(saved):
    """The name of the function that writes the variables."""
    graph = _graph(saved)
    name = graph.saver_def.save_tensor_name.split(":")[0]
    node = next(node for node in graph.graph_def.node if node.name == name)
    return node.attr["f"].func.name


def _saver_as_gradient(saved):
    gradients = _graph(saved).graph_def.library.registered_gradients
    gradients.add(gradient_func=_saver(saved), registered_op_type="CustomGradient-1")


def _calls(saved):
    for function in _graph(saved).graph_def.library.function:
        yield from filter(_is_call, function.node_def)


def _is_call(node):
    return node.op in ("StatefulPartitionedCall", "PartitionedCall")


def _saver_as_function(saved):
    next(_calls(saved)).attr["f"].func.name = _saver(saved)


def _circle(saved):
    functions = _graph(saved).graph_def.library.function
    function = next(function for function in functions if any(map(_is_call, function.node_def)))
    next(filter(_is_call, function.node_def)).attr["f"].func.name = function.signature.name


def _large_constant(saved):
    functions = _graph(saved).graph_def.library.function
    constant = next(node for f in functions for node in f.node_def if node.op == "Const")
    del constant.attr["value"].tensor.tensor_shape.dim[:]
    constant.attr["value"].tensor.tensor_shape.dim.add(size=_TOO_MANY)


def _doubled(saved):
    """Puts in functions that each call the one before twice."""
    functions = _graph(saved).graph_def.library.function
    inner = next(_calls(saved)).attr["f"].func.name
    outer = next(function for function in functions if any(map(_is_call, function.node_def)))
    for number in range(_MANY):
        function = functions.add()
        function.CopyFrom(outer)
        function.signature.name = f"doubled_{number}"
        call = next(filter(_is_call, function.node_def))
        call.attr["f"].func.name = f"doubled_{number - 1}" if number else inner
        again = function.node_def.add()
        again.CopyFrom(call)
        again.name = "again"
    next(_calls(saved)).attr["f"].func.name = f"doubled_{_MANY - 1}"
