"""The studies as plans: what comes from what, what it is called, and how many there are."""

import collections
import dataclasses

import pytest

from experiments.pruning_robustness.network_tests import NetworkTests
from experiments.pruning_robustness.plan import STUDIES, Studies
from experiments.pruning_robustness.settings import PruningSettings
from tf_tickets.attacks.threat_model import fgsm
from tf_tickets.errors import UserError
from tf_tickets.image_work.structure_nodes import (
    Corruptions,
    MixedCorruptions,
    Occlusion,
    Shifted,
    SingleElements,
    Size,
)
from tf_tickets.work.nodes import (
    Attack,
    Cut,
    Data,
    Fresh,
    Inherited,
    Measurement,
    Network,
    Platform,
    Recipe,
    Training,
    in_order,
)
from tf_tickets.work.view import label_names

LABELS = ("criterion", "removed", "adjustment")
FGSM = Attack("fgsm", fgsm(8 / 255))
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
    scoring_examples=5000,
)
# CIFAR-10: 352 steps an epoch.
DATA = Data("cifar10", "tfds", "0" * 64, 3, train=45_000, validation=5_000, test=10_000)
PLAN = Studies(
    SETTINGS,
    NetworkTests(FGSM, (3, 5), 16, 0, 200),
    image_shape=(32, 32, 3),
    classes=10,
    width_multiplier=1.0,
    data=DATA,
    recipe=Recipe(128, "sgd", "mixed", weight_decay=1e-4),
    platform=Platform(1, 1, ()),
)


def plan(**changes):
    return dataclasses.replace(PLAN, settings=dataclasses.replace(SETTINGS, **changes))


SMALL = plan(models=("resnet_20",))


def names(study, of=PLAN):
    labels = [each.labels for each in of.trainings_of([study])]
    return [(each["model"], each["method"], each["level"]) for each in labels]


def test_structures_are_table_1_and_the_control():
    found = names("structures")
    for model in ("resnet_56", "mobilenet_v2", "vgg_16"):
        mine = [each[1:] for each in found if each[0] == model]
        blocks = [] if model == "vgg_16" else [("pls_blocks", 1), ("pls_both", 1)]
        whole = [("unpruned", 0), ("unpruned_fine_tuned", 0), ("pls_filters", 1)]
        assert mine == whole + blocks


def test_a_whole_network():
    whole = PLAN.unpruned("resnet_56")
    assert whole.network == Network("resnet_56", (32, 32, 3), 10, 1.0)
    assert (whole.start, whole.seed, whole.stream) == (Fresh(3), 3, 0)
    assert (whole.masks, whole.masked, whole.selections, whole.keeps) == (None, "nothing", (), ())
    assert (whole.iterations, whole.evaluate_every) == (20 * 352, 352)
    # The rate falls at a half and at three quarters.
    rates = [float(whole.rates(at, 1)[0]) for at in (3519, 3520, 5280)]
    assert rates == pytest.approx([0.1, 0.01, 0.001])
    assert whole.labels == {
        "data_set": "cifar10",
        "model": "resnet_56",
        "regime": "natural",
        "method": "unpruned",
        "seed": 3,
        "level": 0,
        "criterion": None,
        "removed": "nothing",
        "adjustment": None,
    }


def name_of(labels):
    """The method that labels stand for."""
    if labels["removed"] == "nothing":
        assert labels["criterion"] is None
        return {None: "unpruned", "fine_tuned": "unpruned_fine_tuned"}[labels["adjustment"]]
    name = f"{labels['criterion']}_{labels['removed']}"
    return name if labels["adjustment"] == "fine_tuned" else f"{name}_{labels['adjustment']}"


def test_labels_say_what_names_say():
    trainings = SMALL.trainings_of(STUDIES)
    assert [name_of(each.labels) for each in trainings] == [
        each.labels["method"] for each in trainings
    ]
    for each in trainings:
        is_cut = isinstance(each.network, Cut)
        assert each.labels["criterion"] == (each.network.choice.criterion if is_cut else None)
    said = {tuple(each.labels[name] for name in LABELS) for each in trainings}
    # Levels and regimes are told apart by columns that all results have.
    assert len(said) == 2 + 3 + 1 + 3
    for shown in SMALL.shown(STUDIES):
        assert {id(node.labels) for node in shown.nodes} == {id(shown.of.labels)}


def test_labels_are_columns_of_the_results():
    assert {*label_names(SMALL.shown(["structures"]))} == {*LABELS}
    assert label_names(SMALL.shown(["single_element"])) == ["removed"]


def test_what_is_shown_apart_has_a_name_of_its_own():
    shown = SMALL.shown(["single_element", "transfer"])
    layers = [f"stage_{stage}.block_{block}.conv_1" for stage in (1, 2, 3) for block in (1, 2, 3)]
    assert [each.record for each in shown] == [
        *([None] * 2), *(f"without_{layer}" for layer in (*layers, "blocks")), *["transfer"] * 2,
    ]  # fmt: skip
    assert [each.nodes for each in shown[:2]] == [
        SMALL.tests.of(training) for training in SMALL.study("transfer")
    ]


