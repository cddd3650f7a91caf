"""Random changes to training images: those that keep the classes, and those that mix them."""

import math
from collections.abc import Callable

import tensorflow as tf

# (images, targets, seed) → images and targets, erased or mixed.
Mixing = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def random_crop_and_flip(images, seed, padding=4):
    """Shifts each image at random, filling up with zeros, and mirrors every other one.

    The augmentation usual for CIFAR (He et al., arXiv:1512.03385, section 4.2): zeros are padded
    around the image, a part of the old size is cut out anywhere, and with probability 1/2 left
    and right are exchanged. Each image is treated independently.

    Args:
        images: tensor of shape [batch, height, width, channels], such as uint8 or float32.
        seed: int32 tensor of shape [2] that decides all the random numbers.
        padding: pixels to pad on every side, hence the largest shift.

    Returns:
        Tensor of the same shape and dtype.
    """
    _, height, width, channels = images.shape
    batch = tf.shape(images)[0]
    padded_height, padded_width = height + 2 * padding, width + 2 * padding
    positions = 2 * padding + 1

    # One number chooses among all pairs of positions, mirrored or not.
    choice = tf.random.stateless_uniform([batch], seed, 0, 2 * positions**2, tf.int32)
    mirrored, top, left = choice % 2, choice // 2 % positions, choice // 2 // positions

    # Where each row and column comes from in the padded image.
    rows = top[:, None] + tf.range(height)
    columns = tf.range(width)
    columns = left[:, None] + tf.where(mirrored[:, None] == 1, width - 1 - columns, columns)

    # Gathering from one long row of pixels is the fastest of the ways that were tried on a CPU:
    # 1 ms for 128 CIFAR images, half of what `tf.gather_nd` takes.
    pixels = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    rows += padded_height * tf.range(batch)[:, None]
    indices = padded_width * rows[:, :, None] + columns[:, None, :]
    cropped = tf.gather(tf.reshape(pixels, [-1, channels]), indices)
    return tf.ensure_shape(cropped, images.shape)


def random_resized_crop_and_flip(images, seed, size):
    """Scales a random part of each image to a common size, and mirrors every other one.

    The augmentation usual for ImageNet, as torchvision's RandomResizedCrop and
    RandomHorizontalFlip have it: see `random_boxes` for the parts. Bilinear interpolation within
    the part, between pixels whose centres lie at half coordinates, without antialiasing.

    Args:
        images: float32 tensor of shape [batch, height, width, channels].
        seed: int32 tensor of shape [2] that decides all the random numbers.
        size: (height, width) of the result.

    Returns:
        float32 tensor of shape [batch, *size, channels].
    """
    _, height, width, channels = images.shape
    numbers = tf.random.stateless_uniform([tf.shape(images)[0], 2 * _TRIES + 3], seed)
    top, left, rows, columns = tf.unstack(random_boxes(numbers, height, width), axis=1)
    down = _interpolation(top, rows, height, size[0])
    right = _interpolation(left, columns, width, size[1])
    mirrored = numbers[:, -1, None, None] < 0.5
    right = tf.where(mirrored, tf.reverse(right, [1]), right)
    found = tf.einsum("bsh,bhwc,btw->bstc", down, images, right)
    return tf.ensure_shape(found, [images.shape[0], *size, channels])


