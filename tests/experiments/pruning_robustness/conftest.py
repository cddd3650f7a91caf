"""Small hand-made results of "On the Effect of Pruning on Adversarial Robustness"."""

from pathlib import Path

import pytest

from experiments.pruning_robustness import results
from tf_tickets.runs.results import Result, to_csv

REFERENCE_PATH = Path(results.__file__).parent / "reference.csv"


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
        return results.load_results(self.write())

    def group(self, study, criterion="pls"):
        """The study's only group."""
        (group,) = results.groups(self.frame(), study, criterion)
        return group


@pytest.fixture
def networks(tmp_path):
    return NetworksMaker(tmp_path / "results.csv")


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
def reference():
    return results.load_reference(REFERENCE_PATH)


@pytest.fixture
def reference_path():
    return REFERENCE_PATH
