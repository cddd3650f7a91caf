"""What the paper's run consists of, held against its text; without data."""

import dataclasses

import pytest

from experiments.double_win_tickets import driver
from experiments.double_win_tickets.plan import DoubleWin, Images, Public
from experiments.double_win_tickets.results import LABELS
from experiments.double_win_tickets.settings import TICKETS, TicketKind
from experiments.double_win_tickets.transfers import Transfer, transfers, unseen_models
from tf_tickets.attacks.threat_model import MARGIN_ATTACK
from tf_tickets.masking.magnitude import sparsity_after_rounds
from tf_tickets.work.nodes import (
    Data,
    FoundTicket,
    Fresh,
    Imported,
    Inherited,
    Masks,
    Measurement,
    Network,
    Platform,
    RandomMasks,
    Training,
    in_order,
)
from tf_tickets.work.view import label_names

PLATFORM = Platform(1, 1, ())


def images(name, seed=0, train=45_000, classes=10):
    """224x224 pixels, as ImageNet's."""
    data = Data(name, "tfds", "0" * 64, seed, 224, train, 5000, 10_000, "scaled", "published")
    return Images(data, (224, 224, 3), classes)


def plan_of(public=None, **changes):
    """Of the paper's preset and other flags."""
    settings = driver.settings_of(driver.PAPER | changes)
    targets = {(t, seed): images(t, seed) for t in settings.targets for seed in settings.seeds}
    source = images("imagenet", train=1_281_167, classes=1000)
    return DoubleWin(settings, source, targets, public or {}, PLATFORM)


PAPER = plan_of()
IMP, OMP, RANDOM = (TICKETS[f"at_{name}"] for name in ("imp_st", "omp", "random"))


def work_of(plan):
    """All pieces of a plan, each once."""
    shown = plan.shown().values()
    return in_order([node for stage in shown for each in stage for node in each.nodes])


def names_of(plan):
    """(all labels) of every training."""
    shown = [each for stage in plan.shown().values() for each in stage]
    trainings = [each for each in shown if isinstance(each.of, Training)]
    return {tuple(each.labels.items()) for each in trainings}


def transferred(pretraining, pruning, level, percent=100, regime="pgd", seed=0, target="cifar10"):
    transfer = Transfer(target, pretraining, pruning, level, percent, regime, seed)
    return PAPER.transferred(transfer)


def test_the_paper_preset_is_counted_without_data():
    trainings = [node for node in work_of(PAPER) if isinstance(node, Training)]
    pretrainings, retrainings, unseen = 3, 4 * 18, 9
    # In two regimes, for three targets and seeds: of three parts the dense networks of three
    # pre-trainings and 19 tickets of three kinds; of all data those of three kinds more.
    transferred = 18 * (3 * (3 + 3 * 19) + 3 * 19)
    names = pretrainings + retrainings + transferred + unseen
    assert len(names_of(PAPER)) == names == 4350
    # Level 1 of imp_st, imp_at and omp is one ticket with three names, and is trained once.
    assert len(trainings) == names - 18 * 2 == 4314


def test_only_first_rounds_are_equal_work():
    names = {}
    for transfer in transfers(PAPER.settings):
        names.setdefault(PAPER.transferred(transfer).identity, []).append(transfer)
    shared = [group for group in names.values() if len(group) > 1]
    assert len(shared) == 2 * 9  # Two regimes, three targets, three seeds.
    for group in shared:
        assert [(each.level, each.percent) for each in group] == [(1, 100)] * 3
        assert {each.pruning for each in group} == {"imp_st", "imp_at", "omp"}
        assert {each.pretraining for each in group} == {"at"}


def test_the_ladder_of_the_paper_ends_at_98_56_percent():
    ticket = PAPER.ticket(IMP, 19)
    assert round(100 * ticket.masks.sparsity, 2) == 98.56
    assert ticket.masks.sparsity == sparsity_after_rounds(19)


def test_every_kind_of_ticket_meets_both_regimes_and_imp_less_data():
    small = plan_of(
        tickets=["at_imp_st", "at_omp"], levels=["0", "3"], percents=["100", "50"], trials=1
    )
    wanted = {
        (each.pretraining, each.pruning, each.percent, each.level, each.regime)
        for each in transfers(small.settings)
    }
    dense = {("at", "dense", percent, 0) for percent in (100, 50)}
    pruned = {("at", "imp_st", 100, 3), ("at", "imp_st", 50, 3), ("at", "omp", 100, 3)}
    assert wanted == {
        (*network, regime) for network in dense | pruned for regime in ("natural", "pgd")
    }


