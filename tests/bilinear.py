"""Bilinear interpolation, one pixel after the other."""

import math

import numpy as np


def bilinear(image, size):
    """An image `[side, side, channels]` in `size` x `size`; pixels have centres at halves."""
    side = len(image)

    def weights(place):
        """Of the pixels before and after a place; beyond the outermost centres, one has it all."""
        before = math.floor(place)
        nearer = min(max(before, 0), side - 1), min(max(before + 1, 0), side - 1)
        return zip(nearer, (1 - (place - before), place - before), strict=True)

    result = np.zeros((size, size, image.shape[2]))
    for row in range(size):
        for column in range(size):
            for y, vertical in weights((row + 0.5) * side / size - 0.5):
                for x, horizontal in weights((column + 0.5) * side / size - 0.5):
                    result[row, column] += vertical * horizontal * image[y, x]
    return result
