"""The studies as lists of networks: what comes from what."""

import dataclasses

import pytest

from tf_tickets.errors import UserError
from tf_tickets.search import pruning_studies
from tf_tickets.search.pruning_studies import STUDIES, PruningSettings, networks_of
from tf_tickets.search.structures import Network, in_order

SETTINGS = PruningSettings(
    models=(),
    structures=("filters", "blocks", "both"),
    criterion="pls",
    criteria=("l1", "pls"),
    filters=0.1,
    blocks=0.2,
    scope="global",
    criterion_form="code",
    iterations=3,
    epochs=20,
    fine_tuning_epochs=7,
    learning_rate=0.1,
    fine_tuning_learning_rate=0.01,
    rewind_epoch=5,
)


def names(study, **changes):
    networks = STUDIES[study](dataclasses.replace(SETTINGS, **changes))
    return [(each.model, each.method, each.level) for each in in_order(networks)]


def test_structures_are_table_1_and_the_control():
    found = names("structures")
    for model in ("resnet_56", "mobilenet_v2", "vgg_16"):
        mine = [each[1:] for each in found if each[0] == model]
        blocks = [] if model == "vgg_16" else [("pls_blocks", 1), ("pls_both", 1)]
        whole = [("unpruned", 0), ("unpruned_fine_tuned", 0), ("pls_filters", 1)]
        assert mine == whole + blocks


def test_what_is_cut():
    whole, control, filters, blocks, both = in_order(
        STUDIES["structures"](dataclasses.replace(SETTINGS, models=("resnet_20",)))
    )
    assert whole.base is None and whole.cut is None and control.cut is None
    assert (whole.epochs, whole.learning_rate) == (20, 0.1)
    assert (filters.cut.filters, filters.cut.blocks) == (0.1, 0)
    assert (blocks.cut.filters, blocks.cut.blocks) == (0, 0.2)
    assert (both.cut.filters, both.cut.blocks) == (0.1, 0.2)
    for each in (control, filters, blocks, both):
        assert each.base == whole and each.start == "base"
        assert (each.epochs, each.learning_rate) == (7, 0.01)


def test_iterations_cut_what_the_one_before_left():
    last = STUDIES["iterations"](SETTINGS)[-1]
    assert "unpruned_fine_tuned" in [method for _, method, _ in names("iterations")]
    chain = in_order([last])
    assert [each.level for each in chain] == [0, 1, 2, 3]
    assert all(later.base == earlier for earlier, later in zip(chain, chain[1:]))


def test_criteria_differ_in_nothing_else():
    control, one, other = STUDIES["criteria"](SETTINGS)
    assert control == pruning_studies.trained_on(SETTINGS, "resnet_56")
    assert (one.method, other.method) == ("l1_filters", "pls_filters")
    assert one == dataclasses.replace(
        other, method="l1_filters", cut=dataclasses.replace(other.cut, criterion="l1")
    )


def test_adjustments_train_the_same_structure_anew():
    control, fine_tuned, once, twice, ticket = STUDIES["adjustment"](SETTINGS)
    assert control == pruning_studies.trained_on(SETTINGS, "resnet_56")
    assert [each.epochs for each in (fine_tuned, once, twice, ticket)] == [7, 20, 40, 20]
    assert [each.start for each in (fine_tuned, once, twice, ticket)] == [
        *("base", "new", "new", "rewound")
    ]
    assert ticket.rewind_epoch == 5
    assert len({(each.cut, each.base) for each in (fine_tuned, once, twice, ticket)}) == 1
    assert [each.learning_rate for each in (once, twice, ticket)] == [0.1] * 3


def test_defenses_are_trained_like_the_whole_network():
    networks = STUDIES["defenses"](dataclasses.replace(SETTINGS, models=("resnet_20",)))
    assert networks[4] == pruning_studies.trained_on(SETTINGS, "resnet_20")
    whole = [each for each in networks if each.method == "unpruned"]
    assert [each.regime for each in whole] == ["natural", "cutout", "mixup", "cutmix"]
    assert len({dataclasses.replace(each, regime="") for each in whole}) == 1
    assert [each.method for each in networks[5:]] == ["pls_filters", "pls_blocks"]


def test_studies_share_networks_and_the_papers_models_are_the_default():
    alone = [len(networks_of([study], SETTINGS)) for study in ("structures", "criteria")]
    together = networks_of(["structures", "criteria"], SETTINGS)
    assert len(together) == sum(alone) - 2  # ResNet-56: the control, and filters by PLS.
    assert {each.model for each in networks_of(["transfer"], SETTINGS)} == {
        *("resnet_56", "mobilenet_v2")
    }
    assert set(STUDIES) == {
        *("structures", "iterations", "criteria", "single_element"),
        *("adjustment", "transfer", "defenses"),
    }


def test_two_networks_of_one_name_are_refused():
    one = Network("unpruned", "resnet_20", "natural", 3, 0.1)
    with pytest.raises(ValueError, match="two different networks"):
        in_order([one, dataclasses.replace(one, epochs=4)])


@pytest.mark.parametrize(
    "changes",
    [{"filters": 0.0}, {"filters": 1.2}, {"blocks": 0}, {"blocks": 2.5}, {"scope": "some"},
     {"criterion_form": "x"},
     {"criterion": "l2"}, {"criteria": ("pls", "pls")}, {"criteria": ()}, {"epochs": 0},
     {"iterations": 0}, {"fine_tuning_epochs": -1}, {"learning_rate": 0.0},
     {"fine_tuning_learning_rate": float("nan")}, {"structures": ("heads",)},
     {"models": ("lenet_300_100",)}],
)  # fmt: skip
def test_wrong_settings_name_their_flag(changes):
    with pytest.raises(UserError, match=f"--{next(iter(changes))}="):
        dataclasses.replace(SETTINGS, **changes)


def test_only_adjustment_needs_the_epoch_to_rewind_to():
    short = dataclasses.replace(SETTINGS, epochs=3)
    assert pruning_studies.criteria(short)
    with pytest.raises(UserError, match="--rewind_epoch=5: expected 0 to 3, the --epochs"):
        pruning_studies.adjustment(short)
