"""What write_report leaves, for whole, partial and empty runs."""

import textwrap
from pathlib import Path

import pytest

from experiments.robust_bert_tickets import (
    figures as figures,
)
from experiments.robust_bert_tickets import (
    patterns as patterns,
)
from experiments.robust_bert_tickets import settings as robust_bert
from experiments.robust_bert_tickets.comparisons import explanation
from experiments.robust_bert_tickets.report import STUDIES, write_report
from experiments.robust_bert_tickets.results import load_groups, load_reference
from experiments.robust_bert_tickets.tables import (
    convergence_table,
    regularization_table,
    sparsity_table,
)
from tests.analysis.readers import parse
from tests.experiments.robust_bert_tickets.maker import REFERENCE_PATH, BertMaker, whole_run
from tf_tickets.analysis import report
from tf_tickets.deployment.saved_model import Export
from tf_tickets.runs.files import load_json
from tf_tickets.runs.run_directory import RunDirectory

TITLES = [f"## {study.title}" for study in STUDIES.values()]
FOLDER = REFERENCE_PATH.parent


@pytest.fixture
def maker(tmp_path):
    return BertMaker(tmp_path / "run")


def headings(run):
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    return [line for line in summary.splitlines() if line.startswith("#")]


@pytest.mark.parametrize("name", ["measured", "measured_regularization"])
def test_recorded_summaries_explain_comparisons_as_they_are_made(name):
    summary = (FOLDER / name / "summary.md").read_text(encoding="utf-8")
    assert textwrap.fill(explanation(), 100) in summary


@pytest.mark.parametrize("name", ["measured", "measured_regularization"])
def test_recorded_tables_are_made_from_recorded_results(name):
    config = load_json(FOLDER / name / "config.json")
    (group,) = load_groups(RunDirectory(FOLDER / name, config, {}, writable=False))
    summary = (FOLDER / name / "summary.md").read_text(encoding="utf-8")
    assert f"\n### {group.label}\n" in summary
    made = [
        regularization_table(group, load_reference(REFERENCE_PATH)),
        sparsity_table(group),
        convergence_table(group),
    ]
    assert [bool(table) for table in made] == [True, name == "measured", True]
    assert all(table in summary for table in made)


def test_every_study_of_a_run_has_a_section():
    assert tuple(STUDIES) == robust_bert.STUDIES


def test_summary_terminal_and_tensorboard(maker):
    run = whole_run(maker).finish()
    exports = {"sst2, robust": Export(Path("/exports/1"), 30, 100, 0.0)}
    text = write_report(run, exports, REFERENCE_PATH, "A small encoder.", list(STUDIES))
    group = "### MiniLM-L6 (2 layers) on SST-2"
    assert headings(run)[1:] == [line for title in TITLES for line in (title, group)]
    summary = (run.path / "summary.md").read_text(encoding="utf-8")
    assert "\n\nA small encoder.\n\n" in summary and "No results yet." not in summary
    for name in ("01_{}_regularization", "02_{}_sparsity", "03_{}_patterns", "04_{}_convergence"):
        file = f"figure_{name.format('sst2_minilm_l6_2_layers')}.png"
        assert f"](figures/{file})" in summary
        assert (run.path / "figures" / file).is_file()
    assert list((run.path / "tensorboard" / "figures").glob("events*"))
    # The terminal has the first study alone.
    assert len(parse(text)) == 5
    assert "Scale: A small encoder." in text
    assert "/exports/1 (30.0% of its weights are zero)" in text


def test_studies_are_those_asked_for_in_their_order(maker):
    maker.network("fine_tune", [0.9])
    maker.network("fine_tune", [0.9], data_set="imdb")
    run = maker.finish()
    write_report(run, {}, REFERENCE_PATH, "Dense alone.", ["sparsity", "main"])
    assert headings(run)[1:] == [
        "## Impact of sparsity (Figure 2)",
        "## Robustness evaluation (Tables 1 and 2)",
        "### MiniLM-L6 (2 layers) on IMDB",
        "### MiniLM-L6 (2 layers) on SST-2",
    ]


def test_an_empty_run(maker):
    text = write_report(maker.run, {}, REFERENCE_PATH, "Nothing yet.", list(STUDIES))
    summary = (maker.run.path / "summary.md").read_text(encoding="utf-8")
    assert summary.count("No results yet.") == len(STUDIES)
    assert text.startswith("No results yet.") and "SavedModel" not in text
    assert not (maker.run.path / "figures").exists()


@pytest.mark.parametrize("part", range(8))
def test_any_rows_may_be_missing(maker, part, monkeypatch):
    # What is written is tested above; here, that no missing row stops tables or figures.
    monkeypatch.setattr(report, "write_figures", lambda *_: None)
    for module in (figures, patterns):
        monkeypatch.setattr(module, "write_png", lambda _, path: path)
    whole_run(maker)
    kept = [(key, row) for key, rows in maker.rows.items() for row in rows]
    # Every second row, every third, ..., then ever longer beginnings.
    step, count = (part + 2, None) if part < 4 else (1, 4 ** (part - 3))
    maker.rows = {}
    for key, row in kept[step - 1 : count : step]:
        maker.rows.setdefault(key, []).append(row)
    if part % 2:
        for path in (maker.run.path / "attacks").rglob("*.csv"):
            path.unlink()
    write_report(maker.finish(), {}, REFERENCE_PATH, "Partial.", list(STUDIES))
    assert [line for line in headings(maker.run) if line.startswith("## ")] == TITLES
