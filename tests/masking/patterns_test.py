"""Patterns against statements of them that look at one block, or four weights, at a time."""

import numpy as np
import pytest

from tf_tickets.errors import UserError
from tf_tickets.masking.patterns import pattern_masks, prune_blocks
from tf_tickets.masking.ticket import Provenance, Ticket, dense_ticket


def normal(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def keep_largest(scores, count):
    """True at the `count` largest scores."""
    return scores >= np.sort(scores.ravel())[-count]


def test_unstructured_keeps_the_largest_weights_of_each_kernel():
    weights = {"small": normal(20, 10) / 100, "convolution": normal(3, 3, 4, 5)}
    masks = pattern_masks(weights, "unstructured", 0.9)
    np.testing.assert_array_equal(masks["small"], keep_largest(np.abs(weights["small"]), 20))
    expected = keep_largest(np.abs(weights["convolution"]), 18)
    np.testing.assert_array_equal(masks["convolution"], expected)


def test_blocks_are_four_consecutive_inputs_of_a_unit_and_stay_by_their_mean():
    kernel = normal(24, 7)
    mask = pattern_masks({"k": kernel}, "block_4x1", 0.75)["k"]
    means = [
        [np.abs(kernel[row : row + 4, unit]).mean() for unit in range(7)] for row in range(0, 24, 4)
    ]
    kept = keep_largest(np.array(means), round(6 * 7 / 4))
    for row in range(24):
        for unit in range(7):
            assert mask[row, unit] == kept[row // 4, unit]


def test_a_ticket_of_blocks_loses_the_blocks_of_smallest_mean():
    weights = {"dense": normal(24, 7), "convolution": normal(3, 3, 4, 5)}
    provenance = Provenance("by hand", "none", {}, "none", 0, 0, "", "", {})
    ticket = dense_ticket({path: kernel.shape for path, kernel in weights.items()}, provenance)
    blocks = [(row, unit) for row in range(0, 24, 4) for unit in range(7)]
    for count in (100, 62, 33):  # 25, 16 (rounded) and 8 blocks.
        masks = prune_blocks(weights, ticket, {"dense": count, "convolution": 50})
        means = {at: np.abs(weights["dense"][at[0] : at[0] + 4, at[1]]).mean() for at in blocks}
        blocks = sorted(means, key=means.get)[-round(count / 4) :]
        expected = np.zeros((24, 7), bool)
        for row, unit in blocks:
            expected[row : row + 4, unit] = True
        np.testing.assert_array_equal(masks["dense"], expected)
        largest = keep_largest(np.abs(weights["convolution"]), 50)
        np.testing.assert_array_equal(masks["convolution"], largest)
        ticket = Ticket(masks, provenance)
        # Training moves what is left, and what was removed must not come back.
        weights["dense"] = weights["dense"] + normal(24, 7) * 3


def test_a_layer_keeps_a_block():
    provenance = Provenance("by hand", "none", {}, "none", 0, 0, "", "", {})
    ticket = dense_ticket({"dense": (8, 3)}, provenance)
    assert prune_blocks({"dense": normal(8, 3)}, ticket, {"dense": 1})["dense"].sum() == 4


@pytest.mark.parametrize("shape", [(12, 5), (10, 3), (3, 2, 8, 4)])
def test_two_of_every_four_inputs_stay(shape):
    kernel = normal(*shape)
    mask = pattern_masks({"k": kernel}, "2_by_4", 0.5)["k"]
    rows, kept = (np.moveaxis(each, -2, -1).reshape(-1, shape[-2]) for each in (kernel, mask))
    for row, row_kept in zip(rows, kept, strict=True):
        for start in range(0, len(row), 4):
            group = np.abs(row[start : start + 4])
            expected = keep_largest(group, min(2, len(group)))
            np.testing.assert_array_equal(row_kept[start : start + 4], expected)


@pytest.mark.parametrize("shape", [(10, 8), (3, 3, 4, 8)])
def test_kernels_without_blocks_are_refused(shape):
    with pytest.raises(ValueError, match=r"the_kernel .*block_4x1 is of dense layers"):
        pattern_masks({"the_kernel": normal(*shape)}, "block_4x1", 0.5)


@pytest.mark.parametrize(
    "pattern, sparsity, message",
    [
        ("1_by_4", 0.5, "--pattern=1_by_4: expected one of unstructured, block_4x1, 2_by_4"),
        ("block_4x1", 1.0, "--sparsity=1.0: expected at least 0 and less than 1"),
        ("2_by_4", 0.75, "--sparsity=0.75: expected 0.5 for 2_by_4"),
    ],
)
def test_other_patterns_and_sparsities_are_refused(pattern, sparsity, message):
    with pytest.raises(UserError, match=message):
        pattern_masks({"k": normal(8, 8)}, pattern, sparsity)
