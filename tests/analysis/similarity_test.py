"""Relative similarity, against sets of weights and against random masks."""

import itertools

import matplotlib.image
import numpy as np
import pytest

from tests.analysis.tickets import random_ticket, save, ticket
from tf_tickets.analysis import similarity
from tf_tickets.analysis.measurements import select
from tf_tickets.analysis.saved_tickets import tickets_in

ONE = ticket(a=[[1, 1, 0, 0], [1, 0, 0, 0]], b=[1, 0])
OTHER = ticket(a=[[1, 0, 1, 0], [1, 0, 0, 1]], b=[0, 1])


def kept(masks, names):
    return {(name, *place) for name in names for place in np.argwhere(masks[name])}


def test_the_formula_on_sets_by_hand():
    rows = similarity.compare(ONE, OTHER).set_index("layer")
    assert list(rows.index) == ["all", "a", "b"]
    # a: common (0, 0) and (1, 0) of five weights; b: nothing of two.
    assert rows["similarity"].to_list() == pytest.approx([2 / 7, 2 / 5, 0])
    assert rows.loc["all", ["weights", "density_1", "density_2"]].to_list() == [10, 0.4, 0.5]
    # d₁ d₂ / (d₁ + d₂ − d₁ d₂): 0.2 / 0.7 overall, (3/16) / (11/16) in a, (1/4) / (3/4) in b.
    assert rows["random"].to_list() == pytest.approx([2 / 7, 3 / 11, 1 / 3])
    # Expected in common 1.5 and 0.5 weights, of 7 + 2 − 2 in the union.
    assert rows["random_layerwise"].to_list() == pytest.approx([2 / 7, 3 / 11, 1 / 3])


@pytest.mark.parametrize("densities", [(0.3, 0.3), (0.9, 0.1), (1, 0.5)])
def test_against_sets(densities):
    first, second = (random_ticket(seed, density) for seed, density in enumerate(densities))
    rows = similarity.compare(first, second)
    for row in rows.itertuples():
        names = list(first.masks) if row.layer == similarity.EVERY_LAYER else [row.layer]
        a, b = kept(first.masks, names), kept(second.masks, names)
        assert row.similarity == pytest.approx(len(a & b) / len(a | b))
        assert row.density_1 * row.weights == pytest.approx(len(a))


def test_what_random_masks_come_to():
    """The mean over random masks of two layers, one three times as dense as the other."""
    random = np.random.default_rng(0)
    sizes, counts = (600, 1200), ((180, 120), (300, 60))  # Weights kept, by mask and layer.

    def masks(of_mask):
        return {
            name: random.permutation(size) < count
            for name, size, count in zip("ab", sizes, of_mask)
        }

    layered, shuffled = [], []
    for _ in range(200):
        first, second = (masks(of_mask) for of_mask in counts)
        layered.append(similarity.compare(ticket(**first), ticket(**second)).iloc[0])
        flat = [random.permutation(np.concatenate(list(each.values()))) for each in (first, second)]
        common, union = np.sum(flat[0] & flat[1]), np.sum(flat[0] | flat[1])
        shuffled.append(common / union)
    measured = np.mean([row["similarity"] for row in layered])
    assert measured == pytest.approx(layered[0]["random_layerwise"], rel=0.02)
    assert np.mean(shuffled) == pytest.approx(layered[0]["random"], rel=0.02)
    assert layered[0]["random_layerwise"] > 1.2 * layered[0]["random"]


def test_empty_masks_are_alike():
    nothing = ticket(a=[0, 0], b=[0])
    rows = similarity.compare(nothing, nothing)
    assert (rows[["similarity", "random", "random_layerwise"]] == 1).all(axis=None)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="cover different weights"):
        similarity.compare(ONE, ticket(a=[1, 0]))


@pytest.fixture
def run(tmp_path):
    """Two methods with two seeds, three levels."""
    for method, seed, level in itertools.product(("std", "at"), (0, 1), (0, 1, 2)):
        found = random_ticket(10 * level + 2 * seed + (method == "at"), 0.8**level)
        save(tmp_path, f"mnist/resnet_20/natural/{method}/seed_{seed}", level, found)
    return tickets_in(tmp_path)


def test_a_run_is_compared_at_equal_level(run):
    rows = select(similarity.similarity_curves(run), layer="all")
    pairs = set(zip(rows["first"], rows["seed_1"], rows["second"], rows["seed_2"]))
    assert pairs == {
        ("at", 0, "at", 1),
        ("at", 0, "std", 0),
        ("at", 1, "std", 1),
        ("std", 0, "std", 1),
    }
    assert len(rows) == 3 * len(pairs)
    row = select(rows, first="at", second="std", seed_1=1, level=2).iloc[0]
    expected = random_ticket(23, 0.64).intersection_over_union(random_ticket(22, 0.64))
    assert row["similarity"] == pytest.approx(expected)
    densities = random_ticket(23, 0.64).density, random_ticket(22, 0.64).density
    assert row["sparsity"] == pytest.approx(1 - np.mean(densities))


def test_pictures(run, tmp_path):
    rows = similarity.similarity_curves(run)
    path = similarity.draw_similarity_curves(rows, "ResNet", tmp_path / "curves.png")
    assert matplotlib.image.imread(path).std() > 0.05
    tickets = {"one": ONE, "other": OTHER, "third": OTHER}
    rows = similarity.similarity_matrix(tickets)
    assert list(zip(rows["first"], rows["second"]))[::3] == [
        ("one", "other"),
        ("one", "third"),
        ("other", "third"),
    ]
    path = similarity.draw_similarity_matrix(rows, list(tickets), tmp_path / "matrix.png")
    assert matplotlib.image.imread(path).std() > 0.05


def test_many_searches_get_a_panel_each(tmp_path):
    for number in range(6):
        save(tmp_path, f"mnist/natural/m{number}/seed_0", 1, random_ticket(number))
    rows = similarity.similarity_curves(tickets_in(tmp_path))
    few = select(rows, first="m0")
    sizes = [
        matplotlib.image.imread(similarity.draw_similarity_curves(shown, "", tmp_path / "a.png"))
        for shown in (rows, few)
    ]
    assert sizes[0].shape[0] > 1.5 * sizes[1].shape[0]
