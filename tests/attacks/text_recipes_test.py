"""The recipes against TextAttack's own objects, and the same searches with less work."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.attacks.tiny_texts import LABELS, NLTK_DATA, TEXTS, write_resources
from tf_tickets.attacks import text_resources, text_speed
from tf_tickets.attacks.text_library import homoglyph_table, import_textattack
from tf_tickets.attacks.text_recipes import TextRecipe, build_text_attack
from tf_tickets.errors import UserError

if importlib.util.find_spec("textattack") is None:
    pytest.skip("needs the extra `text`", allow_module_level=True)
os.environ["HF_HUB_OFFLINE"] = "1"

RECIPES = [
    ("characters", "textattack"),
    ("characters", "paper_code"),
    ("textbugger", "textattack"),
    ("textfooler", "textattack"),
    ("bert_attack", "textattack"),
    ("bert_attack", "paper_code"),
]


@pytest.fixture(scope="module")
def resources(tmp_path_factory):
    import_textattack()  # before any other import of it, which would try its downloads
    return write_resources(tmp_path_factory.mktemp("resources"))


def build(attack, preset, resources, victim=None, **limits):
    recipe = TextRecipe(attack, preset, **limits)
    if "tagger" in recipe.needs and not resources.nltk_data:
        pytest.skip(f"needs {NLTK_DATA}")
    return build_text_attack(recipe, resources, victim or wrapper())


def share_of_vowels(text):
    return sum(c in "aeiou" for c in text) / (len(text) + 1)


def wrapper(count=share_of_vowels):
    """A victim that calls a text good where `count` of it is above 0.3."""
    from textattack.models.wrappers import ModelWrapper

    class Wrapper(ModelWrapper):
        model = None

        def __call__(self, texts):
            good = 1 / (1 + np.exp(-40 * (np.array(list(map(count, texts))) - 0.3)))
            return np.stack([1 - good, good], axis=1)

    return Wrapper()


def attack_all(attack):
    """What comes of all examples: texts, and how often the victim was asked."""
    rows = []
    for index, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
        np.random.seed(index)
        result = attack.attack(text, label)
        rows.append((type(result).__name__, result.perturbed_text(), result.num_queries))
    return rows


@pytest.mark.parametrize(("attack", "preset"), RECIPES)
def test_less_work_changes_nothing(attack, preset, resources):
    stock = attack_all(build(attack, preset, resources))
    faster = build(attack, preset, resources)
    text_speed.avoid_repeated_work(faster)
    with text_speed.cached_words():
        assert attack_all(faster) == stock
    # Or else nothing was compared.
    assert {"SuccessfulAttackResult", "SkippedAttackResult"} <= {outcome for outcome, _, _ in stock}


def test_bert_attack_is_textattacks(resources, monkeypatch):
    ours = build("bert_attack", "textattack", resources)
    stock = with_masked_lm(monkeypatch, resources, "BERTAttackLi2020")
    assert str(ours) == str(stock)


def test_bert_attack_proposes_as_many_words_as_asked_for(resources):
    few, many = (
        build("bert_attack", "textattack", resources, bert_attack_candidates=count)
        for count in (2, 12)
    )
    text = import_textattack().shared.AttackedText("the film is good")
    texts = [attack.transformation._get_transformations(text, [1]) for attack in (few, many)]
    assert 0 < len(texts[0]) <= 2 < len(texts[1]) <= 12
    assert {t.text for t in texts[0]} <= {t.text for t in texts[1]}


@pytest.mark.parametrize("attack", ["characters", "bert_attack"])
def test_no_more_words_are_changed_than_allowed(attack, resources):
    built = build(attack, "textattack", resources, max_words_changed=0.2)
    limit = built.constraints[0]
    assert (type(limit).__name__, limit.max_percent) == ("MaxWordsPerturbed", 0.2)
    # By its own account ⌈0.2 · 6⌉ of six words.
    make = import_textattack().shared.AttackedText
    original = make("a film of the good kind")
    changed = [make(t) for t in ("x y of the good kind", "x y z the good kind")]
    assert [limit._check_constraint(text, original) for text in changed] == [True, False]


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"attack": "typos"}, "--attacks=typos"),
        ({"preset": "mine"}, "--attack_recipe=mine"),
        ({"max_words_changed": 1.5}, "--max_words_changed=1.5"),
        ({"max_words_changed": float("nan")}, "--max_words_changed=nan"),
        ({"bert_attack_candidates": 0}, "--bert_attack_candidates=0"),
    ],
)
def test_a_wrong_recipe_is_named(wrong, named):
    with pytest.raises(UserError, match=f"^{named}: expected"):
        TextRecipe(**{"attack": "characters"} | wrong)


@pytest.mark.skipif(not NLTK_DATA.is_dir(), reason="needs ../shared/text_attack/nltk_data")
def test_the_papers_bert_attack_is_bae_with_neighbours(resources, monkeypatch):
    """The steps of the released code's `build_weak_attacker`, with its script's arguments."""
    from textattack import Attack
    from textattack.constraints.pre_transformation import InputColumnModification
    from textattack.constraints.semantics.sentence_encoders import UniversalSentenceEncoder
    from textattack.transformations import WordSwapEmbedding

    ours = build("bert_attack", "paper_code", resources)
    released = with_masked_lm(monkeypatch, resources, "BAEGarg2019")
    released.constraints.remove(
        next(c for c in released.constraints if isinstance(c, UniversalSentenceEncoder))
    )
    released.constraints.append(
        UniversalSentenceEncoder(
            threshold=0.2,
            metric="cosine",
            compare_against_original=True,
            window_size=15,
            skip_text_shorter_than_window=False,
        )
    )
    released.pre_transformation_constraints += [
        InputColumnModification(["sentence1", "sentence2"], {"sentence1"}),
        InputColumnModification(["sentence", "question"], {"sentence"}),
    ]
    rebuilt = Attack(
        released.goal_function,
        released.constraints + released.pre_transformation_constraints,
        WordSwapEmbedding(max_candidates=50, embedding=resources.word_embedding()),
        released.search_method,
    )
    assert str(ours) == str(rebuilt)


def with_masked_lm(monkeypatch, resources, recipe):
    """A stock recipe, which asks a hub for a masked language model and here gets ours."""
    from textattack import attack_recipes
    from textattack.transformations.word_swaps import word_swap_masked_lm as module

    given = dict(zip(("AutoModelForMaskedLM", "AutoTokenizer"), resources.masked_language_model()))
    for name, loaded in given.items():
        loader = type(name, (), {"from_pretrained": staticmethod(lambda *_, it=loaded, **__: it)})
        monkeypatch.setattr(module, name, loader)
    return getattr(attack_recipes, recipe).build(wrapper())


def test_characters_are_textbuggers_edits_without_neighbours(resources):
    from textattack.attack_recipes import TextBuggerLi2018
    from textattack.constraints.semantics.sentence_encoders import UniversalSentenceEncoder

    build("textbugger", "textattack", resources)  # puts the word vectors where it finds them
    with homoglyph_table():
        stock = TextBuggerLi2018.build(wrapper())
    ours = build("characters", "textattack", resources)
    *edits, neighbours = stock.transformation.transformations
    assert type(neighbours).__name__ == "WordSwapEmbedding"
    assert [vars(e) for e in ours.transformation.transformations] == [vars(e) for e in edits]
    assert [type(e) for e in ours.transformation.transformations] == [type(e) for e in edits]
    assert [type(c) for c in stock.constraints] == [UniversalSentenceEncoder]
    assert ours.constraints == []
    assert str(ours.pre_transformation_constraints) == str(stock.pre_transformation_constraints)


def test_the_paper_asks_for_the_importance_of_stop_words_too(resources):
    text, label = "aaaaa the eeeee is iiiii", 1
    later = build("characters", "textattack", resources).attack(text, label)
    released = build("characters", "paper_code", resources).attack(text, label)
    assert type(later).__name__ == type(released).__name__ == "FailedAttackResult"
    assert released.num_queries == later.num_queries + len({"the", "is"})


def test_textfooler_keeps_a_premise(resources):
    import collections

    recipe = build("textfooler", "textattack", resources)
    for names, kept in ((("premise", "hypothesis"), True), (("question1", "question2"), False)):
        texts = collections.OrderedDict(zip(names, ("good good film", "great film"), strict=True))
        text = import_textattack().shared.AttackedText(texts)
        _, indices = recipe.get_indices_to_order(text)
        assert min(indices) == (3 if kept else 0)


TEXTS_OF_ALL_KINDS = [
    "",
    "plain words, and 'quoted' ones",
    "well-known it's _under_score @handle *star* e-mail@host.org",
    "naïve café ﬁne  double  spaces\nnew line\ttab 1999's",
    "suf𝚏ers mаny ѕwapped о and 𝕦nusual !!! ... -- '",
    "词 语 mixed with english",
    "a\u00a0b\u2003c\u0301d",
]


@pytest.mark.parametrize("text", TEXTS_OF_ALL_KINDS)
def test_words_are_textattacks(text):
    import_textattack()
    from textattack.shared import AttackedText
    from textattack.shared.utils import words_from_text

    expected = words_from_text(text)
    with text_speed.cached_words():
        assert AttackedText(text).words == expected
        assert AttackedText(text).words == expected


def test_an_encoder_is_asked_once_a_text_until_the_example_ends():
    asked = []

    def encode(texts):
        asked.append(list(texts))
        return np.array([[len(text), 1.0] for text in texts], np.float32)

    cached = text_speed.CachedEncoder(encode)
    np.testing.assert_array_equal(cached(["a", "bb", "a"]), [[1, 1], [2, 1], [1, 1]])
    np.testing.assert_array_equal(cached(["ccc", "a"]), [[3, 1], [1, 1]])
    cached.forget()
    cached(["a"])
    assert asked == [["a", "bb"], ["ccc"], ["a"]]


def test_rounding_of_an_encoder_does_not_decide(resources, monkeypatch):
    """TextAttack takes the most similar candidate; equally similar ones differ by rounding."""
    noise = np.random.default_rng(0)

    def word_vector(word):
        # All that it sees is a word's length, and whether there is a homoglyph in it.
        vector = np.random.default_rng(len(word)).standard_normal(16)
        return vector + (not word.isascii())

    def encode(texts):
        vectors = [sum(map(word_vector, text.split())) for text in texts]
        return np.float32(vectors + noise.uniform(-5e-6, 5e-6, [len(texts), 16]))

    monkeypatch.setattr(text_resources, "_load_sentence_encoder", lambda *_, **__: encode)
    # Any homoglyph will do.
    stock = attack_all(build("textbugger", "textattack", resources, wrapper(str.isascii)))
    faster = build("textbugger", "textattack", resources, wrapper(str.isascii))
    text_speed.avoid_repeated_work(faster)
    assert attack_all(faster) == stock


def test_the_import_asks_no_network_and_writes_no_cache(tmp_path):
    """With no NLTK data at all, as on a machine that never ran TextAttack."""
    program = """
import socket, sys
asked = []
socket.getaddrinfo = lambda host, *_, **__: asked.append(host) or (_ for _ in ()).throw(OSError())
import nltk
nltk.data.path[:] = []
from tf_tickets.attacks.text_recipes import TextRecipe, build_text_attack, import_textattack
from tf_tickets.attacks.text_resources import TextResources
import_textattack()
from textattack.models.wrappers import ModelWrapper
class Wrapper(ModelWrapper):
    model = None
    def __call__(self, texts):
        return [[0.25, 0.75]] * len(texts)
recipe = TextRecipe("characters")
result = build_text_attack(recipe, TextResources(), Wrapper()).attack("film", 1)
sys.exit(f"asked for {asked}" if asked or result.num_queries < 2 else 0)
"""
    environment = {**os.environ, "HOME": str(tmp_path), "NLTK_DATA": "", "TA_CACHE_DIR": ""}
    environment.pop("TA_CACHE_DIR")
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert not (tmp_path / ".cache" / "textattack").exists()
