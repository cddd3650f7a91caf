"""Groups, averages and paired differences against what was worked out by hand."""

import math

import numpy as np
import pytest

from experiments.pruning_robustness import results
from experiments.pruning_robustness.results import STUDIES, differences, groups
from tf_tickets.analysis.measurements import select


def names(networks, study, criterion="pls"):
    return [group.name for group in groups(networks.frame(), study, criterion)]


def test_a_study_is_of_the_networks_that_have_its_own_methods(networks):
    for model in ("resnet_56", "vgg_16", "resnet_20"):
        networks.network("unpruned", natural=[0.9], model=model)
        networks.network("pls_filters", natural=[0.9], level=1, model=model)
    networks.network("pls_filters", natural=[0.9], level=2, model="vgg_16")
    networks.network("l1_filters", natural=[0.9], level=1, model="resnet_20")
    networks.network("pls_filters_scratch_1x", natural=[0.9], level=1)
    networks.network("unpruned", natural=[0.9], regime="cutmix", model="vgg_16")
    networks.network("without:nothing", natural=[0.9], model="resnet_20")
    networks.add("pls_filters", "test/transfer_from_vgg_16.unpruned/accuracy", [0.5], level=1)
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
    for severity, accuracy in ((4, 0.7), (10, 0.4), (9, 0.5)):
        networks.add("unpruned", f"test/semantic_{severity}/accuracy", [accuracy])
    networks.add("unpruned", "test/fog_12/accuracy", [0.1])
    networks.network("l1_filters", natural=[0.9], level=1)
    group = networks.group("structures", "l1")
    assert group.severity == 10
    assert select(group.rows, attack="semantic")["value"].tolist() == [0.4]


def test_averages_need_all_their_accuracies(networks):
    networks.network("unpruned", [0.2], [0.4], [0.6], [1.0])
    networks.network("l1_filters", [0.2], [], [0.5], [0.6], level=1)
    found = results.accuracies(networks.group("structures", "l1").rows)
    values = found.set_index(["method", "attack"])["value"].to_dict()
    assert values == pytest.approx(
        {
            ("unpruned", "semantic"): 0.2,
            ("unpruned", "occlusion"): 0.4,
            ("unpruned", "fgsm"): 0.6,
            ("unpruned", "natural"): 1.0,
            ("unpruned", "average"): 0.55,
            ("unpruned", "attack_average"): 0.4,
            ("unpruned", "semantic_clean_average"): 0.6,
            ("l1_filters", "semantic"): 0.2,
            ("l1_filters", "fgsm"): 0.5,
            ("l1_filters", "natural"): 0.6,
            ("l1_filters", "semantic_clean_average"): 0.4,
        }
    )


def test_differences_are_taken_from_the_same_network_and_seed(networks):
    networks.network("unpruned", natural=[0.9, 0.5, 0.7])
    networks.network("unpruned", natural=[0.1, 0.1], model="vgg_16")
    networks.network("unpruned", natural=[0.3, None], regime="mixup")
    # The last seed has no unpruned network.
    networks.network("pls_filters", natural=[0.91, None, 0.6, 0.9], level=1)
    networks.network("pls_filters", natural=[0.4], level=1, model="vgg_16")
    found = differences(networks.group("structures").rows)
    values = found.set_index(["model", "method", "seed"])["value"].to_dict()
    assert values == pytest.approx(
        {
            ("resnet_56", "unpruned", 0): -0.6,
            ("resnet_56", "pls_filters", 0): 0.01,
            ("resnet_56", "pls_filters", 2): -0.1,
            ("vgg_16", "pls_filters", 0): 0.3,
        }
    )


def test_what_was_removed(pruned):
    found = results.removed(pruned.group("structures").rows, "parameters")
    values = found.set_index(["method", "seed"])["value"].to_dict()
    assert values == pytest.approx(
        {("unpruned", 0): 0, ("unpruned", 1): 0, ("pls_filters", 0): 0.12, ("pls_filters", 1): 0.14}
    )


def test_standard_errors(networks):
    # Means 0.02, -0.01 and 0.3; sds √2/100, 0.01 and none; standard errors sd/√n.
    networks.network("pls_filters", natural=[0.01, 0.03], fgsm=[-0.02, -0.01, 0.0], occlusion=[0.3])
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
