"""Small hand-made results."""

from pathlib import Path

import pytest

from tf_tickets.analysis import boosting_results, measurements, pruning_results, tables
from tf_tickets.runs.results import Result, to_csv

_REFERENCES = Path(__file__).parents[2] / "experiments" / "reference"
REFERENCE_PATH = _REFERENCES / "sparse_robust_networks.csv"
BOOSTING_REFERENCE_PATH = _REFERENCES / "boosting_tickets.csv"
PRUNING_REFERENCE_PATH = _REFERENCES / "pruning_robustness.csv"


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


class TrainingsMaker:
    """Collects hand-made trainings of "Boosting Ticket"; an epoch has 10 iterations."""

    def __init__(self, path):
        self.path = path
        self.rows = []

    def add(
        self, method, regime, metric, value, *, iteration=0, seed=0, model="vgg_16",
        data_set="cifar10", sparsity=0.8,
    ):  # fmt: skip
        """Adds one row."""
        where = ("boosting_tickets", data_set, model, method, regime, seed, 1, sparsity)
        self.rows.append(Result(*where, iteration, metric, value))

    def train(
        self, method, regime, natural=(), robust=(), losses=(), seconds=(), cpu_seconds=(),
        tests=(), selected=None, attack="pgd_20", **where,
    ):  # fmt: skip
        """Adds one training.

        Args:
          method: its name.
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
                self.add(method, regime, metric, value, iteration=10 * epoch, **where)
        epoch = len(natural) - 1 if selected is None else selected
        for name, value in dict(tests).items():
            metric = f"test/{name}/accuracy"
            self.add(method, regime, metric, value, iteration=10 * epoch, **where)

    def write(self):
        self.path.write_text(to_csv(self.rows), encoding="utf-8")
        return self.path

    def frame(self):
        return boosting_results.load_results(self.write())

    def group(self, study):
        """The study's only group."""
        (group,) = boosting_results.groups(self.frame(), study)
        return group


@pytest.fixture
def trainings(tmp_path):
    return TrainingsMaker(tmp_path / "boosting_results.csv")


@pytest.fixture
def accelerated(trainings):
    """Two seeds of a dense network (20 and 40 s) and of tickets (found in 2 and 4 s)."""
    for seed in (0, 1):
        # Best after epoch 3 of 4; seed 0 of the last gets there after epoch 2, seed 1 never.
        dense = {"natural": 0.8, "pgd_20": 0.4 + 0.02 * seed}
        ticket = {"natural": 0.7, "transfer_from_dense_100": 0.6}
        for method, regime, robust, step, tests, selected in (
            ("finding_fgsm_0.05", "fgsm", [0.1, 0.0, 0.01], 1, {}, None),
            ("finding_fgsm_0.1_warmup", "fgsm", [0.1, 0.0, 0.01], 100, {}, None),
            ("dense_100", "pgd", [0.1, 0.3, 0.4, 0.5, 0.45], 5, dense, 3),
            ("fgsm_ticket_40", "pgd", [0.1, 0.3, 0.4], 5, ticket, None),
            ("fgsm_ticket_70", "pgd", [0.1, 0.3, 0.5 - 0.01 * seed, 0.4], 4, {}, None),
        ):
            seconds = [(1 + seed) * step * epoch for epoch in range(1, len(robust))]
            trainings.train(
                method, regime, robust, robust, seconds=seconds,
                cpu_seconds=[3 * value for value in seconds], tests=tests, selected=selected,
                seed=seed,
            )  # fmt: skip
    return trainings


@pytest.fixture
def boosting_reference():
    return boosting_results.load_reference(BOOSTING_REFERENCE_PATH)


@pytest.fixture
def boosting_reference_path():
    return BOOSTING_REFERENCE_PATH


class NetworksMaker:
    """Collects hand-made results of finished networks, pruned and not."""

    def __init__(self, path):
        self.path = path
        self.rows = []

    def add(
        self, method, metric, values, *, level=0, model="resnet_56", regime="natural",
        data_set="cifar10",
    ):  # fmt: skip
        """Adds a value for each of the seeds 0, 1, ...; None for a seed that lacks it."""
        for seed, value in enumerate(values):
            where = ("pruning_robustness", data_set, model, method, regime, seed, level)
            if value is not None:
                self.rows.append(Result(*where, 0.1 * level, 100, metric, value))

    def network(
        self, method, semantic=(), occlusion=(), fgsm=(), natural=(), parameters=(), flops=(),
        **where,
    ):  # fmt: skip
        """Adds the measurements of one network: test accuracies and sizes, a value per seed."""
        for attack, values in (
            ("semantic_5", semantic), ("occlusion", occlusion), ("fgsm", fgsm),
            ("natural", natural),
        ):  # fmt: skip
            self.add(method, f"test/{attack}/accuracy", values, **where)
        self.add(method, "model/size/parameters", parameters, **where)
        self.add(method, "model/size/flops", flops, **where)

    def write(self):
        self.path.write_text(to_csv(self.rows), encoding="utf-8")
        return self.path

    def frame(self):
        return pruning_results.load_results(self.write())

    def group(self, study, criterion="pls"):
        """The study's only group."""
        (group,) = pruning_results.groups(self.frame(), study, criterion)
        return group


@pytest.fixture
def networks(tmp_path):
    return NetworksMaker(tmp_path / "pruning_results.csv")


@pytest.fixture
def pruned(networks):
    """Two seeds of an unpruned ResNet-56, of it trained on, and of it pruned by PLS."""
    networks.network(
        "unpruned", [0.50, 0.54], [0.40, 0.40], [0.20, 0.24], [0.90, 0.92],
        parameters=[1000, 1000], flops=[200, 200],
    )  # fmt: skip
    networks.network("unpruned_fine_tuned", [0.51, 0.55], [0.40, 0.44], [0.21, 0.23], [0.90, 0.94])
    networks.network(
        "pls_filters", [0.52, 0.57], [0.43, 0.43], [0.19, 0.24], [0.92, 0.92], level=1,
        parameters=[880, 860], flops=[150, 150],
    )  # fmt: skip
    return networks


@pytest.fixture
def pruning_reference():
    return pruning_results.load_reference(PRUNING_REFERENCE_PATH)


@pytest.fixture
def pruning_reference_path():
    return PRUNING_REFERENCE_PATH