def test_the_pretrainings_are_natural_fast_and_strong():
    found = {name: PAPER.pretrained[name] for name in ("std", "fat", "at")}
    assert {name: each.against for name, each in found.items()} == {
        "std": "natural",
        "fat": "fast",
        "at": "pgd",
    }
    assert found["std"].attack is None and found["fat"].attack.eps == pytest.approx(4 / 255)
    assert found["at"].attack.steps == 7 and found["at"].attack.eps == pytest.approx(8 / 255)
    for name, each in found.items():
        assert each.start == Fresh(0) and each.masks is None and each.masked == "convolutions"
        (selection,) = each.selections
        best = "natural" if name == "std" else "pgd_20"
        assert selection.metric == f"validation/{best}/accuracy"
        # FGSM training that collapses is stopped.
        assert (selection.stop_after_drop < 1) == (name == "fat")
        assert each.iterations == 100 * each.evaluate_every
        assert each.labels["method"] == f"{name}_pretraining"


def test_naturally_pretrained_networks_are_attacked_too():
    for name in ("std", "at"):
        measured = PAPER.measured_on_source(name)
        assert [attack.name for attack in measured.attacks] == ["pgd_20", MARGIN_ATTACK]
        assert measured.splits == ("test",) and measured.of == PAPER.pretrained[name]


def test_the_first_prune_is_of_the_pretrained_weights_and_later_ones_of_retrained_ones():
    first, second = PAPER.ticket(IMP, 1), PAPER.ticket(IMP, 2)
    pretrained = PAPER.pretrained["at"]
    assert first.masks == Masks(pretrained, sparsity_after_rounds(1), "magnitude")
    retrained = second.masks.of
    assert retrained.masks == first and retrained.stream == 1
    assert retrained.start == Inherited(pretrained)  # All weights, the head too, are rewound.
    assert (retrained.against, retrained.attack, retrained.selections) == ("natural", None, ())
    assert retrained.evaluate_every == retrained.iterations
    assert PAPER.retrained(TICKETS["at_imp_at"], 3).attack.steps == 3
    assert PAPER.ticket(OMP, 5).masks == Masks(pretrained, sparsity_after_rounds(5), "magnitude")
    assert PAPER.ticket(RANDOM, 5).masks == RandomMasks(pretrained, sparsity_after_rounds(5), 0)
    assert PAPER.ticket(OMP, 1) == first  # Iterative and one-shot pruning have done the same.


def test_a_transfer_has_the_tickets_weights_and_masks_and_the_trials_head():
    ticket, dense = transferred("at", "imp_st", 6), transferred("at", "dense", 0)
    assert ticket.masks == PAPER.ticket(IMP, 6) and dense.masks is None
    assert (ticket.stream, dense.stream) == (6, 0)
    assert ticket.start == dense.start
    assert ticket.start.of == PAPER.pretrained["at"]
    heads = {
        transferred(*kind, seed=seed, regime=regime).start.new_head
        for kind in (("at", "imp_st", 6), ("std", "imp_st", 6), ("fat", "dense", 0))
        for seed in (0, 1)
        for regime in ("natural", "pgd")
    }
    assert len(heads) == 2  # All methods of a trial get the same.
    assert ticket.network.classes == 10 and ticket.start.of.network.classes == 1000


def test_unseen_models_share_nothing_with_tickets():
    unseen = PAPER.transferred(unseen_models(PAPER.settings)[0])
    dense = transferred("at", "dense", 0)
    assert isinstance(unseen.start, Fresh) and unseen.start.seed != dense.start.new_head
    assert unseen.masks is None and unseen.against == "pgd"
    assert dataclasses.replace(unseen, start=dense.start) == dense
    little = dataclasses.replace(PAPER.settings, tickets=("at_imp_st",), percents=(10.0,))
    assert not unseen_models(little)


def test_every_robust_network_with_all_data_is_attacked_from_the_unseen_one():
    shown = [each for each in PAPER.shown()["transfer"] if each.record]
    robust = [each for each in transfers(PAPER.settings) if each.regime == "pgd"]
    assert len(shown) == sum(each.percent == 100 for each in robust)
    for each in shown:
        (measured,) = each.nodes
        ((unseen, attack),) = measured.transferred
        assert (attack.name, attack.threat.steps, measured.attacks) == ("transfer_attack", 20, ())
        assert (unseen.data, unseen.seed) == (measured.of.data, measured.of.seed)
        assert each.record == f"transfer_attack_{measured.of.stream:02d}"


def test_a_part_of_the_data_has_fewer_steps_an_epoch():
    whole, tenth = (transferred("at", "imp_st", 6, percent) for percent in (100, 10))
    assert tenth.data == dataclasses.replace(whole.data, percent=10.0)
    assert (whole.evaluate_every, tenth.evaluate_every) == (round(45_000 / 128), round(4500 / 128))
    assert whole.iterations == 100 * whole.evaluate_every


def test_adversarial_transfers_keep_two_kinds_of_best_weights():
    robust, natural = transferred("at", "imp_st", 6), transferred("at", "imp_st", 6, 100, "natural")
    assert [each.metric for each in robust.selections] == [
        "validation/pgd_20/accuracy",
        "validation/natural/accuracy",
    ]
    assert [each.metric for each in natural.selections] == ["validation/natural/accuracy"]
    # The published code's: epochs 46 to 100; all of standard transfers.
    assert {each.first_iteration for each in robust.selections} == {46 * robust.evaluate_every}
    assert natural.selections[0].first_iteration == natural.evaluate_every
    for training, attacks in ((robust, ["pgd_20", MARGIN_ATTACK]), (natural, [])):
        tested = PAPER.tested(training)
        assert [attack.name for attack in tested.attacks] == attacks
        assert tested.selections == tuple(range(len(training.selections)))


