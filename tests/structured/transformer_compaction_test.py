"""A BERT without its dead heads and units against the whole one, padding in the batch."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.tiny_bert import batch, write_folder
from tf_tickets.deployment.inference import text_inference
from tf_tickets.models.bert_encoder import load_encoder

pytest.importorskip("keras_nlp", reason="needs the extra `text`")

from tf_tickets.models.bert_classifier import BertClassifier  # noqa: E402
from tf_tickets.structured.transformer_compaction import compact_bert  # noqa: E402

FIRST, SECOND = "transformer_layer_0", "transformer_layer_1"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("bert") / "tiny", num_attention_heads=4)
    return load_encoder(bert_dir=str(folder))


@pytest.fixture
def classifier(encoder):
    classifier = BertClassifier(encoder, classes=3, dropout=0.1, seed=0)
    head = classifier.model.get_layer("features").get_layer("logits")
    generator = np.random.default_rng(0)
    head.set_weights([generator.normal(size=weight.shape) for weight in head.weights])
    return classifier


def set_zero(classifier, name, index):
    """Puts zeros into a kernel, at a NumPy index."""
    layer = classifier.masked_layers[name]
    kernel, bias = layer.get_weights()
    kernel[index] = 0
    layer.set_weights([kernel, bias])


def assert_same_logits(compaction, expected):
    assert np.std(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(compaction.model(batch()), expected, rtol=0, atol=1e-5)


def shapes(model):
    """Last parts of the weights' names → shapes, of the first encoder."""
    return {
        variable.name.removeprefix(f"{FIRST}/").removesuffix(":0"): tuple(variable.shape)
        for variable in model.weights
        if variable.name.startswith(FIRST)
    }


# The values of head 1, and those of the first half of head 3, whose other half is not read.
HEADS = [("value", np.s_[:, 1]), ("value", np.s_[:, 3, :2]), ("output", np.s_[3, 2:])]
UNITS = [("feedforward_intermediate", np.s_[:, 2:9]), ("feedforward_output", np.s_[7:12])]


def test_heads_and_units_that_are_constant_or_not_read_go(classifier):
    for name, index in HEADS + UNITS:
        set_zero(classifier, f"{FIRST}/{name}", index)
    set_zero(classifier, f"{SECOND}/output", 2)
    weights, expected = classifier.model.get_weights(), classifier.model(batch()).numpy()
    compaction = compact_bert(classifier)
    assert compaction.removed == {f"{FIRST}/heads": 2, f"{FIRST}/units": 10, f"{SECOND}/heads": 1}
    assert compaction.total == 13
    assert_same_logits(compaction, expected)
    assert shapes(compaction.model) == {
        **{f"self_attention_layer/{name}/kernel": (16, 2, 4) for name in ("query", "key", "value")},
        **{f"self_attention_layer/{name}/bias": (2, 4) for name in ("query", "key", "value")},
        "self_attention_layer/attention_output/kernel": (2, 4, 16),
        "self_attention_layer/attention_output/bias": (16,),
        "feedforward_intermediate_dense/kernel": (16, 14),
        "feedforward_intermediate_dense/bias": (14,),
        "feedforward_output_dense/kernel": (14, 16),
        "feedforward_output_dense/bias": (16,),
    }
    np.testing.assert_array_equal(classifier.model(batch()), expected)
    for before, after in zip(weights, classifier.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def moving(classifier, owner, slot, logits):
    """Tells which heads or units have a number that varies and that moves the logits."""
    reader, generator, read = getattr(owner, slot), np.random.default_rng(0), []
    setattr(owner, slot, lambda values: (read.append(values.numpy()), reader(values))[1])
    classifier.model(batch())
    moves = np.full(read[0].shape[2:], False)
    for index in np.ndindex(moves.shape):
        noise = np.zeros(read[0].shape, np.float32)
        noise[:, :, *index] = generator.normal(size=noise.shape[:2])
        setattr(owner, slot, functools.partial(lambda noise, values: reader(values + noise), noise))
        moves[index] = np.any(classifier.model(batch()).numpy() != logits)
    setattr(owner, slot, reader)
    varies = np.ptp(read[0], axis=(0, 1)) > 1e-6
    return (moves & varies).reshape(len(moves), -1).any(axis=-1)


def test_what_goes_is_what_no_text_changes_or_what_nothing_reads(classifier):
    """Measured: a head's and a unit's numbers over texts, and the logits with noise in them."""
    for name, index in HEADS + UNITS:
        set_zero(classifier, f"{FIRST}/{name}", index)
    block = classifier.features.get_layer(FIRST)
    attention, logits = block._self_attention_layer, classifier.model(batch()).numpy()
    alive = {
        "heads": moving(classifier, attention, "_output_dense", logits),
        "units": moving(classifier, block, "_feedforward_output_dense", logits),
    }
    removed = compact_bert(classifier).removed
    assert removed == {f"{FIRST}/{name}": np.count_nonzero(~alive[name]) for name in alive}


@pytest.mark.parametrize("part", ["value", "output"])
def test_one_head_and_one_unit_stay(classifier, part):
    feedforward = {"value": "feedforward_intermediate", "output": "feedforward_output"}[part]
    for name in (part, feedforward):
        set_zero(classifier, f"{SECOND}/{name}", np.s_[:])
    expected = classifier.model(batch()).numpy()
    compaction = compact_bert(classifier)
    assert compaction.removed == {f"{SECOND}/heads": 3, f"{SECOND}/units": 23}
    assert_same_logits(compaction, expected)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_zeros(classifier, seed):
    generator = np.random.default_rng(seed)
    for name, layer in classifier.masked_layers.items():
        makes = name.endswith(("value", "intermediate"))
        heads_or_units = layer.kernel.shape[1 if makes else 0]
        dead = generator.random(heads_or_units) < 0.4
        set_zero(classifier, name, np.s_[:, dead] if makes else dead)
    expected = classifier.model(batch()).numpy()
    compaction = compact_bert(classifier)
    assert compaction.total >= 10
    assert_same_logits(compaction, expected)


def test_nothing_goes_from_a_dense_classifier(classifier):
    compaction = compact_bert(classifier)
    assert compaction.removed == {} and compaction.total == 0
    assert_same_logits(compaction, classifier.model(batch()).numpy())


def test_exported_and_converted(classifier, tmp_path):
    for name, index in HEADS + UNITS:
        set_zero(classifier, f"{FIRST}/{name}", index)
    expected = classifier.model(batch()).numpy()
    inference = text_inference(compact_bert(classifier).model, length=12)
    module = tf.Module()
    module.model_weights, module.infer = inference.model.weights, inference.function
    tf.saved_model.save(module, str(tmp_path), signatures=inference.function)
    inputs = {name: tf.constant(array) for name, array in batch().items()}
    loaded = tf.saved_model.load(str(tmp_path))
    logits = loaded.signatures["serving_default"](**inputs)["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-5)

    interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT")
    function = inference.function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], inference.model)
    interpreter = interpreters.Interpreter(model_content=converter.convert())
    runner = interpreter.get_signature_runner()
    np.testing.assert_allclose(runner(**batch())["logits"], expected, atol=1e-5)


def test_wrapped_layers_are_refused(classifier):
    class Wrapped(keras.layers.Wrapper):
        def call(self, inputs):
            return self.layer(inputs)

    classifier.replace_layers(Wrapped)
    with pytest.raises(ValueError, match="transformer_layer_0/query: a Wrapped, expected a plain"):
        compact_bert(classifier)
