"""What a run of the robust BERT tickets trains and attacks, held against the paper's text."""

import dataclasses
import math

import pytest

from experiments.robust_bert_tickets import driver
from experiments.robust_bert_tickets.plan import ABLATIONS, IMPORTANCE, Trial, of_stage
from experiments.robust_bert_tickets.settings import (
    METHODS,
    STUDIES,
    AttackSettings,
    FineTuning,
    MaskLearning,
    RobustBertSettings,
)
from tests.work.text_plans import ENCODER, PLATFORM
from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.attacks.text_resources import TextResources
from tf_tickets.errors import UserError
from tf_tickets.runs.run_directory import Cell
from tf_tickets.text_work.nodes import (
    Drawn,
    MaskSearch,
    Pretrained,
    Redrawn,
    Scattered,
    TextAttacked,
    TextNetwork,
    Texts,
    TextTraining,
)
from tf_tickets.training.schedules import LinearDecay, LinearRamp
from tf_tickets.work.nodes import Inherited, Masks, Measurement, in_order
from tf_tickets.work.store import Record, Store
from tf_tickets.work.view import label_names

FINE_TUNING = FineTuning(3, 10, 32, 2e-5, 0.01, 0.1, 1.0, 0.1, "selected")
LEARNING = MaskLearning(
    20, 0.1, 1e-6, 0.5, (0.1, 0.4), "weight", "free_lb", EmbeddingAttack(0.03, 0.05, 5), "values"
)
# 2,000 steps an epoch.
SST2 = Texts("sst2", "tfds", "0" * 64, 0, 128, 64_000, 6_735, 872)
ATTACKS = AttackSettings(
    ("textfooler", "textbugger", "bert_attack"),
    "textattack",
    0.0,
    8,
    0,
    TextResources(),
    PLATFORM,
)
RESOURCES = {name: (("word_vectors", "vectors"),) for name in ATTACKS.attacks}


def settings(**changes):
    values = {
        "data_sets": ("sst2",),
        "seeds": (0,),
        "studies": ("main",),
        "methods": METHODS,
        "sparsity": {"sst2": 30},
        "sparsities": (20, 45),
        "penalties": (0.1, 0.5),
        "fine_tuning": FINE_TUNING,
        "mask_learning": {"sst2": LEARNING},
    }
    return RobustBertSettings(**values | changes)


def trial(texts=SST2, test_examples=0, **changes):
    return Trial(settings(**changes), TextNetwork(ENCODER, 2), texts, test_examples, PLATFORM)


def brief(trainings):
    return [(n.labels["method"], n.against, n.labels["level"]) for n in trainings]


def attacks(texts=SST2, test_examples=0, how=ATTACKS, **changes):
    return trial(texts, test_examples, **changes).attacks(how, RESOURCES)


def test_main_trains_the_six_methods_and_what_they_need():
    assert brief(trial().trainings()) == [
        ("fine_tune", "natural", 0),
        ("lth", "natural", 10),
        ("lth", "natural", 20),
        ("lth", "natural", 30),
        ("free_lb", "free_lb", 0),
        ("info_bert", "info_bert", 0),
        ("search_0.5", "free_lb", 0),
        ("random", "natural", 30),
        ("robust", "natural", 30),
    ]


@pytest.mark.parametrize("study", STUDIES)
def test_every_training_comes_once_and_after_what_it_needs(study):
    trainings = trial(studies=(study,)).trainings()
    identities = [training.identity for training in trainings]
    assert len(set(identities)) == len(identities)
    for place, training in enumerate(trainings):
        assert {need.identity for need in training.needs} <= set(identities[:place])


def test_weights_are_tuned_as_table_5_says():
    tuned = trial().training("fine_tune")
    assert (tuned.recipe.batch_size, tuned.recipe.weight_decay) == (32, 0.01)
    assert (tuned.recipe.dropout, tuned.recipe.clip_value) == (0.1, 1.0)
    assert (tuned.iterations, tuned.evaluate_every) == (6_000, 2_000)
    assert tuned.rates == LinearDecay(2e-5, 6_000, 0.1)
    assert tuned.start == Pretrained(0) and tuned.masks is None and tuned.attack is None
    assert [each.metric for each in tuned.selections] == ["validation/natural/accuracy"]
    last = dataclasses.replace(FINE_TUNING, weights="last")
    assert trial(fine_tuning=last).training("fine_tune").selections == ()
    for method in ("free_lb", "info_bert"):
        assert trial().training(method).attack == LEARNING.attack
    longer = trial().training("without_structure_longer")
    assert longer.iterations == 20_000 and longer.rates.iterations == 20_000


