"""Tables of attacked texts, and their metrics by hand."""

import dataclasses
import importlib.util
import math

import pytest

from tf_tickets.attacks.text_library import import_textattack
from tf_tickets.errors import UserError
from tf_tickets.evaluation.text_outcomes import (
    FAILED,
    SKIPPED,
    SUCCEEDED,
    AttackedText,
    OutcomeTable,
    count_words,
    measure_attack,
    read_outcomes,
)

IDENTITY = {"attack": "characters", "victim_sha256": "ab"}


@dataclasses.dataclass(frozen=True)
class Example:
    index: int
    texts: tuple
    label: int


def row(
    index, outcome=FAILED, queries=5, texts=('a "quoted", text\nin\r\nlines\rof all kinds', " b ")
):
    return AttackedText(
        index=index,
        label=1,
        outcome=outcome,
        queries=queries,
        predicted=int(outcome != SKIPPED),
        predicted_attacked=int(outcome == FAILED),
        words_changed=1 / 3,
        texts=texts,
        attacked_texts=(texts[0].upper(), "ƀ é"),
    )


def rounded(a_row):
    return dataclasses.replace(a_row, words_changed=0.333333)


def wilson(count, total):
    """The score interval, from its quadratic equation; 1.96 standard deviations."""
    z = 1.959963984540054
    share = count / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return middle - half / (1 + z**2 / total), middle + half / (1 + z**2 / total)


def test_metrics_by_hand():
    outcomes = [SUCCEEDED] * 5 + [FAILED] * 3 + [SKIPPED] * 2
    queries = [10, 20, 30, 40, 50, 60, 70, 80, 1, 1]
    rows = [row(i, o, q) for i, (o, q) in enumerate(zip(outcomes, queries, strict=True))]
    metrics = measure_attack(rows)
    assert metrics.examples == 10
    for estimate, count, total in (
        (metrics.clean_accuracy, 8, 10),
        (metrics.accuracy, 3, 10),
        (metrics.success_rate, 5, 8),
    ):
        assert estimate.value == count / total
        assert (estimate.low, estimate.high) == pytest.approx(wilson(count, total))
    assert metrics.queries.value == 45
    # A bootstrap's mean is nearly normal; of 10, ..., 80 the variance is 525.
    half = 1.96 * math.sqrt(525 / 8)
    found = metrics.queries.low, metrics.queries.high
    assert found == pytest.approx((45 - half, 45 + half), abs=1)


def test_metrics_without_anything_to_measure():
    empty, skipped = measure_attack([]), measure_attack([row(0, SKIPPED)])
    assert empty.examples == 0 and math.isnan(empty.clean_accuracy.value)
    assert skipped.clean_accuracy.value == skipped.accuracy.value == 0
    assert math.isnan(skipped.success_rate.value) and math.isnan(skipped.queries.value)
    one = measure_attack([row(0, SUCCEEDED, 7)])
    assert one.queries.value == 7 and math.isnan(one.queries.low)
    equal = measure_attack([row(0), row(1)])
    assert equal.queries.value == 5 and math.isnan(equal.queries.low + equal.queries.high)


def test_an_interval_of_queries_stays_among_those_that_were_asked():
    """Of two values a bootstrap takes either one twice in a quarter of its draws."""
    two = measure_attack([row(0, queries=4), row(1, queries=320)])
    assert (two.queries.value, two.queries.low, two.queries.high) == (162, 4, 320)


def require_textattack():
    """Imports it offline."""
    if importlib.util.find_spec("textattack") is None:
        pytest.skip("needs the extra `text`")
    import_textattack()


def changed_row(words, changed, outcome=SUCCEEDED):
    texts = (" ".join(["word"] * words),)
    share = round(changed / max(words, 1), 6)
    return dataclasses.replace(row(0, outcome, texts=texts), words_changed=share)


@pytest.mark.parametrize(
    "words, changed, held",
    [
        # ⌈a tenth⌉ and ⌈a fifth⌉ of 10 words are 1 and 2, of 11 2 and 3, of 3 1 and 1.
        (10, 1, (False, False)),
        (10, 2, (True, False)),
        (10, 3, (True, True)),
        (11, 2, (False, False)),
        (11, 3, (True, False)),
        (3, 1, (False, False)),
        (3, 2, (True, True)),
        (0, 0, (False, False)),
    ],
)
def test_a_text_withstands_within_a_budget_what_would_change_more(words, changed, held):
    a_row = changed_row(words, changed)
    assert (a_row.withstands(0.1), a_row.withstands(0.2)) == held
    assert not a_row.withstands()


def test_budgets_do_not_change_what_failed_or_was_wrong_from_the_start():
    for budget in (None, 0.1, 1.0):
        assert changed_row(10, 9, FAILED).withstands(budget)
        assert not changed_row(10, 9, SKIPPED).withstands(budget)


