"""Random crops and flips against all those that there are, and mixing pixel by pixel."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tf_tickets.data.augmentation import (
    MIXING,
    cutmix,
    cutout,
    mixup,
    random_boxes,
    random_crop_and_flip,
    random_resized_crop_and_flip,
)


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


def make_batch(n, shape):
    """Images of which no two have a pixel in common, each of a class of its own."""
    images = np.random.default_rng(0).permutation(n * np.prod(shape)).reshape(n, *shape)
    return images.astype(np.float32) / images.size + 0.5 / images.size, np.eye(n, dtype=np.float32)


def box(mask):
    """The first and last + 1 row and column of the one box that `mask` is, or None."""
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert mask[top:bottom, left:right].all() and mask.sum() == (bottom - top) * (right - left)
    return top, bottom, left, right


def squares_of_16(height, width):
    """All boxes that a square of 16 around a pixel leaves of an image → its centres."""
    found = {}
    for y in range(height):
        for x in range(width):
            ends = max(0, y - 8), min(height, y + 8), max(0, x - 8), min(width, x + 8)
            found.setdefault(ends, []).append((y, x))
    return found


def test_cutout_zeroes_one_square_of_16_around_any_pixel():
    images, targets = make_batch(4_000, (20, 18, 1))
    changed, same = cutout(tf.constant(images), tf.constant(targets[:, :3]), tf.constant([1, 2]))
    np.testing.assert_array_equal(same, targets[:, :3])
    possible, centres = squares_of_16(20, 18), []
    for before, after in zip(images, changed.numpy(), strict=True):
        zero = after == 0
        np.testing.assert_array_equal(after[~zero], before[~zero])
        centres.append(possible[box(zero[..., 0])][0])
    # Every pixel is as likely a centre; so is then every box, as none has two here.
    assert all(len(pixels) == 1 for pixels in possible.values())
    numbers = np.array([18 * y + x for y, x in centres])
    counts = np.bincount(numbers, minlength=360)
    assert abs(counts.var() / (4_000 / 360) - 1) < 5 * np.sqrt(2 / 360)
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 5 / np.sqrt(4_000)


def test_mixup_averages_images_and_targets_with_one_weight():
    images, targets = make_batch(5, (4, 6, 3))
    weights, partners = [], []
    for step in range(400):
        mixed, labels = mixup(tf.constant(images), tf.constant(targets), tf.constant([3, step]))
        labels = labels.numpy()
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
        # Targets are of the classes 0 to 4, so that they say which images were mixed, and how.
        np.testing.assert_allclose(mixed, np.einsum("nk,kyxc->nyxc", labels, images), atol=1e-5)
        changed = np.diag(labels) < 1 - 1e-6
        if changed.any():
            assert np.ptp(np.diag(labels)[changed]) < 1e-6  # One weight a batch.
            weights.append(np.diag(labels)[changed][0])
            partners.append(np.argmax(labels - np.diag(np.diag(labels)), axis=1)[changed])
            others = np.sort(labels, axis=1)[changed]
            np.testing.assert_allclose(others[:, -1] + others[:, -2], 1, atol=1e-6)
        np.testing.assert_allclose(labels.sum(axis=0), 1, atol=1e-5)  # A permutation.
    assert is_uniform(weights)
    assert set(np.concatenate(partners)) == {0, 1, 2, 3, 4}


def is_uniform(values):
    """Kolmogorov and Smirnov's test of the uniform distribution, failed once in 10,000 times."""
    ordered = np.sort(values)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1]))
    return distance * np.sqrt(len(ordered)) < 2.23


def test_cutmix_replaces_one_box_and_weighs_targets_by_area():
    images, targets = make_batch(5, (12, 9, 2))
    areas, inner = [], []
    for step in range(600):
        mixed, labels = cutmix(tf.constant(images), tf.constant(targets), tf.constant([step, 3]))
        mixed, labels = mixed.numpy(), labels.numpy()
        np.testing.assert_allclose(labels.sum(axis=0), 1, atol=1e-6)
        boxes = set()
        for number in range(5):
            # No two images share a value, so each pixel says from where it is.
            source = np.argmax((mixed[number] == images).all(axis=-1), axis=0)
            np.testing.assert_array_equal(
                mixed[number], np.take_along_axis(images, source[None, ..., None], axis=0)[0]
            )
            shares = np.bincount(source.ravel(), minlength=5) / source.size
            np.testing.assert_allclose(labels[number], shares, atol=1e-6)
            if (source != number).any():
                boxes.add(box(source != number))
        assert len(boxes) <= 1  # The same for all images of a batch.
        for top, bottom, left, right in boxes:
            areas.append((bottom - top) * (right - left) / 108)
            if top > 0 and bottom < 12 and left > 0 and right < 9:
                inner.append((bottom - top, right - left))
    # A box that the image does not cut off has even sides in the image's proportions.
    assert {(side % 2, other % 2) for side, other in inner} == {(0, 0)}
    assert all(abs(side / 12 - other / 9) < 2 / 9 for side, other in inner)
    assert min(areas) < 0.05 and max(areas) > 0.7


