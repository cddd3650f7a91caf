"""Small hand-made results of "The Search for Sparse, Robust Neural Networks"."""

from pathlib import Path

import pytest

from experiments.sparse_robust_networks import tables
from tests.analysis.results_maker import ResultsMaker

REFERENCE_PATH = Path(tables.__file__).parent / "reference.csv"


@pytest.fixture
def maker(tmp_path):
    return ResultsMaker(tmp_path / "results.csv")


@pytest.fixture
def training(maker):
    """Two levels of `original` and `random`, trained with PGD for 300 iterations, two seeds."""
    for method, loss_of_stop in (("original", 0.5), ("random", 0.7)):
        for level, density in enumerate((1.0, 0.513)):
            common = {"method": method, "level": level, "density": density}
            for iteration, loss, accuracy in (
                (0, 2.3, 0.1), (100, loss_of_stop, 0.6), (200, 0.8, 0.7), (300, 0.9, 0.8),
            ):  # fmt: skip
                for split in ("validation", "test"):
                    for attack in ("natural", "pgd"):
                        pair = [accuracy, accuracy + 0.02]
                        metric = f"{split}/{attack}"
                        maker.add(f"{metric}/accuracy", pair, iteration=iteration, **common)
                        maker.add(f"{metric}/loss", [loss, loss], iteration=iteration, **common)
    return maker


@pytest.fixture
def reference():
    return tables.load_reference(REFERENCE_PATH)


@pytest.fixture
def reference_path():
    return REFERENCE_PATH
