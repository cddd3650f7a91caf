"""TextAttack's searches with less work: the same candidates, scores and queries, sooner."""

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tf_tickets.attacks.text_resources import merge_alike

_CACHED_WORDS = 2**18
_CACHED_PREDICTIONS = 2**6
# TextAttack splits texts with such characters by a dictionary, not at spaces.
_CHINESE = re.compile("[\u4e00-\u9fff]")


@contextlib.contextmanager
def cached_words() -> Iterator[None]:
    """In here TextAttack takes texts apart into words by looking up what lies between spaces.

    It does so with every candidate and with every word of it, which is most of its own work.
    """
    from textattack.shared import attacked_text

    original = attacked_text.words_from_text
    attacked_text.words_from_text = _words_from_text
    try:
        yield
    finally:
        attacked_text.words_from_text = original


def _words_from_text(text):
    if _CHINESE.search(text):
        return list(_words_of(text))
    return [word for piece in text.split() for word in _words_of(piece)]


@functools.lru_cache(_CACHED_WORDS)
def _words_of(text):
    from textattack.shared.utils import words_from_text

    return tuple(words_from_text(text))


def avoid_repeated_work(attack) -> None:
    """Makes an attack keep between examples what does not depend on them.

    Args:
      attack: a `textattack.Attack`, changed in place.
    """
    from textattack.constraints.grammaticality import PartOfSpeech
    from textattack.constraints.semantics.sentence_encoders import SentenceEncoder
    from textattack.transformations import WordSwapMaskedLM

    if isinstance(attack.transformation, WordSwapMaskedLM):
        _look_up_predictions(attack.transformation)
    for constraint in attack.constraints:
        if isinstance(constraint, PartOfSpeech):
            # Tags of a word among its neighbours; the cache is as large for one example.
            constraint.clear_cache = lambda: None
        if isinstance(constraint, SentenceEncoder):
            constraint.encode = encoder = CachedEncoder(constraint.encode)
            constraint.clear_cache = encoder.forget
            constraint._score_list = functools.partial(
                _scores_of_long_texts, constraint, constraint._score_list
            )


class CachedEncoder:
    """A sentence encoder that encodes each text of an example once.

    TextAttack encodes the text that candidates are compared with once per candidate. Texts are
    forgotten with the example, because the last bits of a vector depend on its batch: so they
    do not depend on the examples that came before.

    Args:
      encode: texts → array `[texts, dim]`.
    """

    def __init__(self, encode: Callable[[Sequence[str]], np.ndarray]):
        self._encode = encode
        self._vectors = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        unique = list(dict.fromkeys(texts))
        unknown = [text for text in unique if text not in self._vectors]
        if unknown:
            self._vectors.update(zip(unknown, self._encode(unknown), strict=True))
        merged = merge_alike(np.stack([self._vectors[text] for text in unique]))
        vectors = dict(zip(unique, merged, strict=True))
        return np.stack([vectors[text] for text in texts])

    def forget(self) -> None:
        """Ends an example."""
        self._vectors = {}


def _scores_of_long_texts(constraint, score_list, starting_text, transformed_texts):
    """`SentenceEncoder._score_list` without the texts whose score is then replaced by 1."""
    import torch

    scores = torch.ones(len(transformed_texts))
    scored = [
        i
        for i, text in enumerate(transformed_texts)
        if not constraint.skip_text_shorter_than_window or len(text.words) >= constraint.window_size
    ]
    if scored:
        scores[scored] = score_list(starting_text, [transformed_texts[i] for i in scored]).to(
            scores.dtype
        )
    return scores


def _look_up_predictions(transformation):
    """Lets BERT-Attack ask its masked language model once a text, without padding it to 512.

    TextAttack asks again for every word of the same text. It also computes the perplexities of
    all combinations of sub-words, K^n of them, but then takes the first K in their order.
    """
    import torch

    def tokenize(text):
        return transformation._lm_tokenizer(
            text, max_length=transformation.max_length, truncation=True, return_tensors="pt"
        )

    @functools.lru_cache(_CACHED_PREDICTIONS)
    def top_ids(text):
        with torch.no_grad():
            logits = transformation._language_model(**tokenize(text))[0][0]
        return torch.topk(logits, transformation.max_candidates)[1].tolist()

    def candidates(current_text, indices_to_modify):
        return [
            current_text.replace_word_at_index(index, word)
            for index in indices_to_modify
            for word in _replacements(
                transformation, tokenize, top_ids(current_text.text), current_text, index
            )
            if word != current_text.words[index]
        ]

    transformation._get_transformations = candidates


def _replacements(transformation, tokenize, top_ids, current_text, index):
    """The words that `WordSwapMaskedLM` puts in the place of one, in its order."""
    from textattack.shared import utils

    tokenizer = transformation._lm_tokenizer
    masked = current_text.replace_word_at_index(index, tokenizer.mask_token)
    masked_ids = tokenize(masked.text)["input_ids"][0].tolist()
    if tokenizer.mask_token_id not in masked_ids:
        return []
    start = masked_ids.index(tokenizer.mask_token_id)
    pieces = tokenizer.encode(current_text.words[index], add_special_tokens=False)
    positions = top_ids[start : start + len(pieces)]
    if len(positions) == 1:
        model_type = transformation._language_model.config.model_type
        words = tokenizer.convert_ids_to_tokens(positions[0])
        return [
            word.strip("Ġ")
            for word in words
            if utils.is_one_word(word) and not utils.check_if_subword(word, model_type, index == 0)
        ]
    joined = (
        "".join(tokenizer.convert_ids_to_tokens(ids)).replace("##", "")
        for ids in itertools.product(*positions)
    )
    one_word = (word.strip("Ġ") for word in joined if utils.is_one_word(word))
    return list(itertools.islice(one_word, transformation.max_candidates)) if positions else []
