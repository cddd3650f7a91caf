"""The driver of the robust BERT tickets as its user runs it, around a tiny encoder."""

import json
import re
import shutil
import sys

import pytest
import tensorflow as tf

from experiments import export_ticket
from experiments.robust_bert_tickets import driver as robust_bert_tickets
from tests.experiments import programs
from tests.models.tiny_bert import write_folder
from tf_tickets.errors import UserError, require_extra
from tf_tickets.masking.ticket import Ticket
from tf_tickets.runs.results import from_csv

pytest.importorskip("keras_nlp", reason="needs the extra `text`")

DRIVER = "robust_bert_tickets"
STUDIES = "main,importance,regularization,patterns"
FEW = ("--methods=fine_tune,robust", "--attacked_examples=3")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Flags of a small run."""
    encoder = write_folder(tmp_path_factory.mktemp("encoders") / "tiny")
    return ("--preset=smoke", f"--bert_dir={encoder}", "--layers=2", "--processes=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small):
    """A finished run of several studies, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "finished"
    flags = (f"--run_dir={run_dir}", f"--study={STUDIES}", *FEW, *small)
    code, output, errors = programs.run(DRIVER, *flags)
    assert code == 0, errors
    return run_dir, output, errors


@pytest.fixture(scope="module")
def short(tmp_path_factory, small):
    """A finished run of two methods, beside its store."""
    run_dir = tmp_path_factory.mktemp("short") / "run"
    code, _, errors = programs.run(DRIVER, f"--run_dir={run_dir}", *FEW, *small, "--workers=1")
    assert code == 0, errors
    assert counts(errors) == {"trainings": (0, 3), "measurements": (0, 4)}
    return run_dir


def rows_of(run_dir):
    """All results but times."""
    rows = from_csv((run_dir / "results.csv").read_text(), "results.csv")
    return [row for row in rows if not row.metric.endswith("seconds")]


def contents(run_dir):
    """What must not depend on interruptions, nor on how much is done at once."""
    files = {
        path.relative_to(run_dir): path.read_bytes()
        for folder in ("tickets", "checkpoints", "attacks")
        for path in sorted((run_dir / folder).rglob("*"))
        if path.is_file()
    }
    return rows_of(run_dir), files


def counts(said):
    """What a run says before it begins: trainings and measurements, there and to be done."""
    found = re.findall(r"^\W*(\d+) (\w+): (\d+) are there, (\d+) to be done$", said, re.MULTILINE)
    return {noun: (int(there), int(missing)) for _, noun, there, missing in found}


def test_studies_end_with_tables_figures_and_paths(finished):
    run_dir, output, errors = finished
    assert "robust tickets" in output and "Aua" in output
    assert "data_sets movie_reviews (paper: imdb" in output
    for name in ("summary.md", "figures", "tickets"):
        assert str(run_dir / name) in output and (run_dir / name).exists()
    assert "left" in errors and "Traceback" not in errors and "retracing" not in errors
    assert "backend" not in output
    summary = (run_dir / "summary.md").read_text()
    assert "No results yet" not in summary
    assert len(list((run_dir / "figures").glob("*.png"))) >= 2


def test_results_say_in_columns_what_names_say(finished):
    run_dir, *_ = finished
    header = (run_dir / "results.csv").read_text().splitlines()[0]
    assert header.endswith(",value,encoder,layers,penalty,recipe")
    searched, attacked = set(), set()
    for row in rows_of(run_dir):
        labels = dict(row.labels)
        assert row.model == f"{labels.pop('encoder')}_{labels.pop('layers')}_layers"
        if "/characters/" in row.metric:
            attacked.add(row.method)
            assert labels == {"recipe": "textattack"}
        elif row.metric.startswith("masks/"):
            searched.add(row.method)
            assert row.method == f"search_{float(labels.pop('penalty')):g}" and not labels
        else:
            assert "recipe" not in labels
    assert searched == {"search_0.1", "search_0.5"} and {"fine_tune", "robust"} <= attacked


def test_what_made_the_run_is_kept(finished):
    run_dir, *_ = finished
    environment = json.loads((run_dir / "environment.json").read_text())
    assert {"keras-nlp", "tensorflow-text", "textattack", "torch", "transformers", "nltk"} <= set(
        environment["packages"]
    )
    assert "robust_bert_tickets" in environment["command"]
    assert f"--run_dir={run_dir}" in environment["command"]
    (card,) = (run_dir / "exports/movie_reviews/robust/level_30").rglob("ticket.json")
    card = json.loads(card.read_text())
    assert card["class_names"] == ["negative", "positive"]
    assert "tensorflow-text" in card["provenance"]["versions"]


