"""Hand-made results of "Double-Win Lottery Tickets"."""

from pathlib import Path

from experiments.double_win_tickets import results
from tf_tickets.runs.results import Result, to_csv

REFERENCE_PATH = Path(results.__file__).parent / "reference.csv"


class TransfersMaker:
    """Collects hand-made results; every argument of values has one per seed 0, 1, ...

    A network is its pre-training, pruning and percent; those of the source lack what does not
    apply. All have one name, as nothing is told by that.
    """

    def __init__(self, path):
        self.path = path
        self.rows = []

    def add(
        self, network, regime, metric, values, *, level=0, data_set="cifar10", model="resnet_18",
    ):  # fmt: skip
        """Adds one measurement."""
        # Exact counts leave a little more than 0.8 of the weights.
        sparsity = max(0.0, 1 - 0.8**level - 1e-6)
        labels = tuple((name, f"{value}") for name, value in zip(results.LABELS, network))
        for seed, value in enumerate(values):
            where = ("double_win_tickets", data_set, model, "any", regime, seed, level)
            self.rows.append(Result(*where, sparsity, 100, metric, value, labels))

    def transfer(self, network, standard=(), adversarial=(), robust=(), attack="pgd_20", **where):
        """Adds a network's SA after standard training, and SA and RA after adversarial training."""
        self.add(network, "natural", "test/natural/accuracy", standard, **where)
        self.add(network, "pgd", "test/natural/accuracy", adversarial, **where)
        self.add(network, "pgd", f"test/{attack}/accuracy", robust, **where)
        self.add(network, "pgd", f"validation/{attack}/accuracy", robust, **where)

    def write(self):
        self.path.write_text(to_csv(self.rows), encoding="utf-8")
        return self.path

    def frame(self):
        return results.load_results(self.write())

    def group(self, study="transfer"):
        """The only group."""
        (group,) = results.groups(self.frame(), study)
        return group


def whole_run(maker):
    """Adds three seeds of dense networks and tickets, whose verdicts follow from the margins.

    SA and RA of dense are 0.80 ± 0.02 everywhere; AT's tickets of IMP win up to level 3, FAT's
    up to 2 and STD's at level 2 alone; AT's random ones never.
    """
    for name, regime, robust in (("std", "natural", 0.0), ("fat", "fast", 0.3), ("at", "pgd", 0.4)):
        maker.add((name,), regime, "test/natural/accuracy", [0.9])
        maker.add((name,), regime, "test/pgd_20/accuracy", [robust])
        for percent in (100, 10):
            maker.transfer((name, "dense", percent), *[[0.78, 0.80, 0.82]] * 3)
    for kind, margins in (
        (("std", "imp_st"), [-0.05, 0.0, -0.05, -0.05]),
        (("fat", "imp_st"), [0.03, 0.02, -0.04, -0.05]),
        (("at", "imp_st"), [0.01, 0.05, 0.0, -0.05]),
        (("at", "random"), [-0.1, -0.2, -0.3, -0.4]),
    ):
        for level, margin in enumerate(margins, start=1):
            values = [0.78 + margin, 0.80 + margin, 0.82 + margin]
            for percent in (100, 10):
                maker.transfer((*kind, percent), values, values, values, level=level)
    return maker
