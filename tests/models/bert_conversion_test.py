"""The names and the layout of transformers' weights."""

import numpy as np
import pytest

from tests.models import tiny_bert
from tf_tickets.errors import UserError
from tf_tickets.models.bert_encoder import load_encoder


@pytest.fixture
def folder(tmp_path):
    return tiny_bert.write_folder(tmp_path / "tiny")


def test_the_file_s_layout_by_hand(folder):
    encoder, tensors = load_encoder(bert_dir=str(folder)), tiny_bert.state_dict()
    query = encoder.weights["transformer_layer_1/self_attention_layer/query/kernel"]
    assert query.shape == (16, 2, 8) and query.dtype == np.float32
    # From input 3 to head 1's unit 2, which is unit 10 of all heads.
    assert query[3, 1, 2] == tensors["encoder.layer.1.attention.self.query.weight"][10, 3]
    output = encoder.weights["transformer_layer_0/self_attention_layer/attention_output/kernel"]
    assert output[1, 2, 3] == tensors["encoder.layer.0.attention.output.dense.weight"][3, 10]
    inner = encoder.weights["transformer_layer_0/feedforward_intermediate_dense/kernel"]
    assert inner[3, 20] == tensors["encoder.layer.0.intermediate.dense.weight"][20, 3]
    assert encoder.name == "tiny" and encoder.vocabulary == tiny_bert.VOCABULARY
    assert encoder.lowercase and encoder.config.initializer_range == 0.02


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"bert.{name}",
        lambda name: name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"),
    ],
)
def test_names_of_older_and_larger_models(tmp_path, folder, rename):
    tensors = {rename(name): array for name, array in tiny_bert.state_dict().items()}
    tensors["cls.predictions.bias"] = np.zeros(3, np.float32)
    tensors["embeddings.position_ids"] = np.arange(20)[None]
    other = load_encoder(bert_dir=str(tiny_bert.write_folder(tmp_path / "other", tensors)))
    plain = load_encoder(bert_dir=str(folder))
    assert plain.sha256 != other.sha256
    for path, array in plain.weights.items():
        np.testing.assert_array_equal(other.weights[path], array)


def test_half_precision_is_read_as_single(tmp_path):
    tensors = {name: array.astype(np.float16) for name, array in tiny_bert.state_dict().items()}
    encoder = load_encoder(bert_dir=str(tiny_bert.write_folder(tmp_path / "half", tensors)))
    kernel = encoder.weights["pooled_dense/kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, tensors["pooler.dense.weight"].T)


def changed(**changes):
    tensors = tiny_bert.state_dict() | changes
    return {name: array for name, array in tensors.items() if array is not None}


@pytest.mark.parametrize(
    "tensors, found",
    [
        (
            changed(**{"encoder.layer.1.output.dense.bias": None}),
            "not the BERT of its config.json: without encoder.layer.1.output.dense.bias",
        ),
        (
            changed(**{"pooler.dense.weight": None, "pooler.dense.bias": None}),
            "has no pooler (pooler.dense.weight and .bias)",
        ),
        (
            changed(**{f"classifier.{i}.bias": np.zeros(2, np.float32) for i in range(5)}),
            "with an unknown classifier.0.bias, classifier.1.bias, classifier.2.bias and 2 more",
        ),
        (
            changed(**{"pooler.dense.weight": np.zeros((16, 8), np.float32)}),
            "with pooler.dense.weight of shape (16, 8) instead of (16, 16)",
        ),
    ],
)
def test_other_weights_are_refused(tmp_path, tensors, found):
    folder = tiny_bert.write_folder(tmp_path / "other", tensors)
    with pytest.raises(UserError) as caught:
        load_encoder(bert_dir=str(folder))
    error = str(caught.value)
    assert error.startswith(f"{folder / 'model.safetensors'}: ") and found in error
    assert "\n" not in error