def test_what_attacks_did_is_kept_for_every_sentence(finished):
    run_dir, *_ = finished
    (table,) = run_dir.glob("attacks/*/*/natural/robust/seed_0/level_30/test_characters_*.csv")
    made_by = json.loads(table.with_suffix(".json").read_text())
    assert made_by["attack"] == "characters" and "stop_words" in made_by["resources"]
    assert len(table.read_text().splitlines()) == 1 + 3
    shares = {
        row.metric: row.value
        for row in rows_of(run_dir)
        if row.method == "robust" and row.metric.startswith("test/characters/")
    }
    assert shares["test/characters/examples"] == 3
    assert shares["test/characters/accuracy"] <= shares["test/characters/clean_accuracy"]


def test_the_export_is_the_robust_ticket(finished):
    run_dir, output, _ = finished
    path = run_dir / "exports/movie_reviews/robust/level_30"
    assert str(path) in output
    (ticket_path,) = run_dir.glob("tickets/movie_reviews/*/natural/robust/seed_0/level_30.npz")
    assert f"({Ticket.load(ticket_path).sparsity:.1%} of its weights are zero)" in output
    signatures = tf.saved_model.load(str(path)).signatures
    outputs = signatures["serving_default"](sentence=tf.constant(["a fine film", "dull"]))
    assert outputs["logits"].shape == [2, 2]
    ids = tf.constant([[2, 5, 6, 3]])
    logits = signatures["tokens"](token_ids=ids, segment_ids=0 * ids, padding_mask=ids**0)
    assert logits["logits"].shape == [1, 2]


@pytest.mark.parametrize("form", ["--format=saved_model", "--format=tflite"])
def test_any_network_of_the_run_can_be_exported(finished, tmp_path, capfd, form):
    run_dir, *_ = finished
    export = programs.in_this_process(export_ticket, capfd)
    chosen = (f"--run_dir={run_dir}", "--level=30", "--method=robust", "--seed=0")
    code, output, errors = export(
        *chosen, form, "--optimize=compact", "--examples=10", f"--output={tmp_path / 'out'}"
    )
    assert code == 0, errors
    # What the run's attacks made is tried on the artifact.
    assert "accuracy under characters_" in output and "(transferred, 3 examples)" in output
    card = json.loads(next((tmp_path / "out").rglob("ticket.json")).read_text())
    assert card["provenance"]["algorithm"] == "robust"
    before = card["measured_before_export"]
    assert before["examples"] == 10
    (by_run,) = (
        entry["value"]
        for entry in card["measured_by_run"]
        if entry["metric"] == "test/characters/accuracy"
    )
    assert before["attacks"][0]["accuracy"] == pytest.approx(by_run)


def test_one_stage_after_the_other_is_the_same_run(short, small, tmp_path):
    flags = (f"--run_dir={tmp_path / 'run'}", *FEW, *small)
    done = {"train": {"trainings": (0, 3), "measurements": (0, 2)}}
    done["attack"] = {"trainings": (3, 0), "measurements": (0, 2)}
    for stage in ("train", "attack"):
        code, output, errors = programs.run(DRIVER, f"--stage={stage}", *flags)
        assert code == 0, errors
        assert "Run directory" not in output  # That is the report's.
        assert counts(errors) == done[stage]
        assert (tmp_path / "run" / "attacks").exists() == (stage == "attack")
    assert contents(tmp_path / "run") == contents(short)


def test_killed_among_two_workers_and_resumed_by_one_it_ends_with_the_same_bytes(
    short, small, tmp_path
):
    there, missing = programs.killed_and_resumed(DRIVER, tmp_path / "run", *FEW, *small)
    assert there > 0 and there + missing == 3
    assert contents(tmp_path / "run") == contents(short)


def test_a_finished_run_takes_on_more_and_trains_nothing_again(short, small, tmp_path, capfd):
    """Other attacks, more texts, another study, a seed; the results are of what was asked last."""
    shutil.copytree(short.parent, tmp_path, dirs_exist_ok=True)
    flags = (f"--run_dir={tmp_path / 'run'}", *FEW[:1], *small)

    def run(*more):
        code, _, errors = programs.run(DRIVER, *flags, *more)
        assert code == 0, errors
        return counts(errors)

    other = run("--attack_recipe=paper_code", "--attacked_examples=3")
    assert other == {"trainings": (3, 0), "measurements": (2, 2)}
    assert run("--attacked_examples=4") == {"trainings": (3, 0), "measurements": (2, 2)}
    numbers = {row.value for row in rows_of(tmp_path / "run") if row.metric.endswith("/examples")}
    assert numbers == {4}
    plan = programs.in_this_process(robust_bert_tickets, capfd)
    before = sorted(tmp_path.rglob("*"))
    code, output, _ = plan(*flags, "--attacked_examples=3", "--plan")
    assert code == 0 and counts(output) == {"trainings": (3, 0), "measurements": (4, 0)}
    assert "expected time: none" in output
    code, output, _ = plan(*flags, "--attacked_examples=3", "--trials=2", "--plan")
    assert code == 0 and counts(output) == {"trainings": (3, 3), "measurements": (4, 4)}
    assert "that of 2 attacks is never known before" in output
    more = ("--attacked_examples=3", "--study=main,importance", "--plan")
    code, output, _ = plan(*flags, *more)
    assert code == 0 and counts(output) == {"trainings": (3, 3), "measurements": (4, 6)}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_report_needs_nothing_that_attacks_used(short, small, tmp_path):
    shutil.copytree(short.parent, tmp_path, dirs_exist_ok=True)
    flags = (f"--run_dir={tmp_path / 'run'}", *FEW, *small, "--stage=report")
    code, output, errors = programs.run(DRIVER, *flags, "--nltk_data=/nowhere")
    assert code == 0, errors
    assert "Aua" in output and rows_of(tmp_path / "run") == rows_of(short)


