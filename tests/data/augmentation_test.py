"""Random crops and flips against all those that there are."""

import numpy as np
import pytest
import tensorflow as tf

from tf_tickets.data.augmentation import random_crop_and_flip


def all_versions(image, padding):
    """(shift down, shift right, mirrored) → the image so changed, pixel by pixel."""
    height, width, _ = image.shape
    versions = {}
    for down in range(-padding, padding + 1):
        for right in range(-padding, padding + 1):
            moved = np.zeros_like(image)
            for y in range(height):
                for x in range(width):
                    if 0 <= y + down < height and 0 <= x + right < width:
                        moved[y + down, x + right] = image[y, x]
            versions[down, right, False] = moved
            versions[down, right, True] = moved[:, ::-1]
    return versions


def which(image, versions):
    """The one key whose version equals `image`."""
    (key,) = [key for key, version in versions.items() if np.array_equal(version, image)]
    return key


def make_images(n, shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(1, 256, (n, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "shape, padding", [((5, 7, 3), 2), ((32, 32, 3), 4), ((6, 4, 1), 1), ((4, 4, 2), 0)]
)
def test_each_image_is_one_of_its_versions(shape, padding, dtype):
    images = make_images(6, shape, dtype)
    changed = random_crop_and_flip(tf.constant(images), tf.constant([3, 1]), padding)
    assert changed.dtype == dtype
    for before, after in zip(images, changed.numpy(), strict=True):
        which(after, all_versions(before, padding))


def test_all_versions_are_equally_likely_and_independent_between_images():
    n = 9_000
    image = make_images(1, (4, 5, 2))[0]
    changed = random_crop_and_flip(tf.constant(np.stack([image] * n)), tf.constant([0, 7]), 1)
    versions = all_versions(image, 1)
    keys = [which(after, versions) for after in changed.numpy()]
    order = {key: number for number, key in enumerate(versions)}
    drawn = np.array([order[key] for key in keys])
    expected = n / 18
    assert np.all(np.abs(np.bincount(drawn, minlength=18) - expected) < 5 * np.sqrt(expected))
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 5 / np.sqrt(n)


def test_the_default_reaches_four_pixels():
    image = make_images(1, (12, 12, 1))[0]
    changed = random_crop_and_flip(tf.constant(np.stack([image] * 400)), tf.constant([0, 0]))
    versions = all_versions(image, 4)
    keys = np.array([which(after, versions)[:2] for after in changed.numpy()])
    assert keys.min(axis=0).tolist() == [-4, -4] and keys.max(axis=0).tolist() == [4, 4]


def test_the_seed_decides_in_a_graph_too():
    images = tf.constant(make_images(16, (8, 8, 3)))
    graph = tf.function(random_crop_and_flip)
    first, again, other = (graph(images, tf.constant([5, step])) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, random_crop_and_flip(images, tf.constant([5, 0])))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("batch", [7, None])
def test_the_static_shape_is_kept(batch):
    signature = [tf.TensorSpec([batch, 8, 6, 3], tf.uint8), tf.TensorSpec([2], tf.int32)]
    graph = tf.function(random_crop_and_flip, input_signature=signature).get_concrete_function()
    assert graph.structured_outputs.shape.as_list() == [batch, 8, 6, 3]