def random_boxes(numbers, height, width):
    """Which parts of images of `height` x `width` pixels are cut out.

    A part has 8% to 100% of the area, and 3/4 to 4/3 as its ratio of width to height, whose
    logarithm is uniform; both are drawn anew up to ten times until it fits in the image, after
    which the middle is taken, of the whole width or height within these ratios.

    Args:
        numbers: float32 tensor of shape [batch, at least 22], uniform in [0, 1): ten of areas,
            ten of ratios, and one each of the place from the top and from the left.

    Returns:
        int32 tensor of shape [batch, 4]: top, left, height, width of each part.
    """
    areas = height * width * (0.08 + 0.92 * numbers[:, :_TRIES])
    farthest = math.log(4 / 3)
    ratios = tf.exp(farthest * (2 * numbers[:, _TRIES : 2 * _TRIES] - 1))
    rows, columns = (tf.round(tf.sqrt(x)) for x in (areas / ratios, areas * ratios))
    fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
    first = tf.argmax(fits, axis=1, output_type=tf.int32)
    any_fits = tf.reduce_any(fits, axis=1)
    middle_rows = min(height, round(width * 4 / 3))
    middle_columns = min(width, round(height * 4 / 3))

    def chosen(sides, otherwise):
        side = tf.cast(tf.gather(sides, first, batch_dims=1), tf.int32)
        return tf.where(any_fits, side, otherwise)

    def place(number, whole, side, otherwise):
        # The largest number below 1, times the places, may be rounded up.
        free = whole - side
        drawn = tf.cast(number * tf.cast(free + 1, tf.float32), tf.int32)
        return tf.where(any_fits, tf.minimum(drawn, free), (whole - otherwise) // 2)

    rows, columns = chosen(rows, middle_rows), chosen(columns, middle_columns)
    top = place(numbers[:, 2 * _TRIES], height, rows, middle_rows)
    left = place(numbers[:, 2 * _TRIES + 1], width, columns, middle_columns)
    return tf.stack([top, left, rows, columns], axis=1)


def cutout(images, targets, seed):
    """Fills a square of 16x16 pixels with zeros, with its centre anywhere in the image.

    DeVries and Taylor (arXiv:1708.04552), with their side for CIFAR-10. The square may stick out
    of the image; each image has its own.

    Args:
        images: float32 tensor of shape [batch, height, width, channels].
        targets: float32 tensor of shape [batch, classes], a distribution in each row.
        seed: int32 tensor of shape [2] that decides all the random numbers.

    Returns:
        Images and targets of the same shapes; the targets are as they were.
    """
    inside = _box(images, tf.random.split(seed), tf.shape(images)[:1], 16, 16)
    return tf.where(inside, 0.0, images), targets


def mixup(images, targets, seed):
    """Averages each image and target with another one, with random weights λ and 1 - λ.

    Zhang et al. (arXiv:1710.09412) with α = 1, as for CIFAR-10: λ is from Beta(1, 1), which is
    the uniform distribution. As in their code, a batch has one λ, and an image's partner is where
    a random permutation of the batch leads.

    Args:
        images: float32 tensor of shape [batch, height, width, channels].
        targets: float32 tensor of shape [batch, classes], a distribution in each row.
        seed: int32 tensor of shape [2] that decides all the random numbers.

    Returns:
        Mixed images and targets of the same shapes.
    """
    weight_seed, partner_seed = tf.unstack(tf.random.split(seed))
    weight = tf.random.stateless_uniform([], weight_seed)
    partners = _permutation(images, partner_seed)

    def mix(values):
        return weight * values + (1 - weight) * tf.gather(values, partners)

    return mix(images), mix(targets)


def cutmix(images, targets, seed):
    """Replaces a box of each image by the same box of another one, and mixes targets by area.

    Yun et al. (arXiv:1905.04899): λ is from Beta(1, 1), which is the uniform distribution; the
    box has the image's proportions, a share 1 - λ of its area, and a centre anywhere, and ends
    with the image. The targets' weights are the shares of the area that are left. As in their
    code, a batch has one box, and partners as in `mixup`.

    Args:
        images: float32 tensor of shape [batch, height, width, channels].
        targets: float32 tensor of shape [batch, classes], a distribution in each row.
        seed: int32 tensor of shape [2] that decides all the random numbers.

    Returns:
        Mixed images and targets of the same shapes.
    """
    area_seed, partner_seed, *box_seeds = tf.unstack(tf.random.split(seed, 4))
    scale = tf.sqrt(1 - tf.random.stateless_uniform([], area_seed))
    height, width = (tf.cast(scale * side, tf.int32) for side in images.shape[1:3])
    inside = _box(images, box_seeds, [1], height, width)
    partners = _permutation(images, partner_seed)
    share = tf.reduce_mean(tf.cast(inside, tf.float32))
    images = tf.where(inside, tf.gather(images, partners), images)
    return images, (1 - share) * targets + share * tf.gather(targets, partners)


# How often a part is drawn before the middle is taken.
_TRIES = 10

# By name: functions (images, targets, seed) → (images, targets).
MIXING: dict[str, Mixing] = {"cutout": cutout, "mixup": mixup, "cutmix": cutmix}


def _interpolation(start, length, whole, size):
    """The weights, [batch, size, whole], of a side's pixels in those that a part is scaled to."""
    start, length = (tf.cast(x, tf.float32)[:, None] for x in (start, length))
    places = (tf.range(size, dtype=tf.float32) + 0.5) * length / size - 0.5
    places = start + tf.clip_by_value(places, 0.0, length - 1)
    distances = tf.abs(places[:, :, None] - tf.range(whole, dtype=tf.float32))
    return tf.maximum(0.0, 1.0 - distances)


def _permutation(images, seed):
    return tf.argsort(tf.random.stateless_uniform(tf.shape(images)[:1], seed))


def _box(images, seeds, count, height, width):
    """Which pixels lie in boxes around random pixels, bool [count, height, width, 1].

    A box reaches half its size, rounded down, before its centre and as far from there on.
    """

    def within(side, seed, size):
        centres = tf.random.stateless_uniform(count, seed, 0, side, tf.int32)[:, None]
        distance = tf.range(side) - centres
        return (distance >= -(size // 2)) & (distance < size // 2)

    _, image_height, image_width, _ = images.shape
    rows = within(image_height, seeds[0], height)
    columns = within(image_width, seeds[1], width)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
