"""What write_report leaves, for whole, partial and empty runs."""

from pathlib import Path

import pytest

from experiments.boosting_tickets import report, results
from experiments.boosting_tickets.report import STUDIES, write_report
from tf_tickets.analysis import report as reports
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.run_directory import Cell, RunDirectory


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run", {"seed": 0}, {}, labels=results.LABELS)


def record(run, maker):
    run.finish_level(Cell("cifar10", "pgd", "any", 0), 0, maker.rows)


def test_summary_terminal_and_tensorboard(accelerated, reference_path, run):
    accelerated.train("winning", 100, "natural", [0.1, 0.5], tests={"natural": 0.5})
    record(run, accelerated)
    exports = {"cifar10, fgsm_ticket_40": Export(Path("/exports/1"), 80, 100, 0.0)}
    studies = ["acceleration", "existence", "mnist"]
    text = write_report(run, studies, exports, reference_path, "4 of 100 epochs.")
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("# Boosting Ticket\n\n4 of 100 epochs.\n\n")
    headings = [line for line in summary.splitlines() if line.startswith("#")]
    assert headings == [
        "# Boosting Ticket",
        "## Time that adversarial training takes (Tables 3 and 6)",
        "### VGG-16 on CIFAR-10",
        "## Existence of boosting tickets (Figures 1 and 9)",
        "### VGG-16 on CIFAR-10",
        "## Small networks (Figure 7, Table 5)",
    ]
    assert summary.endswith("Table 5)\n\nNo results yet.\n")
    for name in (
        "cifar10_vgg_16_robust_accuracy_over_time.png", "figure_01_cifar10_vgg_16_existence.png",
    ):  # fmt: skip
        assert f"]({'figures/' + name})" in summary
        assert (run.path / "figures" / name).is_file()
    assert list((run.path / "tensorboard" / "figures").glob("events*"))
    # The terminal has the tables of the first study alone.
    assert "ratio to Madry's" in text and "winning ticket" not in text
    assert "Scale: 4 of 100 epochs." in text
    assert "/exports/1 (80.0% of its weights are zero)" in text
    assert str(run.path / "summary.md") in text
    assert max(map(len, text.split("Run directory")[0].splitlines())) <= 120


def test_an_empty_run(reference_path, run):
    text = write_report(run, STUDIES, {}, reference_path, "Nothing yet.")
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert summary.count("No results yet.") == len(STUDIES) == 9
    assert text.startswith("No results yet.") and "SavedModel" not in text
    assert not (run.path / "figures").exists()


@pytest.mark.parametrize("count", range(0, 200, 7))
def test_every_beginning_of_a_run_can_be_reported(
    accelerated, reference_path, run, count, monkeypatch
):
    # What is written is tested above; here, that no missing row stops the tables.
    monkeypatch.setattr(report, "FIGURES", dict.fromkeys(STUDIES, lambda *_: []))
    monkeypatch.setattr(reports, "write_figures", lambda *_: None)
    for family, percent, regime, labels in (
        ("boosting", 20, "natural", {}), ("boosting", 100, "natural", {}),
        ("boosting", 20, "natural", {"finding_rate": 0.1}),
        ("boosting", None, "natural", {"pruned_to": 0.5}), ("natural_ticket", 100, "pgd", {}),
        ("pgd_ticket", 100, "pgd", {}), ("fgsm_ticket", 20, "pgd", {}),
    ):  # fmt: skip
        where = {"data_set": "mnist", "model": "wide_resnet_10_1", "losses": [1, 2]} | labels
        where["tests"] = {"natural": 0.2}
        accelerated.train(family, percent, regime, [0.1, 0.2], [0.1, 0.2], **where)
    # The newest rows first, so that each study's beginnings are among the cuts.
    rows = accelerated.rows[::-1]
    assert len(rows) < 200
    accelerated.rows = rows[:count]
    record(run, accelerated)
    write_report(run, STUDIES, {}, reference_path, "Partial.")
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert summary.count("\n## ") == len(STUDIES)


def test_refuses_an_unknown_study(reference_path, run):
    with pytest.raises(KeyError, match="none"):
        write_report(run, ["none"], {}, reference_path, "")
