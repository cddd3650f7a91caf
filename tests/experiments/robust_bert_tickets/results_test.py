"""What tables and figures of "Robust Lottery Tickets" compute, and the paper's numbers."""

import math

import numpy as np
import pytest

from experiments.robust_bert_tickets.results import (
    Network,
    SeedMean,
    accuracies_under,
    accuracies_within,
    attack_description,
    attacks,
    clean_accuracies,
    compared_networks,
    load_groups,
    load_reference,
    main_levels,
    model_sparsities,
    networks,
    query_counts,
    searches,
    sentence_counts,
    success_rates,
    swept_networks,
    training_curves,
)
from tests.experiments.robust_bert_tickets.maker import REFERENCE_PATH, BertMaker
from tf_tickets.analysis.measurements import select
from tf_tickets.errors import UserError

FINE_TUNE, ROBUST = Network("fine_tune", 0), Network("robust", 30)


@pytest.fixture
def maker(tmp_path):
    return BertMaker(tmp_path / "run")


def test_what_was_asked_for_before_is_left_out(maker):
    """Tickets and attacked sentences stay where they are when a run asks for others."""
    maker.network("robust", [0.9], {"characters": ["sf"]}, level=30)
    for level in (30, 60):
        maker.ticket(level, {})
    maker.network("lth", [0.9], {"characters": ["sf"], "textfooler": ["ff"]}, level=30)
    for rows in maker.rows.values():
        rows[:] = [row for row in rows if "textfooler" not in row.metric]
    (group,) = maker.groups()
    assert [saved.level for saved in group.tickets] == [30]
    assert {(key[0].method, key[2]) for key in group.attacked} == {
        ("robust", "characters"), ("lth", "characters")
    }  # fmt: skip


def test_sentences_are_those_of_the_recipe_and_the_split_of_the_results(maker):
    maker.network("robust", [0.9], {"characters": ["sf"]}, level=30)
    table = maker.table("robust", "characters", level=30)
    for other in ("test_characters_paper_code.csv", "validation_characters_textattack.csv"):
        damaged = table.read_text(encoding="utf-8").replace("failed", "flown")
        table.with_name(other).write_text(damaged, encoding="utf-8")
    assert list(maker.group().attacked) == [(ROBUST, 0, "characters")]
    for rows in maker.rows.values():
        rows[:] = [
            row._replace(labels=(*row.labels[:2], ("recipe", "paper_code")))
            if "characters" in row.metric
            else row
            for row in rows
        ]
    with pytest.raises(UserError, match="test_characters_paper_code.csv"):
        maker.group()


def test_groups_are_data_sets_in_the_papers_order(maker):
    for data_set in ("movie_reviews", "sst2", "imdb", "of_mine"):
        maker.network("fine_tune", [0.9], {"characters": ["sf"]}, data_set=data_set)
        maker.network("robust", [0.9], level=30, data_set=data_set)
        maker.ticket(30, {}, data_set=data_set)
    groups = maker.groups()
    labels = [group.label.removeprefix("MiniLM-L6 (2 layers) on ") for group in groups]
    assert labels == ["IMDB", "SST-2", "movie reviews", "of_mine"]
    assert groups[1].name == "sst2_minilm_l6_2_layers"
    assert [set(group.rows["data_set"]) for group in groups[:2]] == [{"imdb"}, {"sst2"}]
    assert list(groups[1].attacked) == [(FINE_TUNE, 0, "characters")]
    assert [saved.cell for saved in groups[1].tickets] == [maker.cell_of("robust", 0)]


def test_groups_are_called_by_their_encoder_and_its_layers_not_by_the_models_name(maker):
    for maker.model, encoder, layers in (
        ("any_3_layers", "minilm_l6", "1"), ("other", "bert_base", "12"),
    ):  # fmt: skip
        maker.labels = {"encoder": encoder, "layers": layers}
        maker.network("fine_tune", [0.9])
    assert [(group.name, group.label) for group in maker.groups()] == [
        ("sst2_any_3_layers", "MiniLM-L6 (1 layer) on SST-2"),
        ("sst2_other", "bert_base (12 layers) on SST-2"),
    ]


