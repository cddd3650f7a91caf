"""TextAttack's recipes with given resources in the place of what they download."""

import dataclasses

from tf_tickets.attacks.text_library import homoglyph_table, import_textattack
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.errors import require, require_choices

ATTACKS = ("textfooler", "textbugger", "bert_attack", "characters")
RECIPE_PRESETS = ("textattack", "paper_code")

_SENTENCES_AND_WORDS = ("stop_words", "word_vectors", "sentence_encoder")
# (attack, preset) → the resources that it uses; a preset that is not listed is as the other.
_NEEDS = {
    ("textfooler", "textattack"): ("tagger", *_SENTENCES_AND_WORDS[1:]),
    ("textbugger", "textattack"): _SENTENCES_AND_WORDS,
    ("bert_attack", "textattack"): ("stop_words", "masked_lm", "sentence_encoder"),
    ("bert_attack", "paper_code"): ("tagger", *_SENTENCES_AND_WORDS),
    ("characters", "textattack"): ("stop_words",),
}


@dataclasses.dataclass(frozen=True)
class TextRecipe:
    """An attack on texts.

    Attributes:
      attack: of `ATTACKS`.
      preset: `textattack` (as TextAttack 0.3.11 defines it) or `paper_code` (as the released
        code of Robust Lottery Tickets for Pre-trained Language Models runs it, on 0.3.0: the
        importance of stop words is asked for as well, though they are not changed; and its
        "BERT-Attack" is BAE with 50 neighbours in the place of a masked language model).
      max_words_changed: the share of a text's words that may be changed, rounded up to whole
        words (TextAttack's `MaxWordsPerturbed`), beside what the recipe has itself; 0 for no
        such limit.
      bert_attack_candidates: K, how many words BERT-Attack's masked language model proposes for
        one: TextAttack 0.3.11 has 8, 0.3.0 had 48.

    Raises:
      UserError: there is no such attack or preset, or a number is out of range.
    """

    attack: str
    preset: str = "textattack"
    max_words_changed: float = 0.0
    bert_attack_candidates: int = 8

    def __post_init__(self):
        require_choices("attacks", [self.attack], ATTACKS)
        require_choices("attack_recipe", [self.preset], RECIPE_PRESETS)
        limit, candidates = self.max_words_changed, self.bert_attack_candidates
        require(0 <= limit <= 1, "max_words_changed", limit, "a share in [0, 1]; 0: no limit")
        expected = "a whole number from 1 to 1000"
        require(1 <= candidates <= 1000, "bert_attack_candidates", candidates, expected)

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the resources that it uses, of `TextResources.describe`."""
        return _NEEDS.get((self.attack, self.preset), _NEEDS[self.attack, "textattack"])


def build_text_attack(recipe: TextRecipe, resources: TextResources, model_wrapper):
    """Builds a recipe around a victim.

    All are untargeted and change one word after the other, the most important first, no word
    twice. `characters` is TextBugger's four edits of characters alone: a space inserted, a
    character deleted, two swapped, one replaced by its homoglyph.

    Of texts of several parts all parts are changed, but `textfooler` keeps a `premise` beside a
    `hypothesis`, and `paper_code` keeps `sentence1` beside `sentence2` as well.

    Args:
      recipe: what to build.
      resources: those of `recipe.needs` must be given.
      model_wrapper: a `textattack.models.wrappers.ModelWrapper`.

    Returns:
      A `textattack.Attack`.

    Raises:
      UserError: a resource is missing.
    """
    resources.describe(recipe.needs)
    import_textattack(resources.nltk_data)
    if "word_vectors" in recipe.needs:
        _use_word_vectors(resources.word_embedding())
    key = recipe.attack, recipe.preset
    builder = _BUILDERS.get(key, _BUILDERS[recipe.attack, "textattack"])
    built = builder(model_wrapper, resources, recipe)
    if recipe.preset == "paper_code":
        built = _as_released(built)
    if "sentence_encoder" in recipe.needs:
        _use_sentence_encoder(built, resources.encode())
    if recipe.max_words_changed:
        _limit_changed_words(built, recipe.max_words_changed)
    return built


def _build_textfooler(model_wrapper, *_):
    from textattack.attack_recipes import TextFoolerJin2019

    return TextFoolerJin2019.build(model_wrapper)


def _build_textbugger(model_wrapper, *_):
    from textattack.attack_recipes import TextBuggerLi2018

    with homoglyph_table():
        return TextBuggerLi2018.build(model_wrapper)


def _build_bert_attack(model_wrapper, resources, recipe):
    """`BERTAttackLi2020.build`, which only takes a masked LM's name on a hub, with a given one."""
    from textattack.constraints.overlap import MaxWordsPerturbed
    from textattack.constraints.semantics.sentence_encoders import UniversalSentenceEncoder
    from textattack.transformations import WordSwapMaskedLM

    model, tokenizer = resources.masked_language_model()
    candidates = WordSwapMaskedLM(
        method="bert-attack",
        masked_language_model=model,
        tokenizer=tokenizer,
        max_candidates=recipe.bert_attack_candidates,
    )
    similarity = UniversalSentenceEncoder(
        threshold=0.2, metric="cosine", compare_against_original=True, window_size=None
    )
    constraints = [MaxWordsPerturbed(max_percent=0.4), similarity]
    return _greedy_attack(model_wrapper, candidates, constraints, wir_method="unk")


