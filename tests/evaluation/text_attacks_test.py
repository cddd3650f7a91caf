"""Attacks on a victim: against TextAttack's own loop, resumed, and in several processes."""

import dataclasses
import importlib.util
import multiprocessing
import os
import signal

import numpy as np
import pytest

from tests.attacks.tiny_texts import (
    LABELS,
    LENGTH,
    NLTK_DATA,
    TEXTS,
    VOCABULARY,
    opinion_model,
    write_resources,
)
from tf_tickets.attacks.text_library import import_textattack
from tf_tickets.attacks.text_recipes import TextRecipe, build_text_attack
from tf_tickets.errors import StopRequested, UserError
from tf_tickets.evaluation.text_attacker import TextAttacker, seeded_example
from tf_tickets.evaluation.text_attacks import attack_examples
from tf_tickets.evaluation.text_outcomes import (
    FAILED,
    SKIPPED,
    SUCCEEDED,
    AttackedText,
    read_outcomes,
)
from tf_tickets.evaluation.text_victim import load_victim, save_victim
from tf_tickets.evaluation.text_workers import TextAttackWorkers

if importlib.util.find_spec("textattack") is None:
    pytest.skip("needs the extra `text`", allow_module_level=True)
os.environ["HF_HUB_OFFLINE"] = "1"

RECIPES = [
    (attack, preset)
    for attack in ("characters", "textbugger", "textfooler", "bert_attack")
    for preset in ("textattack", "paper_code")
]
OUTCOMES = {"SuccessfulAttackResult": SUCCEEDED, "FailedAttackResult": FAILED}


@pytest.fixture(scope="module")
def resources(tmp_path_factory):
    import_textattack()  # before any other import of it, which would try its downloads
    return write_resources(tmp_path_factory.mktemp("resources"))


@pytest.fixture(scope="module")
def victim_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("victims") / "victim"
    save_victim(folder, opinion_model(), VOCABULARY, True, LENGTH)
    return folder


def run(
    victim_folder, resources, table_path, workers=None, watch=None, attack="characters", **recipe
):
    return attack_examples(
        victim_folder,
        ("sentence",),
        [(text,) for text in TEXTS],
        np.array(LABELS),
        recipe=TextRecipe(attack, **recipe),
        resources=resources,
        table_path=table_path,
        workers=workers or TextAttackWorkers(1),
        **(watch or {}),
    )


def stock_rows(victim_folder, attack, preset, resources):
    """TextAttack's own loop, with a wrapper that pads a batch to its longest text."""
    from textattack.models.wrappers import ModelWrapper

    victim = load_victim(victim_folder)

    class Wrapper(ModelWrapper):
        model = None

        def __call__(self, texts):
            token_ids, segment_ids = victim._tokenizer([(text,) for text in texts])
            mask = (token_ids != 0).astype(np.int32)
            logits = victim._logits_function(token_ids, segment_ids, mask)
            return np.asarray(logits, np.float64)

    recipe = build_text_attack(TextRecipe(attack, preset), resources, Wrapper())
    rows = []
    for index, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
        with seeded_example(index):
            result = recipe.attack(text, label)
        outcome = OUTCOMES.get(type(result).__name__, SKIPPED)
        rows.append((index, outcome, result.num_queries, result.perturbed_text()))
    return rows


@pytest.mark.parametrize(("attack", "preset"), RECIPES)
def test_results_are_those_of_textattacks_own_loop(
    attack, preset, resources, victim_folder, tmp_path
):
    if "tagger" in TextRecipe(attack, preset).needs and not resources.nltk_data:
        pytest.skip(f"needs {NLTK_DATA}")
    path = tmp_path / "table.csv"
    result = run(victim_folder, resources, path, attack=attack, preset=preset)
    ours = [(row.index, row.outcome, row.queries, row.attacked_texts[0]) for row in result.rows]
    assert ours == stock_rows(victim_folder, attack, preset, resources)
    assert read_outcomes(path) == list(result.rows)
    assert set(result.resources) == set(TextRecipe(attack, preset).needs)


