"""What write_report leaves, for whole, partial and empty runs."""

from pathlib import Path

import pytest

from experiments.pruning_robustness import figures, report
from experiments.pruning_robustness.report import STUDIES, write_report
from experiments.pruning_robustness.results import LABELS
from tests.experiments.pruning_robustness.maker import CONTROL, UNPRUNED, cut, without
from tf_tickets.analysis import report as reports
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.run_directory import Cell, RunDirectory


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run", {"seed": 0}, {}, labels=LABELS)


def record(run, maker):
    run.finish_level(Cell("cifar10", "natural", "any", 0), 0, maker.rows)


def test_summary_terminal_and_tensorboard(pruned, reference_path, run):
    pruned.network(without("nothing"), fgsm=[0.2], natural=[0.9])
    pruned.network(without("filters", "conv", 0), fgsm=[0.3], natural=[0.9])
    record(run, pruned)
    exports = {"resnet_56, pls_filters": Export(Path("/exports/1"), 0, 0, 0.0)}
    studies = ["structures", "single_element", "defenses"]
    text = write_report(run, studies, "pls", exports, reference_path, "4 of 200 epochs.")
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    heading = "# On the Effect of Pruning on Adversarial Robustness"
    assert summary.startswith(f"{heading}\n\n4 of 200 epochs.\n\nDifferences are in")
    headings = [line for line in summary.splitlines() if line.startswith("#")]
    assert headings == [
        heading,
        "## Structures removed (Table 1)",
        "### CIFAR-10",
        "## Removing a single element (Algorithm 2, Figure 3)",
        "### ResNet-56 on CIFAR-10",
        "## Pruning beside other defenses (Table 5)",
    ]
    assert summary.endswith("Table 5)\n\nNo results yet.\n")
    for name in ("table_1_cifar10_structures.png", "figure_3_cifar10_resnet_56_single_element.png"):
        assert f"](figures/{name})" in summary and (run.path / "figures" / name).is_file()
    assert list((run.path / "tensorboard" / "figures").glob("events*"))
    # The terminal has the tables of the first study alone.
    assert "Differences to the control" in text and "Algorithm 2" not in text
    assert "Scale: 4 of 200 epochs." in text
    assert str(run.path / "summary.md") in text
    assert "SavedModel (resnet_56, pls_filters): /exports/1\n" in text


def test_an_empty_run(reference_path, run):
    text = write_report(run, STUDIES, "pls", {}, reference_path, "Nothing yet.")
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert summary.count("No results yet.") == len(STUDIES) == 7
    assert text.startswith("No results yet.") and "SavedModel" not in text
    assert not (run.path / "figures").exists()


def every_study(networks):
    """A row or more of everything, two networks, some with one seed and some with two."""
    for model in ("resnet_20", "mobilenet_v2"):
        for labels, level in ((UNPRUNED, 0), (cut("pls"), 1)):
            networks.network(
                labels, [0.5, 0.5], [0.4], [0.3, 0.3], [0.9, 0.8], parameters=[9], flops=[9],
                level=level, model=model,
            )  # fmt: skip
            for made_for in (("resnet_20", UNPRUNED), ("mobilenet_v2", cut("pls"))):
                networks.transfer(labels, [0.5], made_for=made_for, level=level, model=model)
    for number, (labels, level) in enumerate((
        (CONTROL, 0), (cut("kl"), 1), (cut("pls", adjustment="scratch_2x"), 1), (cut("pls"), 2),
        (cut("pls"), 3), (without("nothing"), 0), (without("filters", "conv", 0), 0),
        (without("blocks", "block"), 0),
    )):  # fmt: skip
        accuracies = [[0.01 * number + 0.1 * level]] * 4
        networks.network(labels, *accuracies, level=level, model="resnet_20")
    networks.network(UNPRUNED, [0.5], natural=[0.9], regime="mixup", model="resnet_20")


def report_a_beginning(networks, reference_path, run, count, order):
    every_study(networks)
    assert len(networks.rows) < 90
    # Also the newest rows first, so that each study's beginnings are among the cuts.
    networks.rows = networks.rows[::order][:count]
    record(run, networks)
    write_report(run, STUDIES, "pls", {}, reference_path, "Partial.")
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert summary.count("\n## ") == len(STUDIES)
    assert "nan" not in summary and "inf" not in summary


@pytest.mark.parametrize("count", range(0, 90, 7))
@pytest.mark.parametrize("order", [1, -1])
def test_every_beginning_of_a_run_has_tables(
    networks, reference_path, run, count, order, monkeypatch
):
    monkeypatch.setattr(report, "FIGURES", dict.fromkeys(STUDIES, lambda *_: []))
    monkeypatch.setattr(reports, "write_figures", lambda *_: None)
    report_a_beginning(networks, reference_path, run, count, order)


@pytest.mark.parametrize("count", [9, 30, 50, 70])
@pytest.mark.parametrize("order", [1, -1])
def test_beginnings_of_a_run_have_figures(networks, reference_path, run, count, order, monkeypatch):
    # What the pictures show is tested elsewhere.
    monkeypatch.setattr(figures, "write_png", lambda _, path: path)
    monkeypatch.setattr(reports, "write_figures", lambda *_: None)
    report_a_beginning(networks, reference_path, run, count, order)


def test_refuses_an_unknown_study(reference_path, run):
    with pytest.raises(KeyError, match="none"):
        write_report(run, ["none"], "pls", {}, reference_path, "")
