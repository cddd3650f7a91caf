"""Small hand-made results, as fixtures."""

import pytest

from experiments.pruning_robustness import results
from tests.experiments.pruning_robustness.maker import (
    CONTROL,
    REFERENCE_PATH,
    UNPRUNED,
    NetworksMaker,
    cut,
)


@pytest.fixture
def networks(tmp_path):
    return NetworksMaker(tmp_path / "results.csv")


@pytest.fixture
def pruned(networks):
    """Two seeds of an unpruned ResNet-56, of it trained on, and of it pruned by PLS."""
    networks.network(
        UNPRUNED, [0.50, 0.54], [0.40, 0.40], [0.20, 0.24], [0.90, 0.92],
        parameters=[1000, 1000], flops=[200, 200],
    )  # fmt: skip
    networks.network(CONTROL, [0.51, 0.55], [0.40, 0.44], [0.21, 0.23], [0.90, 0.94])
    networks.network(
        cut("pls"), [0.52, 0.57], [0.43, 0.43], [0.19, 0.24], [0.92, 0.92], level=1,
        parameters=[880, 860], flops=[150, 150],
    )  # fmt: skip
    return networks


@pytest.fixture
def reference():
    return results.load_reference(REFERENCE_PATH)


@pytest.fixture
def reference_path():
    return REFERENCE_PATH
