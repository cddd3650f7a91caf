"""Texts with labels, and parts of them."""

import numpy as np
import pytest

from tf_tickets.data.text import TextData, TextSplit
from tf_tickets.errors import UserError


def split(*labels, prefix="text"):
    texts = tuple((f"{prefix} {number}",) for number in range(len(labels)))
    return TextSplit(texts, np.array(labels, np.int32))


def data(**changes):
    fields = {
        "name": "sst2",
        "parts": ("sentence",),
        "class_names": ("negative", "positive"),
        "train": split(*[0, 1] * 20, *[0] * 20),
        "validation": split(0, 1, 0, 1, prefix="held out"),
        "test": split(*[1, 0] * 10, prefix="test"),
        "origin": "sst2 (tfds)",
    }
    return TextData(**fields | changes)


def test_a_subset_keeps_texts_and_labels_together():
    part = split(0, 1, 2, 1).subset(np.array([3, 0]))
    assert part.texts == (("text 3",), ("text 0",)) and part.labels.tolist() == [1, 0]
    assert len(part) == 2


@pytest.mark.parametrize("labels", [np.array([0, 1], np.int64), np.array([0], np.int32)])
def test_other_labels_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels must be int32 of shape \[2\]"):
        TextSplit((("a",), ("b",)), labels)


def test_an_example_has_all_parts():
    with pytest.raises(ValueError, match="have not the texts premise, hypothesis"):
        data(parts=("premise", "hypothesis"))


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_without_a_class_are_refused(label):
    with pytest.raises(ValueError, match="labels outside 0 to 1"):
        data(validation=split(0, label))


def test_limited_leaves_the_classes_their_shares():
    part = data().limited(3, train=12, test=6)
    assert np.bincount(part.train.labels).tolist() == [8, 4]
    assert np.bincount(part.test.labels).tolist() == [3, 3]
    assert len(part.validation) == 4
    whole = dict(zip(data().train.texts, data().train.labels, strict=True))
    assert [whole[text] for text in part.train.texts] == part.train.labels.tolist()


def test_limited_grows_and_tests_on_the_same_examples_whatever_the_seed():
    zero, one, larger = (data().limited(s, train=n, test=4) for s, n in [(0, 8), (1, 8), (0, 9)])
    assert zero.train.texts != one.train.texts and zero.test.texts == one.test.texts
    assert set(zero.train.texts) < set(larger.train.texts)


@pytest.mark.parametrize("count", [0, 21])
def test_limited_names_the_flag(count):
    message = f"--test_examples={count}: expected 1 to 20, the test examples of sst2"
    with pytest.raises(UserError, match=message):
        data().limited(0, test=count)
