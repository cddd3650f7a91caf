"""Small hand-made results of sparse, robust networks."""

from tf_tickets.analysis import measurements
from tf_tickets.runs.results import Result, to_csv


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
        return measurements.load_results(self.write())
