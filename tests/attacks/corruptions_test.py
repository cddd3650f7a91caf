"""The corruptions against their definitions, image by image and pixel by pixel."""

import colorsys
import io
import math
import random

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from tf_tickets.attacks.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tf_tickets.errors import UserError

# The published severities of these grow in other ways: the elastic transform first moves the
# whole image, then its parts; frost hides more and then darkens the image.
NOT_FARTHER = ("elastic_transform", "frost")


def make_images(n=8, shape=(32, 32, 3)):
    """Smooth random images with bright and dark places."""
    noise = np.random.default_rng(0).standard_normal((n, *shape))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 2, 2, 0.5))
    return np.uint8(np.clip(0.5 + 0.22 * smooth / smooth.std(), 0, 1) * 255)


def distance(one, other):
    return np.abs(one.astype(int) - other).mean()


def assert_same(corrupted, floats):
    """Equal to images in [0, 1], but where these are next to a whole number of 255."""
    exact = np.clip(floats, 0, 1) * 255
    assert np.all((corrupted <= exact + 0.01) & (corrupted > exact - 1.01))


def test_the_names_are_the_fifteen_of_the_paper():
    assert CORRUPTIONS == (
        "gaussian_noise", "shot_noise", "impulse_noise",
        "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
        "snow", "frost", "fog", "brightness",
        "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    )  # fmt: skip
    assert SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (30, 41, 3)])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_severity_changes_images_of_any_shape_and_keeps_it(name, shape):
    images = make_images(6, shape)
    before, distances = images.copy(), []
    for severity in SEVERITIES:
        corrupted = corrupt(images, name, severity, 0)
        assert corrupted.shape == images.shape and corrupted.dtype == np.uint8
        distances.append(distance(corrupted, images))
    np.testing.assert_array_equal(images, before)
    assert min(distances) > 0.3 and max(distances) < 90
    assert name in NOT_FARTHER or distances[4] > 1.2 * distances[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_alone_decides_and_each_image_has_its_own_numbers(name):
    images = np.concatenate([make_images(1)] * 300)

    def state():
        return random.getstate(), np.random.get_state()[1].tolist()

    before = state()
    first, again, other = (corrupt(images, name, 5, seed) for seed in (1, 1, 2))
    assert state() == before
    np.testing.assert_array_equal(first, again)
    plain = {
        "defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"
    }  # fmt: skip
    different = len(np.unique(first.reshape(300, -1), axis=0))
    if name == "motion_blur":
        assert different > 20  # Directions that are the same in whole pixels are equal.
    else:
        assert different == (1 if name in plain else 300)
    assert np.array_equal(first, other) == (name in plain)


def test_an_array_without_images():
    for name in CORRUPTIONS:
        assert corrupt(np.zeros((0, 32, 32, 3), np.uint8), name, 1, 0).shape == (0, 32, 32, 3)


@pytest.mark.parametrize("severity, deviation", enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1))
def test_gaussian_noise(severity, deviation):
    grey = np.full((40, 32, 32, 3), 128, np.uint8)  # So far from 0 and 255 that none is cut off.
    found = (corrupt(grey, "gaussian_noise", severity, 0) + 0.5) / 255 - 128 / 255
    assert abs(found.mean()) < 5 * deviation / math.sqrt(found.size)
    assert abs(found.std() / deviation - 1) < 0.01
    assert abs(np.mean(np.abs(found) < deviation) - 0.6827) < 0.02


@pytest.mark.parametrize("severity, photons", enumerate((500, 250, 100, 75, 50), start=1))
def test_shot_noise_has_the_variance_of_counts(severity, photons):
    for value in (40, 120):
        found = corrupt(np.full((20, 32, 32, 3), value, np.uint8), "shot_noise", severity, 0) / 255
        assert abs(found.var() / (value / 255 / photons) - 1) < 0.05
        assert len(np.unique(found)) < photons  # Whole numbers of photons.


