"""Small hand-made results."""

from pathlib import Path

import pytest

from tf_tickets.analysis import tables
from tf_tickets.runs.results import Result, to_csv

REFERENCE_PATH = Path(__file__).parents[2] / "experiments/reference/sparse_robust_networks.csv"


class ResultsMaker:
    """Collects hand-made results; `frame()` reads them back through results.csv."""

    def __init__(self, path):
        self.path = path
        self._rows = []

    def add(
        self, metric, values, *, data_set="mnist", method="original", regime="pgd", level=0,
        density=1.0, iteration=100,
    ):  # fmt: skip
        """Adds a value for each of the seeds 0, 1, ..."""
        for seed, value in enumerate(values):
            where = ("sparse_robust_networks", data_set, "lenet_300_100", method, regime)
            self._rows.append(Result(*where, seed, level, 1 - density, iteration, metric, value))

    def write(self):
        self.path.write_text(to_csv(self._rows), encoding="utf-8")
        return self.path

    def frame(self):
        return tables.load_results(self.write())


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
