"""From a finished run to a file that other programs use."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from experiments import export_ticket
from tests import trained
from tests.experiments import programs
from tf_tickets.deployment import agreement
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.results import to_csv
from tf_tickets.runs.run_directory import Cell

CELL = Cell("mnist", "natural", "original", 0)
FEW = ("--examples=100", "--steps=3")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of one level."""
    folder = tmp_path_factory.mktemp("run")
    trained.save_run(trained.lenet(), folder)
    (folder / "config.json").write_text(json.dumps({"eps": 0.05}))
    rows = CELL.results("made_up", 3, 0.5, [(7, "test/pgd/accuracy", 0.5)])
    record = folder / "records" / CELL.path / "level_03.csv"
    record.parent.mkdir(parents=True)
    record.write_text(to_csv(rows))
    return folder


@pytest.fixture
def export(run_dir, capfd):
    call = programs.in_this_process(export_ticket, capfd)
    return lambda *flags: call(f"--run_dir={run_dir}", "--level=3", *flags)


def logits_of(images):
    return trained.lenet()(images, training=False).numpy()


def test_a_saved_model_is_served_by_tensorflow_alone(export, run_dir):
    code, output, errors = export(*FEW)
    assert code == 0, errors
    folder = run_dir / "exports" / CELL.path / "level_03" / "saved_model-none"
    assert output.splitlines()[-1] == str(folder / "1")
    program = (
        "import json, sys\n"
        "sys.modules['tf_tickets'] = None  # As if it were not installed.\n"
        "import tensorflow as tf\n"
        "serve = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "images = tf.io.decode_raw(tf.io.read_file(sys.argv[2]), tf.uint8)\n"
        "outputs = serve(images=tf.reshape(images, [-1, 28, 28, 1]))\n"
        "print(json.dumps({name: value.numpy().tolist() for name, value in outputs.items()}))\n"
    )
    images = trained.images_of_test(20).images
    (run_dir / "images").write_bytes(images.tobytes())
    served = subprocess.run(
        [sys.executable, "-I", "-c", program, str(folder / "1"), str(run_dir / "images")],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
    )
    found = json.loads(served.stdout.splitlines()[-1])
    expected = logits_of(images / np.float32(255))
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4)
    assert found["classes"] == expected.argmax(axis=1).tolist()


def test_the_card_says_what_was_measured_before(run_dir, export):
    code, _, errors = export("--output", str(run_dir / "card"), *FEW)
    assert code == 0, errors
    card = json.loads((run_dir / "card" / "1" / "assets.extra" / "ticket.json").read_text())
    ticket = Ticket.load(run_dir / "tickets" / CELL.path / "level_03.npz")
    assert card["density"] == ticket.density and card["masks_sha256"] == ticket.sha256
    assert card["provenance"]["data_set"] == "mnist (embedded)"
    assert card["measured_by_run"] == [
        {"metric": "test/pgd/accuracy", "iteration": 7, "value": 0.5}
    ]
    images, labels = trained.unit_interval(trained.images_of_test(100))
    right = float(np.mean(np.argmax(logits_of(images), axis=1) == labels))
    before = card["measured_before_export"]
    assert before["natural"] == right and before["examples"] == 100
    (attack,) = before["attacks"]
    assert attack["settings"]["eps"] == 0.05 and attack["settings"]["steps"] == 3
    assert attack["accuracy"] < right


