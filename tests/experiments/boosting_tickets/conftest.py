"""Small hand-made results of "Boosting Ticket"."""

from pathlib import Path

import pytest

from experiments.boosting_tickets import results
from tf_tickets.runs.results import Result, to_csv

REFERENCE_PATH = Path(results.__file__).parent / "reference.csv"


class TrainingsMaker:
    """Collects hand-made trainings of "Boosting Ticket"; an epoch has 10 iterations.

    Their names say nothing: reports know networks by their labels.
    """

    def __init__(self, path):
        self.path = path
        self.rows = []
        self._methods = {}

    def method(self, family, percent=None, **labels):
        """The name of a kind of network, the same for the same labels."""
        key = (family, percent, *labels.items())
        return self._methods.setdefault(key, f"network_{len(self._methods)}_100")

    def add(
        self, family, percent, regime, metric, value, *, iteration=0, seed=0, model="vgg_16",
        data_set="cifar10", sparsity=0.8, method=None, **labels,
    ):  # fmt: skip
        """Adds one row."""
        method = method or self.method(family, percent, **labels)
        where = ("boosting_tickets", data_set, model, method, regime, seed, 1, sparsity)
        labels = {"family": family, "percent": percent, **labels}
        given = tuple((name, f"{text}") for name, text in labels.items() if text is not None)
        self.rows.append(Result(*where, iteration, metric, value, given))

    def train(
        self, family, percent, regime, natural=(), robust=(), losses=(), seconds=(), cpu_seconds=(),
        tests=(), selected=None, attack="pgd_20", **where,
    ):  # fmt: skip
        """Adds one training.

        Args:
          family, percent: its labels; further ones are among `where`.
          regime: "natural", "fgsm" or "pgd".
          natural: validation accuracies after epochs 0, 1, ...
          robust: the same under `attack`.
          losses: natural validation losses after epochs 0, 1, ...
          seconds: cumulative, after epochs 1, 2, ...
          cpu_seconds: the same.
          tests: attack → test accuracy.
          selected: the epoch that is tested; the last one by default.
          attack: what evaluates.
          **where: as for `add`.
        """
        for metric, values, first in (
            ("validation/natural/accuracy", natural, 0),
            (f"validation/{attack}/accuracy", robust, 0),
            ("validation/natural/loss", losses, 0),
            (f"train/{regime}/seconds", seconds, 1),
            (f"train/{regime}/cpu_seconds", cpu_seconds, 1),
        ):
            for epoch, value in enumerate(values, start=first):
                self.add(family, percent, regime, metric, value, iteration=10 * epoch, **where)
        epoch = len(natural) - 1 if selected is None else selected
        for name, value in dict(tests).items():
            metric = f"test/{name}/accuracy"
            self.add(family, percent, regime, metric, value, iteration=10 * epoch, **where)

    def write(self):
        self.path.write_text(to_csv(self.rows), encoding="utf-8")
        return self.path

    def frame(self):
        return results.load_results(self.write())

    def group(self, study):
        """The study's only group."""
        (group,) = results.groups(self.frame(), study)
        return group


@pytest.fixture
def trainings(tmp_path):
    return TrainingsMaker(tmp_path / "results.csv")


@pytest.fixture
def accelerated(trainings):
    """Two seeds of a dense network (20 and 40 s) and of tickets (found in 2 and 4 s)."""
    for seed in (0, 1):
        # Best after epoch 3 of 4; seed 0 of the last gets there after epoch 2, seed 1 never.
        dense = {"natural": 0.8, "pgd_20": 0.4 + 0.02 * seed}
        ticket = {"natural": 0.7, f"transfer_from_{trainings.method('dense', 100)}": 0.6}
        for family, percent, regime, robust, step, tests, selected in (
            ("finding", None, "fgsm", [0.1, 0.0, 0.01], 1, {}, None),
            ("finding", None, "natural", [0.1, 0.0, 0.01], 100, {}, None),
            ("dense", 100, "pgd", [0.1, 0.3, 0.4, 0.5, 0.45], 5, dense, 3),
            ("fgsm_ticket", 40, "pgd", [0.1, 0.3, 0.4], 5, ticket, None),
            ("fgsm_ticket", 70, "pgd", [0.1, 0.3, 0.5 - 0.01 * seed, 0.4], 4, {}, None),
        ):
            seconds = [(1 + seed) * step * epoch for epoch in range(1, len(robust))]
            trainings.train(
                family, percent, regime, robust, robust, seconds=seconds,
                cpu_seconds=[3 * value for value in seconds], tests=tests, selected=selected,
                seed=seed,
            )  # fmt: skip
    return trainings


@pytest.fixture
def reference():
    return results.load_reference(REFERENCE_PATH)


@pytest.fixture
def reference_path():
    return REFERENCE_PATH
