"""One process's attacks on texts: TextAttack's loop around a victim."""

import collections
import contextlib
import random
from collections.abc import Iterator, Sequence

import numpy as np

from tf_tickets.attacks.text_library import import_textattack
from tf_tickets.attacks.text_recipes import TextRecipe, build_text_attack
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.attacks.text_speed import avoid_repeated_work, cached_words
from tf_tickets.evaluation.text_outcomes import FAILED, SKIPPED, SUCCEEDED, AttackedText
from tf_tickets.evaluation.text_victim import TextVictim


class TextAttacker:
    """A recipe aimed at a victim.

    Args:
      victim: what is attacked.
      parts: the names of the texts' parts, in the victim's order.
      recipe, resources: see `build_text_attack`.

    Raises:
      UserError: a resource is missing.
    """

    def __init__(
        self,
        victim: TextVictim,
        parts: Sequence[str],
        recipe: TextRecipe,
        resources: TextResources,
    ):
        import_textattack(resources.nltk_data)
        self._parts = tuple(parts)
        self._attack = build_text_attack(recipe, resources, wrap_victim(victim, parts))
        avoid_repeated_work(self._attack)

    def __call__(self, index: int, texts: tuple[str, ...], label: int) -> AttackedText:
        """Attacks one example; the same index draws the same random numbers."""
        with seeded_example(index), cached_words():
            result = self._attack.attack(to_textattack(self._parts, texts), int(label))
            return _to_row(index, texts, label, result)


@contextlib.contextmanager
def seeded_example(index: int) -> Iterator[None]:
    """In here the generators that TextAttack draws from start as the example's index says."""
    states = random.getstate(), np.random.get_state()
    random.seed(index)
    np.random.seed(index)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def to_textattack(parts: Sequence[str], texts: Sequence[str]):
    """An example as TextAttack takes it: a string, or the parts by their names."""
    if len(texts) == 1:
        return texts[0]
    return collections.OrderedDict(zip(parts, texts, strict=True))


def wrap_victim(victim: TextVictim, parts: Sequence[str]):
    """A victim as TextAttack's `ModelWrapper`.

    It returns float64 probabilities: TextAttack takes rows that miss a sum of 1 by more than
    1e-6 for logits, and those that meet it for probabilities, whatever they are.
    """
    from textattack.models.wrappers import ModelWrapper

    class VictimWrapper(ModelWrapper):
        def __init__(self):
            self.model = victim

        def __call__(self, text_input_list):
            single = len(parts) == 1
            logits = victim([(text,) if single else tuple(text) for text in text_input_list])
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            return shifted / shifted.sum(axis=1, keepdims=True)

    return VictimWrapper()


def _to_row(index, texts, label, result):
    before, after = result.original_result, result.perturbed_result
    original, attacked = before.attacked_text, after.attacked_text
    return AttackedText(
        index=index,
        label=int(label),
        outcome=_outcome(result),
        queries=int(result.num_queries),
        predicted=int(before.output),
        predicted_attacked=int(after.output),
        words_changed=round(attacked.words_diff_num(original) / max(original.num_words, 1), 6),
        texts=tuple(texts),
        attacked_texts=tuple(attacked._text_input.values()),
    )


def _outcome(result):
    from textattack import attack_results

    return {
        attack_results.SuccessfulAttackResult: SUCCEEDED,
        attack_results.FailedAttackResult: FAILED,
        attack_results.SkippedAttackResult: SKIPPED,
    }[type(result)]
