"""Trainings of LeNet-300-100 side by side, one core each, beside one after the other on all cores.

    python -m benchmarks.side_by_side

Measured in turn, so that only ratios are worth quoting; processes are started, and have trained
once, before the clock runs. Then what a training costs beside its steps and evaluations, in this
process, of many tiny ones, and how much memory each leaves behind. Other work spoils all of it.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import experiments  # noqa: F401  (silences TensorFlow's start)

# isort: split
from absl import app, flags
from tabulate import tabulate

from benchmarks import parse
from tf_tickets import runtime
from tf_tickets.attacks.threat_model import pgd
from tf_tickets.evaluation.accuracy import Evaluator
from tf_tickets.image_work.data import ImageSource
from tf_tickets.image_work.work import ImageSetup, ImageWork
from tf_tickets.training.schedules import Constant
from tf_tickets.work.nodes import Fresh, Network, Platform, Recipe, Training
from tf_tickets.work.places import Places
from tf_tickets.work.processes import Processes
from tf_tickets.work.runner import Here, carry_out
from tf_tickets.work.side_by_side import SideBySide
from tf_tickets.work.store import Store

flags.DEFINE_integer("rounds", 3, "How often each contestant is timed; the median counts.", 1)
flags.DEFINE_integer("steps", 2000, "Training steps of a PGD training; natural ones have 5 times.")
flags.DEFINE_integer("tiny", 200, "How many tiny trainings.", 2)

_BATCH = 60
_TINY_STEPS = 20
_REGIMES = {"natural": None, "pgd": pgd(0.3, 0.05, 10)}
# A page of memory, in which Linux counts.
_PAGE = os.sysconf("SC_PAGE_SIZE")


def training(regime: str, seed: int, steps: int, learning_rate: float = 0.1) -> Training:
    """One of so many steps, with an evaluation before and after them."""
    data, _ = ImageSource("mnist", "embedded", None, 0, 0, 500, 500).read(seed)
    return Training(
        network=Network("lenet_300_100", (28, 28, 1), 10),
        data=data,
        recipe=Recipe(_BATCH, "sgd", "adversarial"),
        against=regime,
        attack=_REGIMES[regime],
        iterations=steps,
        evaluate_every=steps,
        rates=Constant(learning_rate),
        start=Fresh(seed),
        seed=seed,
        stream=0,
        platform=Platform(1, 1, runtime.deciding_versions()),
        labels={"regime": regime, "seed": seed, "level": 0},
    )


def seconds(regime: str, workers: int, threads: int, steps: int) -> float:
    """What as many trainings as there are cores take, in processes that are warm."""
    cores = runtime.available_cores()
    warm = [training(regime, seed, steps=10) for seed in range(workers)]
    timed = [training(regime, 100 + seed, steps) for seed in range(cores)]
    with tempfile.TemporaryDirectory() as folder:
        events = {each.identity: f"{folder}/{each.identity}" for each in (*warm, *timed)}
        store = Store(Path(folder, "store"))
        kind = Processes(ImageSetup(str(store.root), Places(), threads, events))
        with SideBySide(workers, kind, lambda *_: None, lambda: None) as executor:
            carry_out(warm, store, executor)
            start = time.perf_counter()
            carry_out(timed, store, executor)
            return time.perf_counter() - start


def throughputs(rounds: int, steps: int) -> list[list]:
    """Regime, and how many times the throughput is side by side."""
    cores = runtime.available_cores()
    rows = []
    for regime in _REGIMES:
        of_regime = steps if regime == "pgd" else 5 * steps
        ratios = [
            seconds(regime, 1, cores, of_regime) / seconds(regime, cores, 1, of_regime)
            for _ in range(rounds)
        ]
        rows.append([regime, *(f"{f(ratios):.2f}" for f in (statistics.median, min, max))])
    return rows


def overhead(count: int) -> list[list]:
    """What a tiny PGD training costs beside steps and evaluations, and leaves in memory."""
    nodes = [training("pgd", 0, _TINY_STEPS, 0.1 + number / 1000) for number in range(count)]
    evaluating = _timed_evaluations()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "store"))
        work = ImageWork(
            store,
            Places(),
            runtime.make_strategy("one_device", threads=1),
            lambda *_: None,
            lambda node: Path(folder, node.identity),
            lambda: None,
        )
        half = count // 2
        carry_out(nodes[:half], store, Here(work.perform))
        evaluating.clear()
        memory, start = _resident(), time.perf_counter()
        carry_out(nodes[half:], store, Here(work.perform))
        spent = time.perf_counter() - start
        stepping = sum(
            max(value for _, metric, value in store.record(node).history if "/seconds" in metric)
            for node in nodes[half:]
        )
    beside = (spent - stepping - sum(evaluating)) / (count - half)
    grown = (_resident() - memory) / (count - half)
    return [
        ["seconds a training beside steps and evaluations", f"{beside:.3f}"],
        ["of its seconds in all", f"{beside / (spent / (count - half)):.0%}"],
        ["MB that a training leaves in memory", f"{grown / 1e6:.2f}"],
    ]


def _timed_evaluations():
    """A list to which the seconds of every evaluation are added."""
    taken, evaluate = [], Evaluator.evaluate

    def timed(self, split):
        start = time.perf_counter()
        try:
            return evaluate(self, split)
        finally:
            taken.append(time.perf_counter() - start)

    Evaluator.evaluate = timed
    return taken


def _resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def main(_):
    """Prints both tables."""
    values = flags.FLAGS
    cores = runtime.available_cores()
    print(f"{cores} trainings with a core each, against one after the other on {cores} cores:\n")
    headings = ("regime", "times the throughput (median)", "smallest", "largest")
    print(tabulate(throughputs(values.rounds, values.steps), headings, tablefmt="github"))
    print(f"\nThe second half of {values.tiny} trainings of {_TINY_STEPS} PGD iterations:\n")
    print(tabulate(overhead(values.tiny), ("", ""), tablefmt="github"))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