def test_two_devices_run_it_too(small, tmp_path):
    flags = (f"--run_dir={tmp_path / 'run'}", *FEW, *small, "--stage=train")
    code, _, errors = programs.run(DRIVER, *flags, "--strategy=mirrored", "--logical_cpus=2")
    assert code == 0, errors
    assert any(row.method == "robust" for row in rows_of(tmp_path / "run"))


REFUSED = {
    "--study=sparseness": "--study=sparseness: expected one of main",
    "--data_sets=yelp": "--data_sets=yelp: expected one of movie_reviews",
    "--penalty_warmup=0.1": "--penalty_warmup=0.1: expected 2, with commas between",
    "--penalties=a": "--penalties=a: expected a number in [0, ",
    "--sparsities=2.5": "--sparsities=2.5: expected a whole number in [1, 99]",
    "--sparsity=100": "--sparsity=100: expected a whole number in [1, 99]",
    "--adv_steps=0": "--adv_steps=0: expected a whole number in [1, 1000]",
    "--attacks=pgd": "--attacks=pgd: expected one of textfooler",
    "--attacks=bert_attack": "--masked_lm=textattack: expected what TextAttack",
    "--length=4": "--length=4: expected 0 or 5 to 20 tokens",
    "--bert_dir=/etc": "--bert_dir=/etc: expected a folder with config.json",
    "--layers=3": "--layers=3: expected 1 to 2",
    "--max_words_changed=2": "--max_words_changed=2: expected a number in [0, 1]",
    "--warmup=1": "--warmup=1: expected a number in [0, 1)",
    "--batch_size=999": "--batch_size=999: expected at most",
    "--data_source=tfds": "--data_sets=movie_reviews comes from --data_source=embedded",
    "--stage=attack": "--stage=attack: nothing is trained yet; run --stage=train first",
    "--threads=0": "--threads=0: expected a whole number in [1, 1000]",
}


@pytest.fixture(scope="module")
def refusals(small, tmp_path_factory):
    """Wrong flag → exit code and standard error."""
    run_dir = tmp_path_factory.mktemp("refused") / "run"
    flag_sets = [(f"--run_dir={run_dir}", *small, flag) for flag in REFUSED]
    results = dict(zip(REFUSED, programs.run_each(DRIVER, flag_sets)))
    assert not any(run_dir.rglob("*.npz"))
    return results


@pytest.mark.parametrize("flag", REFUSED)
def test_a_wrong_flag_is_one_line_before_any_work(refusals, flag):
    code, errors = refusals[flag]
    assert code == 2
    assert REFUSED[flag] in programs.last_line(errors)
    assert "Traceback" not in errors


def test_a_sentence_encoder_that_could_run_code_needs_trust(small, tmp_path):
    class Writer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, texts):
            tf.io.write_file(str(tmp_path / "written"), "by a stranger")
            return {"outputs": tf.zeros([tf.size(texts), 4])}

    tf.saved_model.save(Writer(), str(tmp_path / "encoder"))
    (tmp_path / "words.json").write_text('{"good": ["fine"]}')
    flags = (
        *(*small, f"--run_dir={tmp_path / 'run'}", "--attacks=textbugger", "--length=4"),
        *(f"--sentence_encoder={tmp_path}/encoder", f"--word_vectors={tmp_path}/words.json"),
    )
    refused, trusted = programs.run_each(DRIVER, [flags, (*flags, "--trust")])
    assert refused[0] == trusted[0] == 2
    assert "the operation WriteFile" in refused[1]
    assert refused[1].endswith("; give --trust if you know who made it\n")
    assert "--length=4: expected" in trusted[1]  # What is wrong after it.


def test_without_the_extra_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_nlp", None)
    with pytest.raises(UserError, match=r"keras_nlp is not installed.*install -e '\.\[text\]'"):
        require_extra("text", "keras_nlp", "textattack")
