"""The types that hold images."""

import numpy as np
import pytest
import tensorflow as tf

from tests.bilinear import bilinear
from tf_tickets.data.vision import ImageData, ImageSplit, resize, to_unit_interval
from tf_tickets.errors import UserError


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


SPLITS = ("train", "validation", "test")


def test_padding_is_zero_and_symmetric():
    original = data(augment=True)
    padded = original.padded(6)
    assert padded.image_shape == (6, 6, 1) and padded.augment and padded.name == "toy"
    for name in SPLITS:
        before, after = getattr(original, name), getattr(padded, name)
        expected = np.zeros((len(before), 6, 6, 1), np.uint8)
        expected[:, 2:4, 1:4] = before.images  # Of the three columns two lie on the right.
        np.testing.assert_array_equal(after.images, expected)
        np.testing.assert_array_equal(after.labels, before.labels)


def test_padding_to_the_same_size_is_nothing():
    square = data(train=split(shape=(3, 3, 1)), **{n: split(2, (3, 3, 1)) for n in SPLITS[1:]})
    assert square.padded(3) is square
    assert data().padded(3).image_shape == (3, 3, 1)


def test_padding_does_not_crop():
    with pytest.raises(ValueError, match="images of 2x3 pixels do not fit in 2x2"):
        data().padded(2)


def numbered(n):
    """A split whose images say where they stand."""
    return ImageSplit(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), np.arange(n) % 2)


def positions(part):
    return part.images.ravel().tolist()


