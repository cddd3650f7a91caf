"""Corruptions that leave an image's meaning as it is: noise, blur, weather and compression.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (arXiv:1903.12261), with the severities of their CIFAR-10-C. The packages that
offer these corruptions have ImageNet-C's severities instead, which were chosen for images of
224x224 pixels and leave little to see in one of 32x32; hence the definitions are written here,
for whole batches.
"""

import functools
import io

import numpy as np
import scipy.ndimage
from PIL import Image

from tf_tickets.errors import require

SEVERITIES = (1, 2, 3, 4, 5)

_CHUNK = 256


def corrupt(images: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Corrupts images, each with random numbers of its own.

    Two things differ from the published CIFAR-10-C: frost is a random texture and no photograph
    (see `_frost`), and images of one channel are corrupted as they are, without colours. Lengths
    are in pixels, as defined for 32x32, but for the elastic transform, whose are in sides.

    Args:
      images: uint8 `[n, height, width, channels]`, 1 or 3 channels.
      name: one of `CORRUPTIONS`.
      severity: one of `SEVERITIES`, 5 being the strongest.
      seed: non-negative int; together with `name` and `severity` it decides everything random.

    Returns:
      uint8 array of the same shape.

    Raises:
      UserError: an unknown name or severity.
      ValueError: `images` of another dtype or shape.
    """
    require(name in CORRUPTIONS, "corruption", name, f"one of {', '.join(CORRUPTIONS)}")
    require(severity in SEVERITIES, "severity", severity, "a whole number from 1 to 5")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "images must be uint8 of shape [n, height, width, 1 or 3], "
            f"got {images.dtype} of shape {list(images.shape)}"
        )
    function, constants = _DEFINITIONS[name]
    corrupted = np.empty_like(images)
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        random = np.random.default_rng([seed, CORRUPTIONS.index(name), severity, start])
        floats = function(images[part].astype(np.float32) / 255, constants[severity - 1], random)
        # Cut off and not rounded, as in CIFAR-10-C; but 7/255 · 255 is 7, rounded as it may be.
        corrupted[part] = np.clip(floats, 0, 1) * 255 + 1e-3
    return corrupted


# All below take float images `[n, height, width, channels]` in [0, 1], the constants of one
# severity and a generator, and return images that may leave [0, 1].


def _gaussian_noise(images, deviation, random):
    return images + deviation * random.standard_normal(images.shape, np.float32)


def _shot_noise(images, photons, random):
    return random.poisson(images * photons) / photons


def _impulse_noise(images, share, random):
    salt = random.integers(0, 2, images.shape)
    return np.where(random.random(images.shape) < share, salt, images)


def _defocus_blur(images, constants, random):
    """Spreads every pixel over a disk, which is smoothed against steps."""
    radius, smoothing = constants
    y, x = np.mgrid[-3:4, -3:4]
    disk = (y**2 + x**2 <= radius**2).astype(np.float32)
    kernel = scipy.ndimage.gaussian_filter(disk / disk.sum(), smoothing, radius=1)
    return scipy.ndimage.correlate(images, kernel[None, :, :, None], mode="mirror")


def _glass_blur(images, constants, random):
    """Gives pixels the colours of neighbours, between two Gaussian blurs.

    The published code means to swap two pixels, but copies: a pixel takes the colour of itself
    or of a neighbour above or on the left. The two first rows and columns stay.
    """
    deviation, times = constants
    images = np.floor(_smooth(images, deviation) * 255 + 1e-3) / 255
    n, height, width, _ = images.shape
    number = np.arange(n)[:, None, None]
    for _ in range(times):
        up, left = random.integers(0, 2, (2, n, height - 2, width - 2))
        rows, columns = np.arange(2, height)[:, None] - up, np.arange(2, width) - left
        images[:, 2:, 2:] = images[number, rows, columns]
    return _smooth(images, deviation)


def _motion_blur(images, constants, random):
    radius, deviation = constants
    return _smear(images, radius, deviation, random.uniform(-45, 45, len(images)))


def _zoom_blur(images, limit, random):
    """The mean of the image and of its enlargements by 0, 1, 2, ... percent."""
    factors = np.arange(1, limit, 0.01).tolist()
    return (images + sum(_zoom(images, factor) for factor in factors)) / (len(factors) + 1)


def _snow(images, constants, random):
    """Whitens the image and lets flakes fall on it, also on the image turned upside down."""
    mean, deviation, zoom, threshold, radius, streak, kept = constants
    flakes = random.normal(mean, deviation, (*images.shape[:3], 1)).astype(np.float32)
    flakes = _zoom(flakes, zoom)
    flakes = np.where(flakes < threshold, 0, np.minimum(flakes, 1))
    flakes = _smear(flakes, radius, streak, random.uniform(-135, -45, len(images)))
    whitened = np.maximum(images, 1.5 * _grey(images) + 0.5)
    return kept * images + (1 - kept) * whitened + flakes + flakes[:, ::-1, ::-1]


# Of the five photographs of frost from which CIFAR-10-C cuts its pieces, the second twice: the
# mean red, green and blue and the standard deviation within a piece, of 255.
_FROSTS = np.array(
    [
        [78, 149, 166, 15],
        [201, 205, 214, 18],
        [201, 205, 214, 18],
        [138, 153, 166, 26],
        [112, 123, 135, 35],
    ],
    np.float32,
)


def _frost(images, constants, random):
    """Lays frost over the image: textures whose power falls with the frequency, as in photographs.

    They have the mean colours and the contrast of the photographs that CIFAR-10-C uses.
    """
    kept, strength = constants
    n, height, width, channels = images.shape
    # A piece of a periodic texture of twice the size is not periodic itself.
    noise = np.fft.rfft2(random.standard_normal((n, 2 * height, 2 * width), np.float32))
    y, x = np.fft.fftfreq(2 * height)[:, None], np.fft.rfftfreq(2 * width)
    frequency = np.hypot(y, x)
    frequency[0, 0] = np.inf
    texture = np.fft.irfft2(noise / np.sqrt(frequency), (2 * height, 2 * width))
    texture = (texture / texture.std(axis=(1, 2), keepdims=True))[:, :height, :width, None]
    frosts = _FROSTS[random.integers(0, len(_FROSTS), n), None, None] / 255
    colours, deviation = frosts[..., :3], frosts[..., 3:]
    frost = np.clip(colours + deviation * texture, 0, 1)
    return kept * images + strength * (frost if channels == 3 else _grey(frost))


def _fog(images, constants, random):
    """Adds a cloud and takes back as much contrast."""
    strength, decay = constants
    n, height, width, _ = images.shape
    side = 2 ** (max(height, width) - 1).bit_length()
    cloud = _cloud(n, side, decay, random)[:, :height, :width, None]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    return (images + strength * cloud) * brightest / (brightest + strength)


def _brightness(images, added, random):
    """Adds to the value of hue, saturation and value, which is the largest channel."""
    value = images.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + added, 1)
    return np.where(value > 0, images / np.maximum(value, 1e-6) * brighter, brighter)


def _contrast(images, kept, random):
    mean = images.mean(axis=(1, 2), keepdims=True)
    return kept * (images - mean) + mean


def _elastic_transform(images, constants, random):
    """Moves three points and all others with them, then each pixel a little by itself."""
    strength, deviation, shift = constants
    n, height, width, _ = images.shape
    side, third = min(height, width), min(height, width) // 3
    points = np.array([height // 2, width // 2]) + third * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = points + side * random.uniform(-shift, shift, (n, 3, 2))
    ones = np.ones((n, 3, 1))
    affine = np.linalg.solve(np.concatenate([moved, ones], -1), np.broadcast_to(points, (n, 3, 2)))
    grid = np.moveaxis(np.mgrid[:height, :width], 0, -1)
    images = _read(images, grid @ affine[:, None, :2] + affine[:, None, 2:], "mirror")

    offsets = random.uniform(-1, 1, (n, height, width, 2))
    sigma = (0, side * deviation, side * deviation, 0)
    offsets = scipy.ndimage.gaussian_filter(offsets, sigma, mode="reflect", truncate=3)
    return _read(images, grid + side * strength * offsets, "reflect")


def _pixelate(images, share, random):
    def change(picture):
        small = [int(side * share) for side in picture.size]
        return picture.resize(small, Image.Resampling.BOX).resize(
            picture.size, Image.Resampling.BOX
        )

    return _with_pillow(change, images)


def _jpeg_compression(images, quality, random):
    def change(picture):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _with_pillow(change, images)


# Name → function and its constants at severities 1 to 5, those of CIFAR-10-C.
_DEFINITIONS = {
    "gaussian_noise": (_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (_shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": (_defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": (_glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    "motion_blur": (_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": (_zoom_blur, (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (
        _snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "frost": (_frost, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
    "fog": (_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic_transform": (
        _elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": (_jpeg_compression, (80, 65, 58, 50, 40)),
}

CORRUPTIONS = tuple(_DEFINITIONS)


def _smooth(images, deviation):
    return scipy.ndimage.gaussian_filter(images, (0, deviation, deviation, 0), mode="nearest")


def _grey(images):
    """Luminance `[..., 1]` of images of three channels; images of one channel as they are."""
    if images.shape[-1] == 1:
        return images
    return images @ np.array([[0.299], [0.587], [0.114]], np.float32)


def _smear(images, radius, deviation, degrees):
    """Blurs each image in a direction of its own, `degrees` `[n]` clockwise from the right.

    As ImageMagick's motion blur: weights of one half of a normal distribution, at the nearest
    pixels along the direction, and the image's edge repeated around it.
    """
    n, height, width, _ = images.shape
    distances = np.arange(2 * radius + 1)
    weights = np.exp(-(distances**2) / (2 * deviation**2))
    number = np.arange(n)[:, None, None]
    blurred = np.zeros_like(images)
    for distance, weight in zip(distances, weights / weights.sum(), strict=True):
        down, right = (
            np.ceil(distance * part(np.deg2rad(degrees)) - 0.5).astype(int)[:, None]
            for part in (np.sin, np.cos)
        )
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + right, 0, width - 1)
        blurred += np.float32(weight) * images[number, rows[:, :, None], columns[:, None, :]]
    return blurred


def _zoom(images, factor):
    """Enlarges the images' middle to their size, linearly."""
    rows, columns = (_zoom_matrix(side, factor) for side in images.shape[1:3])
    zoomed = np.tensordot(np.tensordot(images, rows, (1, 1)), columns, (1, 1))
    return np.moveaxis(zoomed, 1, -1)


@functools.lru_cache
def _zoom_matrix(side, factor):
    """The enlargement of one axis as a matrix `[side, side]`."""
    part = int(np.ceil(side / factor))
    first = (side - part) // 2
    zoomed = scipy.ndimage.zoom(np.eye(side)[first : first + part], (factor, 1), order=1)
    trimmed = (len(zoomed) - side) // 2
    return zoomed[trimmed : trimmed + side].astype(np.float32)


def _cloud(n, side, decay, random):
    """Heights from 0 to 1, `[n, side, side]`, by the diamond-square algorithm on a torus.

    Each halving of the step divides what is added at random by the square of `decay`, since
    CIFAR-10-C's code multiplies by the amplitude twice.
    """
    heights, step, amplitude = np.zeros((n, side, side), np.float32), side, 1.0

    def fill(top, left, sums):
        added = random.uniform(-amplitude, amplitude, sums.shape)
        heights[:, top::step, left::step] = sums / 4 + added

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        fill(half, half, pairs + np.roll(pairs, -1, axis=2))
        centres = heights[:, half::step, half::step]
        fill(0, half, centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 2))
        fill(half, 0, centres + np.roll(centres, 1, 2) + corners + np.roll(corners, -1, 1))
        step, amplitude = half, amplitude / decay**2
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return heights / heights.max(axis=(1, 2), keepdims=True)


def _read(images, positions, mode):
    """Bilinear values of images at positions `[n, height, width, (row, column)]`."""
    read = np.empty_like(images)
    for image, position, result in zip(images, np.moveaxis(positions, -1, 1), read, strict=True):
        for channel in range(image.shape[-1]):
            result[..., channel] = scipy.ndimage.map_coordinates(
                image[..., channel], position, order=1, mode=mode
            )
    return read


def _with_pillow(change, images):
    squeezed = images[..., 0] if images.shape[-1] == 1 else images
    pictures = map(Image.fromarray, np.rint(squeezed * 255).astype(np.uint8))
    changed = [np.asarray(change(picture), np.float32) for picture in pictures]
    return np.reshape(changed, images.shape) / 255
