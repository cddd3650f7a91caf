"""Groups, averages and paired differences against what was worked out by hand."""

import math

import numpy as np
import pytest

from experiments.pruning_robustness import results
from experiments.pruning_robustness.results import STUDIES, differences, groups
from tests.experiments.pruning_robustness.maker import UNPRUNED, cut, without
from tf_tickets.analysis.measurements import select
from tf_tickets.errors import UserError


def names(networks, study, criterion="pls"):
    return [group.name for group in groups(networks.frame(), study, criterion)]


def test_a_study_is_of_the_networks_that_have_its_own_methods(networks):
    for model in ("resnet_56", "vgg_16", "resnet_20"):
        networks.network(UNPRUNED, natural=[0.9], model=model)
        networks.network(cut("pls"), natural=[0.9], level=1, model=model)
    networks.network(cut("pls"), natural=[0.9], level=2, model="vgg_16")
    networks.network(cut("l1"), natural=[0.9], level=1, model="resnet_20")
    networks.network(cut("pls", adjustment="scratch_1x"), natural=[0.9], level=1)
    networks.network(UNPRUNED, natural=[0.9], regime="cutmix", model="vgg_16")
    networks.network(without("nothing"), natural=[0.9], model="resnet_20")
    networks.transfer(cut("pls"), [0.5], made_for=("vgg_16", UNPRUNED), level=1)
    found = {study: names(networks, study) for study in STUDIES}
    assert found == {
        "structures": ["cifar10"],
        "iterations": ["cifar10_vgg_16"],
        "criteria": ["cifar10_resnet_20"],
        "single_element": ["cifar10_resnet_20"],
        "adjustment": ["cifar10_resnet_56"],
        "transfer": ["cifar10"],
        "defenses": ["cifar10_vgg_16"],
    }
    # With another criterion, PLS is one of the others.
    assert names(networks, "criteria", "l1") == [
        "cifar10_resnet_20", "cifar10_resnet_56", "cifar10_vgg_16",
    ]  # fmt: skip
    assert names(networks, "iterations", "l1") == []


def test_semantic_is_the_highest_severity(networks):
    for severity, accuracy in ((3, 0.7), (5, 0.4), (4, 0.5)):
        networks.add(UNPRUNED, f"test/semantic_{severity}/accuracy", [accuracy])
    networks.add(UNPRUNED, "test/fog_5/accuracy", [0.1])
    networks.network(cut("l1"), natural=[0.9], level=1)
    group = networks.group("structures", "l1")
    assert group.severity == 5
    assert select(group.rows, attack="semantic")["value"].tolist() == [0.4]


def test_averages_need_all_their_accuracies(networks):
    networks.network(UNPRUNED, [0.2], [0.4], [0.6], [1.0])
    networks.network(cut("l1"), [0.2], [], [0.5], [0.6], level=1)
    found = results.accuracies(networks.group("structures", "l1").rows)
    values = found.set_index(["removed", "attack"])["value"].to_dict()
    assert values == pytest.approx(
        {
            ("nothing", "semantic"): 0.2,
            ("nothing", "occlusion"): 0.4,
            ("nothing", "fgsm"): 0.6,
            ("nothing", "natural"): 1.0,
            ("nothing", "average"): 0.55,
            ("nothing", "attack_average"): 0.4,
            ("nothing", "semantic_clean_average"): 0.6,
            ("filters", "semantic"): 0.2,
            ("filters", "fgsm"): 0.5,
            ("filters", "natural"): 0.6,
            ("filters", "semantic_clean_average"): 0.4,
        }
    )


def test_differences_are_taken_from_the_same_network_and_seed(networks):
    networks.network(UNPRUNED, natural=[0.9, 0.5, 0.7])
    networks.network(UNPRUNED, natural=[0.1, 0.1], model="vgg_16")
    networks.network(UNPRUNED, natural=[0.3, None], regime="mixup")
    # The last seed has no unpruned network.
    networks.network(cut("pls"), natural=[0.91, None, 0.6, 0.9], level=1)
    networks.network(cut("pls"), natural=[0.4], level=1, model="vgg_16")
    found = differences(networks.group("structures").rows)
    values = found.set_index(["model", "removed", "seed"])["value"].to_dict()
    assert values == pytest.approx(
        {
            ("resnet_56", "nothing", 0): -0.6,
            ("resnet_56", "filters", 0): 0.01,
            ("resnet_56", "filters", 2): -0.1,
            ("vgg_16", "filters", 0): 0.3,
        }
    )


def test_what_was_removed(pruned):
    found = results.share_removed(pruned.group("structures").rows, "parameters")
    values = found.set_index(["removed", "seed"])["value"].to_dict()
    assert values == pytest.approx(
        {("nothing", 0): 0, ("nothing", 1): 0, ("filters", 0): 0.12, ("filters", 1): 0.14}
    )


def test_standard_errors(networks):
    # Means 0.02, -0.01 and 0.3; sds √2/100, 0.01 and none; standard errors sd/√n.
    networks.network(cut("pls"), natural=[0.01, 0.03], fgsm=[-0.02, -0.01, 0.0], occlusion=[0.3])
    rows = results.accuracies(networks.group("structures").rows)
    found = results.standard_errors(rows, ["attack"])
    assert found.loc["natural", ["mean", "sd", "errors"]].tolist() == pytest.approx(
        [0.02, math.sqrt(2) / 100, 2.0]
    )
    assert found.loc["fgsm", "errors"] == pytest.approx(-math.sqrt(3))
    assert np.isnan(found.loc["occlusion", "errors"]) and found.loc["occlusion", "count"] == 1


def test_chance_beyond():
    # Student's t in closed form for one and for two degrees of freedom.
    assert results.chance_beyond(2, 2) == pytest.approx(1 - 2 / math.pi * math.atan(2))
    assert results.chance_beyond(2, 3) == pytest.approx(1 - 2 / math.sqrt(2 + 4))


def test_a_run_without_the_labels_is_refused_in_a_line(networks):
    networks.network({}, natural=[0.9])
    with pytest.raises(UserError, match="has no column removed; expected a run") as it:
        networks.frame()
    assert "\n" not in str(it.value) and str(networks.path) in str(it.value)


def test_labels_that_a_network_has_not_are_empty(pruned):
    frame = pruned.frame().drop_duplicates(["criterion", "removed", "adjustment", "element_kind"])
    assert frame[["criterion", "removed", "adjustment", "element_kind"]].to_numpy().tolist() == [
        ["", "nothing", "", ""],
        ["", "nothing", "fine_tuned", ""],
        ["pls", "filters", "fine_tuned", ""],
    ]