def test_rows_say_what_happened(resources, victim_folder, tmp_path):
    rows = run(victim_folder, resources, tmp_path / "table.csv").rows
    assert [row.outcome for row in rows] == [
        *[SUCCEEDED] * 2,
        *[FAILED] * 2,  # no bad word is needed to be called bad
        SUCCEEDED,
        FAILED,
        SUCCEEDED,
        FAILED,
        SUCCEEDED,  # a bad word beside a good one
        FAILED,  # its words move on by inserted spaces, where they are not found
        SKIPPED,  # negation is beyond the victim
        FAILED,
    ]
    # The text itself, without each of its two words, and of "good": a space in it, a letter
    # less, four homoglyphs. Its letters inside are alike, so nothing comes of swapping them.
    good_plot = rows[6]
    assert good_plot.texts == ("good plot",) and good_plot.queries == 1 + 2 + (1 + 1 + 4)
    assert (good_plot.predicted, good_plot.predicted_attacked) == (1, 0)
    assert good_plot.attacked_texts == ("g ood plot",)
    assert good_plot.words_changed == 2 / 2  # one replaced, one inserted
    # "the" is a stop word; "movie" has five homoglyphs, and nothing helps.
    the_movie = rows[7]
    assert the_movie.queries == 1 + 1 + (1 + 1 + 1 + 5)
    assert the_movie.attacked_texts == the_movie.texts and the_movie.words_changed == 0
    assert rows[10].queries == 1


@pytest.mark.parametrize("budget", [0.1, 0.2])
def test_accuracy_at_a_budget_is_that_under_textattacks_constraint(
    budget, resources, victim_folder, tmp_path
):
    """Where the attack changes words for words, which this victim's bad words take one by one."""
    free, held = (
        run(victim_folder, resources, tmp_path / "t.csv", attack="bert_attack", **limit)
        for limit in ({}, {"max_words_changed": budget})
    )
    assert [row.withstands(budget) for row in free.rows] == [row.withstands() for row in held.rows]
    # Or else no limit was met.
    assert sum(row.withstands() for row in free.rows) < sum(row.withstands() for row in held.rows)


def test_the_same_examples_give_the_same_rows_and_leave_the_generators_alone(
    resources, victim_folder
):
    victim = load_victim(victim_folder)
    attacker = TextAttacker(victim, ("sentence",), TextRecipe("characters"), resources)
    np.random.seed(5)
    expected = np.random.rand(3)
    np.random.seed(5)
    rows = [attacker(i, (TEXTS[i],), LABELS[i]) for i in (4, 1, 4)]
    assert rows[0] == rows[2]
    np.testing.assert_array_equal(np.random.rand(3), expected)


def test_pairs_are_attacked_in_both_parts(resources, victim_folder):
    victim = load_victim(victim_folder)
    attacker = TextAttacker(victim, ("a", "b"), TextRecipe("characters"), resources)
    row = attacker(0, ("good film", "a great plot"), 1)
    assert row.outcome == SUCCEEDED and len(row.attacked_texts) == 2
    assert row.attacked_texts == ("go od film", "a g reat plot")
    # Each was replaced, and a word was inserted.
    assert row.words_changed == 4 / 5


def test_a_text_without_words_is_attacked_in_vain(resources, victim_folder):
    victim = load_victim(victim_folder)
    attacker = TextAttacker(victim, ("sentence",), TextRecipe("characters"), resources)
    row = attacker(0, ("!?",), 0)
    assert (row.outcome, row.queries, row.words_changed) == (FAILED, 1, 0)