def test_results_without_the_labels_are_refused(maker):
    maker.labels = {}
    maker.network("fine_tune", [0.9])
    with pytest.raises(UserError, match="results.csv: has no column encoder"):
        maker.groups()


def test_results_of_which_some_lack_the_labels_are_refused(maker):
    maker.network("fine_tune", [0.9])
    maker.labels = {}
    maker.network("robust", [0.9], {"characters": ["sf"]}, level=30)
    with pytest.raises(UserError, match="results.csv: some rows have no encoder.*--stage=all"):
        maker.groups()


def test_a_label_that_is_no_number_is_refused(maker):
    maker.labels["layers"] = "two"
    maker.network("fine_tune", [0.9])
    with pytest.raises(UserError, match="results.csv:2: layers is two, expected a number"):
        maker.groups()


def test_an_empty_run_has_no_groups(maker):
    assert load_groups(maker.run) == []


def test_dense_tickets_and_those_of_others_are_no_patterns(maker):
    maker.network("robust", [0.9], level=30)
    for level in (0, 30):
        maker.ticket(level, {})
    maker.network("random", [0.9], level=30)
    random = maker.run.ticket_path(maker.cell_of("random", 0), 30)
    random.parent.mkdir(parents=True)
    random.write_bytes(maker.run.ticket_path(maker.cell_of("robust", 0), 30).read_bytes())
    assert [saved.level for saved in maker.group().tickets] == [30]


def test_networks_and_the_levels_that_are_compared(maker):
    for level in (10, 20, 30):
        maker.network("lth", [0.9], level=level)
    assert main_levels(maker.group()) == [10, 20, 30]
    for level in (10, 50):
        maker.network("robust", [0.9], level=level)
    assert main_levels(maker.group()) == [10, 50]
    maker.network("robust", [0.9], {"characters": ["sf"]}, level=30)
    maker.network("fine_tune", [0.9])
    maker.network("without_adversarial", [0.9], level=30)
    group = maker.group()
    assert main_levels(group) == [30]
    assert compared_networks(group, ("robust", "fine_tune", "lth")) == [
        ROBUST, FINE_TUNE, Network("lth", 30)
    ]  # fmt: skip
    assert [network.level for network in networks(group, ["robust"])] == [10, 30, 50]
    assert len(swept_networks(group)) == 7


def test_rounds_of_pruning_under_an_adversarial_loss_are_not_the_ablation(maker):
    metric = "test/natural/accuracy"
    for level in (10, 20):
        maker.add("without_mask_learning", metric, [0.1], level=level, regime="free_lb")
    maker.network("without_mask_learning", [0.8], level=30)
    assert networks(maker.group(), ["without_mask_learning"]) == [
        Network("without_mask_learning", 30)
    ]
    assert main_levels(maker.group()) == [30]


def test_one_sparsity_is_no_study_of_it(maker):
    for method, level in (("fine_tune", 0), ("robust", 30), ("lth", 30)):
        maker.network(method, [0.9], level=level)
    assert swept_networks(maker.group()) == []


def test_several_seeds_have_a_deviation(maker):
    outcomes = ["ffffsss---", "ffsss-----"]
    maker.network("robust", [0.8, 0.9], {"textfooler": outcomes}, level=30)
    group = maker.group()
    clean = clean_accuracies(group)[ROBUST]
    assert (clean.mean, clean.sd, clean.seeds) == pytest.approx((85, 50**0.5, 2))
    assert math.isnan(clean.low)
    aua = accuracies_under(group, "textfooler")[ROBUST]
    assert (aua.mean, aua.sd) == pytest.approx((30, 200**0.5))
    suc = success_rates(group, "textfooler")[ROBUST]
    assert suc.mean == pytest.approx(100 * (3 / 7 + 3 / 5) / 2)
    # Queries 0, 10, ..., 60 and 0, 10, ..., 40.
    assert query_counts(group, "textfooler")[ROBUST].mean == pytest.approx(25)
    assert str(aua) == "30.0±14.1" and math.isnan(aua.low)
    assert sentence_counts(group, "textfooler") == {ROBUST: 10}
    assert model_sparsities(group) == {ROBUST: 15.0}


