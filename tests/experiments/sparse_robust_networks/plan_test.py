"""The plan of iterative searches: what each level starts from and what is pruned before it."""

import dataclasses
import pickle

import pytest

from experiments.sparse_robust_networks import driver as sparse_robust_networks
from experiments.sparse_robust_networks.plan import METHODS, Searches, SearchSettings
from tf_tickets.attacks.threat_model import fgsm, pgd
from tf_tickets.errors import UserError
from tf_tickets.training.schedules import Constant
from tf_tickets.work.nodes import (
    Attack,
    Data,
    Fresh,
    Gradual,
    Inherited,
    LayerMasks,
    Network,
    Platform,
    Recipe,
    in_order,
)

FGSM, PGD = fgsm(0.3), pgd(0.3, 0.05, 10, False)


def searches(seed=0, data_set="mnist", **changes):
    extent = {
        "rounds": 4,
        "iterations": 100,
        "evaluate_every": 10,
        "pruning_rate": 0.2,
        "output_pruning_rate": 0.1,
        "rewind_iteration": 0,
        **changes,
    }
    return Searches(
        SearchSettings(**extent),
        Network("lenet_300_100", (28, 28, 1), 10),
        Data(data_set, "tfds", "0" * 64, seed, train=55000, validation=5000, test=10000),
        Recipe(60, "adam", "mixed"),
        1.2e-3,
        {"fgsm": FGSM, "pgd": PGD},
        Platform(1, 1, ()),
    )


def identities(nodes):
    return [node.identity for node in nodes]


def test_every_level_is_pruned_from_the_one_before():
    for method, choice in {
        "original": "magnitude",
        "random": "magnitude",
        "continued": "magnitude",
        "random_pruning": "random",
        "blocks": "blocks",
    }.items():
        levels = searches().levels("pgd", method)
        assert levels[0].masks is None and [each.stream for each in levels] == [0, 1, 2, 3]
        for number, (before, level) in enumerate(zip(levels, levels[1:]), start=1):
            seeds = (0, number) if choice == "random" else ()
            assert level.masks == LayerMasks(before, 0.2, 0.1, choice, seeds)
    assert [each.masks for each in searches().levels("pgd", "dense")] == [None] * 4
    gradual = [each.masks for each in searches().levels("pgd", "gradual")]
    assert gradual == [None, *(Gradual(0.2, 0.1, rounds) for rounds in (1, 2, 3))]


def test_where_levels_start():
    def starts(method, **changes):
        return [each.start for each in searches(**changes).levels("pgd", method)]

    for method in ("original", "random_pruning", "gradual", "blocks"):
        assert starts(method) == [Fresh(0)] * 4
        first, *later = starts(method, rewind_iteration=7)
        assert first == Fresh(0)
        for start in later:
            assert isinstance(start, Inherited) and start.at == 7 and start.of.stream == 0
            assert start.of.keeps == (7,)
    # Half of the first word that NumPy makes of the seed and the level.
    redrawn = starts("random")
    assert redrawn[:2] == [Fresh(0), Fresh(1982462498)] and len(set(redrawn)) == 4
    for method in ("continued", "dense"):
        levels = searches().levels("pgd", method)
        for before, level in zip(levels, levels[1:]):
            assert level.start == Inherited(before)


def test_level_0_is_one_training_for_all_strategies():
    dense = {searches().levels("pgd", method)[0].identity for method in METHODS}
    assert len(dense) == 1
    others = {searches().levels("natural", "original")[0].identity}
    others.add(searches(seed=1).levels("pgd", "original")[0].identity)
    assert not others & dense
    for changes in ({"rounds": 9}, {"pruning_rate": 0.5}, {"rewind_iteration": 3}):
        assert {searches(**changes).levels("pgd", "original")[0].identity} == dense


def test_a_search_grows_by_levels_and_methods():
    few = identities(searches(rounds=3).levels("pgd", "original"))
    assert identities(searches(rounds=5).levels("pgd", "original"))[:3] == few


@pytest.mark.parametrize(
    "regime,attack,met",
    [("natural", None, ["fgsm", "pgd"]), ("fgsm", FGSM, ["fgsm"]), ("pgd", PGD, ["pgd"])],
)
def test_networks_meet_their_own_attack_on_the_way_and_all_at_the_end(regime, attack, met):
    level = searches().levels(regime, "original")[2]
    assert (level.against, level.attack) == (regime, attack)
    assert [each.name for each in level.measured] == met
    assert level.measured_on == ("validation", "test")
    assert level.rates == Constant(1.2e-3) and (level.iterations, level.evaluate_every) == (100, 10)
    measured = searches().measured(level)
    assert measured.of is level and measured.splits == level.measured_on
    together = [*level.measured, *measured.attacks]
    assert {Attack("fgsm", FGSM), Attack("pgd", PGD)} < set(together)
    assert sorted(each.name for each in together) == ["cw_linf", "fgsm", "pgd"]


def test_the_paper_preset_is_counted_without_data():
    """1,800 levels; the dense one of a regime, data set and trial is one for three strategies."""
    paper = sparse_robust_networks.PAPER
    settings = {field.name: paper[field.name] for field in dataclasses.fields(SearchSettings)}
    levels = [
        level
        for data_set in paper["data_sets"]
        for seed in range(paper["trials"])
        for regime in paper["regimes"]
        for method in paper["pruning_strategies"]
        for level in searches(seed, data_set, **settings).levels(regime, method)
    ]
    assert len(levels) == 2 * 5 * 3 * 3 * 20
    assert len(in_order(levels)) == 1740


def test_a_hundred_rounds_can_be_known():
    levels = searches(rounds=100).levels("pgd", "continued")
    assert len({level.identity for level in levels}) == 100
    assert len(in_order([searches().measured(levels[-1])])) == 101


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"rounds": 0}, "--rounds=0: expected at least 1"),
        ({"iterations": 0}, "--iterations=0: expected at least 1"),
        ({"pruning_rate": 1.0}, r"--pruning_rate=1.0: expected in \[0, 1\)"),
        ({"rewind_iteration": 101}, r"--rewind_iteration=101: expected in \[0, 100\]"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        searches(**changes)


def test_strategies_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="--pruning_strategies=orignal: expected one or more of"):
        searches().settings.require_methods(["orignal"])
    with pytest.raises(UserError, match="--iterations=1: expected at least 2 for gradual"):
        searches(iterations=1, evaluate_every=1).settings.require_methods(["gradual"])


@pytest.mark.parametrize("method", [*METHODS])
@pytest.mark.parametrize("rewind", [0, 10])
def test_the_last_of_a_hundred_levels_can_be_handed_to_a_worker(method, rewind):
    of_seed = searches(rounds=100, rewind_iteration=rewind)
    wanted = of_seed.measured(of_seed.levels("pgd", method)[-1])
    handed = pickle.loads(pickle.dumps(wanted))
    assert handed == wanted and handed.identity == wanted.identity