def test_limits():
    whole = data(augment=True, **{name: numbered(40) for name in SPLITS})
    part = whole.limited(1, train=10, test=6)
    assert (len(part.train), len(part.validation), len(part.test)) == (10, 40, 6)
    assert part.validation is whole.validation and part.augment
    for kept in (part.train, part.test):
        assert np.bincount(kept.labels).tolist() == [len(kept) // 2] * 2
        assert np.all(np.diff(positions(kept)) > 0)
        np.testing.assert_array_equal(kept.labels, np.array(positions(kept)) % 2)


def test_limits_follow_the_seed_but_the_test_examples_do_not():
    whole = data(**{name: numbered(40) for name in SPLITS})
    one, again, two = (whole.limited(s, train=9, validation=9, test=9) for s in (1, 1, 2))
    for name in SPLITS:
        parts = [positions(getattr(part, name)) for part in (one, again, two)]
        assert parts[0] == parts[1]
        assert (parts[0] == parts[2]) == (name == "test")


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("count", [0, -3, 41])
def test_impossible_limits_are_refused(name, count):
    whole = data(**{name: numbered(40) for name in SPLITS})
    with pytest.raises(UserError) as caught:
        whole.limited(0, **{name: count})
    assert str(caught.value) == (
        f"--{name}_examples={count}: expected 1 to 40, the {name} examples of toy (embedded)"
    )


def test_unit_interval_in_numpy_and_in_a_graph():
    values = np.arange(256, dtype=np.uint8)
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    eager, graph = to_unit_interval(values), tf.function(to_unit_interval)(tf.constant(values))
    assert eager.dtype == graph.dtype == tf.float32
    np.testing.assert_array_equal(eager, expected)
    np.testing.assert_allclose(graph, expected, rtol=1e-6)
    assert expected[0] == eager[0] and eager[255] == 1.0


@pytest.mark.parametrize("side, size", [(4, 9), (5, 3), (3, 12)])
def test_resizing_interpolates_between_the_centres_of_pixels(side, size):
    images = np.random.default_rng(side).random((2, side, side, 3)).astype(np.float32)
    expected = np.stack([bilinear(image, size) for image in images])
    found = resize(tf.constant(images), (size, size, 3))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_resizing_by_hand():
    row = tf.constant([0.0, 1.0])[None, None, :, None]
    found = resize(tf.tile(row, [1, 2, 1, 1]), (4, 4, 1))
    np.testing.assert_allclose(found[0, :, :, 0], [[0, 0.25, 0.75, 1]] * 4, atol=1e-7)


def test_images_of_the_right_size_are_not_touched():
    images = tf.zeros([2, 4, 4, 1])
    assert resize(images, (4, 4, 1)) is images


def test_resized_data_hold_the_same_pixels():
    original = data(augment=True)
    resized = original.resized(8)
    assert resized.image_shape == (8, 8, 1) and resized.augment
    assert (original.origin, resized.origin) == ("toy (embedded)", "toy (embedded, resized)")
    for name in SPLITS:
        before, after = getattr(original, name), getattr(resized, name)
        assert after.images is before.images and after.labels is before.labels
        assert after.image_shape == after.subset(np.array([1])).image_shape == (8, 8, 1)
    fewer = resized.limited(0, train=2, test=1).with_train_fraction(100, 0)
    assert fewer.image_shape == (8, 8, 1) and len(fewer.train) == 2


def test_resizing_and_padding():
    square = data(**{name: split(shape=(3, 3, 1)) for name in SPLITS})
    assert square.resized(3) is square and square.origin == "toy (embedded)"
    assert square.resized(5).resized(6).image_shape == (6, 6, 1)
    padded = square.padded(4).resized(8)
    assert padded.image_shape == (8, 8, 1) and padded.train.images.shape[1:] == (4, 4, 1)
    assert padded.padded(8) is padded
    with pytest.raises(ValueError, match="resized to 8x8 pixels cannot be padded"):
        padded.padded(9)
    with pytest.raises(UserError, match="--image_size=0: expected at least 1"):
        square.resized(0)


def test_splits_that_are_resized_differently_are_refused():
    square = data(**{name: split(shape=(3, 3, 1)) for name in SPLITS})
    with pytest.raises(ValueError, match=r"\(3, 3, 1\) and \(5, 5, 1\)"):
        data(train=square.train, validation=square.validation, test=square.resized(5).test)


def test_a_fraction_of_the_training_images():
    whole = data(**{name: numbered(40) for name in SPLITS})
    part, again, other = (whole.with_train_fraction(25, seed) for seed in (3, 3, 4))
    assert np.bincount(part.train.labels).tolist() == [5, 5]
    assert positions(part.train) == positions(again.train) != positions(other.train)
    np.testing.assert_array_equal(part.train.labels, np.array(positions(part.train)) % 2)
    assert part.validation is whole.validation and part.test is whole.test
    smaller = whole.with_train_fraction(5, 3)
    assert np.bincount(smaller.train.labels).tolist() == [1, 1]
    assert set(positions(smaller.train)) < set(positions(part.train))
    assert whole.with_train_fraction(100, 3) is whole


@pytest.mark.parametrize(
    "percent, message",
    [
        (0, "--percents=0: expected percents, above 0 to 100"),
        (101, "--percents=101: expected percents, above 0 to 100"),
        (2.5, "--percents=2.5: 2.5% of the 40 training examples of toy are 1, too few for one "),
    ],
)
def test_a_fraction_without_an_example_of_each_class_is_refused(percent, message):
    whole = data(**{name: numbered(40) for name in SPLITS})
    with pytest.raises(UserError) as caught:
        whole.with_train_fraction(percent, 0)
    assert str(caught.value).startswith(message)


def test_the_middle_of_an_image_is_cut_out_of_one_that_is_scaled_a_little_larger():
    images = np.random.default_rng(0).random((2, 28, 28, 3)).astype(np.float32)
    found = resize(tf.constant(images), (56, 56, 3), cropped=True).numpy()
    # 56 · 256 / 224 = 64, of which 4 go on each side.
    expected = [bilinear(image, 64)[4:60, 4:60] for image in images]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_data_augmented_as_published_show_the_middle_of_what_is_not_trained_on():
    published = data(augment=False).augmented_as_published()
    assert published.augment and published.augmentation == "published"
    assert published.test.cropped and published.validation.subset([0]).cropped
    assert not published.train.cropped
    assert published.resized(8).test.cropped