def test_one_seed_has_a_confidence_interval(maker):
    maker.network("robust", [0.8], {"textfooler": ["f" * 4 + "s" * 12 + "-" * 4]}, level=30)
    group = maker.group()
    z = 1.959964

    def wilson(share, n):
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return 100 * share, 100 * (middle - half), 100 * (middle + half)

    aua = accuracies_under(group, "textfooler")[ROBUST]
    assert (aua.mean, aua.low, aua.high) == pytest.approx(wilson(0.2, 20), rel=1e-6)
    suc = success_rates(group, "textfooler")[ROBUST]
    assert (suc.mean, suc.low, suc.high) == pytest.approx(wilson(0.75, 16), rel=1e-6)
    # Queries 0, 10, ..., 150: the bootstrap's mean is nearly normal, of this deviation.
    half = z * np.std(np.arange(0, 160, 10)) / 4
    queries = query_counts(group, "textfooler")[ROBUST]
    assert (queries.low, queries.high) == pytest.approx((75 - half, 75 + half), rel=0.03)
    assert str(aua) == f"20.0 [{aua.low:.1f}, {aua.high:.1f}]"


def test_intervals_of_shares_need_no_sentences(maker):
    maker.network("robust", [0.8], {"textfooler": ["f" * 4 + "s" * 12 + "-" * 4]}, level=30)
    with_sentences = maker.group()
    for path in (maker.run.path / "attacks").rglob("*.csv"):
        path.unlink()
    without = load_groups(maker.run)[0]
    for shown in (accuracies_under, success_rates):
        (one,), (other,) = (shown(g, "textfooler").values() for g in (without, with_sentences))
        assert (one.mean, one.low, one.high) == (other.mean, other.low, other.high)
    assert math.isnan(query_counts(without, "textfooler")[ROBUST].low)
    assert accuracies_within(without, "textfooler", 0.1) == {}


def test_accuracy_at_a_budget(maker):
    # Of ten words one is a tenth: o is broken at both budgets, t at the larger one.
    maker.network("robust", [0.8, 0.8], {"textfooler": ["ffttos--", "fsssooo-"]}, level=30)
    maker.network("fine_tune", [0.8], {"textfooler": ["ttos"]})
    group = maker.group()
    tenth, fifth = (accuracies_within(group, "textfooler", budget) for budget in (0.1, 0.2))
    assert (tenth[ROBUST].mean, fifth[ROBUST].mean) == (100 * (5 + 4) / 16, 100 * (3 + 4) / 16)
    assert tenth[ROBUST].seeds == 2
    assert (tenth[FINE_TUNE].mean, fifth[FINE_TUNE].mean) == (75, 25)
    assert tenth[FINE_TUNE].low < 75 < tenth[FINE_TUNE].high


def test_without_sentences_there_is_no_interval(maker):
    maker.add("robust", "test/textfooler/accuracy", [0.25], level=30)
    aua = accuracies_under(maker.group(), "textfooler")
    assert str(aua[ROBUST]) == "25.0"
    assert attack_description(maker.group(), "textfooler") == "recipe textattack"
    assert attack_description(maker.group(), "characters") == ""


def test_a_rate_of_nothing_is_left_out(maker):
    maker.network("robust", [0.0], {"textfooler": ["--"]}, level=30)
    group = maker.group()
    assert accuracies_under(group, "textfooler")[ROBUST].mean == 0
    assert success_rates(group, "textfooler") == query_counts(group, "textfooler") == {}


def test_attacks_are_described_by_recipe_and_resources(maker):
    outcomes = {"characters": ["sf"], "bert_attack": ["sf"]}
    maker.network("fine_tune", [0.9], outcomes)
    group = maker.group()
    assert attacks(group) == ["bert_attack", "characters"]
    assert attack_description(group, "characters") == (
        "recipe textattack; word vectors vectors, words.npz (SHA-256 01234567)"
    )


