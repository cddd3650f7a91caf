"""No SavedModel that a stranger made writes anything, takes for ever, or ends in a traceback."""

import tensorflow as tf
import tf_keras as keras

from tests.hostile import hostile_saved_models
from tf_tickets.models.saved_models import load_saved_model


def test_no_hostile_saved_model_is_handled_badly(tmp_path):
    tried = [(name, attempt()) for name, attempt in hostile_saved_models.attempts(tmp_path)]
    assert len(tried) > 200
    bad = [f"{name}: {said}" for name, said in tried if said]
    assert not bad, "\n".join(bad)


def test_trust_runs_what_is_in_a_graph(tmp_path):
    """Otherwise the attempts would prove nothing: they must do harm where nobody looks."""
    made = dict(hostile_saved_models.that_do_more(tmp_path))
    loaded = load_saved_model(made["writes"], trust=True)
    loaded.serve([[1.0, 2.0, 3.0]])
    assert (tmp_path / "canary").exists()


def test_a_table_of_constants_loads(tmp_path):
    module = tf.Module()
    content = tf.lookup.KeyValueTensorInitializer(["a", "b"], [3, 4])
    module.table = tf.lookup.StaticHashTable(content, -1)
    words = tf.TensorSpec([None], tf.string)
    module.serve = tf.function(module.table.lookup, input_signature=[words])
    tf.saved_model.save(module, str(tmp_path))
    found = load_saved_model(tmp_path).serve(tf.constant(["b", "c"]))
    assert found.numpy().tolist() == [4, -1]


def test_a_recurrent_network_loads(tmp_path):
    """It has loops, functions that take each other's place, and operations of GPUs alone."""
    model = keras.Sequential([keras.layers.Input((4, 2)), keras.layers.LSTM(3)])
    model.export(str(tmp_path))
    example = tf.random.stateless_uniform([2, 4, 2], [0, 0])
    loaded = load_saved_model(tmp_path)  # Its variables live as long as it does.
    tf.debugging.assert_near(loaded.serve(example), model(example), atol=1e-5)


def test_a_table_that_grows_loads(tmp_path):
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    module.table.insert(tf.constant(["a"]), tf.constant([7], tf.int64))
    words = tf.TensorSpec([None], tf.string)
    module.serve = tf.function(module.table.lookup, input_signature=[words])
    tf.saved_model.save(module, str(tmp_path))
    assert load_saved_model(tmp_path).serve(tf.constant(["a"])).numpy().tolist() == [7]