@pytest.mark.parametrize("severity, share", enumerate((0.01, 0.02, 0.03, 0.05, 0.07), start=1))
def test_impulse_noise(severity, share):
    found = corrupt(np.full((50, 32, 32, 3), 77, np.uint8), "impulse_noise", severity, 0)
    assert set(np.unique(found)) == {0, 77, 255}
    for end in (0, 255):
        assert abs(np.mean(found == end) - share / 2) < 5 * math.sqrt(share / 2 / found.size)


@pytest.mark.parametrize(
    "severity, radius, smoothing", [(1, 0.3, 0.4), (3, 0.5, 0.6), (4, 1, 0.2), (5, 1.5, 0.1)]
)
def test_defocus_blur(severity, radius, smoothing):
    near = [math.exp(-(i**2) / (2 * smoothing**2)) for i in (-1, 0, 1)]
    disk = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y**2 + x**2 <= radius**2]
    kernel = np.zeros((5, 5))
    for y, x in disk:
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                kernel[2 + y + i, 2 + x + j] += near[i + 1] * near[j + 1]
    images = make_images(2, (9, 8, 3))
    padded = np.pad(images / 255, [(0, 0), (2, 2), (2, 2), (0, 0)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    expected = np.einsum("nyxcij,ij->nyxc", windows, kernel / kernel.sum())
    assert_same(corrupt(images, "defocus_blur", severity, 0), expected)


def test_glass_blur_takes_colours_from_above_and_from_the_left():
    images = make_images(3, (10, 9, 3))
    found = corrupt(images, "glass_blur", 1, 0)  # Whose Gaussian is too narrow to blur.
    offsets = set()
    for image, result in zip(images, found, strict=True):
        for y in range(10):
            for x in range(9):
                inside = y >= 2 and x >= 2
                near = [(0, 0), (0, 1), (1, 0), (1, 1)] if inside else [(0, 0)]
                same = [o for o in near if np.array_equal(image[y - o[0], x - o[1]], result[y, x])]
                assert same
                offsets.add(same[0])
    assert len(offsets) == 4


def test_glass_blur_blurs():
    grey = np.zeros((1, 9, 9, 1), np.uint8)
    grey[0, 0, 0] = 255  # In the rows and columns that stay.
    once = np.floor(scipy.ndimage.gaussian_filter(grey[0, ..., 0] / 255, 0.4, mode="nearest") * 255)
    expected = scipy.ndimage.gaussian_filter(once / 255, 0.4, mode="nearest")
    assert_same(corrupt(grey, "glass_blur", 3, 0)[0, :2, :2, 0], expected[:2, :2])


@pytest.mark.parametrize("severity, radius, deviation", [(1, 6, 1), (5, 9, 2.5)])
def test_motion_blur_is_a_half_of_a_bell_in_one_direction(severity, radius, deviation):
    image = make_images(1, (12, 14, 3))[0]
    weights = [math.exp(-(i**2) / (2 * deviation**2)) for i in range(2 * radius + 1)]

    def blurred(degrees):
        total = np.zeros(image.shape)
        for y in range(12):
            for x in range(14):
                for i, weight in enumerate(weights):
                    down = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
                    right = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
                    row, column = min(max(y + down, 0), 11), min(max(x + right, 0), 13)
                    total[y, x] += weight / sum(weights) * image[row, column]
        return total

    directions = np.array([blurred(degrees) for degrees in np.arange(-45, 45.1, 1)])
    for found in corrupt(np.stack([image] * 4), "motion_blur", severity, 0):
        # The direction is random; one of all degrees comes close.
        errors = np.abs(directions - 0.5 - found).mean(axis=(1, 2, 3))
        assert errors.min() < 0.5 and np.median(errors) > 1


@pytest.mark.parametrize("severity, limit", enumerate((1.06, 1.11, 1.16, 1.21, 1.26), start=1))
def test_zoom_blur(severity, limit):
    images = make_images(2)
    factors = np.arange(1, limit, 0.01)
    for image, found in zip(images, corrupt(images, "zoom_blur", severity, 0), strict=True):
        total = image / 255
        for factor in factors:
            part = math.ceil(32 / factor)
            top = (32 - part) // 2
            zoomed = scipy.ndimage.zoom(
                image[top : top + part, top : top + part] / 255, (factor, factor, 1), order=1
            )
            trim = (len(zoomed) - 32) // 2
            total = total + zoomed[trim : trim + 32, trim : trim + 32]
        assert_same(found, total / (len(factors) + 1))


def test_snow_whitens_and_falls():
    images = make_images(20) // 2
    for severity, kept in enumerate((0.95, 0.9, 0.9, 0.85, 0.8), start=1):
        grey = images / 255 @ [[0.299], [0.587], [0.114]]
        white = kept * images / 255 + (1 - kept) * np.maximum(images / 255, 1.5 * grey + 0.5)
        flakes = corrupt(images, "snow", severity, 0) / 255 - np.clip(white, 0, 1)
        assert flakes.min() > -1.1 / 255 and flakes.max() > 0.2
        # The same in all colours, and the same upside down.
        darker = (white + flakes).max(axis=-1) < 0.99
        assert np.ptp(flakes, axis=-1)[darker].max() < 1.1 / 255
        both = darker & darker[:, ::-1, ::-1]
        assert np.abs(flakes - flakes[:, ::-1, ::-1])[both].max() < 1.1 / 255


def test_frost_adds_a_bluish_texture():
    kept, strength = np.array([1, 1, 0.9, 0.85, 0.75]), np.array([0.2, 0.3, 0.4, 0.4, 0.45])
    images = np.full((200, 32, 32, 3), 50, np.uint8)
    for severity in SEVERITIES:
        found = corrupt(images, "frost", severity, 0).astype(float)
        frost = (found + 0.5 - kept[severity - 1] * 50) / strength[severity - 1]
        # The mean of the five photographs, of which one is there twice.
        np.testing.assert_allclose(frost.mean(axis=(0, 1, 2)), [146, 167, 179], atol=12)
        assert 15 < frost.std(axis=(1, 2)).mean() < 27
        fine = np.abs(np.diff(frost, axis=1)).mean()
        coarse = np.abs(frost[:, 8:] - frost[:, :-8]).mean()
        assert 1.1 < coarse / fine < 3  # Neither flat nor without any structure.


@pytest.mark.parametrize("severity, strength", enumerate((0.2, 0.5, 0.75, 1, 1.5), start=1))
def test_fog_is_a_cloud_from_0_to_1(severity, strength):
    images = make_images(10)
    brightest = images.max(axis=(1, 2, 3), keepdims=True) / 255
    found = (corrupt(images, "fog", severity, 0) + 0.5) / 255
    cloud = (found * (brightest + strength) / brightest - images / 255) / strength
    cut_off = found > 1 - 1 / 255
    rounding = (brightest + strength) / brightest / strength / 255
    assert np.all((np.ptp(cloud, axis=-1, keepdims=True) < 1.1 * rounding)[~cut_off.any(-1)])
    lowest, highest = cloud.min(axis=(1, 2, 3)), cloud.max(axis=(1, 2, 3))
    np.testing.assert_allclose(lowest, 0, atol=rounding.max())
    np.testing.assert_allclose(highest, 1, atol=rounding.max())


@pytest.mark.parametrize("severity, decay", [(3, 2.5), (4, 2), (5, 1.75)])
def test_each_finer_level_of_fog_adds_less(severity, decay):
    found = corrupt(np.full((600, 32, 32, 1), 255, np.uint8), "fog", severity, 0)[..., 0] / 255

    def added(step):
        """How much the middles of squares differ from their corners' mean."""
        corners, middles = found[:, ::step, ::step], found[:, step // 2 :: step, step // 2 :: step]
        around = [np.roll(corners, (-i, -j), (1, 2)) for i in (0, 1) for j in (0, 1)]
        return (middles - sum(around) / 4).std()

    assert abs(added(16) / added(8) / decay**2 - 1) < 0.1


@pytest.mark.parametrize("severity, added", enumerate((0.05, 0.1, 0.15, 0.2, 0.3), start=1))
def test_brightness_adds_to_the_value_of_hsv(severity, added):
    images = make_images(1, (8, 8, 3))
    images[0, 0, 0] = 0  # Black has no hue.

    def brighter(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel / 255)
        return colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1))

    expected = [[brighter(pixel) for pixel in row] for row in images[0]]
    assert_same(corrupt(images, "brightness", severity, 0)[0], expected)


@pytest.mark.parametrize("severity, kept", enumerate((0.75, 0.5, 0.4, 0.3, 0.15), start=1))
def test_contrast_shrinks_towards_each_channel_s_mean(severity, kept):
    images = make_images(3)
    for image, found in zip(images / 255, corrupt(images, "contrast", severity, 0), strict=True):
        mean = np.array([image[..., channel].mean() for channel in range(3)])
        assert_same(found, kept * image + (1 - kept) * mean)


def test_the_weakest_elastic_transform_is_affine():
    # A plane stays a plane, and its values move by what three points move it: 2.56 at most.
    y, x = np.mgrid[:32, :32]
    planes = np.stack([np.stack([4 * y + 60, 4 * x + 60], axis=0)] * 40).reshape(80, 32, 32, 1)
    found = corrupt(planes.astype(np.uint8), "elastic_transform", 1, 0)[:, 10:23, 10:23, 0]
    grid = np.stack([y[10:23, 10:23].ravel(), x[10:23, 10:23].ravel(), np.ones(169)], axis=1)
    values = found.reshape(80, 169).T + 0.5
    fitted = grid @ np.linalg.lstsq(grid, values, rcond=None)[0]
    assert np.abs(fitted - values).max() < 1.5
    moved = np.abs(values - planes[:, 10:23, 10:23, 0].reshape(80, 169).T).max()
    assert 4 < moved < 4 * 6


def test_a_strong_elastic_transform_is_not():
    y, x = np.mgrid[:32, :32]
    planes = np.stack([4 * y + 60] * 40)[..., None].astype(np.uint8)
    found = corrupt(planes, "elastic_transform", 5, 0)[:, 10:23, 10:23, 0]
    grid = np.stack([y[10:23, 10:23].ravel(), x[10:23, 10:23].ravel(), np.ones(169)], axis=1)
    values = found.reshape(40, 169).T + 0.5
    fitted = grid @ np.linalg.lstsq(grid, values, rcond=None)[0]
    # 3.2 pixels times what a Gaussian of 0.96 pixels leaves of uniform noise, and 4 a pixel.
    noise = 3.2 / math.sqrt(3) / (2 * 0.96 * math.sqrt(math.pi)) * 4
    assert 0.6 < np.std(fitted - values) / noise < 1.1


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_pixelate_and_jpeg_compression_are_pillow_s(channels, mode):
    images = make_images(3, (32, 28, channels))
    for severity, (share, quality) in enumerate(
        zip((0.95, 0.9, 0.85, 0.75, 0.65), (80, 65, 58, 50, 40), strict=True), start=1
    ):
        pixelated = corrupt(images, "pixelate", severity, 0)
        compressed = corrupt(images, "jpeg_compression", severity, 0)
        for image, small, lossy in zip(images, pixelated, compressed, strict=True):
            picture = Image.fromarray(image.squeeze())
            assert picture.mode == mode
            resized = picture.resize((int(28 * share), int(32 * share)), Image.Resampling.BOX)
            resized = resized.resize((28, 32), Image.Resampling.BOX)
            np.testing.assert_array_equal(small.squeeze(), np.asarray(resized))
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=quality)
            np.testing.assert_array_equal(lossy.squeeze(), np.asarray(Image.open(file)))


@pytest.mark.parametrize(
    "name, severity, message",
    [
        ("rain", 1, f"--corruption=rain: expected one of {', '.join(CORRUPTIONS)}"),
        ("fog", 0, "--severity=0: expected a whole number from 1 to 5"),
        ("fog", 6, "--severity=6: expected a whole number from 1 to 5"),
        ("fog", 2.5, "--severity=2.5: expected a whole number from 1 to 5"),
    ],
)
def test_unknown_names_and_severities(name, severity, message):
    with pytest.raises(UserError) as caught:
        corrupt(make_images(1), name, severity, 0)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 8, 8, 2), np.uint8)],
)
def test_other_arrays(images):
    with pytest.raises(ValueError, match="images must be uint8 of shape"):
        corrupt(images, "fog", 1, 0)
