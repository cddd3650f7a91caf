"""The types that hold images."""

import numpy as np
import pytest
import tensorflow as tf

from tf_tickets.data.vision import ImageData, ImageSplit, to_unit_interval


def split(n=4, shape=(2, 3, 1), labels=None):
    images = np.arange(n * np.prod(shape)).reshape(n, *shape).astype(np.uint8)
    return ImageSplit(images, np.arange(n) % 2 if labels is None else np.array(labels))


def data(**changed):
    parts = {"train": split(), "validation": split(2), "test": split(3)} | changed
    return ImageData(name="toy", source="embedded", class_names=("even", "odd"), **parts)


def test_length_and_subset():
    whole = split(4)
    part = whole.subset(np.array([3, 0]))
    assert len(whole) == 4 and len(part) == 2
    np.testing.assert_array_equal(part.images, [whole.images[3], whole.images[0]])
    np.testing.assert_array_equal(part.labels, [1, 0])


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64), r"uint8 of shape \[2, 3, 3\]"),
        (np.zeros((2, 3, 3, 1), np.float32), np.zeros(2, np.int64), "got float32"),
        (np.zeros((2, 3, 3, 1), np.uint8), np.zeros(2, np.int32), "got int32"),
        (np.zeros((2, 3, 3, 1), np.uint8), np.zeros((2, 1), np.int64), r"shape \[2, 1\]"),
        (np.zeros((2, 3, 3, 1), np.uint8), np.zeros(3, np.int64), "2 images but 3 labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        ImageSplit(images, labels)


def test_shape_and_classes():
    assert data().image_shape == (2, 3, 1)
    assert data().num_classes == 2


def test_splits_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 1\) and \(3, 2, 1\)"):
        data(test=split(shape=(3, 2, 1)))


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_without_a_class_are_refused(label):
    with pytest.raises(ValueError, match="labels outside 0 to 1"):
        data(validation=split(2, labels=[0, label]))


def test_unit_interval_in_numpy_and_in_a_graph():
    values = np.arange(256, dtype=np.uint8)
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    eager, graph = to_unit_interval(values), tf.function(to_unit_interval)(tf.constant(values))
    assert eager.dtype == graph.dtype == tf.float32
    np.testing.assert_array_equal(eager, expected)
    np.testing.assert_allclose(graph, expected, rtol=1e-6)
    assert expected[0] == eager[0] and eager[255] == 1.0
