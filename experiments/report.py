"""Writes a run's summary.md and figures anew from its results.csv.

    python -m experiments.report --run=experiments/boosting_tickets/measured

For runs of sparse_robust_networks and boosting_tickets, also those of which nothing but
config.json and results.csv is kept. Nothing is trained, and neither file is changed.
"""

import importlib
from pathlib import Path

from experiments import kinds, program
from tf_tickets.errors import UserError, require
from tf_tickets.runs import results
from tf_tickets.runs.files import load_json
from tf_tickets.runs.run_directory import RunDirectory

DRIVERS = ("sparse_robust_networks", "boosting_tickets")

# Flags of its own, as no preset belongs to it.
define = kinds.Definitions()
define.path("run", None, "A run's folder, with its config.json and results.csv.")
FLAGS = define.values


def read_config() -> tuple[Path, str, dict]:
    """A run's folder, the driver that made it, and the configuration it was made with.

    Raises:
      UserError: there is no such run, or it is another driver's.
    """
    require(FLAGS.run is not None, "run", "", "a run's folder")
    folder = Path(FLAGS.run)
    for name in ("config.json", "results.csv"):
        expected = f"a run's folder; it has no {name}"
        require((folder / name).is_file(), "run", FLAGS.run, expected)
    table = folder / "results.csv"
    rows = results.from_csv(table.read_text(encoding="utf-8"), str(table))
    require(rows, "run", FLAGS.run, "a run with results; its results.csv has none yet")
    driver = rows[0].experiment
    require(driver in DRIVERS, "run", folder, f"a run of {' or '.join(DRIVERS)}; it is of {driver}")
    config = load_json(folder / "config.json")
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.json'}: expected the flags of a run")
    return folder, driver, config


def main():
    """Reads the run, writes its report, and prints what the driver ended with."""
    folder, name, config = read_config()
    driver = importlib.import_module(f"experiments.{name}.driver")
    program.parse([name], driver.FLAGS)
    run = RunDirectory(folder, config, {}, writable=False)
    # A run from before a flag existed was as the paper's preset has it.
    print(driver.report_on(run, driver.PAPER | config, {}))


if __name__ == "__main__":
    program.run(main, FLAGS, __doc__, resumable=False)
