"""Which level counts as matching the dense network."""

import pytest

from tf_tickets.evaluation.matching import sparsest_matching_level


@pytest.mark.parametrize(
    "accuracy, level",
    [
        ({0: 0.9}, 0),
        ({0: 0.9, 1: 0.8, 2: 0.7}, 0),
        ({0: 0.9, 1: 0.91, 2: 0.92}, 2),
        ({0: 0.9, 1: 0.91, 2: 0.89}, 1),
        ({0: 0.9, 1: 0.9}, 1),  # As accurate is enough.
        ({0: 0.9, 1: 0.85, 2: 0.95, 3: 0.85}, 2),  # A gap does not end the search.
        ({3: 0.95, 0: 0.9, 1: 0.95, 4: 0.1}, 3),  # The order of entries does not matter.
        ({0: 0.0, 1: 0.0, 2: 0.0}, 2),
        ({0: 1.0, 1: 0.9999999}, 0),
    ],
)
def test_by_hand(accuracy, level):
    assert sparsest_matching_level(accuracy) == level


def test_the_dense_network_is_needed():
    with pytest.raises(KeyError):
        sparsest_matching_level({1: 0.9, 2: 0.8})
