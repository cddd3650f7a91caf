"""Hand-made runs of "Robust Lottery Tickets"."""

from pathlib import Path

import numpy as np

from experiments.robust_bert_tickets import results
from experiments.robust_bert_tickets.examples import ATTACK_LABELS, table_of_texts
from experiments.robust_bert_tickets.plan import ABLATIONS, IMPORTANCE
from experiments.robust_bert_tickets.results import load_groups
from tests.analysis.tickets import ticket
from tf_tickets.evaluation.text_outcomes import AttackedText, OutcomeTable
from tf_tickets.runs.run_directory import Cell, RunDirectory

REFERENCE_PATH = Path(results.__file__).parent / "reference.csv"

# One letter a sentence of ten words: the attack succeeded by changing five of them (s), two (t)
# or one (o), failed, or was skipped.
_OUTCOMES = {"f": "failed", "-": "skipped"} | dict.fromkeys("sto", "succeeded")
_CHANGED = {"s": 0.5, "t": 0.2, "o": 0.1}
RECIPE = "textattack"
RESOURCES = {"word_vectors": "vectors, words.npz (SHA-256 0123456789abcdef)"}


class BertMaker:
    """Fills a run; every argument of values has one per seed 0, 1, ..., None where it lacks it."""

    def __init__(self, path):
        self.run = RunDirectory(path, {}, {})
        self.rows = {}
        self.model = "minilm_l6_2_layers"
        self.labels = {"encoder": "minilm_l6", "layers": "2"}

    def add(
        self, method, metric, values, *, level=0, iteration=300, regime=None, data_set="sst2",
        sparsity=None, **labels,
    ):  # fmt: skip
        """Adds one measurement; `sparsity` is the level's by default, `labels` are further ones."""
        sparsity = level / 100 if sparsity is None else sparsity
        if metric.split("/")[1] in ATTACK_LABELS:
            labels = {"recipe": RECIPE} | labels
        labels = tuple((self.labels | labels).items())
        for seed, value in enumerate(values):
            if value is not None:
                cell = self.cell_of(method, seed, data_set, regime)
                measured = [(iteration, metric, value)]
                rows = cell.results("robust_bert_tickets", level, sparsity, measured, labels)
                self.rows.setdefault((cell, level), []).extend(rows)

    def network(self, method, clean, attacks=(), *, level=0, data_set="sst2"):
        """Adds a network's tests.

        Args:
          method: its name.
          clean: test accuracies.
          attacks: attack → a text per seed with a letter a sentence, see `_OUTCOMES`; its
            queries are 10 times the sentence's index. None where a seed was not attacked.
          level: its sparsity in percent; half of that of the whole model.
          data_set: what it was trained on.
        """
        where = {"level": level, "data_set": data_set}
        self.add(method, "test/natural/accuracy", clean, **where)
        self.add(method, "ticket/model/sparsity", [level / 200] * len(clean), **where)
        for attack, outcomes in dict(attacks).items():
            for seed, letters in enumerate(outcomes):
                if letters is not None:
                    self._attack(method, attack, seed, letters, where)

    def _attack(self, method, attack, seed, letters, where):
        correct, held = len(letters) - letters.count("-"), letters.count("f")
        queries = [10 * index for index, letter in enumerate(letters) if letter != "-"]
        for quantity, value in (
            ("clean_accuracy", correct / len(letters)),
            ("accuracy", held / len(letters)),
            ("success_rate", (correct - held) / correct if correct else np.nan),
            ("queries", np.mean(queries) if queries else np.nan),
            ("examples", len(letters)),
        ):
            self.add(method, f"test/{attack}/{quantity}", [None] * seed + [value], **where)
        path = self.table(method, attack, seed=seed, **where)
        table = OutcomeTable(path, ["sentence"], {"resources": RESOURCES})
        for index, letter in enumerate(letters):
            texts, changed = (("good " * 10,), ("bad",)), _CHANGED.get(letter, 0.3)
            table.add(AttackedText(index, 1, _OUTCOMES[letter], 10 * index, 1, 0, changed, *texts))
        table.save()

    def table(self, method, attack, *, seed=0, level=0, data_set="sst2"):
        """Where what came of each text is."""
        cell = self.cell_of(method, seed, data_set)
        return self.run.path / table_of_texts(cell, level, "test", attack, RECIPE)

    def search(
        self, penalty, regularizers, zeros, ones, seed=0, regime="free_lb", method="search"
    ):  # fmt: skip
        """Adds a search's measurements, a value for each 100 steps."""
        for quantity, values in (
            ("expected_l0", regularizers), ("share_zero", zeros), ("share_one", ones),
        ):  # fmt: skip
            for step, value in enumerate(values):
                where = {"iteration": 100 * step, "regime": regime, "penalty": f"{penalty}"}
                one_seed = [None] * seed + [value]
                self.add(f"{method}_{penalty}", f"masks/all/{quantity}", one_seed, **where)

    def curve(self, method, accuracies, attack="natural", **where):
        """Adds validation accuracies of seed 0, a value for each 100 steps."""
        for step, value in enumerate(accuracies):
            metric = f"validation/{attack}/accuracy"
            self.add(method, metric, [value], iteration=100 * step, **where)

    def ticket(self, level, keep, seed=0, layers=2, data_set="sst2"):
        """Saves a robust ticket.

        Args:
          level: its sparsity in percent.
          keep: (layer, matrix) or "pooler" → how many of 10 weights it keeps; 10 by default.
          seed: of the search.
          layers: of the encoder.
          data_set: of the search.
        """
        masks = {"pooled_dense__kernel": _mask(keep.get("pooler", 10))}
        for layer in range(layers):
            for matrix, path in _PATHS.items():
                name = f"transformer_layer_{layer}__{path}__kernel"
                masks[name] = _mask(keep.get((layer, matrix), 10))
        path = self.run.ticket_path(self.cell_of("robust", seed, data_set), level)
        ticket(**masks).save(path)

    def cell_of(self, method, seed, data_set="sst2", regime=None):
        """Where a method's network belongs; `regime` is the method's by default."""
        own = method if method in ("free_lb", "info_bert") else "natural"
        return Cell(data_set, regime or own, method, seed, self.model)

    def groups(self):
        self.finish()
        return load_groups(self.run)

    def group(self):
        """The only group."""
        (group,) = self.groups()
        return group

    def finish(self):
        """Records everything; the run is ready for its report."""
        for (cell, level), rows in self.rows.items():
            self.run.finish_level(cell, level, rows)
        self.run.write_results()
        return self.run