def test_masks_are_learned_as_table_6_says():
    search = trial().search()
    assert search.start == Inherited(trial().training("fine_tune"))
    assert (search.iterations, search.evaluate_every) == (40_000, 500)
    assert search.rates == LinearDecay(0.1, 40_000, 0.1)
    assert search.penalties == LinearRamp(0.5, 4_000, 16_000)
    assert (search.recipe.weight_decay, search.recipe.granularity) == (1e-6, "weight")
    assert search.recipe.clip == "values" and not search.selections
    assert search.attack == LEARNING.attack and search.labels["regime"] == "free_lb"


def test_where_masks_and_starts_come_from():
    of = trial()
    drawn = Drawn(of.search(), 0.3)
    naturally = Drawn(of.search(regime="natural"), 0.3)
    assert naturally.of.attack is None
    expected = {
        "robust": (Pretrained(0), drawn),
        "random": (Pretrained(0), Scattered(drawn, 0)),
        "without_adversarial": (Pretrained(0), naturally),
        "without_initialization": (Redrawn(0), drawn),
        "without_structure": (Redrawn(0, drawn), None),
        "without_structure_longer": (Redrawn(0, drawn), None),
    }
    for method, (start, masks) in expected.items():
        training = of.training(method)
        assert (training.start, training.masks) == (start, masks), method
        assert (training.against, training.stream) == ("natural", 30)
    second = of.training("lth").masks.of
    first = second.masks.of
    assert of.training("lth").masks == Masks(second, 0.3, "magnitude")
    assert (second.masks.sparsity, first.masks.sparsity) == (0.2, 0.1)
    assert first.masks.of == of.training("fine_tune") and second.start == Pretrained(0)


def test_without_mask_learning_prunes_by_magnitude_under_free_lb_and_retrains_naturally():
    trainings = trial(studies=("ablation",)).trainings()
    rounds = [n for n in trainings if n.labels["method"] == "without_mask_learning"]
    assert brief(rounds) == [
        ("without_mask_learning", "free_lb", 10),
        ("without_mask_learning", "free_lb", 20),
        ("without_mask_learning", "natural", 30),
    ]
    assert rounds[0].masks.of.labels["method"] == "free_lb"


def test_rounds_of_magnitude_pruning_are_shared_between_sparsities():
    trainings = trial(studies=("sparsity",)).trainings()
    levels = {
        method: [n.labels["level"] for n in trainings if n.labels["method"] == method]
        for method in ("lth", "robust")
    }
    assert levels == {"lth": [10, 20, 30, 40, 45], "robust": [20, 45]}


def test_each_study_shows_its_methods():
    shown = {
        study: [n.labels["method"] for n in trial().judged(study)]
        for study in ("main", "ablation", "importance", "patterns")
    }
    assert shown == {
        "main": list(METHODS),
        "ablation": list(ABLATIONS),
        "importance": list(IMPORTANCE),
        "patterns": [],
    }


def test_studies_share_their_networks():
    """A run that grows by a study trains what that study has of its own, no more."""
    both = trial(studies=("main", "ablation")).trainings()
    main = trial().trainings()
    more = {each.identity for each in both} - {each.identity for each in main}
    # Three rounds without mask learning, one search and what is drawn of it.
    assert len(more) == 5 and len(both) == len(main) + 5


def test_equal_trainings_of_two_names_are_shown_under_both():
    short = dataclasses.replace(FINE_TUNING, longer_epochs=3)
    trainings = trial(studies=("importance",), fine_tuning=short).trainings()
    same = [n for n in trainings if n.labels["method"].startswith("without_structure")]
    assert len({n.identity for n in same}) == 1 and len(same) == 2


def test_a_search_is_known_by_its_penalty():
    labels = trial().search(0.1).labels
    cell = Cell(*(labels[name] for name in ("data_set", "regime", "method", "seed", "model")))
    assert cell.path.parts == ("sst2", "tiny_2_layers", "free_lb", "search_0.1", "seed_0")


