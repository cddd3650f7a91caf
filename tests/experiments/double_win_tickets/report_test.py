"""What write_report leaves, for whole, partial and empty runs."""

import shutil
from pathlib import Path

import pytest

from experiments.double_win_tickets import figures
from experiments.double_win_tickets.masks import SIMILARITY_TITLE
from experiments.double_win_tickets.report import write_report
from experiments.double_win_tickets.results import LABELS
from tests.analysis.readers import parse
from tests.experiments.double_win_tickets.maker import REFERENCE_PATH, TransfersMaker, whole_run
from tf_tickets.analysis import report
from tf_tickets.analysis.report import Section
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.files import load_json
from tf_tickets.runs.run_directory import Cell, RunDirectory

TITLES = [
    "## Extreme sparsity of double-win tickets (Sections 4.1 and 4.2)",
    "## Tickets by pre-training and pruning (Figures 3 and 4)",
    "## Data efficiency (Figure 5, Section 5)",
    "## Pre-training",
    "## Transfer attack (Table A2)",
]


@pytest.fixture
def transfers(tmp_path):
    return TransfersMaker(tmp_path / "results.csv")


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run", {"seed": 0}, {}, labels=LABELS)


def record(run, maker):
    run.finish_level(Cell("cifar10", "pgd", "any", 0), 0, maker.rows)


def test_summary_terminal_and_tensorboard(transfers, run):
    record(run, whole_run(transfers))
    exports = {"cifar10, at_imp_st_100": Export(Path("/exports/1"), 80, 100, 0.0)}
    extra = [("Mask similarity", [Section("of all", "| a |\n|---|\n| 1 |", ())])]
    text = write_report(run, exports, REFERENCE_PATH, "A narrow network.", extra)
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("# Double-Win Lottery Tickets\n\nA narrow network.\n\n")
    headings = [line for line in summary.splitlines() if line.startswith("#")][1:]
    target = "### ResNet-18 on CIFAR-10"
    assert headings == [
        *[line for title in TITLES[:4] for line in (title, target)],
        TITLES[4],
        "## Mask similarity",
        "### of all",
    ]
    assert "Table A2)\n\nNo results yet.\n\n## Mask similarity" in summary
    for name in ("03_cifar10_pretraining", "05_cifar10_data"):
        assert f"](figures/figure_{name}.png)" in summary
        assert (run.path / "figures" / f"figure_{name}.png").is_file()
    assert list((run.path / "tensorboard" / "figures").glob("events*"))
    # The terminal has the verdicts alone.
    (table,) = parse(text)
    assert table[3][:3] == ["AT", "IMP (standard)", "48.80"]
    assert "Scale: A narrow network." in text
    assert "/exports/1 (80.0% of its weights are zero)" in text
    assert max(map(len, text.split("Run directory")[0].splitlines())) <= 120


def test_an_empty_run(run):
    text = write_report(run, {}, REFERENCE_PATH, "Nothing yet.")
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert summary.count("No results yet.") == len(TITLES)
    assert text.startswith("No results yet.") and "SavedModel" not in text
    assert not (run.path / "figures").exists()


@pytest.mark.parametrize("part", range(14))
def test_any_rows_may_be_missing(transfers, run, part, monkeypatch):
    # What is written is tested above; here, that no missing row stops tables or figures.
    monkeypatch.setattr(report, "write_figures", lambda *_: None)
    monkeypatch.setattr(figures, "write_png", lambda _, path: path)
    whole_run(transfers)
    transfers.add(("at", "dense", 100), "pgd", "test/transfer_attack/accuracy", [0.5])
    transfers.transfer(("scratch", "dense", 100), robust=[0.4])
    # Every row, every second, every third, ..., then ever longer beginnings.
    step, count = (part + 1, None) if part < 7 else (1, 2 ** (part - 6))
    transfers.rows = transfers.rows[step - 1 : count : step]
    record(run, transfers)
    write_report(run, {}, REFERENCE_PATH, "Partial.")
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert [line for line in summary.splitlines() if line.startswith("## ")] == TITLES


def test_the_recorded_results_still_give_the_recorded_summary(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "write_png", lambda _, path: path)
    measured = REFERENCE_PATH.parent / "measured"
    recorded = (measured / "summary.md").read_text(encoding="utf-8")
    for name in ("config.json", "results.csv"):
        shutil.copy(measured / name, tmp_path)
    run = RunDirectory(tmp_path, load_json(tmp_path / "config.json"), {}, writable=False)
    write_report(run, {}, REFERENCE_PATH, scale=recorded.splitlines()[2])
    # The studies after these are of the tickets, which are not recorded.
    of_results, title, _ = recorded.partition(f"\n## {SIMILARITY_TITLE}")
    assert title and (tmp_path / "summary.md").read_text(encoding="utf-8") == of_results