def test_what_is_cut():
    whole, control, filters, blocks, both = SMALL.trainings_of(["structures"])
    for each in (control, filters, blocks, both):
        assert each.start == Inherited(whole)
        assert (each.iterations, each.rates.learning_rate) == (7 * 352, 0.01)
        assert each.stream == each.labels["level"] == (each is not control)
    assert control.network == whole.network
    cuts = [each.network for each in (filters, blocks, both)]
    assert {(each.of, each.examples, each.seed) for each in cuts} == {(whole, 5000, 3)}
    assert [(each.choice.filters, each.choice.blocks) for each in cuts] == [
        *((0.1, 0), (0, 0.2), (0.1, 0.2))
    ]
    assert all(each.choice.free_convolutions_only for each in cuts)


def test_iterations_cut_what_the_one_before_left():
    *_, last = PLAN.study("iterations")
    assert ("resnet_56", "unpruned_fine_tuned", 0) in names("iterations")
    chain = [node for node in in_order([last]) if isinstance(node, Training)]
    assert [each.labels["level"] for each in chain] == [each.stream for each in chain]
    assert [each.stream for each in chain] == [0, 1, 2, 3]
    for earlier, later in zip(chain, chain[1:]):
        assert later.network.of == earlier and later.start == Inherited(earlier)
    assert last.network.whole == chain[0].network == last.whole_network


def test_criteria_differ_in_nothing_else():
    control, one, other = PLAN.study("criteria")
    assert control == PLAN.trained_on("resnet_56")
    assert (one.labels["method"], other.labels["method"]) == ("l1_filters", "pls_filters")
    choice = dataclasses.replace(other.network.choice, criterion="l1")
    assert one == dataclasses.replace(
        other, network=dataclasses.replace(other.network, choice=choice)
    )