def test_labels_say_what_names_say():
    of = trial(studies=STUDIES, penalties=(0.1, 0.5, 1.0, 2e-7))
    network = {"encoder": "tiny", "layers": 2}
    penalties = set()
    for training in of.trainings():
        labels = training.labels
        assert labels["model"] == "tiny_2_layers"
        assert {name: labels[name] for name in network} == network
        is_search = isinstance(training, MaskSearch)
        assert is_search == (labels["penalty"] is not None)
        if is_search:
            assert labels["penalty"] == training.penalties.value
            assert labels["method"] == f"search_{labels['penalty']:g}"
            penalties.add(labels["penalty"])
    assert penalties == {0.1, 0.5, 1.0, 2e-7}
    for one in of.shown():
        assert one.labels == one.of.labels
    for one in of.attacks(ATTACKS, RESOURCES):
        assert one.labels == {**one.of.labels, "recipe": "textattack"}
    paper_code = dataclasses.replace(ATTACKS, attack_recipe="paper_code")
    assert {one.labels["recipe"] for one in attacks(how=paper_code)} == {"paper_code"}


def test_labels_become_columns_of_the_results():
    one = trial(studies=("main",))
    assert label_names(one.shown()) == ["encoder", "layers", "penalty"]
    assert label_names(one.attacks(ATTACKS, RESOURCES)) == ["encoder", "layers", "recipe"]
    dense = trial(methods=("fine_tune",))
    assert label_names(dense.shown()) == ["encoder", "layers"]


def test_networks_are_tested_and_searches_are_shown_without():
    shown = trial(test_examples=500).shown()
    for one in shown:
        (node,) = one.nodes
        is_search = isinstance(one.of, MaskSearch)
        assert is_search == (node == one.of)
        assert is_search or node == Measurement(one.of, examples=500)
    assert brief(one.of for one in shown) == brief(trial().trainings())


def test_main_has_all_attacks_and_other_studies_the_first():
    attacked = [one.nodes[0] for one in attacks()]
    assert len(attacked) == 3 * len(METHODS)
    assert {(node.split, node.at, node.examples) for node in attacked} == {("test", None, 872)}
    (first,) = [one for one in attacks(studies=("importance",)) if "/robust/" in one.files[0][1]]
    assert first.record == "level_30_test_textfooler"
    assert first.files == tuple(
        (
            f"texts{kind}",
            "attacks/sst2/tiny_2_layers/natural/robust/seed_0/level_30/"
            f"test_textfooler_textattack{kind}",
        )
        for kind in (".csv", ".json")
    )
    main = {one.nodes[0].identity for one in attacks()}
    assert first.nodes[0].identity in main


def test_convergence_attacks_validation_texts_after_every_epoch():
    shown = attacks(studies=("convergence",))
    nodes = [one.nodes[0] for one in shown if "/lth/" in one.files[0][1]]
    assert [(node.split, node.at, node.examples) for node in nodes] == [
        ("validation", at, 872) for at in (2_000, 4_000, 6_000)
    ]
    (trained,) = [n for n in in_order(nodes) if n.identity == nodes[0].of.identity]
    assert trained.keeps == (2_000, 4_000, 6_000)
    assert "level_30_epoch_002_validation_textfooler" in {one.record for one in shown}


def test_no_more_texts_are_attacked_than_there_are():
    few = dataclasses.replace(SST2, validation=16)
    assert {one.nodes[0].examples for one in attacks(few, 100)} == {100}
    assert {one.nodes[0].examples for one in attacks(few, 100, studies=("convergence",))} == {16}
    ten = dataclasses.replace(ATTACKS, attacked_examples=10)
    assert {one.nodes[0].examples for one in attacks(how=ten)} == {10}


def test_a_stage_does_its_part(tmp_path):
    store = Store(tmp_path / "store")
    of = trial(studies=("convergence",))
    trained = [one.nodes[0] for one in of.shown()]
    attacked = [one.nodes[0] for one in of.attacks(ATTACKS, RESOURCES)]
    wanted = [*trained, *attacked]
    assert of_stage("all", wanted, store) == wanted and of_stage("report", wanted, store) == []
    to_train = in_order(of_stage("train", wanted, store))
    assert not any(isinstance(node, TextAttacked) for node in to_train)
    trainings = {n.labels["method"]: n for n in to_train if isinstance(n, TextTraining)}
    with pytest.raises(UserError, match="--stage=attack: nothing is trained yet"):
        of_stage("attack", wanted, store)
    tuned = trainings["fine_tune"]
    store.finish(tuned, Record((), (6_000,), 0.0))
    with pytest.raises(UserError, match="nothing is trained yet"):
        of_stage("attack", wanted, store)  # What will be attacked was not kept.
    for at in tuned.keeps:
        store.keep(tuned, at, {})
    attackable = of_stage("attack", wanted, store)
    assert [node.at for node in attackable] == [2_000, 4_000, 6_000] == list(tuned.keeps)
    assert trainings.keys() == {"fine_tune", "free_lb", "lth", "search_0.5", "robust"}


