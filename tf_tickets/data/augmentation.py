"""Random changes to training images that leave their classes as they are."""

import tensorflow as tf


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