def test_cutmix_draws_the_area_uniformly():
    images, targets = np.zeros((2, 64, 64, 1), np.float32), np.eye(2, dtype=np.float32)
    images[1] = 1
    sides = []
    graph = tf.function(cutmix)
    for step in range(1_500):
        mixed, labels = graph(tf.constant(images), tf.constant(targets), tf.constant([step, 9]))
        if labels[0, 1] > 0:
            top, bottom, left, right = box(mixed.numpy()[0, ..., 0] == 1)
            if top > 0 and bottom < 64:  # Its height was not cut off.
                sides.append((bottom - top) / 64)
    # Of heights s = √(1 - λ), which have the density 2s, the share 1 - s or a little more is not.
    edges = np.array([0, 0.25, 0.5, 0.75, 1])
    counts, _ = np.histogram(sides, edges)
    expected = np.diff(edges**2 - 2 * edges**3 / 3)
    found = counts / counts.sum()
    assert np.all(np.abs(found - expected / expected.sum()) < 0.08)


@pytest.mark.parametrize("name", MIXING)
def test_mixing_follows_from_the_seed_in_a_graph_of_any_batch_size(name):
    signature = [
        tf.TensorSpec([None, 20, 20, 3], tf.float32),
        tf.TensorSpec([None, 6], tf.float32),
        tf.TensorSpec([2], tf.int32),
    ]
    graph = tf.function(MIXING[name], input_signature=signature)
    shapes = [output.shape.as_list() for output in graph.get_concrete_function().structured_outputs]
    assert shapes == [[None, 20, 20, 3], [None, 6]]
    images, targets = (tf.constant(array) for array in make_batch(6, (20, 20, 3)))
    first, again, other = (graph(images, targets, tf.constant([5, step])) for step in (0, 0, 1))
    eager = MIXING[name](images, targets, tf.constant([5, 0]))
    for one, two, three in zip(first, again, eager, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, three, atol=1e-6)
    assert not np.array_equal(first[0], other[0])
    np.testing.assert_array_equal(
        graph(images[:1], targets[:1], tf.constant([5, 0]))[1], targets[:1]
    )


def box_by_hand(numbers, height, width):
    """One image's part, a draw after the other; top, left, height, width."""
    for draw in range(10):
        area = height * width * (0.08 + 0.92 * numbers[draw])
        ratio = (3 / 4) * (16 / 9) ** numbers[10 + draw]
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 1 <= rows <= height and 1 <= columns <= width:
            top = math.floor(numbers[20] * (height - rows + 1))
            return top, math.floor(numbers[21] * (width - columns + 1)), rows, columns
    rows, columns = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


@pytest.mark.parametrize("height, width", [(32, 32), (20, 41), (8, 90)])
def test_boxes_are_those_drawn_one_by_one(height, width):
    numbers = np.random.default_rng(0).random((300, 23)).astype(np.float32)
    found = random_boxes(tf.constant(numbers), height, width).numpy()
    expected = [box_by_hand(row.astype(float), height, width) for row in numbers]
    # A number within rounding of a half may fall to either side.
    assert np.mean(np.all(found == expected, axis=1)) > 0.99
    middles = np.all(found == box_by_hand([1.0] * 20 + [0.0] * 3, 8, 90), axis=1)
    assert middles.any() == (width == 90)


def test_the_largest_numbers_give_boxes_within_the_image():
    numbers = np.full((1, 23), np.nextafter(np.float32(1), np.float32(0)))
    numbers[:, :10], numbers[:, 10:20] = 0.3, 0.5
    top, left, rows, columns = random_boxes(tf.constant(numbers), 33, 47)[0].numpy()
    assert (top + rows, left + columns) == (33, 47)


def interpolated(image, axis, places):
    """Along an axis; np.interp keeps the outermost pixels beyond their centres."""
    pixels = np.arange(image.shape[axis])
    return np.apply_along_axis(lambda values: np.interp(places, pixels, values), axis, image)


def test_a_part_is_scaled_within_itself_and_mirrored():
    random = np.random.default_rng(1)
    images = random.random((6, 9, 13, 2)).astype(np.float32)
    seed, size = tf.constant([5, 7]), (12, 10)
    numbers = tf.random.stateless_uniform([6, 23], seed).numpy()
    found = random_resized_crop_and_flip(tf.constant(images), seed, size).numpy()
    assert {True, False} == set((numbers[:, -1] < 0.5).tolist())
    for image, row, result in zip(images, numbers, found):
        top, left, rows, columns = box_by_hand(row.astype(float), 9, 13)
        part = image[top : top + rows, left : left + columns]
        down = (np.arange(size[0]) + 0.5) * rows / size[0] - 0.5
        right = (np.arange(size[1]) + 0.5) * columns / size[1] - 0.5
        right = right[::-1] if row[-1] < 0.5 else right
        part = interpolated(interpolated(part, 0, down), 1, right)
        np.testing.assert_allclose(result, part, atol=1e-5)


def test_parts_are_drawn_as_often_as_they_should_be():
    numbers = tf.random.stateless_uniform([20_000, 23], [0, 1])
    top, left, rows, columns = random_boxes(numbers, 1000, 1000).numpy().T
    shares, ratios = rows * columns / 1e6, np.log(columns / rows)
    assert shares.min() > 0.078 and shares.max() <= 1
    assert np.abs(ratios).max() < math.log(4 / 3) + 0.01
    small = shares < 0.7  # These always fit: √(0.7 · 4/3) < 1. Hence both are uniform.
    assert stats.kstest(shares[small], stats.uniform(0.08, 0.62).cdf).pvalue > 0.001
    within = stats.uniform(-math.log(4 / 3), 2 * math.log(4 / 3))
    assert stats.kstest(ratios[small], within.cdf).pvalue > 0.001
    for place, side in ((top, rows), (left, columns)):
        assert np.mean(place[small] / (1000 - side[small])) == pytest.approx(0.5, abs=0.01)