def test_searches(maker):
    maker.search(0.5, [0.9, 0.8, 0.6], [0.0, 0.1, 0.3], [0.2, 0.3, 0.4])
    maker.search(0.5, [0.9, 0.7], [0.0, 0.2], [], seed=1)
    # What it is called says nothing.
    maker.search(1.0, [0.9], [0.1], [0.2], regime="natural", method="search_0.5_of")
    maker.add("robust", "masks/all/expected_l0", [0.1], level=30)
    found = searches(maker.group())
    assert sorted(set(zip(found["penalty"], found["regime"]))) == [
        (0.5, "free_lb"), (1.0, "natural")
    ]  # fmt: skip
    longest = select(found, penalty=0.5, seed=0)
    l0 = select(longest, quantity="expected_l0").set_index("progress")["value"]
    assert l0.to_dict() == {0: 0.9, 50: 0.8, 100: 0.6}
    both = select(longest, quantity="share_zero_or_one").set_index("progress")["value"]
    assert both.to_dict() == pytest.approx({0: 0.2, 50: 0.4, 100: 0.7})
    # Half of a sum is none.
    assert select(found, seed=1, quantity="share_zero_or_one").empty
    assert select(found, penalty=1.0)["progress"].tolist() == [0, 0, 0, 0]


def test_training_curves_have_more_than_one_point(maker):
    maker.curve("fine_tune", [0.5, 0.8])
    maker.curve("fine_tune", [0.2], attack="characters")
    maker.add("fine_tune", "validation/natural/accuracy", [None, 0.7], iteration=0)
    found = training_curves(maker.group(), "natural")
    assert found[FINE_TUNE]["mean"].to_dict() == pytest.approx({0: 60, 100: 80})
    assert training_curves(maker.group(), "characters") == {}
    assert attacks(maker.group(), "validation") == ["characters"] and attacks(maker.group()) == []


def test_numbers_are_shown_with_one_decimal():
    nan = math.nan
    assert str(SeedMean(1074.44, nan, nan, nan, 1)) == "1,074.4"
    assert str(SeedMean(12.25, 1.0, nan, nan, 3)) == "12.2±1.0"


def test_the_papers_tables_are_complete():
    reference = load_reference(REFERENCE_PATH)
    # Rows times numbers a row of Tables 1 to 4.
    counts = reference["source"].value_counts().to_dict()
    assert counts == {
        "Table 1": 18 * 10, "Table 2": 12 * 3, "Table 3": 9 * 2, "Table 4": 12 * 2,
        "Section 3.2.2": 1,
    }  # fmt: skip
    by = ["source", "data_set", "method", "attack", "quantity"]
    assert not reference.duplicated(by).any()
    assert set(reference["quantity"]) == {
        "accuracy", "success_rate", "queries", "share_zero_or_one"
    }  # fmt: skip


def test_the_papers_success_rates_follow_from_its_accuracies():
    reference = load_reference(REFERENCE_PATH)
    table = select(reference, source="Table 1")
    by = ["data_set", "method"]
    wide = table.pivot(index=by, columns=["attack", "quantity"], values="value")
    remarked = table.dropna(subset="remark")
    assert set(remarked["quantity"]) == {"success_rate"}
    for attack in ("bert_attack", "textfooler", "textbugger"):
        held, clean = wide[attack, "accuracy"], wide["natural", "accuracy"]
        # Each of the three was rounded to one digit.
        lowest, highest = (
            100 * (1 - (held + half) / (clean - half)) - half for half in (0.05, -0.05)
        )
        rates = wide[attack, "success_rate"]
        strange = (rates < lowest) | (rates > highest)
        known = select(remarked, attack=attack).set_index(by).index
        assert set(strange[strange].index) == set(known)


def test_the_papers_tables_repeat_robust_tickets():
    reference = select(load_reference(REFERENCE_PATH), method="robust", attack="textfooler")
    aua = select(reference, quantity="accuracy")
    assert aua.groupby("data_set")["value"].nunique().eq(1).all()
    assert aua.groupby("data_set")["source"].nunique().to_dict() == {
        "ag_news": 3, "imdb": 3, "mnli": 1, "qnli": 1, "qqp": 1, "sst2": 3
    }  # fmt: skip


def test_a_reference_of_another_form_is_refused(tmp_path):
    path = tmp_path / "reference.csv"
    path.write_text("source,value\n", encoding="utf-8")
    with pytest.raises(UserError, match="its columns are"):
        load_reference(path)
