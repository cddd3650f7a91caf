"""The classifier around an encoder: its two views, what tickets prune, and its randomness."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.tiny_bert import batch, write_folder
from tf_tickets.models.bert_encoder import load_encoder
from tf_tickets.models.weights import read_weights, weight_path, write_weights

pytest.importorskip("keras_nlp", reason="needs the extra `text`")

from tf_tickets.models.bert_classifier import BertClassifier  # noqa: E402


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_encoder(bert_dir=str(write_folder(tmp_path_factory.mktemp("bert") / "tiny")))


def features_of(classifier, inputs):
    embeddings = classifier.word_embeddings(inputs["token_ids"])
    rest = {name: inputs[name] for name in ("segment_ids", "padding_mask")}
    return classifier.features({"word_embeddings": embeddings, **rest})


def test_logits_are_the_head_on_the_pooled_output_of_the_backbone(encoder):
    classifier = BertClassifier(encoder, classes=3, dropout=0.1, seed=0)
    pooled = encoder.build_backbone(0.0)(batch())["pooled_output"].numpy()
    weights = read_weights(classifier.model)
    expected = pooled @ weights["logits/kernel"] + weights["logits/bias"]
    np.testing.assert_allclose(classifier.model(batch()), expected, atol=1e-5)


def test_both_views_agree_and_hidden_states_are_the_backbones(encoder):
    classifier = BertClassifier(encoder, classes=2, dropout=0.1, seed=0)
    features = features_of(classifier, batch())
    np.testing.assert_allclose(features["logits"], classifier.model(batch()), atol=1e-6)
    hidden = encoder.build_backbone(0.0)(batch())["sequence_output"].numpy()
    real = batch()["padding_mask"] == 1
    np.testing.assert_allclose(features["hidden"].numpy()[real], hidden[real], atol=1e-5)


def test_the_seed_decides_the_head_alone(encoder):
    first, again, other = (
        read_weights(BertClassifier(encoder, 2, 0.1, seed).model) for seed in (0, 0, 1)
    )
    assert all(np.array_equal(first[path], again[path]) for path in first)
    assert {path for path in first if not np.array_equal(first[path], other[path])} == {
        "logits/kernel"
    }


def test_tickets_prune_six_layers_of_each_encoder_and_the_pooler(encoder):
    layers = BertClassifier(encoder, 2, 0.1, 0).masked_layers
    kernels = {weight_path(layer.kernel) for layer in layers.values()}
    names = ("query", "key", "value", "attention_output")
    expected = {"pooled_dense/kernel"}
    for block in ("transformer_layer_0", "transformer_layer_1"):
        expected |= {f"{block}/self_attention_layer/{name}/kernel" for name in names}
        expected |= {
            f"{block}/feedforward_{name}_dense/kernel" for name in ("intermediate", "output")
        }
    assert kernels == expected and len(layers) == 13


def test_replaced_layers_are_those_that_run(encoder):
    classifier = BertClassifier(encoder, 2, 0.0, 0)
    called = []

    class Spy(keras.layers.Wrapper):
        def call(self, inputs):
            called.append(self.layer.name)
            return self.layer(inputs)

    classifier.replace_layers(lambda layer: Spy(layer, name=f"spy_{layer.name}"))
    called.clear()
    classifier.model(batch())
    assert len(called) == 13
    assert called[-1] == "pooled_dense"


def test_dropout_starts_over_with_a_seed_and_differs_between_calls(encoder):
    classifier = BertClassifier(encoder, 2, 0.3, 0)
    train = tf.function(lambda: classifier.model(batch(), training=True))
    first, second = train().numpy(), train().numpy()
    assert np.abs(first - second).max() > 1e-4
    classifier.reseed(0)
    np.testing.assert_array_equal(train().numpy(), first)
    classifier.reseed(1)
    assert np.abs(first - train().numpy()).max() > 1e-4


def test_a_checkpoint_holds_where_dropout_stands(encoder, tmp_path):
    classifier = BertClassifier(encoder, 2, 0.3, 0)
    train = tf.function(lambda: classifier.model(batch(), training=True))
    train()
    checkpoint = tf.train.Checkpoint(streams=classifier.random_streams)
    path = checkpoint.write(str(tmp_path / "state"))
    following = train().numpy()
    checkpoint.read(path)
    np.testing.assert_array_equal(train().numpy(), following)


def test_weights_fit_another_classifier_of_the_encoder(encoder):
    trained = BertClassifier(encoder, 2, 0.1, 0)
    weights = {path: array + 0.01 for path, array in read_weights(trained.model).items()}
    other = BertClassifier(encoder, 2, 0.0, 5)
    write_weights(other.model, weights)
    write_weights(trained.model, weights)
    np.testing.assert_array_equal(other.model(batch()), trained.model(batch()))
