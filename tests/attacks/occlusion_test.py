"""The square of zeros, by hand."""

import numpy as np
import pytest

from tf_tickets.attacks.occlusion import occlude
from tf_tickets.errors import UserError


@pytest.mark.parametrize(
    "shape, side, rows, columns",
    [
        ((32, 32, 3), 16, (8, 24), (8, 24)),
        ((28, 28, 1), 16, (6, 22), (6, 22)),
        ((5, 7, 2), 3, (1, 4), (2, 5)),
        ((5, 7, 2), 2, (1, 3), (2, 4)),
        ((6, 6, 1), 3, (1, 4), (1, 4)),
        ((4, 9, 1), 4, (0, 4), (2, 6)),
        ((3, 3, 1), 1, (1, 2), (1, 2)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_square_is_in_the_middle(shape, side, rows, columns, dtype):
    images = np.random.default_rng(0).integers(1, 256, (3, *shape)).astype(dtype)
    before = images.copy()
    occluded = occlude(images, side)
    assert occluded.dtype == dtype and occluded.shape == images.shape
    for y in range(shape[0]):
        for x in range(shape[1]):
            inside = rows[0] <= y < rows[1] and columns[0] <= x < columns[1]
            np.testing.assert_array_equal(occluded[:, y, x], 0 if inside else images[:, y, x])
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("side", [0, -1, 6])
def test_a_square_that_is_none_or_does_not_fit(side):
    with pytest.raises(UserError) as caught:
        occlude(np.zeros((1, 5, 7, 1), np.uint8), side)
    assert str(caught.value) == f"--occlusion_side={side}: expected from 1 to the images' 5"
