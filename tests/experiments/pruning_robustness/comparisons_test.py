"""Which networks are compared, Pearson's r by its formula, and who attacks whom."""

import math

import numpy as np
import pytest

from experiments.pruning_robustness import comparisons, results
from experiments.pruning_robustness.comparisons import clean_and_robust, correlation
from tests.experiments.pruning_robustness.maker import CONTROL, UNPRUNED, cut
from tf_tickets.analysis.measurements import select
from tf_tickets.models.registry import MODELS


def test_only_the_first_removal_is_compared_but_by_iterations(pruned):
    pruned.network(cut("pls"), natural=[0.8, 0.8], fgsm=[0.1, 0.1], level=2)
    pruned.network(cut("l1"), natural=[0.95], level=1)
    group = pruned.group("structures")
    found = comparisons.structure_differences(group)
    assert set(zip(found["key"], found["level"])) == {("control", 0), ("filters", 1)}
    found = comparisons.criterion_differences(group)
    assert set(zip(found["key"], found["level"])) == {("control", 0), ("pls", 1), ("l1", 1)}
    assert sorted(clean_and_robust(group)["level"]) == [1, 1, 2, 2]


def test_differences_to_the_control(pruned):
    group = pruned.group("structures")
    found = comparisons.structure_differences(group, results.CONTROL)
    assert set(found["key"]) == {"filters"}
    values = select(found, attack="natural").set_index("seed")["value"].to_dict()
    assert values == pytest.approx({0: 0.02, 1: -0.02})


def test_ways_to_adjust(networks):
    networks.network(UNPRUNED, natural=[0.5])
    ways = ("fine_tuned", "scratch_1x", "scratch_2x", "winning_ticket", "other")
    for rank, way in enumerate(ways):
        networks.network(cut("l1", adjustment=way), natural=[0.6 + rank / 10], level=1)
    networks.network(cut("pls"), natural=[0.9], level=1)
    found = comparisons.adjustment_differences(networks.group("adjustment", "l1"))
    assert dict(zip(found["key"], found["value"])) == pytest.approx(
        {"fine_tuned": 0.1, "scratch_1x": 0.2, "scratch_2x": 0.3, "winning_ticket": 0.4}
    )


def test_defenses_are_compared_with_natural_training(networks):
    networks.network(UNPRUNED, natural=[0.5], semantic=[0.3])
    networks.network(UNPRUNED, natural=[0.6], semantic=[0.1], regime="cutmix")
    networks.network(UNPRUNED, natural=[0.9], semantic=[0.9], regime="pgd")
    networks.network(cut("pls", "blocks"), natural=[0.7], semantic=[0.3], level=1)
    networks.network(cut("pls", "both"), natural=[0.7], semantic=[0.3], level=1)
    found = comparisons.defense_differences(networks.group("defenses"))
    averages = select(found, attack="semantic_clean_average")
    assert dict(zip(averages["key"], averages["value"])) == pytest.approx(
        {"cutmix": -0.05, "blocks": 0.1}
    )


def test_pearson_by_its_formula(networks):
    clean = [0.90, 0.92, 0.91, 0.95, 0.89]
    robust = [0.30, 0.28, 0.33, 0.35, 0.20]
    for level, (natural, fgsm) in enumerate(zip(clean, robust), start=1):
        networks.network(cut("pls"), natural=[natural], fgsm=[fgsm], level=level)
    # Not of the chain, and without robustness.
    networks.network(UNPRUNED, natural=[0.1], fgsm=[0.9])
    networks.network(cut("pls"), natural=[0.1], level=6)
    found = correlation(clean_and_robust(networks.group("iterations")), "fgsm")
    x, y = (np.array(values) - np.mean(values) for values in (clean, robust))
    r = (x * y).sum() / math.sqrt((x**2).sum() * (y**2).sum())
    assert found.networks == 5 and found.r == pytest.approx(r)
    # t = r √(n - 2) / √(1 - r²) with three degrees of freedom, whose tail has a closed form.
    t = r * math.sqrt(3 / (1 - r**2))
    theta = math.atan(t / math.sqrt(3))
    p_value = 1 - 2 / math.pi * (theta + math.sin(theta) * math.cos(theta))
    assert found.p_value == pytest.approx(p_value)


@pytest.mark.parametrize("robust", [[0.1, 0.2], [0.3, 0.3, 0.3], []])
def test_pearson_undefined(networks, robust):
    networks.network(cut("pls"), natural=[0.9, 0.8, 0.7], fgsm=robust, level=2)
    found = correlation(clean_and_robust(networks.group("iterations")), "fgsm")
    assert np.isnan(found.r) and np.isnan(found.p_value) and found.networks == len(robust)


def test_transfer_has_a_diagonal_of_the_networks_that_take_part(networks):
    networks.network(UNPRUNED, fgsm=[0.2])
    networks.network(cut("pls"), fgsm=[0.3], level=1)
    networks.network(cut("pls"), fgsm=[0.4], level=2)
    networks.network(UNPRUNED, fgsm=[0.5], model="vgg_16")
    # The control has no part in it, nor has what is pruned by another criterion.
    networks.network(CONTROL, fgsm=[0.7])
    networks.network(cut("l1"), fgsm=[0.8], level=1)
    networks.transfer(UNPRUNED, [0.6], made_for=("resnet_56", cut("pls")))
    found = comparisons.transfer_accuracies(networks.group("transfer"))
    assert found.set_index(comparisons.TRANSFER_KEYS)["value"].to_dict() == {
        ("resnet_56", "filters", "resnet_56", "nothing"): 0.6,
        ("resnet_56", "nothing", "resnet_56", "nothing"): 0.2,
        ("resnet_56", "filters", "resnet_56", "filters"): 0.3,
    }


def test_transfer_labels_in_the_papers_order():
    networks = [(model, removed) for model in ("vgg_16", "mobilenet_v2", "resnet_56")
                for removed in ("filters", "nothing")]  # fmt: skip
    assert list(comparisons.transfer_rows(networks).values()) == [
        "ResNet-56", "ResNet-56 + pruning", "MobileNetV2", "MobileNetV2 + pruning", "VGG-16",
        "VGG-16 + pruning",
    ]  # fmt: skip


def test_the_papers_network_of_the_same_family():
    papers = ["resnet_56", "vgg_16"]
    found = {model: comparisons.paper_model(papers, model) for model in MODELS}
    assert {model for model, paper in found.items() if paper == "resnet_56"} == {
        model for model in MODELS if model.startswith("resnet")
    }
    assert {model for model, paper in found.items() if paper not in (None, "resnet_56")} == {
        "vgg_16"
    }
    assert comparisons.paper_model(["resnet_50", "resnet_56"], "resnet_50") == "resnet_50"
    assert comparisons.paper_model(["resnet_56"], "wide_resnet_34_10") is None
