"""Changed test images: which, in what order, and their means."""

import numpy as np
import pytest

from tf_tickets.attacks.corruptions import CORRUPTIONS, corrupt
from tf_tickets.data.vision import ImageSplit
from tf_tickets.errors import UserError
from tf_tickets.evaluation.shifted_images import (
    corrupted,
    occluded,
    one_corruption_each,
    require_severities,
    semantic_mean,
)


@pytest.fixture(scope="module")
def split():
    generator = np.random.default_rng(0)
    images = generator.integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
    return ImageSplit(images, generator.integers(10, size=20))


def test_every_corruption_of_a_severity(split):
    changed = dict(corrupted(split, 4, 7))
    assert list(changed) == [f"{name}_4" for name in CORRUPTIONS]
    for each in changed.values():
        np.testing.assert_array_equal(each.labels, split.labels)
        assert np.any(each.images != split.images)
    np.testing.assert_array_equal(
        changed["contrast_4"].images, corrupt(split.images, "contrast", 4, 7)
    )


def test_a_square_of_zeros(split):
    changed = occluded(split, 16)
    np.testing.assert_array_equal(changed.labels, split.labels)
    assert not np.any(changed.images[:, 8:24, 8:24])
    np.testing.assert_array_equal(changed.images[:, :8], split.images[:, :8])


def test_one_corruption_for_each_image_in_turn(split):
    changed = one_corruption_each(split, 5, 3)
    np.testing.assert_array_equal(changed.labels, split.labels)
    for position in (0, 3, 17):
        name = CORRUPTIONS[position % len(CORRUPTIONS)]
        same = np.arange(position % len(CORRUPTIONS), 20, len(CORRUPTIONS))
        expected = corrupt(split.images[same], name, 5, 3)[list(same).index(position)]
        np.testing.assert_array_equal(changed.images[position], expected)


def test_the_semantic_mean_is_over_all_corruptions_of_a_severity():
    accuracies = {f"{name}_5": 0.01 * number for number, name in enumerate(CORRUPTIONS)}
    accuracies |= {f"{name}_1": 1.0 for name in CORRUPTIONS} | {"natural": 0.9, "occlusion": 0.1}
    found = semantic_mean(accuracies, (1, 5))
    assert found == {"semantic_1": 1.0, "semantic_5": pytest.approx(0.07)}


@pytest.mark.parametrize("severities", [(), (0,), (6,), (1, 1)])
def test_severities_that_there_are_not(severities):
    with pytest.raises(UserError, match="--severities="):
        require_severities(severities)
