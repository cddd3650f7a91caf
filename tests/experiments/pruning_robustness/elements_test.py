"""Algorithm 2 against its own loops over whole numbers of images."""

import numpy as np
import pytest

from experiments.pruning_robustness.elements import single_elements
from tests.experiments.pruning_robustness.maker import without
from tf_tickets.analysis.measurements import select

IMAGES = 200  # A drop of one percentage point is two images.


def algorithm_2(whole, elements, attack, drop):
    """|L_i| in numbers of images; `elements` are dicts attack → count like `whole`."""
    chosen = []
    for element in elements:
        sigma = 100 * whole["natural"] - drop * IMAGES
        if element[attack] > whole[attack] and 100 * element["natural"] > sigma:
            chosen.append(element)
    return len(chosen)


def record(networks, labels, counts, dtype=float):
    shares = {attack: [float(dtype(count / IMAGES))] for attack, count in counts.items()}
    networks.network(labels, **shares)


@pytest.mark.parametrize("dtype", [float, np.float32])
def test_as_algorithm_2_in_whole_images(networks, dtype):
    whole = {"natural": 178, "semantic": 82, "occlusion": 82, "fgsm": 51}
    random = np.random.default_rng(0)
    # So close that many are exactly as good as the whole network, or whole points less.
    elements = [
        {attack: count + int(random.integers(-12 if attack == "natural" else -2, 4))
         for attack, count in whole.items()}
        for _ in range(340)
    ]  # fmt: skip
    filters, blocks = elements[:300], elements[300:]
    record(networks, without("nothing"), whole, dtype)
    for index, element in enumerate(filters):
        record(networks, without("filters", f"conv_{index % 3}", index // 3), element, dtype)
    for index, element in enumerate(blocks):
        record(networks, without("blocks", f"block_{index}"), element, dtype)
    shares = single_elements(networks.group("single_element").rows)
    assert len(shares) == 2 * 3 * 6
    for kind, elements in (("filters", filters), ("blocks", blocks)):
        for attack in ("semantic", "occlusion", "fgsm"):
            found = select(shares, element_kind=kind, attack=attack).set_index("drop")
            expected = [algorithm_2(whole, elements, attack, drop) for drop in range(6)]
            assert found["count"].tolist() == expected
            assert len(set(expected)) > 3
            assert (found["value"] == found["count"] / len(elements)).all()


def test_an_exact_drop_does_not_count(networks):
    # 0.9 - 0.01 is 0.89, but not in floating point: 0.89 > 0.9 - 0.01 would be true or false
    # by chance.
    exact = [(share / 100, (share - drop) / 100, drop) for share in (90, 57, 29) for drop in (1, 3)]
    for whole, lacking, drop in exact:
        networks.rows.clear()
        networks.network(without("nothing"), natural=[whole], fgsm=[0.2])
        networks.network(without("filters", "conv", 0), natural=[lacking], fgsm=[0.3])
        shares = single_elements(networks.group("single_element").rows)
        counts = select(shares, attack="fgsm").set_index("drop")["count"].to_dict()
        assert counts == {i: int(i > drop) for i in range(6)}


def test_the_same_accuracy_is_no_gain_and_l_0_needs_one(networks):
    networks.network(without("nothing"), natural=[0.9], fgsm=[0.2], occlusion=[0.3])
    networks.network(without("filters", "conv", 0), natural=[0.9], fgsm=[0.3], occlusion=[0.3])
    networks.network(without("filters", "conv", 1), natural=[0.905], fgsm=[0.205], occlusion=[0.29])
    shares = single_elements(networks.group("single_element").rows)
    counts = shares.pivot(index="drop", columns="attack", values="count")
    assert counts["fgsm"].tolist() == [1, 2, 2, 2, 2, 2]
    assert counts["occlusion"].tolist() == [0] * 6


def test_seeds_have_their_own_whole_networks_and_measured_elements(networks):
    # The third seed has no whole network.
    networks.network(without("nothing"), natural=[0.9, 0.5], fgsm=[0.2, 0.4])
    networks.network(without("filters", "conv", 0), natural=[0.9, 0.6, 0.9], fgsm=[0.3, 0.3, 0.9])
    networks.network(without("filters", "conv", 1), natural=[0.9, 0.6], fgsm=[None, 0.5])
    shares = single_elements(networks.group("single_element").rows)
    found = select(shares, drop=5).set_index("seed")[["count", "elements", "value"]]
    assert found.loc[0].tolist() == [1, 1, 1.0] and found.loc[1].tolist() == [1, 2, 0.5]
    assert len(found) == 2


def test_nothing_to_compare_with(networks):
    networks.network(without("filters", "conv", 0), natural=[0.9], fgsm=[0.3])
    assert single_elements(networks.group("single_element").rows).empty
