"""Victims: their answers against the model's own, their batches, their cache, their files."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.attacks.tiny_texts import BAD, GOOD, LENGTH, TEXTS, VOCABULARY, opinion_model
from tf_tickets.data.tokens import Tokenizer
from tf_tickets.errors import UserError
from tf_tickets.evaluation.text_victim import TextVictim, load_victim, save_victim

pytest.importorskip("keras_nlp", reason="needs the extra `text`")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("victims") / "victim"
    sha256 = save_victim(folder, opinion_model(), VOCABULARY, True, LENGTH)
    return folder, sha256


class CountingModel:
    """Answers with sums of token and segment ids, and remembers what it was asked."""

    def __init__(self):
        self.shapes = []

    def __call__(self, token_ids, segment_ids, padding_mask):
        np.testing.assert_array_equal(padding_mask, token_ids != 0)
        self.shapes.append(token_ids.shape)
        return np.stack([token_ids.sum(axis=1), segment_ids.sum(axis=1)], axis=1)


def counting_victim(batch_size=64):
    model = CountingModel()
    return model, TextVictim(model, Tokenizer(VOCABULARY, True, LENGTH), batch_size)


def expected(texts):
    token_ids, segment_ids = Tokenizer(VOCABULARY, True, LENGTH)(texts)
    return np.stack([token_ids.sum(axis=1), segment_ids.sum(axis=1)], axis=1)


def test_answers_come_in_the_order_of_the_texts():
    model, victim = counting_victim(batch_size=2)
    texts = [("good " * n,) for n in (20, 1, 9, 2, 30, 5)]
    answers = victim(texts)
    assert answers.dtype == np.float64
    np.testing.assert_array_equal(answers, expected(texts))
    # [CLS], the words and [SEP], padded to multiples of 8; two texts at most at a time.
    assert model.shapes == [(2, 8), (1, 8), (1, 16), (1, 24), (1, 32)]


def test_pairs_keep_their_segments():
    _, victim = counting_victim()
    pairs = [("the film", "is good"), ("the film is", "bad and dull")]
    answers = victim(pairs)
    np.testing.assert_array_equal(answers, expected(pairs))
    np.testing.assert_array_equal(answers[:, 1], [3, 4])


def test_a_text_is_asked_once_also_in_other_words():
    model, victim = counting_victim()
    texts = [("good film",), ("Good  FILM",), ("good film",), ("goxd film",), ("gоod film",)]
    answers = victim(texts)
    assert model.shapes == [(2, 8)]
    np.testing.assert_array_equal(answers, expected(texts))
    np.testing.assert_array_equal(victim(texts[::-1]), answers[::-1])
    assert model.shapes == [(2, 8)]


def test_the_least_used_answers_are_forgotten(monkeypatch):
    monkeypatch.setattr("tf_tickets.evaluation.text_victim._CACHED_TEXTS", 2)
    model, victim = counting_victim()
    for word in ("good", "bad", "good", "dull", "good", "bad"):
        np.testing.assert_array_equal(victim([(word,)]), expected([(word,)]))
    assert len(model.shapes) == 4  # bad was forgotten for dull


def test_a_saved_victim_answers_as_its_model(saved):
    folder, _ = saved
    victim = load_victim(folder)
    texts = [(text,) for text in TEXTS]
    token_ids, segment_ids = Tokenizer(VOCABULARY, True, LENGTH)(texts)
    inputs = (token_ids, segment_ids, (token_ids != 0).astype(np.int32))
    names = ("token_ids", "segment_ids", "padding_mask")
    model = opinion_model()
    logits = model({name: tf.constant(value) for name, value in zip(names, inputs, strict=True)})
    np.testing.assert_allclose(victim(texts), logits, atol=1e-6)
    opinions = np.array([[(w in GOOD) - (w in BAD) for w in VOCABULARY]])
    assert (victim(texts).argmax(1) == (opinions[0][token_ids].sum(1) > 0)).all()


def test_the_hash_is_that_of_weights_and_vocabulary(saved, tmp_path):
    _, sha256 = saved
    model = opinion_model()
    assert save_victim(tmp_path / "same", model, VOCABULARY, True, LENGTH) == sha256
    changed = [
        save_victim(tmp_path / "words", model, (*VOCABULARY, "new"), True, LENGTH),
        save_victim(tmp_path / "cased", model, VOCABULARY, False, LENGTH),
    ]
    weights = model.get_weights()
    weights[0][7] += 1e-3
    model.set_weights(weights)
    changed.append(save_victim(tmp_path / "same", model, VOCABULARY, True, LENGTH))
    assert len({sha256, *changed}) == 4
    assert json.loads((tmp_path / "same" / "victim.json").read_text())["sha256"] == changed[-1]


def test_a_folder_that_is_no_victim_is_refused(saved, tmp_path):
    with pytest.raises(UserError, match="expected a victim's folder"):
        load_victim(tmp_path)
    (tmp_path / "victim.json").write_text((saved[0] / "victim.json").read_text())
    with pytest.raises(UserError, match="no saved_model.pb in it"):
        load_victim(tmp_path)