def test_the_paper_in_full():
    """So many trainings a seed of SST-2, without the data: the whole plan of the preset."""
    config = driver.PRESETS["paper"] | {"strategy": "one_device"}
    of_paper = driver.mask_learning(config, "sst2")
    assert of_paper.attack == EmbeddingAttack(0.03, 0.05, 5)
    sparsities = tuple(int(each) for each in config["sparsities"])
    penalties = tuple(float(each) for each in config["penalties"])
    of = trial(
        studies=STUDIES,
        sparsities=sparsities,
        penalties=penalties,
        mask_learning={"sst2": of_paper},
    )
    by_method = {}
    for training in of.trainings():
        name = "search" if isinstance(training, MaskSearch) else training.labels["method"]
        by_method[name] = by_method.get(name, 0) + 1
    assert by_method == {
        "fine_tune": 1,
        "lth": 9,
        "free_lb": 1,
        "info_bert": 1,
        "search": 5,  # Four penalties, and one without an adversary.
        "random": 1,
        "robust": 9,
        "without_mask_learning": 3,
        "without_adversarial": 1,
        "without_initialization": 1,
        "without_structure": 1,
        "without_structure_longer": 1,
    }


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"studies": ("nothing",)}, "--study=nothing"),
        ({"methods": ()}, "--methods="),
        ({"sparsity": {"sst2": 100}}, "--sparsity=100"),
        ({"sparsities": (0,)}, "--sparsities=0"),
        ({"penalties": (-1.0,)}, "--penalties=-1.0"),
        ({"penalties": (math.inf,)}, "--penalties=inf"),
        ({"studies": ("sparsity",), "sparsities": ()}, "--sparsities=: expected numbers for --s"),
        ({"studies": ("sparsity",), "sparsities": (10, 10)}, "--sparsities=10,10"),
        ({"studies": ("regularization",), "penalties": (0.1, 0.1)}, "--penalties=0.1,0.1"),
        # They would have one name.
        ({"studies": ("regularization",), "penalties": (0.1, 0.10000001)}, "--penalties=0.1,0.1"),
    ],
)
def test_a_wrong_setting_is_named(changes, named):
    with pytest.raises(UserError, match=named):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"search_epochs": 0}, "--search_epochs=0"),
        ({"penalty_warmup": (0.5, 0.4)}, "--penalty_warmup=0.5,0.4"),
        ({"objective": "natural"}, "--objective=natural"),
        ({"search_learning_rate": 0.0}, "--search_learning_rate=0.0"),
        ({"search_weight_decay": 1.0}, "--search_weight_decay=1.0"),
        ({"penalty": math.inf}, "--penalty=inf"),
        ({"search_clip": "value"}, "--search_clip=value"),
    ],
)
def test_a_wrong_way_to_learn_masks_is_named(changes, named):
    with pytest.raises(UserError, match=named):
        dataclasses.replace(LEARNING, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 0}, "--epochs=0"),
        ({"dropout": 1.0}, "--dropout=1.0"),
        ({"warmup": 1.0}, "--warmup=1.0"),
        ({"weights": "best"}, "--weights=best"),
        ({"learning_rate": math.inf}, "--learning_rate=inf"),
    ],
)
def test_a_wrong_way_to_fine_tune_is_named(changes, named):
    with pytest.raises(UserError, match=named):
        dataclasses.replace(FINE_TUNING, **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attacks": ("pgd",)}, "--attacks=pgd"),
        ({"attack_recipe": "mine"}, "--attack_recipe=mine"),
        ({"attacked_examples": -1}, "--attacked_examples=-1"),
        ({"max_words_changed": 2.0}, "--max_words_changed=2.0"),
    ],
)
def test_a_wrong_way_to_attack_is_named(changes, named):
    with pytest.raises(UserError, match=named):
        dataclasses.replace(ATTACKS, **changes)
