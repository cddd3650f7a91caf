"""What a run of the robust BERT tickets trains, and in which order."""

import dataclasses
import math

import pytest

from tf_tickets.attacks.embedding import EmbeddingAttack
from tf_tickets.errors import UserError
from tf_tickets.search.robust_bert import (
    ABLATIONS,
    IMPORTANCE,
    METHODS,
    STUDIES,
    FineTuning,
    MaskLearning,
    Network,
    RobustBertSettings,
)

FINE_TUNING = FineTuning(3, 10, 32, 2e-5, 0.01, 0.1, 1.0, 0.1, "selected")
LEARNING = MaskLearning(
    20, 0.1, 1e-6, 0.5, (0.1, 0.4), "weight", "free_lb", EmbeddingAttack(0.03, 0.05, 5), "values"
)


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


def brief(networks):
    return [(n.method, n.regime, n.level) for n in networks]


def test_main_trains_the_six_methods_and_what_they_need():
    networks = settings().networks("sst2", 0)
    assert brief(networks) == [
        ("fine_tune", "natural", 0),
        ("lth", "natural", 10),
        ("lth", "natural", 20),
        ("lth", "natural", 30),
        ("free_lb", "free_lb", 0),
        ("info_bert", "info_bert", 0),
        ("search", "free_lb", 0),
        ("random", "natural", 30),
        ("robust", "natural", 30),
    ]
    assert networks[6].penalty == 0.5


@pytest.mark.parametrize("study", STUDIES)
def test_every_network_comes_once_and_after_what_decides_its_masks(study):
    described = settings(studies=(study,))
    networks = described.networks("sst2", 0)
    assert len(set(networks)) == len(networks)
    for position, network in enumerate(networks):
        if network.level:
            assert described.ticket_source(network) in networks[:position]
        if network.method == "search":
            assert described.network("sst2", 0, "fine_tune") in networks[:position]


def test_without_mask_learning_prunes_by_magnitude_under_free_lb_and_retrains_naturally():
    networks = settings(studies=("ablation",)).networks("sst2", 0)
    rounds = [n for n in networks if n.method == "without_mask_learning"]
    assert brief(rounds) == [
        ("without_mask_learning", "free_lb", 10),
        ("without_mask_learning", "free_lb", 20),
        ("without_mask_learning", "natural", 30),
    ]
    assert ("free_lb", "free_lb", 0) in brief(networks)


def test_without_adversarial_learns_its_masks_naturally():
    described = settings(studies=("ablation",))
    network = described.network("sst2", 0, "without_adversarial")
    source = described.ticket_source(network)
    assert (source.method, source.regime) == ("search", "natural")


def test_rounds_of_magnitude_pruning_are_shared_between_sparsities():
    networks = settings(studies=("sparsity",)).networks("sst2", 0)
    assert [n.level for n in networks if n.method == "lth"] == [10, 20, 30, 40, 45]
    assert [n.level for n in networks if n.method == "robust"] == [20, 45]


def test_each_study_shows_its_methods():
    described = settings(studies=STUDIES)
    shown = {
        study: [n.method for n in described.judged("sst2", 0, study)]
        for study in ("main", "ablation", "importance", "patterns")
    }
    assert shown == {
        "main": list(METHODS),
        "ablation": list(ABLATIONS),
        "importance": list(IMPORTANCE),
        "patterns": [],
    }


def test_longer_training_is_longer():
    described = settings()
    longer = described.network("sst2", 0, "without_structure_longer")
    assert described.epochs_of(longer) == 10
    assert described.epochs_of(described.network("sst2", 0, "without_structure")) == 3
    assert described.epochs_of(described.search("sst2", 0)) == 20


def test_a_search_is_known_by_its_penalty():
    network = Network("sst2", 1, "search", "free_lb", penalty=0.1)
    assert network.cell("minilm").path.parts == (
        "sst2",
        "minilm",
        "free_lb",
        "search_0.1",
        "seed_1",
    )


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
    ],
)
def test_a_wrong_setting_is_named(changes, named):
    with pytest.raises(UserError, match=named):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 0}, "--search_epochs=0"),
        ({"penalty_warmup": (0.5, 0.4)}, "--penalty_warmup=0.5,0.4"),
        ({"objective": "natural"}, "--objective=natural"),
        ({"learning_rate": 0.0}, "--search_learning_rate=0.0"),
        ({"penalty": math.inf}, "--penalty=inf"),
        ({"clip": "value"}, "--search_clip=value"),
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