def test_trajectories_are_of_the_first_trials_robust_transfers():
    kept = [each for each in transfers(PAPER.settings) if PAPER.transferred(each).keeps]
    assert {(each.level, each.seed, each.regime, each.pruning) for each in kept} == {
        (6, 0, "pgd", "imp_st")
    }
    training = PAPER.transferred(kept[0])
    assert training.keeps == tuple(range(0, training.iterations + 1, training.evaluate_every))
    without = plan_of(trajectory_levels=[]).transferred(kept[0])
    assert without.identity == training.identity and not without.keeps


def test_labels_are_the_columns_of_the_results():
    assert transferred("at", "imp_st", 6, 10, seed=2).labels == {
        "data_set": "cifar10",
        "model": "resnet_50_v1_5",
        "regime": "pgd",
        "method": "at_imp_st_10",
        "seed": 2,
        "level": 6,
        "pretraining": "at",
        "pruning": "imp_st",
        "percent": "10",
    }
    assert PAPER.ticket(TICKETS["at_imp_at"], 4).labels == {
        "data_set": "imagenet",
        "model": "resnet_50_v1_5",
        "regime": "pgd",
        "method": "at_imp_at",
        "seed": 0,
        "level": 4,
        "pretraining": "at",
        "pruning": "imp_at",
        "percent": None,
    }
    shown = [each for stage in PAPER.shown().values() for each in stage]
    assert label_names(shown) == list(LABELS)


def test_labels_say_what_the_name_says():
    """For people, names are made of them; that of a pre-training says that it is one."""
    shown = [each for stage in PAPER.shown().values() for each in stage]
    for labels in [node.labels for each in shown for node in (*each.nodes, each.of)]:
        told = [labels[name] for name in LABELS if labels[name] is not None]
        assert labels["method"] == "_".join(told if told[1:] else [*told, "pretraining"])


def test_measurements_have_the_labels_of_what_is_measured():
    for each in [each for stage in PAPER.shown().values() for each in stage]:
        for node in each.nodes:
            assert not isinstance(node, Measurement) or node.labels == node.of.labels


def test_a_trial_a_level_and_a_target_more_leave_all_other_work_as_it_is():
    before = {node.identity for node in work_of(plan_of(levels=["0", "2"], targets=["cifar10"]))}
    for changes in (
        {"trials": 4},
        {"levels": ["0", "2", "3"]},
        {"percents": ["100", "10", "1", "50"]},
        {"targets": ["cifar10", "svhn"]},
        {"tickets": [*driver.PAPER["tickets"], "std_omp"]},
    ):
        more = plan_of(**{"levels": ["0", "2"], "targets": ["cifar10"]} | changes)
        assert before < {node.identity for node in work_of(more)}, changes


def public(has_head):
    network = Network("resnet_50_v1_5", (224, 224, 3), 1000)
    node = Imported(network, images("imagenet").data, "1" * 64, 0, PLATFORM, "convolutions")
    return {"at": Public(node, has_head)}


def test_public_weights_stand_for_a_pretraining():
    plan = plan_of(public(True), pretrained=["at=weights.pt"])
    pretrained = plan.pretrained["at"]
    assert isinstance(pretrained, Imported) and pretrained.labels["method"] == "at_pretraining"
    assert plan.ticket(OMP, 2).masks.of == pretrained
    assert plan.measured_on_source("at").of == pretrained
    dense = plan.transferred(Transfer("svhn", "at", "dense", 0, 100, "pgd", 0))
    assert dense.start.of == pretrained and isinstance(plan.pretrained["std"], Training)


def test_a_new_head_is_not_measured():
    """Chance is not what the weights are worth."""
    plan = plan_of(public(False), pretrained=["at=weights.pt"])
    assert plan.measured_on_source("at") is None
    shown = plan.shown()["pretrain"]
    assert shown[0].nodes == (plan.pretrained["at"],)  # Files first: they may be unusable.
    assert all(isinstance(each.nodes[0], Measurement) for each in shown[1:])


def test_tickets_are_shown_whether_or_not_they_are_trained_again():
    shown = plan_of(tickets=["at_imp_st", "at_omp"], levels=["0", "3"]).shown()["search"]
    found = [(type(each.nodes[0]), each.labels["method"], each.labels["level"]) for each in shown]
    assert found == [
        (Training, "at_imp_st", 1),
        (Training, "at_imp_st", 2),
        (FoundTicket, "at_imp_st", 3),
        *((FoundTicket, "at_omp", level) for level in (1, 2, 3)),
    ]


def test_a_kind_of_ticket_has_a_name_of_its_own():
    assert TICKETS["fat_imp_at"] == TicketKind("fat", "imp_at") and len(TICKETS) == 12