def _build_characters(model_wrapper, *_):
    """TextBugger's four edits of characters, without its neighbours and sentence encoder."""
    from textattack.transformations import (
        CompositeTransformation,
        WordSwapHomoglyphSwap,
        WordSwapNeighboringCharacterSwap,
        WordSwapRandomCharacterDeletion,
        WordSwapRandomCharacterInsertion,
    )

    inside = {"random_one": True, "skip_first_char": True, "skip_last_char": True}
    with homoglyph_table():
        edits = CompositeTransformation(
            [
                WordSwapRandomCharacterInsertion(letters_to_insert=" ", **inside),
                WordSwapRandomCharacterDeletion(**inside),
                WordSwapNeighboringCharacterSwap(**inside),
                WordSwapHomoglyphSwap(),
            ]
        )
    return _greedy_attack(model_wrapper, edits, [], wir_method="delete")


def _build_bae_with_neighbours(model_wrapper, *_):
    """What the released code calls BERT-Attack: BAE's recipe, its candidates replaced."""
    from textattack.constraints.grammaticality import PartOfSpeech
    from textattack.constraints.semantics.sentence_encoders import UniversalSentenceEncoder
    from textattack.transformations import WordSwapEmbedding

    similarity = UniversalSentenceEncoder(
        threshold=0.2,
        metric="cosine",
        compare_against_original=True,
        window_size=15,
        skip_text_shorter_than_window=False,
    )
    constraints = [PartOfSpeech(allow_verb_noun_swap=True), similarity]
    neighbours = WordSwapEmbedding(max_candidates=50)
    return _greedy_attack(model_wrapper, neighbours, constraints, wir_method="delete")


_BUILDERS = {
    ("textfooler", "textattack"): _build_textfooler,
    ("textbugger", "textattack"): _build_textbugger,
    ("bert_attack", "textattack"): _build_bert_attack,
    ("bert_attack", "paper_code"): _build_bae_with_neighbours,
    ("characters", "textattack"): _build_characters,
}


def _as_released(attack):
    """Adds what the released code adds to each recipe, and undoes what TextAttack changed since."""
    from textattack.constraints.pre_transformation import InputColumnModification

    attack.pre_transformation_constraints += [
        InputColumnModification(["sentence1", "sentence2"], {"sentence1"}),
        InputColumnModification(["sentence", "question"], {"sentence"}),
    ]
    # Later versions leave out the words that the constraints before a transformation exclude.
    attack.search_method.get_indices_to_order = lambda text: (
        text.num_words,
        list(range(text.num_words)),
    )
    return attack


def _greedy_attack(model_wrapper, transformation, constraints, wir_method):
    from textattack import Attack
    from textattack.constraints.pre_transformation import (
        RepeatModification,
        StopwordModification,
    )
    from textattack.goal_functions import UntargetedClassification
    from textattack.search_methods import GreedyWordSwapWIR

    return Attack(
        UntargetedClassification(model_wrapper),
        [RepeatModification(), StopwordModification(), *constraints],
        transformation,
        GreedyWordSwapWIR(wir_method=wir_method),
    )


def _use_word_vectors(embedding):
    """Puts word vectors where the recipes look before they download their own."""
    from textattack.shared import utils

    utils.GLOBAL_OBJECTS["textattack_counterfitted_GLOVE_embedding"] = embedding


def _use_sentence_encoder(attack, encode):
    """Gives the recipe's constraint on sentences a model, so that it does not load its own."""
    import torch
    from textattack.constraints.semantics.sentence_encoders import UniversalSentenceEncoder

    for constraint in attack.constraints:
        if isinstance(constraint, UniversalSentenceEncoder):
            constraint.model = lambda texts: torch.from_numpy(encode(texts))


def _limit_changed_words(attack, share):
    """Adds the constraint, before those that ask a model."""
    from textattack.constraints.overlap import MaxWordsPerturbed

    attack.constraints.insert(0, MaxWordsPerturbed(max_percent=share))
