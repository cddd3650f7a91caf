"""Reports made anew from what is kept of a run."""

import shutil
from pathlib import Path

import pytest

from experiments import report
from tests.experiments import programs
from tf_tickets.runs import results

FOLDER = Path(report.__file__).parent


@pytest.mark.parametrize("name", report.DRIVERS)
def test_the_repositorys_summaries_are_those_of_its_code(tmp_path, name):
    run = tmp_path / name
    measured = FOLDER / name / "measured"
    shutil.copytree(measured, run)
    (run / "summary.md").unlink()
    code, output, errors = programs.run("report", f"--run={run}", folder=tmp_path)
    assert code == 0, errors
    assert str(run / "summary.md") in output
    assert (run / "summary.md").read_text() == (measured / "summary.md").read_text()
    # What was measured is not touched, and nothing else is left.
    for path in measured.iterdir():
        if path.suffix in (".csv", ".json"):
            assert (run / path.name).read_bytes() == path.read_bytes()
    assert {path.name for path in run.iterdir()} == {path.name for path in measured.iterdir()}


def test_a_run_without_results_is_refused_in_a_line(capfd, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "results.csv").write_text(results.to_csv([]))
    code, output, errors = programs.in_this_process(report, capfd)(f"--run={tmp_path}")
    assert (code, output) == (2, "")
    assert errors.endswith("expected a run with results; its results.csv has none yet\n")


def test_what_is_no_run_is_refused_in_a_line(capfd, tmp_path):
    run = programs.in_this_process(report, capfd)
    (tmp_path / "config.json").write_text("{}")
    for folder, message in (
        ("", "error: --run=: expected a path"),
        (tmp_path, f"error: --run={tmp_path}: expected a run's folder; it has no results.csv"),
        (
            FOLDER / "pruning_robustness" / "measured",
            "expected a run of sparse_robust_networks or boosting",
        ),
    ):
        code, output, errors = run(f"--run={folder}")
        assert code == 2 and not output
        assert message in errors and len(errors.strip().splitlines()) == 1
