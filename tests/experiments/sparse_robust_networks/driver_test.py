"""The driver as its user runs it: in a process of its own, from flags to files."""

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import program
from experiments.sparse_robust_networks import driver
from tests.experiments import programs
from tests.experiments.programs import counts, last_line
from tf_tickets import runtime
from tf_tickets.errors import UserError
from tf_tickets.masking.ticket import Ticket, arrays_sha256
from tf_tickets.runs.files import load_arrays
from tf_tickets.runs.results import from_csv

DRIVER = "sparse_robust_networks"
SMALL = (
    "--preset=smoke",
    "--regimes=pgd",
    "--pruning_strategies=original,random",
    "--rounds=2",
)


def start(run_dir, *flags, **environment):
    return programs.start(DRIVER, f"--run_dir={run_dir}", *flags, **environment)


def run(run_dir, *flags, **environment):
    """Runs the driver to its end: exit code, standard output, standard error."""
    return programs.run(DRIVER, f"--run_dir={run_dir}", *flags, **environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    code, output, errors = run(run_dir, *SMALL)
    assert code == 0, errors
    return run_dir, output


def test_ends_with_the_table_and_the_paths(finished):
    run_dir, output = finished
    assert "100.0" in output and "80.0" in output and "45.32±0.20" in output
    for name in ("summary.md", "figures", "tickets", "exports"):
        assert str(run_dir / name) in output
        assert (run_dir / name).exists()
    assert "iterations 40 (paper: 50000)" in output


def test_results_cover_every_level_and_attack(finished):
    run_dir, _ = finished
    rows = from_csv((run_dir / "results.csv").read_text(), "results.csv")
    assert {(row.method, row.level) for row in rows} == {
        (method, level) for method in ("original", "random") for level in (0, 1)
    }
    final = {row.metric for row in rows if row.iteration == 40}
    assert final == {f"train/pgd/{of}" for of in ("loss", "seconds", "cpu_seconds")} | {
        f"{split}/{attack}/{quantity}"
        for split in ("validation", "test")
        for attack in ("natural", "fgsm", "pgd", "cw_linf")
        for quantity in ("accuracy", "loss")
    }
    assert {row.iteration for row in rows} == {0, 20, 40}


def test_tickets_hold_the_exact_counts_and_trained_weights_obey_them(finished):
    run_dir, _ = finished
    for method in ("original", "random"):
        folder = Path("mnist", "pgd", method, "seed_0")
        dense, pruned = (
            Ticket.load(run_dir / "tickets" / folder / f"level_0{level}.npz") for level in (0, 1)
        )
        assert [int(mask.sum()) for mask in dense.masks.values()] == [235_200, 30_000, 1_000]
        assert [int(mask.sum()) for mask in pruned.masks.values()] == [188_160, 24_000, 900]
        weights = load_arrays(run_dir / "checkpoints" / folder / "level_01.npz")
        for path, mask in pruned.masks.items():
            assert not np.any(weights[path][~mask]) and np.all(weights[path][mask])


def test_the_same_command_again_trains_nothing(finished):
    run_dir, first_output = finished
    before = (run_dir / "results.csv").read_bytes()
    code, output, errors = run(run_dir, *SMALL)
    assert (code, output) == (0, first_output)
    assert "passed" not in errors
    assert (run_dir / "results.csv").read_bytes() == before


def contents(run_dir):
    """Everything that must not depend on interruptions; times do."""
    rows = [
        row
        for row in from_csv((run_dir / "results.csv").read_text(), "results.csv")
        if not row.metric.endswith("seconds")
    ]
    files = {
        path.relative_to(run_dir): path.read_bytes()
        for folder in ("tickets", "checkpoints")
        for path in sorted((run_dir / folder).rglob("*.npz"))
    }
    return rows, files


def test_killed_among_two_workers_and_resumed_by_one_ends_with_the_same_bytes(finished, tmp_path):
    """The first process is killed once a first level is finished."""
    there, missing = programs.killed_and_resumed(DRIVER, tmp_path / "run", *SMALL)
    assert there > 0 and missing > 0 and there + missing == 3  # Both begin with one dense network.
    assert contents(tmp_path / "run") == contents(finished[0])
    assert not [path for path in tmp_path.rglob(".*") if path.is_dir()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_a_resumable_run_and_say_how_to_go_on(tmp_path, number):
    flags = ("--preset=smoke", "--iterations=100000", "--evaluate_every=50000", "--workers=1")
    process = start(tmp_path / "run", *flags)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("tf_tickets_store/*/node.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert last_line(errors).startswith(f"stopped by {number.name}; everything so far is kept.")
    assert " ".join(flags) in last_line(errors)
    assert "Traceback" not in errors
    assert len(list(tmp_path.glob("tf_tickets_store/*/in_progress/ckpt-*.index"))) == 1


@pytest.mark.parametrize(
    "flags,message",
    [
        (["--regimes=pdg"], "error: --regimes=pdg: expected one of natural, fgsm, pgd"),
        (["--data_sets=mnits"], "error: --data_sets=mnits: expected one of mnist"),
        (["--pruning_strategies=orignal"], "error: --pruning_strategies=orignal: expected one of"),
        (["--preset=fast"], "error: --preset=fast: expected one of smoke, quick, paper"),
        (["--rounds=0"], "error: --rounds=0: expected a whole number in [1, 100]"),
        (["--rounds=many"], "error: --rounds=many: expected a whole number in [1, 100]"),
        (["--rounds=1e1"], "error: --rounds=1e1: expected a whole number"),
        (["--batch_size=0"], "error: --batch_size=0: expected a whole number in [1, "),
        (["--batch_size=9000"], "error: --batch_size=9000: expected at most 8333"),
        (["--learning_rate=-1"], "error: --learning_rate=-1: expected a number in (0, 1000], such"),
        (["--eps=-0.1"], "error: --eps=-0.1: expected a number in [0, 1], such as 0.03 or 8/255"),
        (["--eps=8/0"], "error: --eps=8/0: expected a number in [0, 1]"),
        (["--eps=1/255"], "error: --eps=0.00392157: does not go with --preset=smoke's --step_size"),
        (["--pruning_rate=1"], "error: --pruning_rate=1: expected a number in [0, 1)"),
        (["--pruning_rate=nan"], "error: --pruning_rate=nan: expected a number in [0, 1)"),
        (["--rewind_iteration=41"], "error: --rewind_iteration=41: expected in [0, 40]"),
        (["--trials=0"], "error: --trials=0: expected a whole number in [1, 1000]"),
        (["--seed=2147483647", "--trials=2"], "error: --seed=2147483647: expected at most 2147"),
        (["--regimes=pgd,pgd"], "error: --regimes=pgd,pgd: expected different ones"),
        (["--data_source=folder"], "error: --data_source=folder: expected one of embedded, tfds"),
        (["--data_sets=cifar10"], "error: --data_sets=cifar10: does not go with --preset=smoke's"),
        ([f"--data_dir={'x' * 300}"], f"error: --data_dir={'x' * 79}…: expected a path whose"),
        (["--roundz=3"], "error: Unknown command line flag 'roundz'. Did you mean: rounds ?"),
        (["extra"], "error: extra: expected flags only"),
        (["--data_dir=/nowhere"], "error: --data_dir=/nowhere"),
        (["--data_source=tfds", "--data_dir=/nowhere"], "error: --data_dir=/nowhere"),
        (["--strategy=multi_worker"], "error: --strategy=multi_worker: the environment variable"),
    ],
)
def test_wrong_input_is_one_line_before_any_work(tmp_path, capsys, flags, message):
    arguments = ["driver", f"--run_dir={tmp_path / 'run'}", "--preset=smoke", *flags]
    try:
        program.parse(arguments, driver.FLAGS)
        code = program.exit_code(driver.main, driver.FLAGS)
    except SystemExit as end:
        code = end.code
    output, errors = capsys.readouterr()
    assert code == 2 and not output
    assert errors.startswith(message)
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("given", "starts"), [([], False), (["--random_start"], True)])
def test_pgd_starts_at_the_image_unless_told_otherwise(given, starts):
    program.parse(["driver", "--preset=paper", *given], driver.FLAGS)
    attacks = driver.training_attacks(driver.read_config())
    assert attacks["pgd"].random_start is starts and not attacks["fgsm"].random_start


@pytest.mark.parametrize(
    "cluster", ["{", "[]", '{"cluster": {"worker": []}, "task": {"index": 0}}']
)
def test_a_wrong_cluster_is_one_line(monkeypatch, cluster):
    monkeypatch.setenv("TF_CONFIG", cluster)
    with pytest.raises(UserError, match="--strategy=multi_worker: TF_CONFIG="):
        runtime.make_strategy("multi_worker")


WRONG_ROUNDS = "error: --rounds=0: expected a whole number in [1, 100]\n"


def test_a_wrong_flag_in_a_process_of_its_own(tmp_path):
    code, output, errors = run(tmp_path / "run", "--preset=smoke", "--rounds=0")
    assert (code, output, errors) == (2, "", WRONG_ROUNDS)


def test_a_finished_run_takes_on_more(finished, tmp_path):
    """A level, a strategy, an evaluation and a trial; the results are of what was asked last."""
    for folder in (finished[0], finished[0].parent / "tf_tickets_store"):
        shutil.copytree(folder, tmp_path / folder.name)
    run_dir = tmp_path / finished[0].name

    def grown(*flags):
        code, _, errors = run(run_dir, *SMALL, *flags)
        assert code == 0, errors
        return counts(errors)

    assert grown("--rounds=3") == {"trainings": (3, 2), "measurements": (3, 2)}
    more = ("--pruning_strategies=original,random,continued", "--rounds=2")
    assert grown(*more) == {"trainings": (3, 1), "measurements": (3, 1)}
    rows = from_csv((run_dir / "results.csv").read_text(), "results.csv")
    assert {(row.method, row.level) for row in rows} == {
        (method, level) for method in ("original", "random", "continued") for level in (0, 1)
    }
    assert grown("--trials=2") == {"trainings": (3, 3), "measurements": (3, 3)}
    # Rewinding needs weights that the dense network passed through.
    rewound = grown("--rewind_iteration=20", "--pruning_strategies=original")
    assert rewound == {"trainings": (0, 2), "measurements": (1, 1)}
    path = Path("mnist/pgd/original/seed_0")
    rewind = load_arrays(run_dir / "checkpoints" / path / "rewind.npz")
    ticket = Ticket.load(run_dir / "tickets" / path / "level_01.npz")
    assert ticket.provenance.initial_weights_sha256 == arrays_sha256(rewind)
    assert contents(finished[0])[0] != contents(run_dir)[0]
    assert grown() == {"trainings": (3, 0), "measurements": (3, 0)}
    assert contents(finished[0])[0] == contents(run_dir)[0]


def test_plan_says_what_would_be_done_and_does_nothing(capfd, tmp_path):
    go = programs.in_this_process(driver, capfd)
    code, output, errors = go("--plan", *SMALL, f"--run_dir={tmp_path / 'run'}")
    assert (code, errors) == (0, "")
    assert counts(output) == {"trainings": (0, 3), "measurements": (0, 3)}
    assert not list(tmp_path.iterdir())


def test_a_hundred_levels_can_be_planned_and_handed_to_workers(capfd, tmp_path):
    go = programs.in_this_process(driver, capfd)
    flags = ("--preset=smoke", "--rounds=100", "--pruning_rate=0.01", "--regimes=pgd")
    code, output, errors = go("--plan", *flags, f"--run_dir={tmp_path / 'run'}")
    assert (code, errors) == (0, "")
    assert counts(output) == {"trainings": (0, 199), "measurements": (0, 199)}


def test_a_plan_is_refused_where_the_run_would_be(capfd, tmp_path):
    go = programs.in_this_process(driver, capfd)
    (tmp_path / "run" / "records").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"another": "driver"}')
    code, output, errors = go("--plan", "--preset=smoke", f"--run_dir={tmp_path / 'run'}")
    assert (code, output) == (2, "") and len(errors.splitlines()) == 1
    assert errors.startswith(f"error: --run_dir={tmp_path / 'run'}: holds a run of another driver")


@pytest.mark.parametrize("name", ["ticket.npz", "weights.npz", "record.json"])
def test_a_damaged_file_is_named_and_nothing_is_lost(finished, tmp_path, name):
    for folder in (finished[0], finished[0].parent / "tf_tickets_store"):
        shutil.copytree(folder, tmp_path / folder.name)
    run_dir, store = tmp_path / finished[0].name, tmp_path / "tf_tickets_store"
    damaged = sorted(path for path in store.glob(f"*/{name}") if is_training(path))[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    before = contents(run_dir)
    code, _, errors = run(run_dir, *SMALL, "--rounds=3")
    assert code == 2 and last_line(errors).startswith(f"error: {damaged}")
    assert last_line(errors).endswith("; delete its folder to have it made anew")
    assert contents(run_dir)[1] == before[1]
    shutil.rmtree(damaged.parent)
    code, _, errors = run(run_dir, *SMALL)
    assert code == 0 and contents(run_dir) == before, errors


def is_training(path):
    """Whether a file of the store is of a training that a further level comes from."""
    node = json.loads((path.parent / "node.json").read_text())
    return node["kind"] == "Training" and node["stream"] == 1


def test_a_diverging_loss_is_one_line(tmp_path, capsys):
    program.parse(["driver", f"--run_dir={tmp_path / 'run'}", *SMALL], driver.FLAGS)
    driver.FLAGS["learning_rate"].value = 1e38  # More than the flag takes.
    assert program.exit_code(driver.main, driver.FLAGS) == 2
    errors = capsys.readouterr().err
    assert last_line(errors).startswith(
        "error: mnist lenet_300_100 pgd original 0 level 0: the pgd training loss became"
    )
    assert "Traceback" not in errors


def test_two_workers_on_loopback_train_as_one_device_does(tmp_path):
    flags = (*SMALL, "--regimes=natural", "--pruning_strategies=original", "--iterations=20")
    programs.run_two_workers(DRIVER, f"--run_dir={tmp_path / 'workers'}", *flags)
    code, _, errors = run(tmp_path / "one", *flags)
    assert code == 0, errors
    folders = tmp_path / "one", tmp_path / "workers"
    rows = [from_csv((folder / "results.csv").read_text(), "results.csv") for folder in folders]
    for one, two in zip(*rows, strict=True):
        assert one._replace(value=0.0) == two._replace(value=0.0)
        if not one.metric.endswith("seconds"):
            assert two.value == pytest.approx(one.value, rel=1e-3, abs=2e-3)
    for level in ("level_00.npz", "level_01.npz"):
        path = Path("checkpoints", "mnist", "natural", "original", "seed_0", level)
        single, double = (load_arrays(folder / path) for folder in folders)
        for name, weight in single.items():
            np.testing.assert_allclose(double[name], weight, atol=1e-4)
