"""What the studies consist of, held against the paper's text."""

import dataclasses

import pytest

from tf_tickets.errors import UserError
from tf_tickets.models.registry import require_image_shape
from tf_tickets.search import boosting
from tf_tickets.search.boosting import BoostingSettings, trainings_of
from tf_tickets.search.recipes import Pruning, Training, in_order, iterative

PAPER = BoostingSettings(
    models=(),
    capacity_models=("wide_resnet_34_1", "wide_resnet_10_10"),
    mnist_models=("lenet_conv", "vgg_16"),
    epochs=100,
    finding_epochs=100,
    learning_rate=0.1,
    finding_learning_rate=0.0,
    finding_learning_rates=(0.005, 0.01, 0.05, 0.1),
    finders=("natural", "fgsm", "pgd"),
    warmup_epochs=10,
    sparsity=0.8,
    sparsities=(0.5, 0.9),
    score="magnitude",
    rounds=3,
)


def by_name(trainings, model=None):
    return {each.method: each for each in trainings if model in (None, each.model)}


def test_a_boosting_ticket_is_found_at_a_small_rate_and_warms_up_from_it():
    for model, rate in (("vgg_16", 0.01), ("resnet_18", 0.05)):
        boosting_ticket = by_name(boosting.existence(PAPER), model)["boosting_100"]
        found_by = boosting_ticket.ticket.of
        assert (found_by.learning_rate, found_by.warmup_start) == (rate, None)
        assert found_by.ticket is None and found_by.epochs == 100 and not found_by.selected
        assert (boosting_ticket.learning_rate, boosting_ticket.warmup_start) == (0.1, rate)
        assert boosting_ticket.ticket.sparsity == 0.8


def test_a_winning_ticket_is_found_at_the_large_rate_with_its_warmup():
    winning = by_name(boosting.existence(PAPER), "vgg_16")["winning_100"]
    assert (winning.ticket.of.learning_rate, winning.ticket.of.warmup_start) == (0.1, 0.01)
    assert dataclasses.replace(winning, method="", ticket=None) == dataclasses.replace(
        by_name(boosting.existence(PAPER), "vgg_16")["boosting_100"], method="", ticket=None
    )


def test_random_networks_have_the_boosting_masks_and_other_weights():
    trainings = by_name(boosting.existence(PAPER), "vgg_16")
    assert trainings["random_100"].ticket == trainings["boosting_100"].ticket
    assert trainings["random_100"].reinitialized
    assert not trainings["boosting_100"].reinitialized


def test_an_iterative_ticket_removes_equal_fractions_a_round():
    repeated = by_name(boosting.existence(PAPER), "vgg_16")["iterative_100"]
    densities, ticket = [], repeated.ticket
    while ticket:
        densities.append(1 - ticket.sparsity)
        ticket = ticket.of.ticket
    assert densities == pytest.approx([0.2, 0.2 ** (2 / 3), 0.2 ** (1 / 3)])
    assert repeated.level == 3
    assert iterative(repeated, 0.5, "magnitude", 1) == Pruning(repeated, 0.5, "magnitude")


def test_lengths_are_percents_of_the_schedule():
    trainings = by_name(boosting.acceleration(PAPER))
    assert {name: each.epochs for name, each in trainings.items()} == {
        "dense_100": 100,
        "fgsm_ticket_40": 40,
        "fgsm_ticket_70": 70,
        "fgsm_ticket_100": 100,
    }
    for each in trainings.values():
        assert (each.model, each.regime) == ("wide_resnet_34_10", "pgd")
        assert each.schedule_epochs == each.epochs and each.selected
    assert trainings["dense_100"].ticket is None
    assert {each.ticket.of.regime for each in trainings.values() if each.ticket} == {"fgsm"}


def test_the_pruning_ratio_study_stops_after_five_epochs_of_the_whole_schedule():
    for each in boosting.pruning_ratio(PAPER):
        assert (each.epochs, each.schedule_epochs) == (5, 100)
    found = {each.ticket.of for each in boosting.pruning_ratio(PAPER)}
    assert len(found) == 2  # One training a model serves all ratios.


