"""Which weights a round keeps, and how many."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tf_tickets.masking.magnitude import counts_after_round, counts_at_level, select
from tf_tickets.masking.ticket import Provenance, Ticket

PROVENANCE = Provenance("original", "tiny", {}, "none", 0, 0, "", "", {})
LENET = {"hidden_1/kernel": (784, 300), "hidden_2/kernel": (300, 100), "logits/kernel": (100, 10)}
LENET_RATES = {"hidden_1/kernel": 0.2, "hidden_2/kernel": 0.2, "logits/kernel": 0.1}


def make_ticket(**masks):
    return Ticket({name: np.asarray(mask, bool) for name, mask in masks.items()}, PROVENANCE)


def brute_force(scores, mask, keep):
    """Sorts (score descending, position) in plain Python."""
    candidates = [(-float(scores[index]), index) for index in np.ndindex(mask.shape) if mask[index]]
    kept = {index for _, index in sorted(candidates)[:keep]}
    return [index in kept for index in np.ndindex(mask.shape)]


def test_a_selection_by_hand():
    ticket = make_ticket(a=[[1, 1, 0], [1, 0, 1]], b=[1, 1, 1])
    scores = {"a": np.array([[0.3, 0.1, 9.0], [0.2, 9.0, 0.4]]), "b": np.array([-3.0, -1.0, -2.0])}
    masks = select(scores, ticket, {"a": 2, "b": 1})
    assert masks["a"].tolist() == [[True, False, False], [False, False, True]]
    assert masks["b"].tolist() == [False, True, False]
    assert masks["a"].dtype == bool


def test_ties_go_to_the_earlier_weight():
    ticket = make_ticket(a=[[0, 1, 1], [1, 1, 1]])
    scores = {"a": np.array([[5.0, 1.0, 1.0], [2.0, 1.0, 1.0]])}
    masks = select(scores, ticket, {"a": 3})
    assert masks["a"].tolist() == [[False, True, True], [True, False, False]]


@pytest.mark.parametrize("seed", range(20))
def test_it_is_a_brute_force_sort(seed):
    generator = np.random.default_rng(seed)
    shapes = {"a": (6, 7), "b": (3, 3, 2, 4), "c": (5,)}
    masks = {path: generator.random(shape) < 0.6 for path, shape in shapes.items()}
    ticket = Ticket(masks, PROVENANCE)
    # Few different scores, so that most are tied.
    scores = {path: generator.integers(-3, 3, shape) / 4 for path, shape in shapes.items()}
    keep = {path: int(generator.integers(0, mask.sum() + 1)) for path, mask in masks.items()}
    selected = select(scores, ticket, keep)
    assert list(selected) == list(shapes)
    for path, mask in masks.items():
        assert selected[path].shape == mask.shape
        assert selected[path].ravel().tolist() == brute_force(scores[path], mask, keep[path])


def test_all_or_nothing_can_be_kept():
    ticket = make_ticket(a=[1, 0, 1])
    scores = {"a": np.array([1.0, 2.0, 3.0])}
    assert select(scores, ticket, {"a": 2})["a"].tolist() == [True, False, True]
    assert select(scores, ticket, {"a": 0})["a"].tolist() == [False, False, False]


def test_more_than_remain_is_refused():
    ticket = make_ticket(a=[1, 0, 1], b=[1])
    with pytest.raises(ValueError, match="keep 3 of 2"):
        select({"a": np.ones(3), "b": np.ones(1)}, ticket, {"a": 3, "b": 1})


def test_the_given_arrays_are_left_alone():
    ticket = make_ticket(a=[1, 1, 1])
    scores = {"a": np.array([1.0, 3.0, 2.0])}
    select(scores, ticket, {"a": 1})
    assert scores["a"].tolist() == [1.0, 3.0, 2.0] and ticket.density == 1.0


def test_a_missing_layer_is_refused():
    ticket = make_ticket(a=[1], b=[1])
    with pytest.raises(KeyError):
        select({"a": np.ones(1)}, ticket, {"a": 1, "b": 1})
    with pytest.raises(KeyError):
        select({"a": np.ones(1), "b": np.ones(1)}, ticket, {"a": 1})
    with pytest.raises(KeyError):
        counts_after_round(ticket, {"a": 0.2})


@pytest.mark.parametrize(
    "remaining, rate, kept",
    [
        (10, 0.2, 8),
        (12, 0.2, 10),  # 2.4 → 2
        (13, 0.2, 10),  # 2.6 → 3
        (5, 0.5, 2),  # 2.5 → 3: halves up,
        (3, 0.5, 1),  # 1.5 → 2, not to the even number.
        (1, 0.2, 1),
        (1, 0.5, 0),
        (2, 0.2, 2),
        (7, 0.0, 7),
        (0, 0.2, 0),
        (235_200, 0.2, 188_160),
    ],
)
def test_counts_of_a_round_by_hand(remaining, rate, kept):
    mask = np.zeros(remaining + 3, bool)
    mask[3:] = True
    assert counts_after_round(make_ticket(a=mask), {"a": rate}) == {"a": kept}
    assert counts_at_level({"a": (remaining, 1)}, {"a": rate}, 1) == {"a": kept}


def test_layers_have_rates_of_their_own():
    ticket = make_ticket(a=np.ones((4, 5)), b=np.ones(10))
    assert counts_after_round(ticket, {"a": 0.2, "b": 0.1}) == {"a": 16, "b": 9}


@pytest.mark.parametrize(
    "level, expected",
    [
        (0, [235_200, 30_000, 1_000]),
        (1, [188_160, 24_000, 900]),
        (2, [150_528, 19_200, 810]),
        # 150,528 · 0.2 = 30,105.6 → 30,106 removed.
        (3, [120_422, 15_360, 729]),
        # 120,422 · 0.2 = 24,084.4; 729 · 0.1 = 72.9.
        (4, [96_338, 12_288, 656]),
    ],
)
def test_counts_of_lenet_by_hand(level, expected):
    assert list(counts_at_level(LENET, LENET_RATES, level).values()) == expected


@pytest.mark.parametrize("level", range(25))
def test_counts_at_a_level_are_those_of_exact_fractions(level):
    rates = {"hidden_1/kernel": (1, 5), "hidden_2/kernel": (1, 5), "logits/kernel": (1, 10)}
    counts = {path: math.prod(shape) for path, shape in LENET.items()}
    for _ in range(level):
        for path, rate in rates.items():
            counts[path] -= math.floor(Fraction(*rate) * counts[path] + Fraction(1, 2))
    assert counts_at_level(LENET, LENET_RATES, level) == counts


def test_rounds_of_selection_reach_the_counts_of_the_level():
    shapes = {"a": (17, 9), "b": (31,)}
    rates = {"a": 0.2, "b": 0.1}
    generator = np.random.default_rng(0)
    ticket = Ticket({path: np.ones(shape, bool) for path, shape in shapes.items()}, PROVENANCE)
    for level in range(1, 8):
        scores = {path: generator.random(shape) for path, shape in shapes.items()}
        smaller = Ticket(select(scores, ticket, counts_after_round(ticket, rates)), PROVENANCE)
        assert smaller.is_within(ticket)
        ticket = smaller
        found = {path: int(mask.sum()) for path, mask in ticket.masks.items()}
        assert found == counts_at_level(shapes, rates, level)


def density_in_percent(level):
    return 100 * sum(counts_at_level(LENET, LENET_RATES, level).values()) / 266_200


@pytest.mark.parametrize("level, printed", [(3, 51.3), (8, 16.9), (11, 8.7), (15, 3.6)])
def test_densities_of_the_paper(level, printed):
    # "The Search for Sparse, Robust Neural Networks", the columns of its table 1.
    assert round(density_in_percent(level), 1) == printed


def test_the_last_density_of_the_paper_is_cut_not_rounded():
    exact = 100 * (0.8**18 * 265_200 + 0.9**18 * 1_000) / 266_200
    assert density_in_percent(18) == pytest.approx(exact, abs=0.001)
    assert 1.85 < exact < 1.852  # The paper prints 1.8.
    assert math.floor(10 * density_in_percent(18)) / 10 == 1.8
