"""Small hand-made results of "On the Effect of Pruning on Adversarial Robustness"."""

from pathlib import Path

from experiments.pruning_robustness import results
from experiments.pruning_robustness.network_tests import transfer_attack
from tf_tickets.runs.results import Result, to_csv

REFERENCE_PATH = Path(results.__file__).parent / "reference.csv"
UNPRUNED = {"removed": "nothing"}
CONTROL = UNPRUNED | {"adjustment": "fine_tuned"}


def cut(criterion, removed="filters", adjustment="fine_tuned"):
    """The labels of a pruned network."""
    return {"criterion": criterion, "removed": removed, "adjustment": adjustment}


def without(kind, place=None, index=None):
    """The labels of an unpruned network that lacks a single element."""
    element = {"element_kind": kind, "element_place": place, "element_index": index}
    return UNPRUNED | {name: value for name, value in element.items() if value is not None}


class NetworksMaker:
    """Collects hand-made results of finished networks, whose methods have names without meaning."""

    def __init__(self, path):
        self.path = path
        self.rows = []
        self._names = {}

    def method(self, labels):
        """The name of networks with these labels."""
        return self._names.setdefault(tuple(labels.items()), f"some_{len(self._names)}")

    def add(
        self, labels, metric, values, *, level=0, model="resnet_56", regime="natural",
        data_set="cifar10",
    ):  # fmt: skip
        """Adds a value for each of the seeds 0, 1, ...; None for a seed that lacks it."""
        texts = tuple((name, f"{value}") for name, value in labels.items())
        for seed, value in enumerate(values):
            where = ("pruning_robustness", data_set, model, self.method(labels), regime, seed)
            if value is not None:
                measured = (level, 0.1 * level, 100, metric, value)
                self.rows.append(Result(*where, *measured, texts))

    def transfer(self, labels, values, *, made_for, **where):
        """Adds accuracies on examples made for the network of a (model, labels)."""
        model, of = made_for
        metric = f"test/{transfer_attack(model, self.method(of))}/accuracy"
        self.add(labels, metric, values, **where)

    def network(
        self, labels, semantic=(), occlusion=(), fgsm=(), natural=(), parameters=(), flops=(),
        **where,
    ):  # fmt: skip
        """Adds the measurements of one network: test accuracies and sizes, a value per seed."""
        for attack, values in (
            ("semantic_5", semantic), ("occlusion", occlusion), ("fgsm", fgsm),
            ("natural", natural),
        ):  # fmt: skip
            self.add(labels, f"test/{attack}/accuracy", values, **where)
        self.add(labels, "model/size/parameters", parameters, **where)
        self.add(labels, "model/size/flops", flops, **where)

    def write(self):
        self.path.write_text(to_csv(self.rows), encoding="utf-8")
        return self.path

    def frame(self):
        return results.load_results(self.write())

    def group(self, study, criterion="pls"):
        """The study's only group."""
        (group,) = results.groups(self.frame(), study, criterion)
        return group