def test_the_report_has_a_table_a_picture_and_all_numbers(run_dir, export):
    folder = run_dir / "report"
    code, output, errors = export(
        "--format=tflite", "--optimize=sparse", f"--output={folder}", *FEW
    )
    assert code == 0, errors
    with (folder / "verification.csv").open() as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    size = rows["size, bytes"]
    assert float(size["artifact"]) == (folder / "model.tflite").stat().st_size
    assert float(size["artifact"]) < 0.8 * float(size["compared"])
    table = (folder / "verification.md").read_text()
    assert all(name in table and name in output for name in rows)
    assert (folder / "verification.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((folder / "export.json").read_text())
    assert record["verification"]["attacks"][0]["way"] == "transferred"
    assert json.loads((folder / "ticket.json").read_text()) == record["ticket"]


def test_an_artifact_that_disagrees_is_removed(run_dir, export, monkeypatch):
    monkeypatch.setattr(agreement, "_EXACT_TOLERANCE", -1.0)
    folder = run_dir / "disagrees"
    code, _, errors = export(f"--output={folder}", *FEW)
    line = programs.last_line(errors)
    assert code == 2 and "does not agree with" in line and "it was removed" in line
    assert not folder.exists()


def test_onnx_has_the_card_as_metadata(run_dir, export):
    onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    pytest.importorskip("tf2onnx", reason="the extra `onnx` is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    folder = run_dir / "onnx"
    code, _, errors = export("--format=onnx", f"--output={folder}", *FEW)
    assert code == 0, errors
    path = str(folder / "model.onnx")
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(metadata["ticket"]) == json.loads((folder / "ticket.json").read_text())
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images, _ = trained.unit_interval(trained.images_of_test(5))
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    np.testing.assert_allclose(logits, logits_of(images), atol=1e-4)


def test_without_verification_nothing_is_measured(run_dir, export):
    folder = run_dir / "quick"
    code, output, errors = export("--noverify", f"--output={folder}")
    assert code == 0 and "Not verified" in output, errors
    assert {path.name for path in folder.iterdir()} == {"1", "export.json"}
    images, _ = trained.unit_interval(trained.images_of_test(5))
    served = tf.saved_model.load(str(folder / "1")).signatures["float_images"](images=images)
    np.testing.assert_allclose(served["logits"], logits_of(images), atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--level=4"], "--level=4: not finished in"),
        (["--optimize=int8"], "--optimize=int8"),
        (["--format=pickle"], "--format"),
        (["--examples=5000"], "--examples=5000: expected 1 to 2000, or 0 for all"),
        (["--examples=-1"], "--examples=-1: expected a whole number in [0, "),
        (["--data_dir=/data"], "--data_dir=/data: the run's data are embedded"),
        (["--seed=7"], "--seed=7: nothing like that"),
        (["--output=/proc/none/out"], "--output=/proc/none/out: expected a place"),
        ([f"--output=/tmp/{'x' * 250}"], "expected a place that can be written"),
        (["--steps=0"], "--steps=0: expected a whole number in [1, "),
        (["--eps=2"], "--eps=2: expected a number in [0, 1]"),
        (["--run_dir=/nowhere"], "--run_dir=/nowhere: no run"),
        (["--run_dir="], "--run_dir=: expected a path"),
        (["--regime=pgd"], "--regime=pgd: nothing like that"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(export, flags, message):
    code, _, errors = export(*flags)
    assert code == 2 and "Traceback" not in errors
    assert message in programs.last_line(errors)


def test_a_folder_of_something_else_is_left_alone(export, tmp_path):
    names = ["thesis.tex", "export.json"]
    for name in names:
        (tmp_path / name).write_text("{}")
        code, _, errors = export(f"--output={tmp_path}")
        assert code == 2 and f"--output={tmp_path}: expected a folder" in programs.last_line(errors)
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_an_earlier_export_is_replaced(export, tmp_path):
    for _ in range(2):
        code, _, errors = export("--noverify", f"--output={tmp_path / 'again'}")
        assert code == 0, errors
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_a_ticket_of_another_level_is_refused(run_dir, export):
    tickets = run_dir / "tickets" / CELL.path
    for folder, suffix in (("tickets", ".npz"), ("checkpoints", ".npz"), ("records", ".csv")):
        place = run_dir / folder / CELL.path
        shutil.copy(place / f"level_03{suffix}", place / f"level_05{suffix}")
    code, _, errors = export("--level=5")
    assert code == 2
    assert f"{tickets / 'level_05.npz'}: a ticket of level 3" in programs.last_line(errors)


def test_sigterm_leaves_nothing_behind(run_dir, tmp_path):
    flags = (f"--run_dir={run_dir}", "--level=3", f"--output={tmp_path / 'out'}", "--steps=5000")
    process = programs.start("export_ticket", *flags)
    while not list(tmp_path.iterdir()):  # It has begun to write.
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM
    assert programs.last_line(errors) == "stopped by SIGTERM; nothing was written"
    assert not list(tmp_path.iterdir())