# As the weights of a `BertEncoder`'s backbone are called.
_PATHS = {
    "query": "self_attention_layer__query",
    "key": "self_attention_layer__key",
    "value": "self_attention_layer__value",
    "attention_output": "self_attention_layer__attention_output",
    "intermediate": "feedforward_intermediate_dense",
    "output": "feedforward_output_dense",
}


def _mask(kept):
    return np.arange(10).reshape(2, 5) < kept


def whole_run(maker):
    """Adds every study on SST-2: two seeds of fine-tuning and robust tickets, one of others."""
    # Of 20 sentences 10 are only withstood by the robust tickets, and one only by the other.
    weak, strong = "-f" + "s" * 18, "-s" + "f" * 10 + "s" * 8
    twice = {"textfooler": [weak] * 2, "characters": [weak] * 2}
    maker.network("fine_tune", [0.90, 0.92], twice)
    maker.network("robust", [0.89, 0.90], twice | {"textfooler": [strong] * 2}, level=30)
    once = {"textfooler": [weak], "characters": [weak]}
    for method, level in (("lth", 30), ("free_lb", 0), ("info_bert", 0), ("random", 30)):
        maker.network(method, [0.88], once, level=level)
    for method in (*ABLATIONS[1:], *IMPORTANCE[1:]):
        maker.network(method, [0.85], {"textfooler": [weak]}, level=30)
    for level in (10, 50, 70):
        for method in ("robust", "lth"):
            maker.network(method, [0.88 - level / 500], {"textfooler": [strong]}, level=level)
    for penalty, end in ((0.1, 0.8), (0.5, 0.6)):
        maker.search(penalty, [0.98, 0.9, end], [0.0, 0.05, 0.94 - end], [0.1, 0.5, end - 0.01])
    maker.search(0.5, [0.98, 0.9, 0.7], [0.0, 0.1, 0.28], [0.1, 0.4, 0.6], regime="natural")
    for number, (method, level) in enumerate(
        (("fine_tune", 0), ("free_lb", 0), ("lth", 30), ("robust", 30))
    ):
        maker.curve(method, [0.5, 0.8, 0.85 + number / 100, 0.9], level=level)
        maker.curve(method, [0.0, 0.1 * number, 0.4], attack="textfooler", level=level)
    for level in (10, 30):
        for seed in (0, 1):
            keep = {(0, "query"): 9, (1, "output"): 10 - level // 10 - seed, "pooler": 5}
            maker.ticket(level, keep, seed)
    return maker