def test_accuracy_at_a_budget_by_hand():
    rows = [changed_row(10, count) for count in (1, 2, 3, 9)]
    rows += [changed_row(10, 0, SKIPPED), changed_row(10, 5, FAILED)]
    metrics = measure_attack(rows)
    assert metrics.accuracy.value == 1 / 6
    for budget, held in ((0.1, 4), (0.2, 3)):
        found = metrics.accuracy_within[budget]
        assert (found.low, found.value, found.high) == pytest.approx(
            (wilson(held, 6)[0], held / 6, wilson(held, 6)[1])
        )


def test_what_must_change():
    outcomes = (SKIPPED, FAILED, SUCCEEDED)
    assert [changed_row(10, 4, outcome).needed_change for outcome in outcomes] == [0, 1, 0.4]
    assert changed_row(2, 3).needed_change == 1  # more was inserted than there was


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35, 1.0])
def test_budgets_are_textattacks(share):
    """Its constraint's own verdict on texts whose first words were replaced."""
    require_textattack()
    from textattack.constraints.overlap import MaxWordsPerturbed
    from textattack.shared import AttackedText as TheirText

    constraint = MaxWordsPerturbed(max_percent=share)
    for words in range(1, 41):
        before = ["word"] * words
        for changed in range(1, words + 1):
            after = ["other"] * changed + before[changed:]
            texts = [TheirText(" ".join(each)) for each in (after, before)]
            allowed = constraint._check_constraint(*texts)
            assert changed_row(words, changed).withstands(share) == (not allowed), (words, changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain words, and 'quoted' ones",
        "well-known it's _under_score @handle *star* e-mail@host.org",
        "naïve café ﬁne  double  spaces\nnew line\ttab 1999's",
        "suf𝚏ers mаny ѕwapped о and 𝕦nusual !!! ... -- '",
        "a\u00a0b\u2003c\u0301d `x` 3×4",
    ],
)
def test_words_are_counted_as_textattack_counts_them(text):
    require_textattack()
    from textattack.shared.utils import words_from_text

    assert count_words((text, "more of it")) == len(words_from_text(f"{text}\nmore of it"))


def test_a_table_is_read_as_it_was_written_and_sorted(tmp_path):
    rows = [row(3, SUCCEEDED), row(0, SKIPPED, 1), row(1, texts=("", "x"))]
    table = OutcomeTable(tmp_path / "t.csv", ("premise", "hypothesis"), IDENTITY)
    for a_row in rows:
        table.add(a_row)
    table.save()
    assert read_outcomes(tmp_path / "t.csv") == [rounded(rows[i]) for i in (1, 2, 0)]
    header = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert header.endswith("words_changed,premise,hypothesis,attacked_premise,attacked_hypothesis")


def saved_table(path, rows, identity=IDENTITY):
    table = OutcomeTable(path, ("a", "b"), identity)
    for a_row in rows:
        table.add(a_row)
    table.save()
    return table


def loaded_indices(path, examples, identity=IDENTITY):
    table = OutcomeTable(path, ("a", "b"), identity)
    table.load(examples)
    return [a_row.index for a_row in table.rows]


def examples_of(rows):
    return [Example(a_row.index, a_row.texts, a_row.label) for a_row in rows]


def test_only_rows_of_the_same_attack_and_examples_are_taken_over(tmp_path):
    path, rows = tmp_path / "t.csv", [row(i) for i in range(4)]
    saved_table(path, rows)
    examples = examples_of(rows)
    assert loaded_indices(path, examples) == [0, 1, 2, 3]
    assert loaded_indices(path, examples, {**IDENTITY, "victim_sha256": "cd"}) == []
    examples[1] = dataclasses.replace(examples[1], texts=("another", "text"))
    examples[2] = dataclasses.replace(examples[2], label=0)
    assert loaded_indices(path, examples[:3]) == [0]


def test_rows_of_another_attack_are_replaced(tmp_path):
    path, rows = tmp_path / "t.csv", [row(i) for i in range(3)]
    saved_table(path, rows)
    other = {**IDENTITY, "attack": "textbugger"}
    saved_table(path, rows[:1], other)
    assert loaded_indices(path, examples_of(rows), other) == [0]
    assert loaded_indices(path, examples_of(rows)) == []


def test_nothing_is_taken_over_from_a_table_of_unknown_identity(tmp_path):
    path = tmp_path / "t.csv"
    saved_table(path, [row(0)])
    path.with_suffix(".json").unlink()
    assert loaded_indices(path, examples_of([row(0)])) == []


@pytest.mark.parametrize("damage", ["outcome,won", "queries,many"])
def test_a_damaged_table_is_named(tmp_path, damage):
    path = tmp_path / "t.csv"
    saved_table(path, [row(0, texts=("a", "b"))])
    lines = path.read_text().splitlines()
    column, value = damage.split(",")
    values = lines[1].split(",")
    values[lines[0].split(",").index(column)] = value
    path.write_text("\n".join([lines[0], ",".join(values)]))
    with pytest.raises(UserError, match="t.csv: expected a table of attacked texts"):
        read_outcomes(path)
    with pytest.raises(UserError, match="none.csv: no such file"):
        read_outcomes(tmp_path / "none.csv")