class QuickWorkers:
    """Answers at once, latest first, and remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.stopped = False

    def attack(self, job, examples):
        try:
            for example in reversed(list(examples)):
                self.asked.append(example.index)
                texts = example.texts
                yield AttackedText(example.index, example.label, FAILED, 3, 1, 1, 0.0, texts, texts)
        finally:
            self.stopped = True


def stop_after(count):
    calls = iter(range(count))

    def stop_if_requested():
        if next(calls, None) is None:
            raise StopRequested(signal.SIGINT)

    return stop_if_requested


def test_a_stopped_attack_goes_on_where_it_was(resources, victim_folder, tmp_path):
    path, workers, seen = tmp_path / "table.csv", QuickWorkers(), []
    with pytest.raises(StopRequested) as raised:
        run(victim_folder, resources, path, workers, {"stop_if_requested": stop_after(5)})
    assert workers.stopped and raised
    assert workers.asked == [11, 10, 9, 8, 7]
    assert [row.index for row in read_outcomes(path)] == [7, 8, 9, 10, 11]

    resumed = QuickWorkers()
    result = run(
        victim_folder, resources, path, resumed, {"on_progress": lambda *s: seen.append(s)}
    )
    assert resumed.asked == [6, 5, 4, 3, 2, 1, 0]
    assert seen == [(finished, 12) for finished in range(5, 13)]
    whole = tmp_path / "whole.csv"
    assert run(victim_folder, resources, whole, QuickWorkers()) == result
    assert whole.read_bytes() == path.read_bytes()


def test_a_table_of_something_else_is_made_anew(resources, victim_folder, tmp_path):
    path = tmp_path / "table.csv"
    run(victim_folder, resources, path, QuickWorkers())
    again = QuickWorkers()
    run(victim_folder, resources, path, again)
    assert again.asked == []
    more = QuickWorkers()
    run(victim_folder, resources, path, more, preset="paper_code")
    assert len(more.asked) == len(TEXTS)

    other = tmp_path / "other_victim"
    model = opinion_model()
    model.set_weights([-weight for weight in model.get_weights()])
    save_victim(other, model, VOCABULARY, True, LENGTH)
    anew = QuickWorkers()
    run(other, resources, path, anew, preset="paper_code")
    assert len(anew.asked) == len(TEXTS)
    limited = QuickWorkers()
    run(other, resources, path, limited, preset="paper_code", max_words_changed=0.2)
    assert len(limited.asked) == len(TEXTS)


def test_what_is_missing_is_said_before_the_attack(resources, victim_folder, tmp_path):
    workers = QuickWorkers()
    without = dataclasses.replace(resources, word_vectors="")
    with pytest.raises(UserError, match="^--word_vectors=: expected"):
        run(victim_folder, without, tmp_path / "t.csv", workers, attack="textbugger")
    with pytest.raises(UserError, match="expected a victim's folder"):
        run(tmp_path, resources, tmp_path / "t.csv", workers)
    with pytest.raises(UserError, match="^--processes=0: "):
        TextAttackWorkers(0)
    assert workers.asked == [] and not (tmp_path / "t.csv").exists()


def test_processes_change_nothing_and_their_death_is_an_error(resources, victim_folder, tmp_path):
    run(victim_folder, resources, tmp_path / "one.csv")
    with TextAttackWorkers(2) as workers:
        run(victim_folder, resources, tmp_path / "two.csv", workers)
        assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()

        children = multiprocessing.active_children()
        os.kill(children[0].pid, signal.SIGKILL)
        os.kill(children[1].pid, signal.SIGINT)  # Ctrl-C of a terminal, not for them to answer.
        with pytest.raises(UserError, match="was killed by signal 9.* fewer --processes than 2"):
            run(victim_folder, resources, tmp_path / "three.csv", workers)
        assert not any(child.is_alive() for child in children)


def test_there_are_no_more_processes_than_examples(monkeypatch):
    started = []
    monkeypatch.setattr(TextAttackWorkers, "_start", lambda _, count: started.append(count))
    monkeypatch.setattr(TextAttackWorkers, "_attack_in_workers", lambda _, job, examples: examples)
    assert list(TextAttackWorkers(64).attack(None, "abc")) == ["a", "b", "c"]
    assert list(TextAttackWorkers(2).attack(None, "abc")) == ["a", "b", "c"]
    assert started == [3, 2]