def test_all_adversarial_tickets_are_retrained_alike():
    trainings = by_name(boosting.adversarial(PAPER))
    assert {name: each.ticket.of.regime for name, each in trainings.items()} == {
        "natural_ticket_100": "natural",
        "fgsm_ticket_100": "fgsm",
        "pgd_ticket_100": "pgd",
        "fgsm_random_100": "fgsm",
    }
    assert {(each.regime, each.epochs, each.warmup_start) for each in trainings.values()} == {
        ("pgd", 100, 0.01)
    }


def test_the_adversarial_study_can_include_fast_training_which_stops_early():
    settings = dataclasses.replace(PAPER, finders=("fast",))
    trainings = by_name(boosting.adversarial(settings))
    assert set(trainings) == {"fast_ticket_100", "fgsm_random_100"}
    assert trainings["fast_ticket_100"].ticket.of.selected


def test_the_mnist_study_has_no_schedule_anywhere():
    for each in in_order(boosting.mnist(PAPER)):
        assert not each.decayed and each.warmup_start is None


def test_table_5_is_of_early_stopped_networks():
    stopped = {each.method for each in boosting.mnist(PAPER) if each.regime == "natural"}
    assert stopped == {"dense_100", "winning_100", "boosting_100", "random_100"}
    for each in boosting.mnist(PAPER):
        assert each.selected and not (each.ticket and each.ticket.of.selected)


def test_the_original_network_is_trained_as_the_tickets_are():
    trainings = by_name(boosting.existence(PAPER), "vgg_16")
    assert trainings["dense_100"] == dataclasses.replace(
        trainings["boosting_100"], method="dense_100", ticket=None
    )


def test_studies_share_what_is_the_same():
    both = trainings_of(["convergence", "adversarial"], PAPER)
    names = [(each.model, each.method) for each in both]
    assert len(names) == len(set(names))
    assert names.count(("vgg_16", "fgsm_ticket_100")) == 1
    ordered = in_order(both)
    assert len(ordered) == len(set(ordered)) == len(both) + 3  # Three trainings find masks.


def test_nothing_comes_before_its_ticket():
    for study in boosting.STUDIES:
        seen = set()
        for each in in_order(trainings_of([study], PAPER)):
            assert each.ticket is None or each.ticket.of in seen
            seen.add(each)


def test_every_network_can_take_its_images():
    """CIFAR's, and MNIST's padded as the driver pads them."""
    for study in boosting.STUDIES:
        for each in trainings_of([study], PAPER):
            require_image_shape(each.model, (32, 32, 1 if study == "mnist" else 3))


def test_two_trainings_of_one_name_are_refused():
    one = Training("a", "vgg_16", "natural", 1, 1, 0.1)
    with pytest.raises(ValueError, match="two different trainings are called"):
        in_order([one, dataclasses.replace(one, epochs=2)])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"models": ("alexnet",)}, "--models=alexnet: unknown"),
        ({"capacity_models": ("wide_resnet_11_1",)}, "--models=wide_resnet_11_1"),
        ({"epochs": 0}, "--epochs=0: expected at least 1"),
        ({"warmup_epochs": -1}, "--warmup_epochs=-1: expected at least 0"),
        ({"learning_rate": 0.0}, "--learning_rate=0.0: expected above 0"),
        ({"finding_learning_rates": (0.1, -1.0)}, "--finding_learning_rates=-1.0: expected"),
        ({"sparsity": 1.0}, "--sparsity=1.0: expected in [0, 1)"),
        ({"sparsities": (0.5, 1.5)}, "--sparsities=1.5: expected in [0, 1)"),
        ({"score": "luck"}, "--score=luck: expected one or more of magnitude"),
        ({"sparsities": (0.8, 0.80000001)}, "--sparsities=0.8,0.8: expected different numbers"),
        ({"finding_learning_rates": ()}, "--finding_learning_rates=: expected at least one"),
        ({"capacity_models": ("vgg_16",)}, "--capacity_models=vgg_16: expected Wide ResNets"),
        ({"finders": ("dense",)}, "--finders=dense: expected one or more of natural"),
        ({"rounds": 0}, "--rounds=0: expected at least 1"),
    ],
)
def test_refuses_wrong_settings(changes, message):
    with pytest.raises(UserError) as error:
        dataclasses.replace(PAPER, **changes)
    assert message in str(error.value)
