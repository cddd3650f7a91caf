"""How tickets differ, by hand, and random masks against all masks there are."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from tests.analysis.tickets import random_ticket, ticket
from tf_tickets.analysis.similarity import random_similarity
from tf_tickets.analysis.ticket_comparison import (
    compare_layers,
    compare_tickets,
    expected_similarity,
)
from tf_tickets.masking.ticket import Ticket


def all_masks(size, kept):
    for places in itertools.combinations(range(size), kept):
        mask = np.zeros(size, bool)
        mask[list(places)] = True
        yield mask


def first_of(size, kept):
    return np.arange(size) < kept


def similarity(first, second):
    union = np.sum(first | second)
    return np.sum(first & second) / union if union else 1.0


@pytest.mark.parametrize(
    "layers",
    [
        [(5, 2, 3)],
        [(6, 0, 2)],
        [(4, 4, 1)],
        [(7, 5, 5)],
        [(4, 1, 2), (5, 3, 2)],
        [(3, 2, 1), (3, 0, 2), (4, 3, 2)],
    ],
)
def test_chance_is_the_mean_over_all_masks(layers):
    """Layers of (weights, kept by one mask, kept by the other)."""
    every = [list(all_masks(size, kept)) for size, *both in layers for kept in both]
    found = [
        similarity(np.concatenate(chosen[::2]), np.concatenate(chosen[1::2]))
        for chosen in itertools.product(*every)
    ]
    pairs = [(first_of(n, one), first_of(n, other)) for n, one, other in layers]
    assert expected_similarity(pairs) == pytest.approx(np.mean(found), rel=1e-12)


@pytest.mark.parametrize("size,one,other", [(3_000, 400, 700), (5_000, 4_900, 30), (900, 9, 9)])
def test_chance_of_a_larger_layer_in_whole_numbers(size, one, other):
    """The hypergeometric sum in Python's integers, which do not round."""
    ways = {
        common: math.comb(one, common) * math.comb(size - one, other - common)
        for common in range(max(0, one + other - size), min(one, other) + 1)
    }
    every = math.comb(size, other)
    assert sum(ways.values()) == every
    expected = sum(
        count / every * common / (one + other - common) for common, count in ways.items()
    )
    found = expected_similarity([(first_of(size, one), first_of(size, other))])
    assert found == pytest.approx(expected, rel=1e-9)


def test_chance_of_huge_layers_is_the_ratio_of_the_means():
    sizes, one, other = np.array([2_000_000, 500_000]), np.array([0.3, 0.02]), np.array([0.1, 0.5])
    pairs = [
        (first_of(size, round(d_1 * size)), first_of(size, round(d_2 * size)))
        for size, d_1, d_2 in zip(sizes, one, other)
    ]
    limit = random_similarity(one, other, sizes)
    assert expected_similarity(pairs) == pytest.approx(limit, rel=1e-5)


def test_chance_of_empty_and_full_masks():
    nothing, everything = np.zeros(5, bool), np.ones(5, bool)
    assert expected_similarity([(nothing, nothing)]) == 1
    assert expected_similarity([(everything, everything)]) == pytest.approx(1)
    assert expected_similarity([(everything, nothing)]) == pytest.approx(0)


SMALL = ticket(a=[[1, 0, 0], [0, 0, 1]], b=[1, 0], c=[0, 1, 1])
LARGE = ticket(a=[[1, 1, 0], [0, 1, 1]], b=[1, 0], c=[0, 1, 0])


def test_layers_by_hand():
    rows = compare_layers(SMALL, LARGE).set_index("layer")
    assert list(rows.index) == ["all", "a", "b", "c"]
    assert rows["intersection_over_union"].to_list() == pytest.approx([4 / 7, 0.5, 1, 0.5])
    assert rows["density_1"].to_list() == pytest.approx([5 / 11, 2 / 6, 0.5, 2 / 3])
    assert rows["density_2"].to_list() == pytest.approx([6 / 11, 4 / 6, 0.5, 1 / 3])
    assert rows["nesting"].to_list() == [
        "neither", "first within second", "equal", "second within first",
    ]  # fmt: skip
    # Of a two-weight layer that keeps one, half of the masks are equal, half have nothing common.
    assert rows.loc["b", "chance"] == pytest.approx(0.5)


def test_nesting_of_whole_tickets():
    def nesting(first, second):
        return compare_layers(first, second).loc[0, "nesting"]

    dense = ticket(a=np.ones((2, 3)), b=[1, 1], c=[1, 1, 1])
    assert nesting(SMALL, dense) == "first within second" and SMALL.is_within(dense)
    assert nesting(dense, SMALL) == "second within first"
    assert nesting(SMALL, SMALL) == "equal"


def test_random_tickets_overlap_as_chance_says():
    pairs = [(random_ticket(seed, 0.4), random_ticket(100 + seed, 0.2)) for seed in range(40)]
    rows = [compare_layers(*pair).iloc[0] for pair in pairs]
    measured = np.mean([row["intersection_over_union"] for row in rows])
    assert measured == pytest.approx(np.mean([row["chance"] for row in rows]), rel=0.05)


def with_provenance(found, **changes):
    return Ticket(found.masks, dataclasses.replace(found.provenance, **changes))


def test_provenance():
    versions = {"numpy": "1", "tensorflow": "2"}
    one = with_provenance(SMALL, initial_weights_sha256="abc", versions=versions)
    other = with_provenance(
        LARGE,
        initial_weights_sha256="abc",
        level=2,
        parent_sha256=one.sha256,
        versions=versions | {"numpy": "2", "tf_keras": "3"},
    )
    found = compare_tickets(one, other)
    assert found.same_initial_weights is True and found.parent == "first"
    assert found.differences == {
        "level": (1, 2),
        "parent_sha256": ("", one.sha256),
        "versions.numpy": ("1", "2"),
        "versions.tf_keras": (None, "3"),
    }
    assert compare_tickets(other, one).parent == "second"
    assert compare_tickets(one, one).differences == {}
    assert compare_tickets(one, with_provenance(other, parent_sha256="")).parent == ""
    elsewhere = with_provenance(other, initial_weights_sha256="abd")
    assert compare_tickets(one, elsewhere).same_initial_weights is False
    assert compare_tickets(one, LARGE).same_initial_weights is None
    assert compare_tickets(SMALL, LARGE).same_initial_weights is None