def test_adjustments_train_the_same_structure_anew():
    control, fine_tuned, once, twice, ticket = PLAN.study("adjustment")
    whole = PLAN.unpruned("resnet_56")
    assert control == PLAN.trained_on("resnet_56")
    every = (fine_tuned, once, twice, ticket)
    assert [each.iterations // 352 for each in every] == [7, 20, 40, 20]
    assert [each.rates.epochs for each in every] == [7, 20, 40, 20]
    assert [each.start for each in every] == [
        Inherited(whole),
        Fresh(1_000_003),
        Fresh(1_000_003),
        Inherited(whole, 5 * 352),
    ]
    assert len({each.network for each in every}) == 1
    assert [each.rates.learning_rate for each in (once, twice, ticket)] == [0.1] * 3
    assert [each.labels["method"] for each in (once, twice, ticket)] == [
        f"pls_filters_{way}" for way in ("scratch_1x", "scratch_2x", "winning_ticket")
    ]


def test_their_cut_is_chosen_once_and_the_whole_network_keeps_what_tickets_start_from():
    nodes = in_order(PLAN.study("adjustment"))
    (cut,) = [node for node in nodes if isinstance(node, Cut)]
    (whole,) = [node for node in nodes if node == cut.of]
    assert whole.keeps == (5 * 352,)


def test_tickets_of_the_beginning_start_from_the_initial_weights():
    *_, ticket = plan(rewind_epoch=0).study("adjustment")
    assert ticket.start == Fresh(3)


def test_defenses_are_trained_like_the_whole_network():
    trainings = SMALL.study("defenses")
    assert trainings[4] == SMALL.trained_on("resnet_20")
    whole = [each for each in trainings if each.labels["method"] == "unpruned"]
    assert [each.against for each in whole] == ["natural", "cutout", "mixup", "cutmix"]
    assert [each.labels["regime"] for each in whole] == [each.against for each in whole]
    assert len({dataclasses.replace(each, against="") for each in whole}) == 1
    assert [each.labels["method"] for each in trainings[5:]] == ["pls_filters", "pls_blocks"]


def test_studies_share_networks_and_the_papers_models_are_the_default():
    alone = [len(PLAN.trainings_of([study])) for study in ("structures", "criteria")]
    together = PLAN.trainings_of(["structures", "criteria"])
    # ResNet-56: whole, the control, and filters by PLS.
    assert len(together) == len(set(together)) == sum(alone) - 3
    models = {each.whole_network.name for each in PLAN.trainings_of(["transfer"])}
    assert models == {"resnet_56", "mobilenet_v2"}
    assert {each[0] for each in names("defenses")} == {"resnet_50"}


def test_all_of_the_paper():
    """Trainings, and cuts, of all seven studies with six criteria and ten iterations."""
    criteria = ("l1", "expected_abs", "hrank", "kl", "pls", "random")
    trainings = plan(criteria=criteria, iterations=10).trainings_of(STUDIES)
    # ResNet-56 has 2 and 2 + 1 of structures, 9, 5 and 3 more; MobileNet 5; VGG 3; ResNet-50 7.
    assert len(trainings) == 22 + 5 + 3 + 7
    nodes = collections.Counter(type(node) for node in in_order(trainings))
    # One fewer for each way of adjustment, as it has the cut of fine-tuning.
    assert nodes == {Training: 37, Cut: 22 - 2 - 3 + 5 - 2 + 1 + 2}


def test_what_every_network_meets():
    training = PLAN.pruned("resnet_56", "filters")
    size, attacked, occluded, *corrupted = PLAN.tests.of(training)
    assert size == Size(training)
    assert attacked == Measurement(training, (FGSM,))
    assert occluded == Shifted(training, Occlusion(16))
    assert corrupted == [Shifted(training, Corruptions(severity)) for severity in (3, 5)]
    assert {id(node.labels) for node in PLAN.tests.of(training)} == {id(training.labels)}


def test_single_elements_are_a_measurement_a_layer():
    found = SMALL.tests.without_elements(SMALL.unpruned("resnet_20"))
    assert {node.of for node in found} == {SMALL.unpruned("resnet_20")}
    layers = [f"stage_{stage}/block_{block}/conv_1" for stage in (1, 2, 3) for block in (1, 2, 3)]
    assert [node.group for node in found] == [*layers, ""]
    # Filters, and the blocks but the first of each stage.
    assert [node.elements for node in found] == [16] * 3 + [32] * 3 + [64] * 3 + [6]
    shifts = (Occlusion(16), MixedCorruptions(5))
    assert found[0] == SingleElements(
        SMALL.unpruned("resnet_20"), layers[0], (FGSM,), shifts, 0, 200
    )


def test_transfer_is_from_each_network_to_each_other():
    found = PLAN.tests.transferred(PLAN.study("transfer"))
    trainings = PLAN.study("transfer")
    assert [node.of for node in found] == trainings and len(trainings) == 4
    for node in found:
        assert {source for source, _ in node.transferred} == {*trainings} - {node.of}
        assert not node.attacks and {attack.threat for _, attack in node.transferred} == {
            FGSM.threat
        }
    assert [attack.name for _, attack in found[0].transferred] == [
        "transfer_from_resnet_56.pls_filters",
        "transfer_from_mobilenet_v2.unpruned",
        "transfer_from_mobilenet_v2.pls_filters",
    ]


def test_two_trainings_of_one_name_are_refused(monkeypatch):
    one = SMALL.unpruned("resnet_20")
    both = [one, dataclasses.replace(one, iterations=4)]
    monkeypatch.setitem(STUDIES, "structures", lambda plan, model: both)
    with pytest.raises(ValueError, match="two different trainings"):
        SMALL.trainings_of(["structures"])


@pytest.mark.parametrize(
    "changes",
    [{"filters": 0.0}, {"filters": 1.2}, {"blocks": 0}, {"blocks": 2.5}, {"scope": "some"},
     {"criterion_form": "x"},
     {"criterion": "l2"}, {"criteria": ("pls", "pls")}, {"criteria": ()}, {"epochs": 0},
     {"iterations": 0}, {"fine_tuning_epochs": -1}, {"learning_rate": 0.0},
     {"fine_tuning_learning_rate": float("nan")}, {"structures": ("heads",)},
     {"models": ("lenet_300_100",)}, {"scoring_examples": 1}],
)  # fmt: skip
def test_wrong_settings_name_their_flag(changes):
    with pytest.raises(UserError, match=f"--{next(iter(changes))}="):
        dataclasses.replace(SETTINGS, **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"scoring_examples": 45_001}, "--scoring_examples=45001: expected at most 45000"),
        ({"blocks": 4}, "--blocks=4: expected at most 3"),
        ({"filters": 0.001, "scope": "layerwise"}, "--filters=0.001: expected more"),
        # Each cut alone is possible, but not four.
        ({"filters": 0.85, "iterations": 4, "scope": "layerwise"}, "--filters=0.85: expected"),
    ],
)
def test_what_the_data_and_networks_do_not_have(changes, message):
    wrong = plan(models=("resnet_20",), **changes)
    study = "iterations" if "iterations" in changes else "structures"
    with pytest.raises(UserError, match=message):
        wrong.require_usable(wrong.trainings_of([study]), 10_000)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"element_examples": 10_001}, "--element_examples=10001: expected at most 10000"),
        ({"occlusion_side": 33}, "--occlusion_side=33: expected at most 32"),
    ],
)
def test_tests_that_the_data_do_not_suffice_for(changes, message):
    tests = dataclasses.replace(PLAN.tests, **changes)
    wrong = dataclasses.replace(SMALL, tests=tests)
    with pytest.raises(UserError, match=message):
        wrong.require_usable([wrong.unpruned("resnet_20")], 10_000)


@pytest.mark.parametrize(
    "changes", [{"severities": (6,)}, {"occlusion_side": 0}, {"element_examples": -1}]
)
def test_wrong_tests_name_their_flag(changes):
    with pytest.raises(UserError, match=f"--{next(iter(changes))}="):
        dataclasses.replace(PLAN.tests, **changes)


def test_only_adjustment_needs_the_epoch_to_rewind_to():
    short = dataclasses.replace(SETTINGS, epochs=3)
    short.require_studies(["criteria", "structures"])
    with pytest.raises(UserError, match="--rewind_epoch=5: expected 0 to 3, the --epochs"):
        short.require_studies(["criteria", "adjustment"])
